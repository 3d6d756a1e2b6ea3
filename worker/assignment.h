/* The assignment that a lane works on: its partitions, their states, and what is due when. Decides nothing that needs a
 * server, and is handed the time. A partition's states (protocol.txt, THE FENCE):
 *
 *   ASSIGNED -> CLAIMED -> POSITIONED -> RUNNING; from each of them HALTED, alone, until `campaign-worker resume`
 *
 * One whose leader does not answer stays CLAIMED, alone, and is tried again. */
#ifndef ASSIGNMENT_H
#define ASSIGNMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/db/ownership.h"
#include "worker/kafka/consumer.h"

#define TRANSACTIONAL_ID_SIZE 256
#define CLUSTER_ID_SIZE 128
#define PREDECESSORS_MAX 16

enum partition_state { PARTITION_ASSIGNED, PARTITION_CLAIMED, PARTITION_POSITIONED, PARTITION_RUNNING, PARTITION_HALTED };

const char *assignment_state_name(enum partition_state state); /* "running" ... */

struct partition {
	int32_t id;
	enum partition_state state;
	int64_t epoch;
	int64_t start; /* the results of all offsets below are published */
};

struct assignment {
	const char *topic, *group; /* borrowed */
	char cluster_id[CLUSTER_ID_SIZE];
	uint64_t serial;              /* of the consumer, when it was taken; 0: none, to be taken over */
	struct partition *partitions; /* ascending */
	size_t count, halted_count;
	char predecessors[PREDECESSORS_MAX][TRANSACTIONAL_ID_SIZE]; /* whose transactions may still be pending */
	size_t predecessor_count;

	int64_t recommit_at_ms, orders_at_ms;
	int64_t leaderless_at_ms, leaderless_pause_ms; /* 0: every partition has its leader */
	bool unconfirmed; /* more is published than confirmed_offset says */
	int64_t confirm_at_ms;
};

void assignment_init(struct assignment *assignment, const char *topic, const char *group);
void assignment_clear(struct assignment *assignment); /* frees what it holds */

/* Begins anew with these partitions, all of them ASSIGNED. */
void assignment_take(struct assignment *assignment, uint64_t serial, const int32_t *ids, size_t n);
/* Everything is to be taken over again. */
void assignment_drop(struct assignment *assignment);

/* NULL: it is not assigned. */
struct partition *assignment_find(const struct assignment *assignment, int32_t id);
void assignment_set_state(struct assignment *assignment, struct partition *partition, enum partition_state state);
/* Halts one of them, saying why and how it is let go on. */
void assignment_halt(struct assignment *assignment, struct partition *partition, const char *why);
/* Collects the partitions in that state (starts NULL: counts them). */
size_t assignment_collect(const struct assignment *assignment, enum partition_state state, struct start *starts);

/* The partitions that run, with their epochs and where the unpublished begins; returns how many. */
size_t assignment_fences(const struct assignment *assignment, struct fence_partition *partitions);

/* Remembers the last owner's transactional.id until offsets are stable; not mine, and each once. */
void assignment_add_predecessor(struct assignment *assignment, const char *transactional_id, const char *mine);

/* The partitions run. */
void assignment_started(struct assignment *assignment, int64_t now_ms);
/* Results up to there are published. */
void assignment_advance(struct assignment *assignment, int32_t partition, int64_t next, int64_t now_ms);
void assignment_recommitted(struct assignment *assignment, int64_t now_ms);
void assignment_orders_checked(struct assignment *assignment, int64_t now_ms);

bool assignment_confirm_is_due(const struct assignment *assignment, int64_t now_ms);
bool assignment_recommit_is_due(const struct assignment *assignment, int64_t now_ms);
bool assignment_retry_is_due(const struct assignment *assignment, int64_t now_ms); /* of those without a leader */
bool assignment_orders_are_due(const struct assignment *assignment, int64_t now_ms);
/* Whether something is due that needs every executed batch to be published first. Not a confirmation: under load it is made
 * when orders are looked for. */
bool assignment_is_due(const struct assignment *assignment, int64_t now_ms);

#endif
