/* What the time that things take decides: how large a batch is, and whether it is begun while Kafka is busy with another.
 *
 * A batch is as many commands as PostgreSQL is expected to be through with in budget_ms, so that work that is a hundred times
 * the usual (whole audiences of 50,000 leads) neither holds up the answers behind it nor comes near a time-out. */
#ifndef SIZING_H
#define SIZING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sizing {
	size_t most;    /* commands of a batch, at the utmost */
	size_t limit;   /* of the next one */
	int budget_ms;
	int64_t kafka_us; /* the last transaction of Kafka's */
};

void sizing_init(struct sizing *sizing, size_t most, int budget_ms);
/* A batch of n commands took PostgreSQL ms. */
void sizing_observe(struct sizing *sizing, size_t n, int64_t ms);
/* Kafka's transaction took us. */
void sizing_observe_kafka(struct sizing *sizing, int64_t us);
/* Whether n commands that are ready are to be a batch of their own while Kafka commits the one before, rather than wait for
 * that together with those that come meanwhile. */
bool sizing_overlaps(const struct sizing *sizing, size_t n);

#endif
