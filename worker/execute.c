/* The PostgreSQL side of a batch: one transaction if all goes well; smaller and smaller ones, in order, until the command
 * that the database cannot take is alone. That one transaction may have been sent before, while Kafka was busy with the
 * batch before this. */
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/kafka/consumer.h"
#include "worker/lane_parts.h"
#include "worker/base/log.h"

#define LOCK_TRIES 3     /* of a whole batch and of a single command */
#define SPLIT_INTO 8
#define RETRY_PAUSE_MS 50

static int send(struct lane *lane, size_t first, size_t n, enum store_end end, struct fault *fault)
{
	struct batch *batch = lane->batch;
	struct fence fence = {
		.cluster_id = consumer_cluster_id(lane->consumer, 0, fault),
		.topic = lane->config->commands,
		.partitions = batch->fences,
		.count = batch->offset_count,
	};

	if (fence.cluster_id == NULL)
		return -1;
	lane_begin_wait(lane, false);
	store_send(lane->store, &fence, batch->order + first, n, end, batch->arena);
	return 0;
}

static int receive(struct lane *lane, size_t first, size_t n, struct fault *fault)
{
	struct batch *batch = lane->batch;

	lane->sent = false;
	lane_begin_wait(lane, false);
	return store_receive(lane->store, batch->order + first, n, batch->arena, fault);
}

static int execute_once(struct lane *lane, size_t first, size_t n, enum store_end end, struct fault *fault)
{
	if (!lane->sent && send(lane, first, n, end, fault) < 0)
		return -1;
	return receive(lane, first, n, fault);
}

/* A statement that took too long would most likely do so again. */
static bool timed_out(const struct fault *fault)
{
	return strcmp(fault->sqlstate, "57014") == 0;
}

static int execute_patiently(struct lane *lane, size_t first, size_t n, int tries, struct fault *fault)
{
	for (int i = 0; i < tries; i++) {
		if (i > 0)
			lane_pause(lane, RETRY_PAUSE_MS + rand() % RETRY_PAUSE_MS);
		if (execute_once(lane, first, n, STORE_COMMIT, fault) == 0)
			return 0;
		if (fault->kind != FAULT_RETRY || (n > 1 && timed_out(fault)))
			return -1;
	}
	return -1;
}

static bool writes_draft(const struct job *job)
{
	return job->executable && job->reason == REASON_NONE && !job->result.draft_existed;
}

static void note_success(struct lane *lane, size_t first, size_t n)
{
	for (size_t i = first; i < first + n; i++) {
		if (!writes_draft(lane->batch->order[i]))
			continue;
		if (breaker_succeeded(&lane->breaker))
			log_info("breaker_closed", "a draft was written: commands are answered again");
		return;
	}
}

/* Marked by the SQLSTATE of the cause: the breaker's doing, and not another fault that came while it is open. */
static int stop_answering(const struct lane *lane, const char *what, struct fault *fault)
{
	fault_set(fault, FAULT_WAIT, "%s (SQLSTATE %s): nothing is answered until a probe passes", what, lane->breaker.cause);
	memcpy(fault->sqlstate, lane->breaker.cause, sizeof fault->sqlstate);
	return -1;
}

/* The command failed alone: it is answered, unless that happens to one after the other. */
static int answer_failure(struct lane *lane, size_t place, struct fault *fault)
{
	struct job *job = lane->batch->order[place];
	bool locked = fault->kind == FAULT_RETRY;
	const char *details;

	if (breaker_failed(&lane->breaker, fault->sqlstate)) {
		lane->breaker.probe = place + 1; /* those before it are known */
		return stop_answering(lane, "command after command failed in the database for one cause", fault);
	}
	job->reason = locked ? REASON_ROWS_LOCKED : REASON_DATABASE_ERROR;
	job->executable = false;
	job->dead_letter = reason_info(job->reason)->dead_letter;
	job->cause = arena_printf(lane->batch->arena, "SQLSTATE %s: %s", fault->sqlstate, fault->msg);
	if (timed_out(fault))
		details = "the command could not be judged or written in time; nothing was written";
	else if (locked)
		details = "rows this command needs stayed locked by another session; nothing was written";
	else
		details = arena_printf(lane->batch->arena, "the database refused this command (SQLSTATE %s); nothing was written", fault->sqlstate);
	result_refuse(&job->result, job->reason, details);
	/* Its processing time comes from the same clock as all others': a transaction without anything to execute. */
	return 0;
}

/* Delivered again, the command may have its draft already: then that is its answer, now or, if it cannot be had, later. */
static int execute_failed(struct lane *lane, size_t place, struct fault *fault)
{
	struct fault look;
	bool written;

	lane_begin_wait(lane, false);
	if (store_find_draft(lane->store, lane->batch->order[place], &written, &look) < 0) {
		*fault = look;
		return -1;
	}
	if (written) {
		if (execute_once(lane, place, 1, STORE_COMMIT_UNLOCKED, fault) < 0) {
			if (fault->kind == FAULT_REJECT || fault->kind == FAULT_RETRY)
				fault->kind = FAULT_WAIT;
			return -1;
		}
		return 0;
	}
	if (answer_failure(lane, place, fault) < 0)
		return -1;
	return execute_patiently(lane, place, 1, LOCK_TRIES, fault);
}

static int execute_range(struct lane *lane, size_t first, size_t n, int tries, struct fault *fault)
{
	size_t part = (n + SPLIT_INTO - 1) / SPLIT_INTO;

	if (execute_patiently(lane, first, n, tries, fault) == 0) {
		note_success(lane, first, n);
		return 0;
	}
	if (fault->kind != FAULT_REJECT && fault->kind != FAULT_RETRY)
		return -1;
	if (n == 1)
		return execute_failed(lane, first, fault);
	log_warn("batch_split", fault->msg, "sqlstate", fault->sqlstate, "commands", LOG_INT((int64_t)n));
	for (size_t i = first; i < first + n; i += part) {
		size_t size = first + n - i < part ? first + n - i : part;

		if (execute_range(lane, i, size, size == 1 ? LOCK_TRIES : 1, fault) < 0)
			return -1;
	}
	return 0;
}

/* The place in the batch of the command whose turn it is; there is an executable one. */
static size_t choose_probe(const struct lane *lane)
{
	const struct batch *batch = lane->batch;
	size_t i = lane->breaker.probe % batch->count;

	while (!batch->order[i]->executable)
		i = (i + 1) % batch->count;
	return i;
}

/* While the breaker is open: one command, judged and rolled back; another one each time. One that the rules refuse tells
 * nothing, and the next has its turn; a batch of only such commands can be answered whatever ails the database. */
static int probe(struct lane *lane, struct fault *fault)
{
	size_t executable = 0;

	for (size_t i = 0; i < lane->batch->count; i++)
		executable += lane->batch->order[i]->executable;
	for (size_t tried = 0; tried < executable; tried++) {
		size_t i = lane->breaker.probe = choose_probe(lane);

		if (execute_once(lane, i, 1, STORE_ROLLBACK, fault) < 0) {
			if (fault->kind != FAULT_REJECT && fault->kind != FAULT_RETRY)
				return -1;
			breaker_probed(&lane->breaker, false);
			return stop_answering(lane, "the database still refuses every command", fault);
		}
		breaker_probed(&lane->breaker, writes_draft(lane->batch->order[i]));
		if (!lane->breaker.open) {
			log_info("breaker_closed", "a probe passed: commands are answered again");
			return 0;
		}
	}
	return 0;
}

/* Not while the breaker is open: a probe comes first. */
void execute_send(struct lane *lane)
{
	struct fault fault;

	lane->sent_at_ms = clock_monotonic_ms();
	lane->sent = !lane->breaker.open && send(lane, 0, lane->batch->count, STORE_COMMIT, &fault) == 0;
}

void execute_abandon(struct lane *lane)
{
	struct fault fault;

	if (lane->sent && receive(lane, 0, lane->batch->count, &fault) < 0)
		log_info("batch_abandoned", fault.msg, "lane", LOG_INT(lane->number));
}

/* Where the answer was there already, but for the time it takes to read it, Kafka is what took long: then PostgreSQL is taken
 * to be as fast as the reading. If it is not, the next batch is waited for. */
static void note_sizing(struct lane *lane, int64_t asked_at_ms)
{
	int64_t now = clock_monotonic_ms(), waited = now - asked_at_ms, ms = now - lane->sent_at_ms;

	sizing_note(&lane->sizing, lane->batch->count, waited <= lane->sizing.budget_ms / 10 ? waited : ms);
}

int execute_batch(struct lane *lane, struct fault *fault)
{
	int64_t asked_at_ms = clock_monotonic_ms();

	if (lane->breaker.open && probe(lane, fault) < 0)
		return -1;
	if (execute_range(lane, 0, lane->batch->count, LOCK_TRIES, fault) < 0)
		return -1;
	note_sizing(lane, asked_at_ms);
	return 0;
}
