/* The start offset of a partition that was just assigned (protocol.txt, rules 6 to 8 of the fence). It needs neither Kafka
 * nor PostgreSQL, so that it can be tested alone, and `check` decides as a worker does. */
#ifndef START_H
#define START_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/offsets.h"

/* Decides the offset to start from. 0: *start is set, and *note is a sentence for the log or NULL. -1: a person has to
 * decide; why (of size why_size) says the reason. */
int partition_start(const struct position *position, const struct owned *owned, int64_t *start, const char **note, char *why,
		    size_t why_size) __attribute__((warn_unused_result));

/* Whether PostgreSQL has to record that start before the group commits it, so that the group's offset is not taken for a
 * stranger's. */
bool partition_start_is_new(const struct owned *owned, int64_t start);

/* Why a partition with other_group or moved_from is not to be claimed. cluster_id: of the cluster that it is on now. */
void partition_describe_refusal(const struct owned *owned, const char *cluster_id, char *why, size_t why_size);

#endif
