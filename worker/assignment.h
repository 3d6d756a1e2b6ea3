/* The assignment of a lane: its partitions, their states, and what is due when. This module asks no server, and its callers
 * hand it the time. States of a partition (protocol.txt, THE FENCE):
 *
 *   ASSIGNED -> CLAIMED -> POSITIONED -> RUNNING; from each of them HALTED, alone, until `campaign-worker resume`
 *
 * A partition whose leader does not answer stays CLAIMED, alone, and is tried again. */
#ifndef ASSIGNMENT_H
#define ASSIGNMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/db/ownership.h"
#include "worker/kafka/consumer.h"
#include "worker/standstill.h"

#define CLUSTER_ID_SIZE 128
#define PREDECESSORS_MAX 16

enum partition_state { PARTITION_ASSIGNED, PARTITION_CLAIMED, PARTITION_POSITIONED, PARTITION_RUNNING, PARTITION_HALTED };

const char *assignment_state_name(enum partition_state state); /* "running" ... */

struct partition {
	int32_t id;
	enum partition_state state;
	int64_t epoch;
	int64_t start; /* the results of all offsets below are published */
	struct standstill standstill;
};

struct assignment {
	const char *topic, *group; /* borrowed */
	char cluster_id[CLUSTER_ID_SIZE];
	uint64_t serial;              /* the consumer's, when the assignment was taken; 0: to be taken over */
	struct partition *partitions; /* ascending */
	size_t count, halted_count;
	char predecessors[PREDECESSORS_MAX][TRANSACTIONAL_ID_SIZE]; /* owners whose transactions may be pending */
	size_t predecessor_count;

	int64_t recommit_at_ms, orders_at_ms;
	int64_t leaderless_at_ms, leaderless_pause_ms; /* 0: every partition has its leader */
	bool unconfirmed; /* a start lies beyond confirmed_offset */
	bool uncommitted; /* a start lies beyond the group's offset */
	int64_t settle_at_ms;
};

void assignment_init(struct assignment *assignment, const char *topic, const char *group);
void assignment_clear(struct assignment *assignment); /* frees its partitions */

/* Begins anew with these partitions, all of them ASSIGNED. */
void assignment_take(struct assignment *assignment, uint64_t serial, const int32_t *ids, size_t n);
/* Marks the assignment to be taken over again. */
void assignment_drop(struct assignment *assignment);

/* NULL: the partition is not assigned. */
struct partition *assignment_find(const struct assignment *assignment, int32_t id);
void assignment_set_state(struct assignment *assignment, struct partition *partition, enum partition_state state);
/* Halts a partition; logs why, and the command that resumes it. */
void assignment_halt(struct assignment *assignment, struct partition *partition, const char *why);
/* Collects the partitions in that state (starts NULL: only counts them); returns how many. */
size_t assignment_collect(const struct assignment *assignment, enum partition_state state, struct start *starts);

/* Copies the running partitions, their epochs and their first unpublished offsets, as start and as end; returns how many. */
size_t assignment_fences(const struct assignment *assignment, struct fence_partition *partitions);

/* Remembers the last owner's transactional.id until offsets are stable: each id once, and not mine. */
void assignment_add_predecessor(struct assignment *assignment, const char *transactional_id, const char *mine);

/* The POSITIONED partitions are RUNNING now. */
void assignment_started(struct assignment *assignment, int64_t now_ms);
/* Results of the partition below next are published. */
void assignment_advance(struct assignment *assignment, int32_t partition, int64_t next);
/* The partition ended at that offset, and all results below it are published. */
void assignment_reach_end(struct assignment *assignment, struct partition *partition, int64_t end);
void assignment_settled(struct assignment *assignment, int64_t now_ms);
void assignment_recommitted(struct assignment *assignment, int64_t now_ms);
void assignment_orders_checked(struct assignment *assignment, int64_t now_ms);

/* Whether ends are to be looked for, and starts to be confirmed and committed. */
bool assignment_settle_is_due(const struct assignment *assignment, int64_t now_ms);
bool assignment_recommit_is_due(const struct assignment *assignment, int64_t now_ms); /* of starts that PostgreSQL knows */
bool assignment_retry_is_due(const struct assignment *assignment, int64_t now_ms); /* of partitions without a leader */
bool assignment_orders_are_due(const struct assignment *assignment, int64_t now_ms);
/* Whether work is due that needs every executed batch to be published first. Settling is not: under load it is done with the
 * search for orders. */
bool assignment_is_due(const struct assignment *assignment, int64_t now_ms);

#endif
