/* partition_owner: who owns a partition, and below which offset its results are published (protocol.txt, THE FENCE). One row
 * per partition and cluster. Faults as worker/db/session.h says; FAULT_FENCED: our epoch is gone. */
#ifndef OWNERSHIP_H
#define OWNERSHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/fault.h"
#include "worker/base/offsets.h"
#include "worker/db/session.h"

#define OWNERSHIP_FENCED "CD001" /* SQLSTATE that partition_fence() raises */

extern const struct statement ownership_statements[];

/* One partition's row of partition_owner. */
struct claim {
	int32_t partition;
	int64_t epoch;            /* out: ours from now on */
	int64_t confirmed_offset; /* out: results below it are published; OFFSET_NONE: never claimed before */
	int64_t resume_from;      /* out: the offset a person ordered, RESUME_EARLIEST, or RESUME_NONE */
	char previous_transactional_id[256]; /* out: of the last owner; "" if none */
	bool refused;             /* out: the row belongs to another consumer group, named in other_group; not claimed */
	char other_group[256];
};

/* Claims all n partitions in one READ COMMITTED transaction of its own: epoch = epoch + 1 (rules 1 and 3 of the fence).
 * FAULT_RETRY: a row stayed locked for lock_timeout_ms. */
int ownership_claim(struct session *session, const char *cluster_id, const char *topic, struct claim *claims, size_t n,
		    struct fault *fault) MUST_CHECK;

/* Clears the order to resume and sets confirmed_offset, after offset has been committed to the group. FAULT_FENCED: the epoch
 * is not ours any more. */
int ownership_resumed(struct session *session, const char *cluster_id, const char *topic, const struct claim *claim, int64_t offset,
		      struct fault *fault) MUST_CHECK;

/* Counts the orders to resume that wait for these partitions. */
int ownership_count_orders(struct session *session, const char *cluster_id, const char *topic, const int32_t *partitions, size_t n,
			   int64_t *orders, struct fault *fault) MUST_CHECK;

/* Records an order to resume (campaign-worker resume) from an offset or RESUME_EARLIEST. The partition passes to this group.
 * The row is created if there is none. who: the person, for partition_resumes. */
int ownership_order_resume(struct session *session, const char *cluster_id, const char *topic, int32_t partition, int64_t from,
			   const char *who, struct fault *fault) MUST_CHECK;

/* The fence of one batch: for each of its partitions our epoch and the offset of the batch's first record. */
struct fence {
	const char *cluster_id, *topic;
	const struct fence_partition {
		int32_t partition;
		int64_t epoch, start_offset;
	} *partitions; /* ascending */
	size_t count;
};

/* Confirms, outside of a batch, that results below these offsets are published. FAULT_FENCED: an epoch is not ours any more. */
int ownership_confirm(struct session *session, const struct fence *fence, struct fault *fault) MUST_CHECK;

/* Sets the session's parameters to those of the statement "fence". */
void ownership_add_fence(struct session *session, const struct fence *fence);

#endif
