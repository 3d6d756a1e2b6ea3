/* From an assignment to partitions that run (DESIGN section 4):
 *
 *   ASSIGNED --claim: epoch + 1, one transaction for all--> CLAIMED --offsets fetched--> POSITIONED
 *   POSITIONED --OffsetCommit in this generation--> RUNNING
 *   any of them --offsets unusable, or owned by another group--> HALTED, alone, until `campaign-worker resume`
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "intake.h"
#include "lane_parts.h"
#include "log.h"
#include "partition.h"

#define POSITIONS_MS 1000      /* one try to fetch stable offsets */
#define PATIENCE_TRIES 2       /* before a predecessor's pending transaction is ended */
#define CHECK_MS 5000
#define END_TRANSACTION_MS 5000
#define CLUSTER_ID_MS 1000
#define RECOMMIT_MS (60 * 60 * 1000)
#define HALTED_CHECK_MS 2000

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
	size_t n = intake_partitions(lane->intake, &ids);

	free(lane->partitions);
	free(lane->offsets);
	free(lane->fences);
	lane->partitions = calloc(n + 1, sizeof *lane->partitions);
	lane->offsets = calloc(n + 1, sizeof *lane->offsets);
	lane->fences = calloc(n + 1, sizeof *lane->fences);
	if (lane->partitions == NULL || lane->offsets == NULL || lane->fences == NULL)
		abort();
	for (size_t i = 0; i < n; i++)
		lane->partitions[i].id = ids[i];
	qsort(lane->partitions, n, sizeof *lane->partitions, compare_partitions);
	lane->partition_count = n;
	lane->halted_count = 0;
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

/* A transaction that a dead owner left pending hides its offsets for as long as its time-out lasts: end it by name. */
static void end_predecessors(struct lane *lane)
{
	for (size_t i = 0; i < lane->predecessor_count; i++) {
		struct fault fault;

		if (outlet_end_transaction(lane->config, lane->predecessors[i], END_TRANSACTION_MS, &fault) < 0)
			log_warn("predecessor_not_ended", fault.msg, "transactionalId", lane->predecessors[i]);
		else
			log_info("predecessor_ended", "ended the pending transaction of the partition's last owner",
				 "transactionalId", lane->predecessors[i]);
	}
	lane->predecessor_count = 0;
}

static int fetch_positions(struct lane *lane, struct position *positions, size_t n, struct fault *fault)
{
	for (int tries = 1; intake_positions(lane->intake, positions, n, POSITIONS_MS, fault) < 0; tries++) {
		if (fault->kind != FAULT_RETRY)
			return -1;
		log_warn("positions_unknown", fault->msg, "topic", lane->config->commands);
		if (tries == PATIENCE_TRIES)
			end_predecessors(lane);
		lane_pause(lane, 100);
		if (lane->wait_fault.kind != FAULT_NONE || lane_is_stopping(lane) || intake_serial(lane->intake) != lane->serial)
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

/* Collects the partitions in that state. */
static size_t collect(const struct lane *lane, enum partition_state state, struct start *starts)
{
	size_t n = 0;

	for (size_t i = 0; i < lane->partition_count; i++)
		if (lane->partitions[i].state == state)
			starts[n++] = (struct start){ lane->partitions[i].id, lane->partitions[i].start };
	return n;
}

static int check(struct lane *lane, const struct start *starts, size_t n, struct fault *fault)
{
	if (n == 0 || intake_check(lane->intake, starts, n, CHECK_MS, fault) == 0)
		return 0;
	lane->intake_broken = fault->kind == FAULT_REBUILD;
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

static int start(struct lane *lane, const struct start *starts, size_t n, struct fault *fault)
{
	if (intake_serial(lane->intake) != lane->serial)
		return fault_set(fault, FAULT_FENCED, "the assignment changed during the takeover");
	if (intake_start(lane->intake, starts, n, fault) < 0) {
		lane->intake_broken = true;
		return -1;
	}
	for (size_t i = 0; i < lane->partition_count; i++)
		if (lane->partitions[i].state == PARTITION_POSITIONED)
			set_state(lane, &lane->partitions[i], PARTITION_RUNNING);
	lane->recommit_at_ms = clock_monotonic_ms() + RECOMMIT_MS;
	lane->halted_check_at_ms = clock_monotonic_ms() + HALTED_CHECK_MS;
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
	for (size_t i = 0; i < n; i++)
		positions[i].partition = lane->partitions[i].id;
	if (fetch_positions(lane, positions, n, fault) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (lane->partitions[i].state == PARTITION_CLAIMED)
			position(lane, &lane->partitions[i], &positions[i], &claims[i]);
	running = collect(lane, PARTITION_POSITIONED, starts);
	if (check(lane, starts, running, fault) < 0 || finish_resumes(lane, cluster_id, claims, fault) < 0)
		return -1;
	return start(lane, starts, running, fault);
}

int takeover_run(struct lane *lane, struct fault *fault)
{
	const char *cluster_id;
	size_t n;

	lane->serial = intake_serial(lane->intake);
	take_assignment(lane);
	n = lane->partition_count;
	if (n == 0)
		return 0;
	cluster_id = intake_cluster_id(lane->intake, CLUSTER_ID_MS, fault);
	if (cluster_id == NULL)
		return -1;
	return take_over_partitions(lane, cluster_id, arena_array(lane->arena, n, sizeof(struct claim)),
				    arena_array(lane->arena, n, sizeof(struct position)),
				    arena_array(lane->arena, n, sizeof(struct start)), fault);
}

/* A group's offsets expire (offsets.retention.minutes) on brokers that count from the last commit. */
static int recommit(struct lane *lane, struct fault *fault)
{
	struct start *starts = arena_array(lane->arena, lane->partition_count + 1, sizeof *starts);

	lane->recommit_at_ms = clock_monotonic_ms() + RECOMMIT_MS;
	return check(lane, starts, collect(lane, PARTITION_RUNNING, starts), fault);
}

static int look_for_resume_orders(struct lane *lane, struct fault *fault)
{
	int32_t *ids = arena_array(lane->arena, lane->partition_count, sizeof *ids);
	const char *cluster_id = intake_cluster_id(lane->intake, 0, fault);
	size_t n = 0;
	int orders;

	lane->halted_check_at_ms = clock_monotonic_ms() + HALTED_CHECK_MS;
	if (cluster_id == NULL)
		return -1;
	for (size_t i = 0; i < lane->partition_count; i++)
		if (lane->partitions[i].state == PARTITION_HALTED)
			ids[n++] = lane->partitions[i].id;
	lane_begin_wait(lane, true);
	orders = store_resume_orders(lane->store, cluster_id, lane->config->commands, ids, n, fault);
	if (orders > 0)
		lane->serial = 0; /* take everything over again */
	return orders < 0 ? -1 : 0;
}

int takeover_tend(struct lane *lane, struct fault *fault)
{
	int64_t now = clock_monotonic_ms();

	if (lane->partition_count > lane->halted_count && now >= lane->recommit_at_ms)
		return recommit(lane, fault);
	if (lane->halted_count > 0 && now >= lane->halted_check_at_ms)
		return look_for_resume_orders(lane, fault);
	return 0;
}
