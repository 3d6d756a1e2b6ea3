#include "worker/takeover.h"

#include <stdio.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/identity.h"
#include "worker/base/log.h"
#include "worker/ends.h"
#include "worker/kafka/publisher.h"
#include "worker/start.h"

#define POSITIONS_MS 1000      /* one try to fetch stable offsets */
#define PATIENCE_TRIES 2       /* before a member's pending transaction is ended */
#define MEMBER_MS 1000
#define CHECK_MS 5000
#define END_MS 600 /* a fetch without records is answered after fetch.wait.max.ms */
#define END_TRANSACTION_MS 5000
#define CLUSTER_ID_MS 1000
#define WHY_SIZE 768

/* Whether the assignment is still the one that is being taken over. */
static bool is_current(const struct takeover *takeover)
{
	return consumer_serial(takeover->consumer) == takeover->assignment->serial;
}

static int claim(struct takeover *takeover, struct claim *claims, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;

	for (size_t i = 0; i < assignment->count; i++)
		claims[i].partition = assignment->partitions[i].id;
	wait_begin(takeover->wait, true, clock_monotonic_ms());
	if (ownership_claim(takeover->session, assignment->cluster_id, assignment->topic, claims, assignment->count, fault) < 0)
		return -1;
	for (size_t i = 0; i < assignment->count; i++) {
		struct partition *partition = &assignment->partitions[i];

		if (claims[i].refused) {
			char why[WHY_SIZE];

			partition_describe_refusal(&claims[i].owned, assignment->cluster_id, why, sizeof why);
			assignment_halt(assignment, partition, why);
			continue;
		}
		partition->epoch = claims[i].epoch;
		assignment_set_state(assignment, partition, PARTITION_CLAIMED);
		/* A second try finds our own transactional.id in the row. */
		assignment_add_predecessor(assignment, claims[i].previous_transactional_id, takeover->transactional_id);
	}
	return 0;
}

/* Whether an owner is known to have left the group. What had our own name in an earlier version is gone: we have its place. */
static bool is_gone(struct takeover *takeover, const char *transactional_id)
{
	const char *client_id = identity_client_of(transactional_id, takeover->config->group);
	struct fault fault;
	bool found;

	if (strcmp(transactional_id, takeover->former_transactional_id) == 0)
		return true;
	return client_id && consumer_find_member(takeover->consumer, client_id, &found, MEMBER_MS, &fault) == 0 && !found;
}

static void end_predecessor(struct takeover *takeover, const char *transactional_id)
{
	struct fault fault;

	if (publisher_end_transaction(takeover->config, transactional_id, END_TRANSACTION_MS, &fault) < 0)
		log_warn("predecessor_not_ended", fault.msg, "transactionalId", transactional_id);
	else
		log_info("predecessor_ended", "what the partition's last owner may have left pending is ended", "transactionalId",
			 transactional_id);
}

/* A transaction that a dead owner left pending hides its offsets, and every result published behind it, until its time-out.
 * It is ended by its transactional.id. An owner that lives would be fenced for nothing: it answered the revoke between two
 * batches. */
static void end_predecessors(struct takeover *takeover, bool only_gone)
{
	struct assignment *assignment = takeover->assignment;
	size_t kept = 0;

	for (size_t i = 0; i < assignment->predecessor_count; i++) {
		const char *id = assignment->predecessors[i];

		wait_pause(takeover->wait, 1); /* each may take seconds: the group is served and a stop noticed in between */
		if (wait_is_stopping(takeover->wait) || !is_current(takeover))
			return;
		if (only_gone && !is_gone(takeover, id))
			memmove(assignment->predecessors[kept++], id, TRANSACTIONAL_ID_SIZE);
		else
			end_predecessor(takeover, id);
	}
	assignment->predecessor_count = kept;
}

static int fetch_positions(struct takeover *takeover, struct position *positions, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;
	size_t n = assignment->count;

	for (size_t i = 0; i < n; i++)
		positions[i].partition = assignment->partitions[i].id;
	for (int tries = 1; consumer_positions(takeover->consumer, positions, n, POSITIONS_MS, fault) < 0; tries++) {
		if (fault->kind != FAULT_RETRY)
			return -1;
		log_warn("positions_unknown", fault->msg, "topic", assignment->topic);
		if (tries == PATIENCE_TRIES) {
			assignment_add_predecessor(assignment, takeover->former_transactional_id, takeover->transactional_id);
			end_predecessors(takeover, false);
		}
		wait_pause(takeover->wait, 100);
		if (takeover->wait->fault.kind != FAULT_NONE || wait_is_stopping(takeover->wait) || !is_current(takeover))
			return fault_set(fault, FAULT_RETRY, "the assignment changed while offsets were fetched");
	}
	assignment->predecessor_count = 0;
	return 0;
}

/* The order is ended, so that it halts the partition once and is not taken up again. */
static int refuse_order(struct takeover *takeover, struct partition *partition, const struct claim *claimed, const char *what,
			struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;
	char who[256], why[WHY_SIZE];

	wait_begin(takeover->wait, false, clock_monotonic_ms());
	if (ownership_refuse_order(takeover->session, assignment->cluster_id, assignment->topic, claimed, what, who, sizeof who, fault) < 0)
		return -1;
	snprintf(why, sizeof why, "the order to resume%s%s is refused: %.400s", who[0] ? " by " : "", who, what);
	assignment_halt(assignment, partition, why);
	return 0;
}

static int position(struct takeover *takeover, struct partition *partition, const struct position *at, const struct claim *claimed,
		    struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;
	const char *note;
	char why[WHY_SIZE];

	if (partition_start(at, &claimed->owned, &partition->start, &note, why, sizeof why) < 0) {
		if (claimed->owned.resume_from != RESUME_NONE)
			return refuse_order(takeover, partition, claimed, why, fault);
		assignment_halt(assignment, partition, why);
		return 0;
	}
	if (note)
		log_info("partition_start", note, "topic", assignment->topic, "partition", LOG_INT(partition->id), "offset",
			 LOG_INT(partition->start));
	assignment_set_state(assignment, partition, PARTITION_POSITIONED);
	return 0;
}

static int position_all(struct takeover *takeover, const struct position *positions, const struct claim *claims, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;

	for (size_t i = 0; i < assignment->count; i++)
		if (assignment->partitions[i].state == PARTITION_CLAIMED && !positions[i].unknown &&
		    position(takeover, &assignment->partitions[i], &positions[i], &claims[i], fault) < 0)
			return -1;
	return 0;
}

/* A start that PostgreSQL does not know would look like a stranger's, if the worker died when the group has it. Where an earlier
 * version wrote the row last, its offset bears no mark: there the group comes first. */
static int record_starts(struct takeover *takeover, const struct claim *claims, bool earlier_version, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;
	struct fence_partition *starts = arena_array(takeover->arena, assignment->count, sizeof *starts);
	struct fence fence = { .cluster_id = assignment->cluster_id, .topic = assignment->topic, .partitions = starts };

	for (size_t i = 0; i < assignment->count; i++) {
		const struct partition *partition = &assignment->partitions[i];

		if (partition->state == PARTITION_POSITIONED && partition_start_is_new(&claims[i].owned, partition->start) &&
		    (claims[i].owned.executed == EXECUTED_UNKNOWN) == earlier_version)
			starts[fence.count++] = (struct fence_partition){ partition->id, partition->epoch, OFFSET_NONE, partition->start };
	}
	if (fence.count == 0)
		return 0;
	wait_begin(takeover->wait, false, clock_monotonic_ms());
	return ownership_confirm(takeover->session, &fence, fault);
}

/* The broker checks that the sender is a member, not that the partition is the sender's. An offset that was fetched before
 * partitions moved must not be committed after that. */
static int check(struct takeover *takeover, const struct start *starts, size_t n, int timeout_ms, struct fault *fault)
{
	if (!is_current(takeover))
		return fault_set(fault, FAULT_FENCED, "the assignment changed during the takeover");
	return n == 0 ? 0 : consumer_check(takeover->consumer, starts, n, timeout_ms, fault);
}

/* The group has committed the offsets that a person gave: marks their orders as carried out. */
static int finish_resumes(struct takeover *takeover, const struct claim *claims, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;

	for (size_t i = 0; i < assignment->count; i++) {
		struct partition *partition = &assignment->partitions[i];

		if (partition->state != PARTITION_POSITIONED || claims[i].owned.resume_from == RESUME_NONE)
			continue;
		wait_begin(takeover->wait, false, clock_monotonic_ms());
		if (ownership_resumed(takeover->session, assignment->cluster_id, assignment->topic, &claims[i], partition->start, fault) < 0)
			return -1;
		log_warn("partition_resumed", "resumed as ordered", "topic", assignment->topic, "partition", LOG_INT(partition->id),
			 "offset", LOG_INT(partition->start));
	}
	return 0;
}

static int start(struct takeover *takeover, const struct start *starts, size_t n, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;

	if (!is_current(takeover))
		return fault_set(fault, FAULT_FENCED, "the assignment changed during the takeover");
	if (consumer_start(takeover->consumer, starts, n, fault) < 0)
		return -1;
	assignment_started(assignment, clock_monotonic_ms());
	log_info("running", "partitions are read", "topic", assignment->topic, "lane", LOG_INT(takeover->wait->lane), "running",
		 LOG_INT((int64_t)n), "halted", LOG_INT((int64_t)assignment->halted_count));
	return 0;
}

static int find_cluster(struct takeover *takeover, struct fault *fault)
{
	const char *id = consumer_cluster_id(takeover->consumer, CLUSTER_ID_MS, fault);

	if (id == NULL)
		return -1;
	snprintf(takeover->assignment->cluster_id, CLUSTER_ID_SIZE, "%s", id);
	return 0;
}

int takeover_run(struct takeover *takeover, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;
	size_t n = assignment->count, positioned;
	struct claim *claims = arena_array(takeover->arena, n, sizeof *claims);
	struct position *positions = arena_array(takeover->arena, n, sizeof *positions);
	struct start *starts = arena_array(takeover->arena, n, sizeof *starts);

	if (n == 0)
		return 0;
	if (find_cluster(takeover, fault) < 0 || claim(takeover, claims, fault) < 0)
		return -1;
	end_predecessors(takeover, true);
	if (fetch_positions(takeover, positions, fault) < 0)
		return -1;
	if (position_all(takeover, positions, claims, fault) < 0 || record_starts(takeover, claims, false, fault) < 0)
		return -1;
	positioned = assignment_collect(assignment, PARTITION_POSITIONED, starts);
	if (check(takeover, starts, positioned, CHECK_MS, fault) < 0 || record_starts(takeover, claims, true, fault) < 0 ||
	    finish_resumes(takeover, claims, fault) < 0)
		return -1;
	return start(takeover, starts, positioned, fault);
}

/* A batch's fence confirms the results published before the batch. The last batches of a partition are confirmed here, so
 * that no command is answered twice when a person sets offsets back. */
static int confirm(struct takeover *takeover, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;
	struct fence_partition *partitions = arena_array(takeover->arena, assignment->count + 1, sizeof *partitions);
	struct fence fence = { .cluster_id = assignment->cluster_id, .topic = assignment->topic, .partitions = partitions,
			       .count = assignment_fences(assignment, partitions) };

	if (ownership_confirm(takeover->session, &fence, fault) < 0)
		return -1;
	assignment->unconfirmed = false;
	return 0;
}

/* For the ends of partitions, and hourly: brokers that count offsets.retention.minutes from the last commit would let the
 * group's offsets expire. */
static int recommit(struct takeover *takeover, int timeout_ms, struct fault *fault)
{
	struct start *starts = arena_array(takeover->arena, takeover->assignment->count + 1, sizeof *starts);

	assignment_recommitted(takeover->assignment, clock_monotonic_ms());
	return check(takeover, starts, assignment_collect(takeover->assignment, PARTITION_RUNNING, starts), timeout_ms, fault);
}

/* Retention of what is answered must never look like the loss of commands, so the group's offset follows the end. PostgreSQL is
 * first: an offset of the group that it does not know of would be somebody else's. Where the group refuses, its rebalance is
 * served next, or it is asked again. */
static int commit_ends(struct takeover *takeover, int timeout_ms, struct fault *fault)
{
	if (recommit(takeover, timeout_ms, fault) == 0)
		return 0;
	if (fault->kind == FAULT_REBUILD)
		return -1;
	takeover->assignment->uncommitted = true;
	log_warn("not_committed", fault->msg, "lane", LOG_INT(takeover->wait->lane));
	return 0;
}

/* A row of partition_owner that somebody has locked: the next batch confirms, or the next call. */
static int confirm_later(const struct takeover *takeover, struct fault *fault)
{
	if (fault->kind != FAULT_RETRY)
		return -1;
	log_warn("not_confirmed", fault->msg, "lane", LOG_INT(takeover->wait->lane));
	return 0;
}

static int settle(struct takeover *takeover, int64_t now_ms, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;

	assignment_settled(assignment, now_ms);
	ends_look(assignment, takeover->consumer, now_ms);
	if (assignment->unconfirmed) {
		wait_begin(takeover->wait, true, now_ms);
		if (confirm(takeover, fault) < 0)
			return confirm_later(takeover, fault);
	}
	if (!assignment->uncommitted || !is_current(takeover)) /* it may change while PostgreSQL is waited for */
		return 0;
	return commit_ends(takeover, CHECK_MS, fault);
}

void takeover_confirm_last(struct takeover *takeover, int64_t wait_ms)
{
	int64_t now_ms = clock_monotonic_ms();
	struct fault fault;

	if (!takeover->assignment->unconfirmed || takeover->assignment->serial == 0 || !session_connected(takeover->session))
		return;
	wait_begin_until(takeover->wait, now_ms, now_ms + wait_ms);
	if (confirm(takeover, &fault) < 0 && fault.kind != FAULT_FENCED)
		log_warn("not_confirmed", fault.msg, "lane", LOG_INT(takeover->wait->lane));
}

/* A worker that is stopped right behind its last batch has not seen yet what lies behind that. */
static void await_ends(struct takeover *takeover, int64_t until_ms)
{
	struct fault fault;

	if (consumer_resume(takeover->consumer, &fault) < 0)
		return;
	while (ends_are_near(takeover->assignment, takeover->consumer) && clock_monotonic_ms() < until_ms)
		if (consumer_poll(takeover->consumer, 50, &fault) < 0 || !is_current(takeover))
			return;
}

void takeover_settle_last(struct takeover *takeover, int64_t wait_ms)
{
	struct assignment *assignment = takeover->assignment;
	int64_t now_ms = clock_monotonic_ms(), until_ms = now_ms + wait_ms;
	struct fault fault;

	if (assignment->serial == 0 || !is_current(takeover) || !session_connected(takeover->session))
		return;
	await_ends(takeover, now_ms + END_MS);
	if (!is_current(takeover))
		return;
	now_ms = clock_monotonic_ms();
	ends_look(assignment, takeover->consumer, now_ms);
	wait_begin_until(takeover->wait, now_ms, until_ms);
	if (assignment->unconfirmed && confirm(takeover, &fault) < 0) {
		log_warn("not_confirmed", fault.msg, "lane", LOG_INT(takeover->wait->lane));
		return;
	}
	now_ms = clock_monotonic_ms();
	if (assignment->uncommitted && now_ms < until_ms && commit_ends(takeover, (int)(until_ms - now_ms), &fault) < 0)
		log_warn("not_committed", fault.msg, "lane", LOG_INT(takeover->wait->lane));
}

/* Makes the lane take everything over again. Requests for offsets would wait behind each open fetch, so fetching is ended
 * first. */
static void start_over(struct takeover *takeover)
{
	consumer_stop(takeover->consumer);
	assignment_drop(takeover->assignment);
}

/* Looks for orders for running partitions, too: an order for an idle one would wait for its next command. An order that the
 * claim found is not new: its partition waits for its leader. */
static int find_resume_orders(struct takeover *takeover, int64_t now_ms, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;
	struct fence_partition *partitions = arena_array(takeover->arena, assignment->count, sizeof *partitions);
	int64_t orders;

	assignment_orders_checked(assignment, now_ms);
	for (size_t i = 0; i < assignment->count; i++)
		partitions[i] = (struct fence_partition){ .partition = assignment->partitions[i].id, .epoch = assignment->partitions[i].epoch };
	wait_begin(takeover->wait, true, now_ms);
	if (ownership_count_orders(takeover->session, assignment->cluster_id, assignment->topic, partitions, assignment->count, &orders,
				   fault) < 0)
		return -1;
	if (orders > 0)
		start_over(takeover);
	return 0;
}

/* Only a person may decide that records are skipped. */
static int halt_unreadable(struct takeover *takeover, int32_t id, const char *what, int64_t now_ms, struct fault *fault)
{
	struct assignment *assignment = takeover->assignment;
	struct start *starts = arena_array(takeover->arena, assignment->count, sizeof *starts);
	struct partition *partition = assignment_find(assignment, id);
	char why[512];

	if (partition && partition->state == PARTITION_RUNNING) {
		snprintf(why, sizeof why, "its records from offset %lld on cannot be read: %s", (long long)partition->start, what);
		assignment_halt(assignment, partition, why);
	}
	assignment_orders_checked(assignment, now_ms);
	return consumer_start(takeover->consumer, starts, assignment_collect(assignment, PARTITION_RUNNING, starts), fault);
}

bool takeover_is_due(const struct takeover *takeover, int64_t now_ms)
{
	int32_t id;

	return assignment_is_due(takeover->assignment, now_ms) || consumer_find_unreadable(takeover->consumer, &id) != NULL;
}

int takeover_maintain(struct takeover *takeover, int64_t now_ms, struct fault *fault)
{
	const struct assignment *assignment = takeover->assignment;
	const char *unreadable;
	int32_t id;

	unreadable = consumer_find_unreadable(takeover->consumer, &id);
	if (unreadable)
		return halt_unreadable(takeover, id, unreadable, now_ms, fault);
	if (assignment_settle_is_due(assignment, now_ms)) {
		if (settle(takeover, now_ms, fault) < 0)
			return -1;
		if (!is_current(takeover))
			return 0;
		now_ms = clock_monotonic_ms();
	}
	if (assignment_recommit_is_due(assignment, now_ms))
		return recommit(takeover, CHECK_MS, fault);
	if (assignment_retry_is_due(assignment, now_ms))
		start_over(takeover);
	else if (assignment_orders_are_due(assignment, now_ms))
		return find_resume_orders(takeover, now_ms, fault);
	return 0;
}
