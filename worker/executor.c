#include "worker/executor.h"

#include <stdlib.h>
#include <string.h>

#include "schemas/result.h"
#include "worker/base/clock.h"
#include "worker/base/log.h"

#define LOCK_TRIES 3     /* of a whole batch and of a single command */
#define SPLIT_INTO 8
#define RETRY_PAUSE_MS 50

static void send(struct executor *executor, size_t first, size_t n, enum execution_end end)
{
	wait_begin(executor->wait, false, clock_monotonic_ms());
	executor->fence.partial = first + n < executor->count;
	execution_send(executor->execution, &executor->fence, executor->jobs + first, n, end, executor->arena);
}

static int receive(struct executor *executor, size_t first, size_t n, struct fault *fault)
{
	executor->sent = false;
	wait_begin(executor->wait, false, clock_monotonic_ms());
	return execution_receive(executor->execution, executor->jobs + first, n, executor->arena, fault);
}

static int execute_once(struct executor *executor, size_t first, size_t n, enum execution_end end, struct fault *fault)
{
	if (!executor->sent)
		send(executor, first, n, end);
	return receive(executor, first, n, fault);
}

/* Whether a statement took too long: it would most likely do so again. */
static bool timed_out(const struct fault *fault)
{
	return strcmp(fault->sqlstate, "57014") == 0;
}

static int execute_patiently(struct executor *executor, size_t first, size_t n, int tries, struct fault *fault)
{
	for (int i = 0; i < tries; i++) {
		if (i > 0)
			wait_pause(executor->wait, RETRY_PAUSE_MS + rand() % RETRY_PAUSE_MS);
		if (execute_once(executor, first, n, EXECUTION_COMMIT, fault) == 0)
			return 0;
		if (fault->kind != FAULT_RETRY || (n > 1 && timed_out(fault)))
			return -1;
	}
	return -1;
}

static bool writes_draft(const struct job *job)
{
	return job->executable && job->reason == NULL && !job->result.draft_existed;
}

static void record_success(struct executor *executor, size_t first, size_t n)
{
	for (size_t i = first; i < first + n; i++) {
		if (!writes_draft(executor->jobs[i]))
			continue;
		if (breaker_succeeded(&executor->breaker))
			log_info("breaker_closed", "a draft was written: commands are answered again");
		return;
	}
}

/* The cause's SQLSTATE marks the fault as the breaker's (executor_is_breakers). */
static int stop_answering(const struct executor *executor, const char *what, struct fault *fault)
{
	fault_set(fault, FAULT_WAIT, "%s (SQLSTATE %s): nothing is answered until a probe passes", what, executor->breaker.cause);
	memcpy(fault->sqlstate, executor->breaker.cause, sizeof fault->sqlstate);
	return -1;
}

/* A command that failed alone is answered, unless command after command fails. */
static int answer_failure(struct executor *executor, size_t place, struct fault *fault)
{
	struct job *job = executor->jobs[place];
	bool locked = fault->kind == FAULT_RETRY;
	const char *details;

	if (breaker_failed(&executor->breaker, fault->sqlstate)) {
		statistics_add(executor->statistics, COUNT_BREAKER_OPENED, 1);
		executor->breaker.probe = place + 1; /* the commands before it are known */
		return stop_answering(executor, "command after command failed in the database for one cause", fault);
	}
	job->reason = locked ? &reason_rows_locked : &reason_database_error;
	job->executable = false;
	job->dead_letter = job->reason->dead_letter;
	job->cause = arena_printf(executor->arena, "SQLSTATE %s: %s", fault->sqlstate, fault->msg);
	if (timed_out(fault))
		details = "the command could not be judged or written in time; nothing was written";
	else if (locked)
		details = "rows this command needs stayed locked by another session; nothing was written";
	else
		details = arena_printf(executor->arena, "the database refused this command (SQLSTATE %s); nothing was written", fault->sqlstate);
	result_refuse(&job->result, job->reason, details);
	return 0;
}

/* A command that was delivered again may have its draft already. The draft is then its answer: now, or later if PostgreSQL
 * cannot read it now. */
static int execute_failed(struct executor *executor, size_t place, struct fault *fault)
{
	struct fault other;
	bool written;

	wait_begin(executor->wait, false, clock_monotonic_ms());
	if (execution_find_written(executor->execution, executor->jobs[place], &written, &other) < 0) {
		*fault = other;
		return -1;
	}
	if (written) {
		if (execute_once(executor, place, 1, EXECUTION_COMMIT_UNLOCKED, fault) < 0) {
			if (fault->kind == FAULT_REJECT || fault->kind == FAULT_RETRY)
				fault->kind = FAULT_WAIT;
			return -1;
		}
		return 0;
	}
	if (answer_failure(executor, place, fault) < 0)
		return -1;
	/* An empty transaction gives the answer its processing time, from the same clock as all others. */
	return execute_patiently(executor, place, 1, LOCK_TRIES, fault);
}

static int execute_range(struct executor *executor, size_t first, size_t n, int tries, struct fault *fault)
{
	size_t part = (n + SPLIT_INTO - 1) / SPLIT_INTO;

	if (execute_patiently(executor, first, n, tries, fault) == 0) {
		record_success(executor, first, n);
		return 0;
	}
	if (fault->kind != FAULT_REJECT && fault->kind != FAULT_RETRY)
		return -1;
	if (n == 1)
		return execute_failed(executor, first, fault);
	statistics_add(executor->statistics, COUNT_SPLITS, 1);
	log_warn("batch_split", fault->msg, "sqlstate", fault->sqlstate, "commands", LOG_INT((int64_t)n));
	for (size_t i = first; i < first + n; i += part) {
		size_t size = first + n - i < part ? first + n - i : part;

		if (execute_range(executor, i, size, size == 1 ? LOCK_TRIES : 1, fault) < 0)
			return -1;
	}
	return 0;
}

/* The place of the executable command that is probed next; the batch has at least one. */
static size_t choose_probe(const struct executor *executor)
{
	size_t i = executor->breaker.probe % executor->count;

	while (!executor->jobs[i]->executable)
		i = (i + 1) % executor->count;
	return i;
}

/* While the breaker is open: executes one command and rolls it back, another one each time. A command that the rules refuse
 * proves nothing, and the next one is tried. A batch of refused commands alone can be answered, as none of them writes. */
static int probe(struct executor *executor, struct fault *fault)
{
	size_t executable = 0;

	for (size_t i = 0; i < executor->count; i++)
		executable += executor->jobs[i]->executable;
	for (size_t tried = 0; tried < executable; tried++) {
		size_t i = executor->breaker.probe = choose_probe(executor);

		if (execute_once(executor, i, 1, EXECUTION_ROLLBACK, fault) < 0) {
			if (fault->kind != FAULT_REJECT && fault->kind != FAULT_RETRY)
				return -1;
			breaker_probed(&executor->breaker, false);
			return stop_answering(executor, "the database still refuses every command", fault);
		}
		breaker_probed(&executor->breaker, writes_draft(executor->jobs[i]));
		if (!executor->breaker.open) {
			log_info("breaker_closed", "a probe passed: commands are answered again");
			return 0;
		}
	}
	return 0;
}

void executor_init(struct executor *executor, struct execution *execution, struct wait *wait, struct statistics *statistics,
		   const struct config *config)
{
	*executor = (struct executor){ .execution = execution, .wait = wait, .statistics = statistics };
	breaker_init(&executor->breaker, config->breaker);
	sizing_init(&executor->sizing, (size_t)config->batch, config->batch_ms);
}

/* While the breaker is open nothing is sent: executor_receive probes first. */
void executor_send(struct executor *executor, const struct fence *fence, struct job **jobs, size_t n, struct arena *arena)
{
	executor->fence = *fence;
	executor->jobs = jobs;
	executor->count = n;
	executor->arena = arena;
	executor->sent_at_ms = clock_monotonic_ms();
	executor->sent = !executor->breaker.open;
	if (executor->sent)
		send(executor, 0, n, EXECUTION_COMMIT);
}

void executor_abandon(struct executor *executor)
{
	struct fault fault;

	if (executor->sent && receive(executor, 0, executor->count, &fault) < 0)
		log_info("batch_abandoned", fault.msg, "lane", LOG_INT(executor->wait->lane));
}

/* An answer that was there already, but for the time it takes to read it, shows that Kafka took the time since the sending.
 * PostgreSQL is then assumed to be as fast as the reading. If it is not, the next batch is waited for. */
static void observe_time(struct executor *executor, int64_t asked_at_ms)
{
	int64_t now = clock_monotonic_ms(), waited = now - asked_at_ms, ms = now - executor->sent_at_ms;

	sizing_observe(&executor->sizing, executor->count, waited <= executor->sizing.budget_ms / 10 ? waited : ms);
}

int executor_receive(struct executor *executor, struct fault *fault)
{
	int64_t asked_at_ms = clock_monotonic_ms();

	if (executor->breaker.open && probe(executor, fault) < 0)
		return -1;
	if (execute_range(executor, 0, executor->count, LOCK_TRIES, fault) < 0)
		return -1;
	observe_time(executor, asked_at_ms);
	return 0;
}

bool executor_is_breakers(const struct executor *executor, const struct fault *fault)
{
	return executor->breaker.open && fault->kind == FAULT_WAIT && strcmp(fault->sqlstate, executor->breaker.cause) == 0;
}
