/* From an assignment to partitions that run, and what keeps them running (protocol.txt, THE FENCE):
 *
 *   ASSIGNED --claim: epoch + 1, one transaction for all--> CLAIMED --offsets fetched--> POSITIONED
 *   POSITIONED --OffsetCommit in this generation--> RUNNING
 *   any of them --offsets unusable, or owned by another group--> HALTED
 */
#ifndef TAKEOVER_H
#define TAKEOVER_H

#include "worker/assignment.h"
#include "worker/base/arena.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/db/ownership.h"
#include "worker/kafka/consumer.h"
#include "worker/wait.h"

/* What a takeover works with; all of it borrowed. */
struct takeover {
	const struct config *config;
	const char *transactional_id; /* ours */
	struct consumer *consumer;
	struct session *session;
	struct wait *wait;
	struct assignment *assignment;
	struct arena *arena; /* of one round */
};

/* Claims, checks, positions and starts what is assigned; halts, alone, what cannot be started. FAULT_FENCED: the assignment
 * changed meanwhile. */
int takeover_run(struct takeover *takeover, struct fault *fault) MUST_CHECK;
/* Whether something is to be done that needs every executed batch to be published first. */
bool takeover_is_due(const struct takeover *takeover, int64_t now_ms);
/* Between batches: halts what cannot be read, confirms what is published, commits held offsets again before they expire, looks
 * for orders to resume halted partitions. */
int takeover_maintain(struct takeover *takeover, int64_t now_ms, struct fault *fault) MUST_CHECK;
/* Before leaving: confirms what is published, within wait_ms; if that fails, nothing is lost by it. */
void takeover_confirm_last(struct takeover *takeover, int64_t wait_ms);

#endif
