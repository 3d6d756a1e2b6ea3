/* partition_owner: who owns a partition, and up to which offsets its commands are executed and its results published
 * (protocol.txt, THE FENCE). One row per partition and cluster. Faults as worker/db/session.h says; FAULT_FENCED: our epoch is gone. */
#ifndef OWNERSHIP_H
#define OWNERSHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/fault.h"
#include "worker/base/identity.h"
#include "worker/base/offsets.h"
#include "worker/db/session.h"

extern const struct statement ownership_statements[];

/* The fence of one transaction: for each of its partitions our epoch, and the offsets that its row is to have: below start all
 * results are published, and end is what PostgreSQL has executed. OFFSET_NONE leaves an offset as it is. */
struct fence {
	const char *cluster_id, *topic;
	const struct fence_partition {
		int32_t partition;
		int64_t epoch, start_offset, end_offset;
	} *partitions; /* ascending */
	size_t count;
	bool partial; /* the batch has further transactions: the ends are left as they are */
};

/* One partition's row of partition_owner. */
struct claim {
	int32_t partition;
	int64_t epoch;      /* out: ours from now on */
	struct owned owned; /* out */
	char transactional_id[TRANSACTIONAL_ID_SIZE];          /* out: of the owner; "" if none */
	char previous_transactional_id[TRANSACTIONAL_ID_SIZE]; /* out: of the owner before the claim; "" if none */
	bool refused;       /* out: not claimed; owned says who has it */
};

/* Looks without claiming: sets owned, transactional_id and refused. */
int ownership_look(struct session *session, const char *cluster_id, const char *topic, struct claim *claims, size_t n,
		   struct fault *fault) MUST_CHECK;

/* Claims all n partitions in one READ COMMITTED transaction of its own: epoch = epoch + 1 (rules 1 and 3 of the fence).
 * FAULT_RETRY: a row stayed locked for claim_timeout_ms. */
int ownership_claim(struct session *session, const char *cluster_id, const char *topic, struct claim *claims, size_t n,
		    struct fault *fault) MUST_CHECK;

/* Clears the order to resume and sets both offsets, after offset has been committed to the group. FAULT_FENCED: the epoch is
 * not ours any more. */
int ownership_resumed(struct session *session, const char *cluster_id, const char *topic, const struct claim *claim, int64_t offset,
		      struct fault *fault) MUST_CHECK;

/* Ends the order to resume, which cannot be carried out: in the row, and in partition_resumes with the reason. who (of size
 * who_size) says whose order it was; "" if that is not known. FAULT_FENCED: the epoch is not ours any more. */
int ownership_refuse_order(struct session *session, const char *cluster_id, const char *topic, const struct claim *claim,
			   const char *why, char *who, size_t who_size, struct fault *fault) MUST_CHECK;

/* Counts the orders to resume that were given to these partitions since they were claimed with these epochs (0: not claimed). */
int ownership_count_orders(struct session *session, const char *cluster_id, const char *topic,
			   const struct fence_partition *partitions, size_t n, int64_t *orders, struct fault *fault) MUST_CHECK;

/* Records an order to resume (campaign-worker resume) from an offset or RESUME_EARLIEST. The partition passes to this group.
 * The row is created if there is none. who: the person, for partition_resumes. */
int ownership_order_resume(struct session *session, const char *cluster_id, const char *topic, int32_t partition, int64_t from,
			   const char *who, struct fault *fault) MUST_CHECK;

/* Runs a fence outside of a batch. FAULT_FENCED: an epoch is not ours any more. */
int ownership_confirm(struct session *session, const struct fence *fence, struct fault *fault) MUST_CHECK;

/* Sets the session's parameters to those of the statement "fence". */
void ownership_add_fence(struct session *session, const struct fence *fence);

#endif
