/* The consumer of one lane. It joins the group with an eager assignor, so that its generation cannot move without a revoke
 * that was served here. It fetches only the partitions that consumer_start names, from the offsets given there.
 *
 * librdkafka's own positions, pause, resume and seek are not used. An assignment is answered with an empty list, which is
 * later replaced by the partitions that are claimed, checked and positioned (rd_kafka_assign may be called at any time
 * between rebalances). There is one way back from every fault: drop the fetched records and start over. */
#ifndef CONSUMER_H
#define CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/record.h"
#include "worker/base/arena.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/offsets.h"
#include "worker/kafka/group.h" /* struct start */

struct consumer;
struct rd_kafka_consumer_group_metadata_s;

/* Makes the consumer and subscribes; waits for no broker. */
struct consumer *consumer_new(const struct config *config, int lane, struct fault *fault) MUST_CHECK;
/* leave_ms > 0: leaves the group within that time, so that others take over at once. 0: does not leave (the group notices
 * after the session timeout). Accepts NULL. */
void consumer_free(struct consumer *consumer, int leave_ms);

/* The cluster's id, kept once known; borrowed. NULL with FAULT_WAIT if no broker answered in time. */
const char *consumer_cluster_id(struct consumer *consumer, int timeout_ms, struct fault *fault);

/* Whether the queue has room. Without room consumer_poll serves the group and takes at most one record. */
bool consumer_has_room(const struct consumer *consumer);
/* Serves rebalances and errors, and takes records until the queue has no room; waits for the first at most timeout_ms.
 * FAULT_REBUILD: this consumer is finished. */
int consumer_poll(struct consumer *consumer, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Whether a FAULT_REBUILD was met: this consumer can only be freed. */
bool consumer_is_finished(const struct consumer *consumer);

/* The assignment as of the last poll. The serial changes with every assignment, and when the running partitions must start
 * over. *partitions is borrowed until the next poll. */
uint64_t consumer_serial(const struct consumer *consumer);
size_t consumer_partitions(const struct consumer *consumer, const int32_t **partitions);

/* Fetches the committed offsets and the ends of n partitions. A partition whose leader does not answer is unknown; the others
 * are not affected. FAULT_RETRY: the committed offsets are not stable, or the coordinator did not answer within timeout_ms. */
int consumer_positions(struct consumer *consumer, struct position *positions, size_t n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* *found: whether a member with that client.id is in the group. FAULT_RETRY: no answer within timeout_ms. */
int consumer_find_member(struct consumer *consumer, const char *client_id, bool *found, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Commits these offsets for the group: the generation-checked call of rule 1 of the fence (protocol.txt). FAULT_FENCED: this
 * consumer is no member of the generation any more, or a rebalance is on its way. FAULT_REBUILD: the request was not answered
 * in time, or sent twice. Its late copy could undo later offsets, so the group must be joined anew. */
int consumer_check(struct consumer *consumer, const struct start *starts, size_t n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Fetches exactly these partitions from these offsets, and drops the records that wait in the queue. */
int consumer_start(struct consumer *consumer, const struct start *starts, size_t n, struct fault *fault) MUST_CHECK;
/* Fetches nothing and drops the records that wait in the queue. */
void consumer_stop(struct consumer *consumer);
/* Stops fetching but keeps the fetched records (for long waits on PostgreSQL); consumer_resume goes on behind them. */
void consumer_pause(struct consumer *consumer);
int consumer_resume(struct consumer *consumer, struct fault *fault) MUST_CHECK;

/* The next record, not taken yet; false if there is none. Strings point into the consumer's message, headers into arena;
 * valid until consumer_release. */
bool consumer_peek(struct consumer *consumer, struct arena *arena, struct record *record);
void consumer_take(struct consumer *consumer); /* takes the peeked record */
size_t consumer_waiting(const struct consumer *consumer); /* records that are ready and not taken */
/* Frees the first n taken records. */
void consumer_release(struct consumer *consumer, size_t n);
void consumer_release_all(struct consumer *consumer);

/* Records that a batch had taken wait again, in their order. */
void consumer_put_back(struct consumer *consumer);
/* consumer_peek gives out records of that partition alone; CONSUMER_ALL: of those that are not set aside. */
#define CONSUMER_ALL (-1)
void consumer_select(struct consumer *consumer, int32_t partition);
/* A partition that is set aside does not count as waiting and takes no room. Held, it is not fetched either, and all but its first
 * few waiting records are dropped; they are fetched again once it is readmitted. A start forgets all of this. */
void consumer_set_aside(struct consumer *consumer, int32_t partition);
bool consumer_holds(const struct consumer *consumer, int32_t partition); /* a record of it waits or is taken */
bool consumer_has_aside(const struct consumer *consumer); /* whether any is */
int consumer_hold(struct consumer *consumer, int32_t partition, struct fault *fault) MUST_CHECK;
int consumer_readmit(struct consumer *consumer, int32_t partition, struct fault *fault) MUST_CHECK;

/* Finds a running partition whose next records cannot be read, once all records before them are released. Returns why,
 * borrowed until the next start; NULL: there is none. Later records of that partition are dropped. */
const char *consumer_find_unreadable(const struct consumer *consumer, int32_t *partition);

/* Where a running partition stands. All of it is known from fetches; nothing is asked of a broker. */
struct end {
	int64_t next;   /* the offset after the last record that entered the queue */
	int64_t stable; /* where the partition ended for a read_committed consumer: behind control records and aborted batches, and
			 * before a transaction that is open. Below next, or OFFSET_NONE: its end is not known */
	int64_t high;   /* its high watermark as of the last fetch; negative: not known */
};

/* false: the partition is not running, or its records cannot be read. */
bool consumer_find_end(const struct consumer *consumer, int32_t partition, struct end *end);

/* Group metadata of the current generation, borrowed until the next poll or check; NULL with FAULT_FENCED if there is no
 * valid membership. */
const struct rd_kafka_consumer_group_metadata_s *consumer_metadata(struct consumer *consumer, struct fault *fault);

/* Partitions of the commands topic, for the warning about misplaced keys; 0 if not known. */
int consumer_partition_count(const struct consumer *consumer);

#endif
