/* What the time that things take decides: how large a batch is, and whether it is begun while Kafka is busy with another.
 *
 * A batch is as many commands as PostgreSQL is expected to be through with in budget_ms, so that work that is a hundred times
 * the usual (whole audiences of 50,000 leads) neither holds up the answers behind it nor comes near a time-out. */
#ifndef PACE_H
#define PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pace {
	size_t most;    /* commands of a batch, at the utmost */
	size_t limit;   /* of the next one */
	int budget_ms;
	int64_t kafka_us; /* the last transaction of Kafka's */
};

void pace_init(struct pace *pace, size_t most, int budget_ms);
/* A batch of n commands took PostgreSQL ms. */
void pace_note(struct pace *pace, size_t n, int64_t ms);
/* Kafka's transaction took us. */
void pace_note_kafka(struct pace *pace, int64_t us);
/* Whether n commands that are ready are to be a batch of their own while Kafka commits the one before, rather than wait for
 * that together with those that come meanwhile. */
bool pace_overlaps(const struct pace *pace, size_t n);

#endif
