/* The consumer of one lane. It joins the group with an eager assignor, so that its generation cannot move without a revoke
 * that was served here; it fetches only the partitions that were told to start, from offsets that were told.
 *
 * librdkafka's own positions, pause, resume and seek are not used: an assignment is answered with no partition at all, and
 * later replaced by those that are claimed, checked and positioned (rd_kafka_assign may be called at any time between
 * rebalances). Dropping what was fetched and starting over is the one way back from every trouble. */
#ifndef CONSUMER_H
#define CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/arena.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/offsets.h"
#include "schemas/record.h"
#include "worker/kafka/group.h" /* struct start */

struct consumer;
struct rd_kafka_consumer_group_metadata_s;

/* Makes the consumer and subscribes; nothing is waited for. */
struct consumer *consumer_new(const struct config *config, int lane, struct fault *fault) MUST_CHECK;
/* leave_ms > 0: leaves the group within that time, so that others take over at once; 0: just goes (the group notices after
 * the session timeout). Accepts NULL. */
void consumer_free(struct consumer *consumer, int leave_ms);

/* The cluster's id, kept once known. NULL with FAULT_WAIT if no broker answered in time. */
const char *consumer_cluster_id(struct consumer *consumer, int timeout_ms, struct fault *fault);

/* Whether consumer_poll takes more than what comes along with serving the group. */
bool consumer_has_room(const struct consumer *consumer);
/* Serves rebalances and errors, takes up to room records into the queue; waits for the first at most timeout_ms.
 * FAULT_REBUILD: this consumer is finished. */
int consumer_poll(struct consumer *consumer, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Whether a FAULT_REBUILD was met: this consumer is good for nothing any more but to be freed. */
bool consumer_is_finished(const struct consumer *consumer);

/* The assignment as of the last poll. The serial changes whenever the assignment does, or what runs must start over. */
uint64_t consumer_serial(const struct consumer *consumer);
size_t consumer_partitions(const struct consumer *consumer, const int32_t **partitions);

/* Committed offsets and the ends of n partitions; one whose leader does not answer is unknown, alone. FAULT_RETRY: the
 * committed offsets are not stable, or the coordinator did not answer within timeout_ms. */
int consumer_positions(struct consumer *consumer, struct position *positions, size_t n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Whether somebody with that client.id is in the group. FAULT_RETRY: no answer within timeout_ms. */
int consumer_find_member(struct consumer *consumer, const char *client_id, bool *found, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Commits these offsets for the group: the generation-checked call of rule 1 of the fence (protocol.txt). FAULT_FENCED: not
 * a member of this generation any more, or a rebalance is on its way. FAULT_REBUILD: no answer in time, or sent twice: its
 * late copy could undo later offsets, so the group must be joined anew. */
int consumer_check(struct consumer *consumer, const struct start *starts, size_t n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Fetches exactly these partitions from these offsets, dropping whatever was fetched before. */
int consumer_start(struct consumer *consumer, const struct start *starts, size_t n, struct fault *fault) MUST_CHECK;
/* Fetches nothing and drops what was fetched. */
void consumer_stop(struct consumer *consumer);
/* Stops fetching but keeps what was fetched (PostgreSQL takes long); consumer_resume goes on behind it. */
void consumer_pause(struct consumer *consumer);
int consumer_resume(struct consumer *consumer, struct fault *fault) MUST_CHECK;

/* The next record, not taken yet; false if there is none. Strings point into the record, headers into arena; valid until
 * consumer_release. */
bool consumer_peek(struct consumer *consumer, struct arena *arena, struct record *record);
void consumer_take(struct consumer *consumer); /* takes the peeked record */
size_t consumer_waiting(const struct consumer *consumer); /* records that are ready and not taken */
/* The first n taken records are done with. */
void consumer_release(struct consumer *consumer, size_t n);
void consumer_release_all(struct consumer *consumer);

/* A running partition whose next records cannot be read at all, once all before them are done with: says why, until the next
 * start. NULL: there is none. What follows them is not given out. */
const char *consumer_find_unreadable(const struct consumer *consumer, int32_t *partition);

/* Group metadata of the current generation, borrowed; NULL with FAULT_FENCED if there is no valid membership. */
const struct rd_kafka_consumer_group_metadata_s *consumer_metadata(struct consumer *consumer, struct fault *fault);

/* Partitions of the commands topic, for the warning about misplaced keys; 0 if not known. */
int consumer_partition_count(const struct consumer *consumer);

#endif
