/* The ends of running partitions (protocol.txt, rule 9 of the fence). Behind the last command of a publisher that writes in
 * transactions there are control records, and perhaps aborted batches, which no consumer is given. Where all commands before
 * them are published, the partition's start moves behind them. Nothing is asked of a broker: fetches tell the ends. */
#ifndef ENDS_H
#define ENDS_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/assignment.h"
#include "worker/kafka/consumer.h"

/* Moves the starts of running partitions to their ends, and logs which of them wait for a publisher's open transaction. To be
 * called while no batch is in hand. */
void ends_look(struct assignment *assignment, const struct consumer *consumer, int64_t now_ms);

/* Whether something lies behind the last command of a partition, all of whose commands are published, and the next answer to a
 * fetch will say what it is. */
bool ends_are_near(const struct assignment *assignment, const struct consumer *consumer);

#endif
