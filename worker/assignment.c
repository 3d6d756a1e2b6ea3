#include "worker/assignment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/log.h"
#include "worker/base/must.h"

#define RECOMMIT_MS (60 * 60 * 1000)
#define ORDERS_MS 2000
#define LEADERLESS_MS 5000     /* before partitions without a leader are tried again; doubled each time */
#define LEADERLESS_MAX_MS 60000
#define SETTLE_MS 1000

const char *assignment_state_name(enum partition_state state)
{
	static const char *const names[] = { "assigned", "claimed", "positioned", "running", "halted" };

	return names[state];
}

void assignment_init(struct assignment *assignment, const char *topic, const char *group)
{
	*assignment = (struct assignment){ .topic = topic, .group = group };
}

void assignment_clear(struct assignment *assignment)
{
	free(assignment->partitions);
	assignment->partitions = NULL;
	assignment->serial = 0;
	assignment->count = assignment->halted_count = 0;
}

static int compare_partitions(const void *a, const void *b)
{
	const struct partition *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

void assignment_take(struct assignment *assignment, uint64_t serial, const int32_t *ids, size_t n)
{
	assignment_clear(assignment);
	assignment->serial = serial;
	assignment->partitions = must(calloc(n + 1, sizeof *assignment->partitions));
	for (size_t i = 0; i < n; i++)
		assignment->partitions[i].id = ids[i];
	qsort(assignment->partitions, n, sizeof *assignment->partitions, compare_partitions);
	assignment->count = n;
	assignment->leaderless_at_ms = 0;
}

void assignment_drop(struct assignment *assignment)
{
	assignment->serial = 0;
}

struct partition *assignment_find(const struct assignment *assignment, int32_t id)
{
	for (size_t i = 0; i < assignment->count; i++)
		if (assignment->partitions[i].id == id)
			return &assignment->partitions[i];
	return NULL;
}

void assignment_set_state(struct assignment *assignment, struct partition *partition, enum partition_state state)
{
	if (state == PARTITION_HALTED)
		assignment->halted_count++;
	partition->state = state;
	log_debug("partition_state", assignment_state_name(state), "topic", assignment->topic, "partition", LOG_INT(partition->id), "epoch",
		  LOG_INT(partition->epoch));
}

void assignment_halt(struct assignment *assignment, struct partition *partition, const char *why)
{
	char msg[1024];

	assignment_set_state(assignment, partition, PARTITION_HALTED);
	snprintf(msg, sizeof msg, "%s; this partition waits for: campaign-worker resume --partition %d --from OFFSET|earliest", why,
		 partition->id);
	log_error("partition_halted", msg, "topic", assignment->topic, "partition", LOG_INT(partition->id), "group",
		  assignment->group);
}

size_t assignment_collect(const struct assignment *assignment, enum partition_state state, struct start *starts)
{
	size_t n = 0;

	for (size_t i = 0; i < assignment->count; i++) {
		const struct partition *partition = &assignment->partitions[i];

		if (partition->state != state)
			continue;
		if (starts)
			starts[n] = (struct start){ partition->id, partition->start };
		n++;
	}
	return n;
}

size_t assignment_fences(const struct assignment *assignment, struct fence_partition *partitions)
{
	size_t n = 0;

	for (size_t i = 0; i < assignment->count; i++) {
		const struct partition *partition = &assignment->partitions[i];

		if (partition->state == PARTITION_RUNNING)
			partitions[n++] = (struct fence_partition){ partition->id, partition->epoch, partition->start,
								 partition->start };
	}
	return n;
}

void assignment_add_predecessor(struct assignment *assignment, const char *transactional_id, const char *mine)
{
	size_t n = assignment->predecessor_count;

	if (transactional_id[0] == '\0' || strcmp(transactional_id, mine) == 0 || n == PREDECESSORS_MAX)
		return;
	for (size_t i = 0; i < n; i++)
		if (strcmp(assignment->predecessors[i], transactional_id) == 0)
			return;
	snprintf(assignment->predecessors[n], TRANSACTIONAL_ID_SIZE, "%s", transactional_id);
	assignment->predecessor_count++;
}

/* A retry takes over all partitions again, so it comes ever more rarely. */
static void plan_leaderless_retry(struct assignment *assignment, int64_t now_ms)
{
	bool any = assignment_collect(assignment, PARTITION_CLAIMED, NULL) > 0;
	int64_t pause_ms = 2 * assignment->leaderless_pause_ms;

	if (pause_ms == 0)
		pause_ms = LEADERLESS_MS;
	if (pause_ms > LEADERLESS_MAX_MS)
		pause_ms = LEADERLESS_MAX_MS;
	assignment->leaderless_pause_ms = any ? pause_ms : 0;
	assignment->leaderless_at_ms = any ? now_ms + pause_ms : 0;
}

void assignment_started(struct assignment *assignment, int64_t now_ms)
{
	for (size_t i = 0; i < assignment->count; i++)
		if (assignment->partitions[i].state == PARTITION_POSITIONED)
			assignment_set_state(assignment, &assignment->partitions[i], PARTITION_RUNNING);
	assignment_recommitted(assignment, now_ms);
	assignment_orders_checked(assignment, now_ms);
	assignment_settled(assignment, now_ms);
	plan_leaderless_retry(assignment, now_ms);
	assignment->unconfirmed = true;
}

void assignment_advance(struct assignment *assignment, int32_t id, int64_t next)
{
	struct partition *partition = assignment_find(assignment, id);

	if (partition)
		partition->start = next;
	assignment->unconfirmed = true;
}

void assignment_reach_end(struct assignment *assignment, struct partition *partition, int64_t end)
{
	partition->start = end;
	assignment->unconfirmed = assignment->uncommitted = true;
}

void assignment_settled(struct assignment *assignment, int64_t now_ms)
{
	assignment->settle_at_ms = now_ms + SETTLE_MS;
}

void assignment_recommitted(struct assignment *assignment, int64_t now_ms)
{
	assignment->uncommitted = false;
	assignment->recommit_at_ms = now_ms + RECOMMIT_MS;
}

void assignment_orders_checked(struct assignment *assignment, int64_t now_ms)
{
	assignment->orders_at_ms = now_ms + ORDERS_MS;
}

static bool has_running(const struct assignment *assignment)
{
	return assignment->count > assignment->halted_count;
}

bool assignment_settle_is_due(const struct assignment *assignment, int64_t now_ms)
{
	return has_running(assignment) && now_ms >= assignment->settle_at_ms;
}

bool assignment_recommit_is_due(const struct assignment *assignment, int64_t now_ms)
{
	return has_running(assignment) && !assignment->unconfirmed && now_ms >= assignment->recommit_at_ms;
}

bool assignment_retry_is_due(const struct assignment *assignment, int64_t now_ms)
{
	return assignment->leaderless_at_ms > 0 && now_ms >= assignment->leaderless_at_ms;
}

bool assignment_orders_are_due(const struct assignment *assignment, int64_t now_ms)
{
	return assignment->count > 0 && now_ms >= assignment->orders_at_ms;
}

bool assignment_is_due(const struct assignment *assignment, int64_t now_ms)
{
	return assignment_recommit_is_due(assignment, now_ms) || assignment_retry_is_due(assignment, now_ms) ||
	       assignment_orders_are_due(assignment, now_ms);
}
