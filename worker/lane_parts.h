/* What the parts of a lane share: lane.c (the loop and the way back from faults), takeover.c (from assigned to running),
 * batch.c (fetch, decode, check), execute.c (the PostgreSQL side: splitting and the breaker, the time it takes). */
#ifndef LANE_PARTS_H
#define LANE_PARTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/arena.h"
#include "worker/breaker.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/lane.h"
#include "worker/kafka/publisher.h"
#include "worker/sizing.h"
#include "schemas/record.h"
#include "worker/db/store.h"

struct consumer;
struct codec;

#define TRANSACTIONAL_ID_SIZE 256
#define PREDECESSORS_MAX 16

enum partition_state { PARTITION_ASSIGNED, PARTITION_CLAIMED, PARTITION_POSITIONED, PARTITION_RUNNING, PARTITION_HALTED };

struct partition {
	int32_t id;
	enum partition_state state;
	int64_t epoch;
	int64_t start; /* the results of all offsets below are published */
};

/* Records from fetched to published. */
struct batch {
	struct arena *arena; /* all it refers to, but the records, which are the consumer's */
	struct job *jobs;
	struct job **order;  /* pointers to jobs, for the store */
	size_t count, bytes;
	struct batch_offset *offsets;
	struct fence_partition *fences;
	size_t offset_count;
};

struct lane {
	const struct config *config;
	int number;
	const atomic_bool *stop;
	char transactional_id[TRANSACTIONAL_ID_SIZE];

	struct consumer *consumer;
	struct store *store;
	struct publisher *publisher;
	struct codec *codec;
	struct arena *arena;
	struct breaker breaker;
	bool consumer_broken, publisher_ready;

	/* The assignment the lane works on; serial 0: none, take over. */
	uint64_t serial;
	struct partition *partitions; /* ascending */
	size_t partition_count, halted_count;
	char predecessors[PREDECESSORS_MAX][TRANSACTIONAL_ID_SIZE]; /* whose transactions may still be pending */
	size_t predecessor_count;
	int64_t recommit_at_ms, orders_check_at_ms;
	int64_t leaderless_retry_at_ms, leaderless_pause_ms; /* 0: every partition has its leader */
	bool unconfirmed;        /* more is published than confirmed_offset says */
	int64_t confirm_at_ms;

	/* While Kafka commits one batch, PostgreSQL works on the next. */
	struct batch batches[2];
	struct batch *batch;    /* filled, or executed by PostgreSQL while the other one is filled */
	struct batch *executed; /* its transaction in PostgreSQL is committed: to be published; NULL: there is none */
	bool sent;              /* the whole batch to PostgreSQL, whose answer is still to be received */
	int64_t sent_at_ms;
	struct sizing sizing;
	uint32_t *traces;       /* hash table of (account group, trace) in the batch filled last: job index + 1 */
	size_t trace_slots;     /* a power of two */

	/* Waiting. */
	bool abandonable;        /* what is waited for may be given up when a stop is asked for */
	int64_t abandon_at_ms;   /* or when this time has come; 0: never */
	int64_t wait_since_ms, served_at_ms, next_complaint_ms;
	struct fault wait_fault; /* of the consumer, met while waiting for something else */

	int failures;            /* since a batch was published, for the back-off */
	int refusals;            /* since a takeover succeeded: the group or the fence said that we are out */
	int fenced_count;        /* since fenced_since_ms */
	int64_t fenced_since_ms;
};

/* lane.c */
bool lane_is_stopping(const struct lane *lane);
/* Call before anything that waits on PostgreSQL. */
void lane_begin_wait(struct lane *lane, bool abandonable);
/* Serves the consumer for that long, ending early when a stop is asked for or the assignment changes. */
void lane_pause(struct lane *lane, int64_t ms);
struct partition *lane_find_partition(struct lane *lane, int32_t id);
/* Room for a batch of that many partitions; what is in it is dropped. */
void lane_size_batches(struct lane *lane, size_t partitions);

/* takeover.c: claims, checks, positions and starts what is assigned; halts, alone, what cannot be started. */
int takeover_run(struct lane *lane, struct fault *fault) MUST_CHECK;
/* Whether something is to be done that needs every executed batch to be published first. */
bool takeover_is_due(const struct lane *lane);
/* Between batches: confirms what is published; commits held offsets again before they expire; looks for orders to resume
 * halted partitions. */
int takeover_tend(struct lane *lane, struct fault *fault) MUST_CHECK;
/* A batch is through: to be confirmed soon. */
void takeover_note_progress(struct lane *lane);
/* Before leaving: confirms what is published, within wait_ms; if that fails, nothing is lost by it. */
void takeover_confirm_last(struct lane *lane, int64_t wait_ms);

/* batch.c: adds what the consumer has ready, until the batch is full. One batch is filled at a time. */
void batch_fill(struct lane *lane, struct batch *batch);
/* Forgets what is in it. */
void batch_clear(struct batch *batch);
void batch_log(const struct batch *batch);

/* execute.c: sends lane->batch to PostgreSQL and returns; what fails is told by execute_batch. */
void execute_send(struct lane *lane);
/* Every executable job of lane->batch gets its result, or the batch is to be dropped. */
int execute_batch(struct lane *lane, struct fault *fault) MUST_CHECK;
/* Waits for the answer to what was sent, and forgets it. */
void execute_abandon(struct lane *lane);

#endif
