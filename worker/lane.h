/* A lane: the whole machine once. A consumer, a PostgreSQL connection, a transactional producer, and a loop on one thread:
 *
 *   assigned -> claimed -> positioned -> generation-checked -> running      (per partition; or halted)
 *   running:  fetch -> decode and check -> one PostgreSQL transaction -> one Kafka transaction -> running
 *
 * After any fault between the fetch and the end of the Kafka transaction, the batch is dropped unpublished and the lane
 * starts over: it claims with a new epoch and looks at the state again. */
#ifndef LANE_H
#define LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/config.h"
#include "worker/base/statistics.h"
#include "worker/view.h"
#include "worker/operation.h"

struct lane;

/* Reads the schemas (FAULT_FATAL) and connects to nothing yet; config and stop are borrowed. Lanes are made one after
 * another, because our use of avro-c is not thread-safe. */
struct lane *lane_new(const struct config *config, const struct operation *operation, int number, const atomic_bool *stop,
		      struct fault *fault) MUST_CHECK;
void lane_free(struct lane *lane); /* accepts NULL */

/* Runs until *stop, finishes the batch in hand, leaves the group and drops its clients. -1: a person must change something
 * (logged). */
int lane_run(struct lane *lane);

/* Other threads may call these at any time; the lane does not stop for them. */
const struct statistics *lane_statistics(const struct lane *lane);
/* Copies at most max of the lane's partitions; returns how many it has. */
size_t lane_partitions(struct lane *lane, struct view_partition *partitions, size_t max);

#endif
