/* Batch sizing: measured times decide how large a batch is, and whether it is begun while Kafka commits the one before.
 *
 * A batch has as many commands as PostgreSQL is expected to execute in budget_ms. Commands that cost a hundred times the
 * usual (whole audiences of 50,000 leads) therefore neither hold up the answers behind them nor come near a time-out. */
#ifndef SIZING_H
#define SIZING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sizing {
	size_t most;    /* upper bound of limit, in commands */
	size_t limit;   /* most commands of the next batch */
	int budget_ms;
	int64_t kafka_us; /* duration of the last Kafka transaction */
};

void sizing_init(struct sizing *sizing, size_t most, int budget_ms);
/* PostgreSQL took ms milliseconds for a batch of n commands. */
void sizing_observe(struct sizing *sizing, size_t n, int64_t ms);
/* The Kafka transaction of a batch took us microseconds. */
void sizing_observe_kafka(struct sizing *sizing, int64_t us);
/* Whether n ready commands are to be a batch of their own while Kafka commits the one before. If not, they wait for that
 * commit, together with the commands that come meanwhile. */
bool sizing_overlaps(const struct sizing *sizing, size_t n);

#endif
