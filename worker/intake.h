/* The consumer of one lane. It joins the group with an eager assignor, so that its generation cannot move without a revoke
 * that was served here; it fetches only the partitions that were told to start, from offsets that were told.
 *
 * librdkafka's own positions, pause, resume and seek are not used: an assignment is answered with no partition at all, and
 * later replaced by those that are claimed, checked and positioned (rd_kafka_assign may be called at any time between
 * rebalances). Dropping what was fetched and starting over is the one way back from every trouble. */
#ifndef INTAKE_H
#define INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "config.h"
#include "fault.h"
#include "partition.h"
#include "record.h"

struct intake;
struct rd_kafka_consumer_group_metadata_s;

/* Makes the consumer and subscribes; nothing is waited for. */
struct intake *intake_new(const struct config *config, int lane, struct fault *fault) MUST_CHECK;
/* leave_ms > 0: leaves the group within that time, so that others take over at once; 0: just goes (the group notices after
 * the session timeout). Accepts NULL. */
void intake_free(struct intake *intake, int leave_ms);

/* The cluster's id, kept once known. NULL with FAULT_WAIT if no broker answered in time. */
const char *intake_cluster_id(struct intake *intake, int timeout_ms, struct fault *fault);

/* Whether intake_poll takes more than what comes along with serving the group. */
bool intake_has_room(const struct intake *intake);
/* Serves rebalances and errors, takes up to room records into the queue; waits for the first at most timeout_ms.
 * FAULT_REBUILD: this consumer is finished. */
int intake_poll(struct intake *intake, int timeout_ms, struct fault *fault) MUST_CHECK;

/* The assignment as of the last poll. The serial changes whenever the assignment does, or what runs must start over. */
uint64_t intake_serial(const struct intake *intake);
size_t intake_partitions(const struct intake *intake, const int32_t **partitions);

/* Committed offsets and the ends of n partitions; one whose leader does not answer is unknown, alone. FAULT_RETRY: the
 * committed offsets are not stable, or the coordinator did not answer within timeout_ms. */
int intake_positions(struct intake *intake, struct position *positions, size_t n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Whether somebody with that client.id is in the group. FAULT_RETRY: no answer within timeout_ms. */
int intake_find_member(struct intake *intake, const char *client_id, bool *found, int timeout_ms, struct fault *fault) MUST_CHECK;

struct start {
	int32_t partition;
	int64_t offset;
};

/* Commits these offsets for the group: the generation-checked call of rule 1 of the fence (protocol.txt). FAULT_FENCED: not
 * a member of this generation any more, or a rebalance is on its way. FAULT_REBUILD: no answer in time, or sent twice: its
 * late copy could undo later offsets, so the group must be joined anew. */
int intake_check(struct intake *intake, const struct start *starts, size_t n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Fetches exactly these partitions from these offsets, dropping whatever was fetched before. */
int intake_start(struct intake *intake, const struct start *starts, size_t n, struct fault *fault) MUST_CHECK;
/* Fetches nothing and drops what was fetched. */
void intake_stop(struct intake *intake);
/* Stops fetching but keeps what was fetched (PostgreSQL takes long); intake_resume goes on behind it. */
void intake_pause(struct intake *intake);
int intake_resume(struct intake *intake, struct fault *fault) MUST_CHECK;

/* The next record, not taken yet; false if there is none. Strings point into the record, headers into arena; valid until
 * intake_release. */
bool intake_peek(struct intake *intake, struct arena *arena, struct record *record);
void intake_take(struct intake *intake); /* takes the peeked record */
size_t intake_waiting(const struct intake *intake); /* records that are ready and not taken */
/* The first n taken records are done with. */
void intake_release(struct intake *intake, size_t n);
void intake_release_all(struct intake *intake);

/* A running partition whose next records cannot be read at all, once all before them are done with: says why, until the next
 * start. NULL: there is none. What follows them is not given out. */
const char *intake_find_unreadable(const struct intake *intake, int32_t *partition);

/* Group metadata of the current generation, borrowed; NULL with FAULT_FENCED if there is no valid membership. */
const struct rd_kafka_consumer_group_metadata_s *intake_metadata(struct intake *intake, struct fault *fault);

/* A look from outside of the group, for `resume`: the cluster's id and a partition's low and high offsets. */
int intake_look(const struct config *config, char *cluster_id, size_t size, struct position *position, int timeout_ms,
		struct fault *fault) MUST_CHECK;

/* Partitions of the commands topic, for the warning about misplaced keys; 0 if not known. */
int intake_partition_count(const struct intake *intake);

#endif
