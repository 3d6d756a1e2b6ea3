/* The takeover brings assigned partitions to RUNNING; maintenance keeps them there (protocol.txt, THE FENCE):
 *
 *   ASSIGNED --claim: epoch + 1, one transaction for all--> CLAIMED --offsets fetched--> POSITIONED
 *   POSITIONED --new starts recorded in PostgreSQL, OffsetCommit in this generation--> RUNNING
 *   any of them --offsets unusable or not ours, owned by another group, known from another cluster--> HALTED
 */
#ifndef TAKEOVER_H
#define TAKEOVER_H

#include "worker/assignment.h"
#include "worker/base/arena.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/identity.h"
#include "worker/db/ownership.h"
#include "worker/kafka/consumer.h"
#include "worker/wait.h"

/* The objects that a takeover uses; all borrowed. */
struct takeover {
	const struct config *config;
	const char *transactional_id; /* ours */
	char former_transactional_id[TRANSACTIONAL_ID_SIZE]; /* ours, of an earlier version */
	struct consumer *consumer;
	struct session *session;
	struct wait *wait;
	struct assignment *assignment;
	struct arena *arena; /* of one round */
};

/* Claims, positions, checks and starts the assigned partitions; halts a partition that cannot be started, alone.
 * FAULT_FENCED: the assignment changed meanwhile. */
int takeover_run(struct takeover *takeover, struct fault *fault) MUST_CHECK;
/* Whether maintenance is due that needs every executed batch to be published first. */
bool takeover_is_due(const struct takeover *takeover, int64_t now_ms);
/* Maintenance between batches: halts unreadable partitions, confirms published offsets, confirms and commits the ends of
 * partitions, commits offsets again before they expire, looks for orders to resume halted partitions, tries leaderless
 * partitions again. */
int takeover_maintain(struct takeover *takeover, int64_t now_ms, struct fault *fault) MUST_CHECK;
/* Confirms published offsets of partitions that were taken away, within wait_ms: a person who has to go back there goes back to
 * what is confirmed. A failure loses nothing. */
void takeover_confirm_last(struct takeover *takeover, int64_t wait_ms);
/* Confirms published offsets, and confirms and commits the ends of partitions, within wait_ms, before the lane leaves the group;
 * a failure loses nothing. */
void takeover_settle_last(struct takeover *takeover, int64_t wait_ms);

#endif
