/* From an assignment to partitions that run (protocol.txt):
 *
 *   ASSIGNED --claim: epoch + 1, one transaction for all--> CLAIMED --offsets fetched--> POSITIONED
 *   POSITIONED --OffsetCommit in this generation--> RUNNING
 *   any of them --offsets unusable, or owned by another group--> HALTED, alone, until `campaign-worker resume`
 *
 * One whose leader does not answer stays CLAIMED, alone, and is tried again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/kafka/consumer.h"
#include "worker/lane_parts.h"
#include "worker/base/log.h"
#include "worker/start.h"

#define POSITIONS_MS 1000      /* one try to fetch stable offsets */
#define PATIENCE_TRIES 2       /* before a member's pending transaction is ended */
#define MEMBER_MS 1000
#define CHECK_MS 5000
#define END_TRANSACTION_MS 5000
#define CLUSTER_ID_MS 1000
#define RECOMMIT_MS (60 * 60 * 1000)
#define ORDERS_CHECK_MS 2000
#define LEADERLESS_MS 5000     /* until partitions whose leader did not answer are tried again; doubled each time, up to */
#define LEADERLESS_MAX_MS 60000
#define CONFIRM_MS 1000        /* after a batch was published */

static const char *const state_names[] = { "assigned", "claimed", "positioned", "running", "halted" };

static void set_state(struct lane *lane, struct partition *partition, enum partition_state state)
{
	if (state == PARTITION_HALTED)
		lane->halted_count++;
	partition->state = state;
	log_debug("partition_state", state_names[state], "topic", lane->config->commands, "partition", LOG_INT(partition->id),
		  "epoch", LOG_INT(partition->epoch));
}

static void halt(struct lane *lane, struct partition *partition, const char *why)
{
	char msg[768];

	set_state(lane, partition, PARTITION_HALTED);
	snprintf(msg, sizeof msg, "%s; this partition waits for: campaign-worker resume --partition %d --from OFFSET|earliest", why,
		 partition->id);
	log_error("partition_halted", msg, "topic", lane->config->commands, "partition", LOG_INT(partition->id), "group",
		  lane->config->group);
}

static int compare_partitions(const void *a, const void *b)
{
	const struct partition *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static void take_assignment(struct lane *lane)
{
	const int32_t *ids;
	size_t n = consumer_partitions(lane->consumer, &ids);

	free(lane->partitions);
	lane->partitions = calloc(n + 1, sizeof *lane->partitions);
	if (lane->partitions == NULL)
		abort();
	lane_size_batches(lane, n);
	for (size_t i = 0; i < n; i++)
		lane->partitions[i].id = ids[i];
	qsort(lane->partitions, n, sizeof *lane->partitions, compare_partitions);
	lane->partition_count = n;
	lane->halted_count = 0;
	lane->leaderless_retry_at_ms = 0;
}

/* Remembered until the offsets are stable: a second try finds our own name in the row. */
static void note_predecessor(struct lane *lane, const char *id)
{
	if (id[0] == '\0' || strcmp(id, lane->transactional_id) == 0 || lane->predecessor_count == PREDECESSORS_MAX)
		return;
	for (size_t i = 0; i < lane->predecessor_count; i++)
		if (strcmp(lane->predecessors[i], id) == 0)
			return;
	snprintf(lane->predecessors[lane->predecessor_count++], TRANSACTIONAL_ID_SIZE, "%s", id);
}

static int claim(struct lane *lane, const char *cluster_id, struct claim *claims, struct fault *fault)
{
	for (size_t i = 0; i < lane->partition_count; i++)
		claims[i].partition = lane->partitions[i].id;
	lane_begin_wait(lane, true);
	if (store_claim(lane->store, cluster_id, lane->config->commands, claims, lane->partition_count, fault) < 0)
		return -1;
	for (size_t i = 0; i < lane->partition_count; i++) {
		struct partition *partition = &lane->partitions[i];

		if (claims[i].refused) {
			char why[512];

			snprintf(why, sizeof why, "it belongs to the consumer group %s in this database", claims[i].other_group);
			halt(lane, partition, why);
			continue;
		}
		partition->epoch = claims[i].epoch;
		set_state(lane, partition, PARTITION_CLAIMED);
		note_predecessor(lane, claims[i].previous_transactional_id);
	}
	return 0;
}

/* Not in the group any more, for all that is known. A member's client.id is its transactional.id without the group. */
static bool is_gone(struct lane *lane, const char *transactional_id)
{
	size_t prefix = strlen(lane->config->group) + 1;
	struct fault fault;
	bool found;

	return strlen(transactional_id) > prefix &&
	       consumer_find_member(lane->consumer, transactional_id + prefix, &found, MEMBER_MS, &fault) == 0 && !found;
}

/* A transaction that a dead owner left pending hides its offsets, and every result published behind it, for as long as its
 * time-out lasts: end it by name. One that lives would be fenced for nothing: it answered the revoke between two batches. */
static void end_predecessors(struct lane *lane, bool only_gone)
{
	size_t kept = 0;

	for (size_t i = 0; i < lane->predecessor_count; i++) {
		const char *id = lane->predecessors[i];
		struct fault fault;

		lane_pause(lane, 1); /* each may take seconds: the group and a stop are looked at in between */
		if (lane_is_stopping(lane) || consumer_serial(lane->consumer) != lane->serial)
			return;
		if (only_gone && !is_gone(lane, id))
			memmove(lane->predecessors[kept++], id, TRANSACTIONAL_ID_SIZE);
		else if (publisher_end_transaction(lane->config, id, END_TRANSACTION_MS, &fault) < 0)
			log_warn("predecessor_not_ended", fault.msg, "transactionalId", id);
		else
			log_info("predecessor_ended", "what the partition's last owner may have left pending is ended",
				 "transactionalId", id);
	}
	lane->predecessor_count = kept;
}

static int fetch_positions(struct lane *lane, struct position *positions, size_t n, struct fault *fault)
{
	for (int tries = 1; consumer_positions(lane->consumer, positions, n, POSITIONS_MS, fault) < 0; tries++) {
		if (fault->kind != FAULT_RETRY)
			return -1;
		log_warn("positions_unknown", fault->msg, "topic", lane->config->commands);
		if (tries == PATIENCE_TRIES)
			end_predecessors(lane, false);
		lane_pause(lane, 100);
		if (lane->wait_fault.kind != FAULT_NONE || lane_is_stopping(lane) || consumer_serial(lane->consumer) != lane->serial)
			return fault_set(fault, FAULT_RETRY, "the assignment changed while offsets were fetched");
	}
	lane->predecessor_count = 0;
	return 0;
}

static void position(struct lane *lane, struct partition *partition, const struct position *at, const struct claim *claimed)
{
	const char *note;
	char why[512];

	if (partition_start(at, claimed->confirmed_offset, claimed->resume_from, &partition->start, &note, why, sizeof why) < 0) {
		halt(lane, partition, why);
		return;
	}
	if (note)
		log_info("partition_start", note, "topic", lane->config->commands, "partition", LOG_INT(partition->id), "offset",
			 LOG_INT(partition->start));
	set_state(lane, partition, PARTITION_POSITIONED);
}

/* Collects the partitions in that state (starts NULL: counts them). */
static size_t collect(const struct lane *lane, enum partition_state state, struct start *starts)
{
	size_t n = 0;

	for (size_t i = 0; i < lane->partition_count; i++) {
		if (lane->partitions[i].state != state)
			continue;
		if (starts)
			starts[n] = (struct start){ lane->partitions[i].id, lane->partitions[i].start };
		n++;
	}
	return n;
}

static int check(struct lane *lane, const struct start *starts, size_t n, struct fault *fault)
{
	if (n == 0 || consumer_check(lane->consumer, starts, n, CHECK_MS, fault) == 0)
		return 0;
	lane->consumer_broken = fault->kind == FAULT_REBUILD;
	return -1;
}

/* The offset a person gave is the group's now: the order is carried out. */
static int finish_resumes(struct lane *lane, const char *cluster_id, const struct claim *claims, struct fault *fault)
{
	for (size_t i = 0; i < lane->partition_count; i++) {
		struct partition *partition = &lane->partitions[i];

		if (partition->state != PARTITION_POSITIONED || claims[i].resume_from == RESUME_NONE)
			continue;
		lane_begin_wait(lane, false);
		if (store_resumed(lane->store, cluster_id, lane->config->commands, &claims[i], partition->start, fault) < 0)
			return -1;
		log_warn("partition_resumed", "resumed as ordered", "topic", lane->config->commands, "partition",
			 LOG_INT(partition->id), "offset", LOG_INT(partition->start));
	}
	return 0;
}

/* Trying again takes the others over as well, so it comes ever more rarely. */
static void plan_leaderless_retry(struct lane *lane)
{
	bool any = collect(lane, PARTITION_CLAIMED, NULL) > 0;

	lane->leaderless_pause_ms = !any ? 0 : lane->leaderless_pause_ms == 0 ? LEADERLESS_MS : 2 * lane->leaderless_pause_ms;
	if (lane->leaderless_pause_ms > LEADERLESS_MAX_MS)
		lane->leaderless_pause_ms = LEADERLESS_MAX_MS;
	lane->leaderless_retry_at_ms = any ? clock_monotonic_ms() + lane->leaderless_pause_ms : 0;
}

static int start(struct lane *lane, const struct start *starts, size_t n, struct fault *fault)
{
	if (consumer_serial(lane->consumer) != lane->serial)
		return fault_set(fault, FAULT_FENCED, "the assignment changed during the takeover");
	if (consumer_start(lane->consumer, starts, n, fault) < 0) {
		lane->consumer_broken = true;
		return -1;
	}
	for (size_t i = 0; i < lane->partition_count; i++)
		if (lane->partitions[i].state == PARTITION_POSITIONED)
			set_state(lane, &lane->partitions[i], PARTITION_RUNNING);
	lane->recommit_at_ms = clock_monotonic_ms() + RECOMMIT_MS;
	lane->orders_check_at_ms = clock_monotonic_ms() + ORDERS_CHECK_MS;
	plan_leaderless_retry(lane);
	takeover_note_progress(lane);
	lane->refusals = 0;
	log_info("running", "partitions are read", "topic", lane->config->commands, "lane", LOG_INT(lane->number), "running",
		 LOG_INT((int64_t)n), "halted", LOG_INT((int64_t)lane->halted_count));
	return 0;
}

static int take_over_partitions(struct lane *lane, const char *cluster_id, struct claim *claims, struct position *positions,
				struct start *starts, struct fault *fault)
{
	size_t n = lane->partition_count, running;

	if (claim(lane, cluster_id, claims, fault) < 0)
		return -1;
	end_predecessors(lane, true);
	for (size_t i = 0; i < n; i++)
		positions[i].partition = lane->partitions[i].id;
	if (fetch_positions(lane, positions, n, fault) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (lane->partitions[i].state == PARTITION_CLAIMED && !positions[i].unknown)
			position(lane, &lane->partitions[i], &positions[i], &claims[i]);
	running = collect(lane, PARTITION_POSITIONED, starts);
	/* The broker checks who is a member, and not whose a partition is: an offset fetched before partitions moved must not
	 * be committed behind it. */
	if (consumer_serial(lane->consumer) != lane->serial)
		return fault_set(fault, FAULT_FENCED, "the assignment changed during the takeover");
	if (check(lane, starts, running, fault) < 0 || finish_resumes(lane, cluster_id, claims, fault) < 0)
		return -1;
	return start(lane, starts, running, fault);
}

int takeover_run(struct lane *lane, struct fault *fault)
{
	const char *cluster_id;
	size_t n;

	lane->serial = consumer_serial(lane->consumer);
	take_assignment(lane);
	n = lane->partition_count;
	if (n == 0)
		return 0;
	cluster_id = consumer_cluster_id(lane->consumer, CLUSTER_ID_MS, fault);
	if (cluster_id == NULL)
		return -1;
	return take_over_partitions(lane, cluster_id, arena_array(lane->arena, n, sizeof(struct claim)),
				    arena_array(lane->arena, n, sizeof(struct position)),
				    arena_array(lane->arena, n, sizeof(struct start)), fault);
}

void takeover_note_progress(struct lane *lane)
{
	if (lane->unconfirmed)
		return;
	lane->unconfirmed = true;
	lane->confirm_at_ms = clock_monotonic_ms() + CONFIRM_MS;
}

/* A batch's fence confirms what was published before it. Confirming the last batches of a partition as well means that
 * offsets which a person sets back make no command answered twice. */
static int confirm(struct lane *lane, struct fault *fault)
{
	struct fence_partition *partitions = arena_array(lane->arena, lane->partition_count + 1, sizeof *partitions);
	struct fence fence = { consumer_cluster_id(lane->consumer, 0, fault), lane->config->commands, partitions, 0 };

	lane->unconfirmed = false;
	if (fence.cluster_id == NULL)
		return -1;
	for (size_t i = 0; i < lane->partition_count; i++) {
		const struct partition *partition = &lane->partitions[i];

		if (partition->state == PARTITION_RUNNING)
			partitions[fence.count++] = (struct fence_partition){ partition->id, partition->epoch, partition->start };
	}
	return store_confirm(lane->store, &fence, fault);
}

void takeover_confirm_last(struct lane *lane, int64_t wait_ms)
{
	struct fault fault;

	if (!lane->unconfirmed || lane->serial == 0 || consumer_serial(lane->consumer) != lane->serial || !store_connected(lane->store))
		return;
	lane_begin_wait(lane, false);
	lane->abandon_at_ms = clock_monotonic_ms() + wait_ms;
	if (confirm(lane, &fault) < 0)
		log_warn("not_confirmed", fault.msg, "lane", LOG_INT(lane->number));
}

/* A group's offsets expire (offsets.retention.minutes) on brokers that count from the last commit. */
static int recommit(struct lane *lane, struct fault *fault)
{
	struct start *starts = arena_array(lane->arena, lane->partition_count + 1, sizeof *starts);

	lane->recommit_at_ms = clock_monotonic_ms() + RECOMMIT_MS;
	return check(lane, starts, collect(lane, PARTITION_RUNNING, starts), fault);
}

/* Takes everything over again. Looking for offsets would wait behind each fetch, so those are ended first. */
static void start_over(struct lane *lane)
{
	consumer_stop(lane->consumer);
	lane->serial = 0;
}

/* Also for those that run: an order for one that is idle would wait for its next command. */
static int look_for_resume_orders(struct lane *lane, struct fault *fault)
{
	int32_t *ids = arena_array(lane->arena, lane->partition_count, sizeof *ids);
	const char *cluster_id = consumer_cluster_id(lane->consumer, 0, fault);
	int orders;

	lane->orders_check_at_ms = clock_monotonic_ms() + ORDERS_CHECK_MS;
	if (cluster_id == NULL)
		return -1;
	for (size_t i = 0; i < lane->partition_count; i++)
		ids[i] = lane->partitions[i].id;
	lane_begin_wait(lane, true);
	orders = store_resume_orders(lane->store, cluster_id, lane->config->commands, ids, lane->partition_count, fault);
	if (orders > 0)
		start_over(lane);
	return orders < 0 ? -1 : 0;
}

/* Nobody but a person may decide that records are skipped, whatever they are. */
static int halt_unreadable(struct lane *lane, int32_t id, const char *what, struct fault *fault)
{
	struct start *starts = arena_array(lane->arena, lane->partition_count, sizeof *starts);
	struct partition *partition = lane_find_partition(lane, id);
	char why[512];

	if (partition && partition->state == PARTITION_RUNNING) {
		snprintf(why, sizeof why, "its records from offset %lld on cannot be read: %s", (long long)partition->start, what);
		halt(lane, partition, why);
	}
	lane->orders_check_at_ms = clock_monotonic_ms() + ORDERS_CHECK_MS;
	if (consumer_start(lane->consumer, starts, collect(lane, PARTITION_RUNNING, starts), fault) == 0)
		return 0;
	lane->consumer_broken = true;
	return -1;
}

static bool is_confirm_due(const struct lane *lane, int64_t now)
{
	return lane->unconfirmed && now >= lane->confirm_at_ms && lane->partition_count > lane->halted_count;
}

static bool is_recommit_due(const struct lane *lane, int64_t now)
{
	return lane->partition_count > lane->halted_count && now >= lane->recommit_at_ms;
}

static bool is_leaderless_retry_due(const struct lane *lane, int64_t now)
{
	return lane->leaderless_retry_at_ms > 0 && now >= lane->leaderless_retry_at_ms;
}

static bool is_orders_check_due(const struct lane *lane, int64_t now)
{
	return lane->partition_count > 0 && now >= lane->orders_check_at_ms;
}

/* Not for a confirmation: under load it is made when orders are looked for. */
bool takeover_is_due(const struct lane *lane)
{
	int64_t now = clock_monotonic_ms();
	int32_t id;

	return is_recommit_due(lane, now) || is_leaderless_retry_due(lane, now) ||
	       is_orders_check_due(lane, now) || consumer_find_unreadable(lane->consumer, &id) != NULL;
}

int takeover_tend(struct lane *lane, struct fault *fault)
{
	int64_t now = clock_monotonic_ms();
	const char *unreadable;
	int32_t id;

	unreadable = consumer_find_unreadable(lane->consumer, &id);
	if (unreadable)
		return halt_unreadable(lane, id, unreadable, fault);
	if (is_confirm_due(lane, now)) {
		lane_begin_wait(lane, true);
		if (confirm(lane, fault) < 0)
			return -1;
		if (consumer_serial(lane->consumer) != lane->serial) /* while PostgreSQL was waited for */
			return 0;
	}
	if (is_recommit_due(lane, now))
		return recommit(lane, fault);
	if (is_leaderless_retry_due(lane, now))
		start_over(lane);
	else if (is_orders_check_due(lane, now))
		return look_for_resume_orders(lane, fault);
	return 0;
}
