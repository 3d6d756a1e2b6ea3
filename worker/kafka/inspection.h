/* An inspection of the cluster without membership in the group: for `check`. */
#ifndef INSPECTION_H
#define INSPECTION_H

#include <stddef.h>

#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/offsets.h"
#include "worker/kafka/group.h" /* struct group_member */

struct inspection;

/* Makes a consumer of the group that does not join it; config is borrowed until inspection_free. FAULT_FATAL: a property that
 * librdkafka refuses. */
struct inspection *inspection_new(const struct config *config, struct fault *fault) MUST_CHECK;
void inspection_free(struct inspection *inspection); /* accepts NULL */

/* The number of partitions of the commands topic; *positions is to be freed. 0: not known, and *positions is NULL. */
size_t inspection_partitions(struct inspection *inspection, struct position **positions, int timeout_ms);
/* Sets committed; faults as positions_fetch_committed. */
int inspection_committed(struct inspection *inspection, struct position *positions, size_t n, int timeout_ms,
			 struct fault *fault) MUST_CHECK;
/* Sets low and high. FAULT_WAIT: a partition's leader did not answer. */
int inspection_ends(struct inspection *inspection, struct position *positions, size_t n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Sets low, and high to the high watermark. It lies beyond the last stable offset where a publisher's transaction is open.
 * Faults as inspection_ends. */
int inspection_watermarks(struct inspection *inspection, struct position *positions, size_t n, int timeout_ms,
			  struct fault *fault) MUST_CHECK;
/* Copies the cluster's id. FAULT_WAIT: no answer. */
int inspection_cluster_id(struct inspection *inspection, char *id, size_t size, int timeout_ms, struct fault *fault) MUST_CHECK;
/* *members: to be freed. Faults as group_list_members. */
int inspection_members(struct inspection *inspection, struct group_member **members, size_t *n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Initialises a producer of that transactional.id, which ends a transaction that an earlier one left pending. FAULT_WAIT: it
 * cannot be initialised within timeout_ms. */
int inspection_begin_transactions(const struct config *config, const char *transactional_id, int timeout_ms,
				  struct fault *fault) MUST_CHECK;

#endif
