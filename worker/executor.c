#include "worker/executor.h"

#include <stdlib.h>
#include <string.h>

#include "schemas/result.h"
#include "worker/base/clock.h"
#include "worker/base/log.h"
#include "worker/copies.h"

#define LOCK_TRIES 3     /* of a whole batch and of a single command; locked rows are not tried again here */
#define SPLIT_INTO 8
#define RETRY_PAUSE_MS 50

static void send(struct executor *executor, size_t first, size_t n, enum execution_end end)
{
	copies_prepare(executor->jobs, executor->count, first, n);
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

/* Whether a statement took too long. */
static bool timed_out(const struct fault *fault)
{
	return strcmp(fault->sqlstate, "57014") == 0;
}

static bool refused_to_share(const struct fault *fault)
{
	return strcmp(fault->sqlstate, EXECUTION_SHARED_LIMIT) == 0;
}

/* Whether the same commands would most likely fail again, if they are executed together. */
static bool would_fail_again(const struct fault *fault)
{
	return timed_out(fault) || refused_to_share(fault);
}

static int execute_patiently(struct executor *executor, size_t first, size_t n, int tries, struct fault *fault)
{
	for (int i = 0; i < tries; i++) {
		if (i > 0)
			wait_pause(executor->wait, RETRY_PAUSE_MS + rand() % RETRY_PAUSE_MS);
		if (execute_once(executor, first, n, EXECUTION_COMMIT, fault) == 0)
			return 0;
		if (fault->kind != FAULT_RETRY || execution_is_locked(fault) || (n > 1 && would_fail_again(fault)))
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
		control_keep(&executor->control, executor->jobs[i], clock_monotonic_ms());
		if (breaker_succeeded(&executor->breaker))
			log_info("breaker_closed", "a draft was written: commands are answered again");
		return;
	}
}

/* ---- whose fault it is ---- */

/* What a command did that was executed and rolled back: refused by the rules, it wrote nothing and shows nothing. */
enum probe_outcome { PROBE_REFUSED, PROBE_LOCKED, PROBE_FAILED, PROBE_PASSED };

static int probe_job(struct executor *executor, struct job *job, enum probe_outcome *outcome, struct fault *fault)
{
	job->shared = false;
	wait_begin(executor->wait, false, clock_monotonic_ms());
	execution_send(executor->execution, &executor->fence, &job, 1, EXECUTION_ROLLBACK, executor->arena);
	if (execution_receive(executor->execution, &job, 1, executor->arena, fault) == 0) {
		*outcome = writes_draft(job) ? PROBE_PASSED : PROBE_REFUSED;
		return 0;
	}
	*outcome = fault->kind == FAULT_REJECT ? PROBE_FAILED : PROBE_LOCKED;
	return fault->kind == FAULT_REJECT || fault->kind == FAULT_RETRY ? 0 : -1;
}

static int probe_control(struct executor *executor, enum probe_outcome *outcome, struct fault *fault)
{
	struct job *job = control_job(&executor->control);

	*outcome = PROBE_REFUSED;
	return job ? probe_job(executor, job, outcome, fault) : 0;
}

/* The control, and commands from that place on, until one passes. *others is the greatest outcome. */
static int look_at_others(struct executor *executor, size_t place, enum probe_outcome *others, struct fault *fault)
{
	size_t step = (executor->count - place) / EXECUTOR_OTHERS + 1;
	enum probe_outcome outcome;

	if (probe_control(executor, others, fault) < 0)
		return -1;
	for (size_t i = place; i < executor->count && *others != PROBE_PASSED; i += step) {
		while (i < executor->count && !executor->jobs[i]->executable)
			i++;
		if (i == executor->count)
			return 0;
		if (probe_job(executor, executor->jobs[i], &outcome, fault) < 0)
			return -1;
		if (outcome > *others)
			*others = outcome;
	}
	return 0;
}

/* The cause's SQLSTATE marks the fault as the breaker's (executor_is_breakers). The connection is made anew: prepared
 * statements may be what fails, and preparing them shows what is missing. */
static int stop_answering(const struct executor *executor, const char *what, struct fault *fault)
{
	const char *cause = executor->breaker.cause;
	struct fault first = *fault;

	execution_disconnect(executor->execution);
	fault_set(fault, FAULT_WAIT, "%s (SQLSTATE %s): nothing is answered until a probe passes. %s", what, cause, first.msg);
	memcpy(fault->sqlstate, cause, sizeof fault->sqlstate);
	return -1;
}

static int wait_for_others(const struct executor *executor, int64_t left_ms, struct fault *fault)
{
	struct fault first = *fault;

	execution_disconnect(executor->execution);
	fault_set(fault, FAULT_WAIT, "a command fails alone, and no other command shows whose fault that is: it waits for one, at most "
		  "%d s more. %s", (int)((left_ms + 999) / 1000), first.msg);
	memcpy(fault->sqlstate, first.sqlstate, sizeof fault->sqlstate);
	return -1;
}

/* Others pass: what failed before them may pass, too, as the fault may be over. A suspect is not tried again: it would end the
 * connection that showed its guilt. */
static int try_again(struct executor *executor, size_t place, bool *passed, struct fault *fault)
{
	*passed = false;
	if (suspect_is(&executor->suspect, &executor->jobs[place]->record))
		return 0;
	*passed = execute_once(executor, place, 1, EXECUTION_COMMIT, fault) == 0;
	if (*passed)
		record_success(executor, place, 1);
	return *passed || fault->kind == FAULT_REJECT || fault->kind == FAULT_RETRY ? 0 : -1;
}

static int experiment(struct executor *executor, size_t place, enum probe_outcome *others, bool *passed, struct fault *fault)
{
	if (look_at_others(executor, place + 1, others, fault) < 0)
		return -1;
	return *others == PROBE_PASSED ? try_again(executor, place, passed, fault) : 0;
}

/* Whether the command at that place, which failed alone, is at fault; unless it passes now. -1: it is not, or nobody knows. Rows
 * that stay locked while others pass are the command's misfortune, and say nothing of the next one. */
static int blame(struct executor *executor, size_t place, bool *passed, struct fault *fault)
{
	bool rejected = fault->kind == FAULT_REJECT, locked = execution_is_locked(fault);
	enum probe_outcome others = PROBE_PASSED;
	int64_t left_ms = 0;
	struct fault other;

	*passed = false;
	if ((rejected || locked) && experiment(executor, place, &others, passed, &other) < 0) {
		*fault = other;
		return -1;
	}
	if (*passed || (locked && others == PROBE_PASSED))
		return 0;
	if (others == PROBE_PASSED || !rejected)
		breaker_failed(&executor->breaker, fault->sqlstate);
	else if (others == PROBE_FAILED)
		breaker_trip(&executor->breaker, fault->sqlstate);
	else
		left_ms = breaker_failed_unproven(&executor->breaker, fault->sqlstate, clock_monotonic_ms());
	if (executor->breaker.open) {
		statistics_add(executor->statistics, COUNT_BREAKER_OPENED, 1);
		executor->breaker.probe = place + 1; /* the commands before it are known */
		return stop_answering(executor, others == PROBE_FAILED ? "the database refuses every command that was tried" :
				      "command after command failed in the database for one cause", fault);
	}
	return left_ms > 0 ? wait_for_others(executor, left_ms, fault) : 0;
}

static void answer_failure(struct executor *executor, size_t place, const struct fault *fault)
{
	struct job *job = executor->jobs[place];
	bool locked = fault->kind == FAULT_RETRY;
	const char *details;

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
}

/* A command that was delivered again may have its draft already. The draft is then its answer: now, or later if PostgreSQL
 * cannot read it now. */
static int execute_failed(struct executor *executor, size_t place, struct fault *fault)
{
	struct fault other;
	bool written, passed;

	wait_begin(executor->wait, false, clock_monotonic_ms());
	if (execution_find_written(executor->execution, executor->jobs[place], &written, &other) < 0) {
		*fault = other;
		return -1;
	}
	if (written) {
		if (execute_once(executor, place, 1, EXECUTION_COMMIT_UNLOCKED, fault) < 0) {
			if (fault->kind == FAULT_REJECT || (fault->kind == FAULT_RETRY && !executor_met_lock(fault)))
				fault->kind = FAULT_WAIT;
			return -1;
		}
		return 0;
	}
	if (blame(executor, place, &passed, fault) < 0)
		return -1;
	if (passed)
		return 0;
	answer_failure(executor, place, fault);
	/* An empty transaction gives the answer its processing time, from the same clock as all others. */
	return execute_patiently(executor, place, 1, LOCK_TRIES, fault);
}

static int execute_range(struct executor *executor, size_t first, size_t n, int tries, struct fault *fault)
{
	size_t part = (n + SPLIT_INTO - 1) / SPLIT_INTO;

	if (execute_patiently(executor, first, n, tries, fault) == 0) {
		record_success(executor, first, n);
		copies_settle(executor->jobs, first, n);
		return 0;
	}
	if (fault->kind != FAULT_REJECT && fault->kind != FAULT_RETRY)
		return -1;
	if (executor_met_lock(fault) && !executor->answers_locked)
		return -1;
	if (n == 1)
		return execute_failed(executor, first, fault);
	if (!refused_to_share(fault)) {
		statistics_add(executor->statistics, COUNT_SPLITS, 1);
		log_warn("batch_split", fault->msg, "sqlstate", fault->sqlstate, "commands", LOG_INT((int64_t)n));
	}
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

/* The command at that place; if it fails, others: where one of them passes, that counts. */
static int probe_around(struct executor *executor, size_t place, enum probe_outcome *outcome, struct fault *fault)
{
	enum probe_outcome others;
	struct fault other;

	if (probe_job(executor, executor->jobs[place], outcome, fault) < 0)
		return -1;
	if (*outcome == PROBE_PASSED || *outcome == PROBE_REFUSED)
		return 0;
	if (look_at_others(executor, place + 1, &others, &other) < 0) {
		*fault = other;
		return -1;
	}
	if (others == PROBE_PASSED)
		*outcome = PROBE_PASSED;
	return 0;
}

/* While the breaker is open: executes commands and rolls them back, beginning with another one each time. A command that the
 * rules refuse proves nothing, and the next one is tried. A batch of refused commands alone can be answered, as none of them
 * writes. */
static int probe(struct executor *executor, struct fault *fault)
{
	enum probe_outcome outcome;
	size_t executable = 0;

	for (size_t i = 0; i < executor->count; i++)
		executable += executor->jobs[i]->executable;
	for (size_t tried = 0; tried < executable; tried++) {
		size_t i = executor->breaker.probe = choose_probe(executor);

		if (probe_around(executor, i, &outcome, fault) < 0)
			return -1;
		breaker_probed(&executor->breaker, outcome == PROBE_PASSED);
		if (outcome == PROBE_FAILED || outcome == PROBE_LOCKED)
			return stop_answering(executor, "the database still refuses every command", fault);
		if (!executor->breaker.open) {
			log_info("breaker_closed", "a probe passed: commands are answered again");
			return 0;
		}
	}
	return 0;
}

/* ---- commands that make the connection break ---- */

/* Whether commits and commands pass on this connection. A commit is of the fence alone. A command that is looked at may break the
 * connection itself: the next time, the one behind it is looked at. */
static int check_connection(struct executor *executor, size_t place, bool *passes, struct fault *fault)
{
	size_t behind = place + 1 + executor->suspect.skipped % (executor->count - place);
	enum probe_outcome others;

	if (execute_once(executor, place, 0, EXECUTION_COMMIT, fault) < 0)
		return -1;
	if (look_at_others(executor, behind, &others, fault) < 0) {
		executor->suspect.skipped += execution_was_lost(executor->execution);
		return -1;
	}
	*passes = others == PROBE_PASSED;
	return 0;
}

static int execute_suspect(struct executor *executor, size_t place, struct fault *fault)
{
	const struct record *record = &executor->jobs[place]->record;
	bool passes;

	if (check_connection(executor, place, &passes, fault) < 0)
		return -1;
	if (suspect_is_convicted(&executor->suspect, passes)) {
		fault_set(fault, FAULT_REJECT, "the connection to PostgreSQL broke each time that this command was executed");
		strcpy(fault->sqlstate, "08006"); /* connection_failure */
		return execute_failed(executor, place, fault);
	}
	if (execute_range(executor, place, 1, LOCK_TRIES, fault) == 0)
		return 0;
	if (execution_was_lost(executor->execution))
		suspect_lost_alone(&executor->suspect, record, passes);
	return -1;
}

/* One by one, in order. */
static int execute_singly(struct executor *executor, struct fault *fault)
{
	for (size_t i = 0; i < executor->count; i++) {
		struct job *job = executor->jobs[i];
		bool suspected = job->executable && suspect_is(&executor->suspect, &job->record);

		if (suspected && execute_suspect(executor, i, fault) < 0)
			return -1;
		if (suspected || execute_range(executor, i, 1, LOCK_TRIES, fault) == 0)
			continue;
		if (job->executable && execution_was_lost(executor->execution))
			suspect_lost_alone(&executor->suspect, &job->record, false);
		return -1;
	}
	return 0;
}

static int execute_all(struct executor *executor, struct fault *fault)
{
	bool singly = suspect_is_sought(&executor->suspect);

	if ((singly ? execute_singly(executor, fault) : execute_range(executor, 0, executor->count, LOCK_TRIES, fault)) == 0) {
		suspect_clear(&executor->suspect);
		return 0;
	}
	if (!singly && execution_was_lost(executor->execution))
		suspect_lost_batch(&executor->suspect);
	return -1;
}

void executor_init(struct executor *executor, struct execution *execution, struct wait *wait, struct statistics *statistics,
		   const struct contract *contract, const struct config *config)
{
	*executor = (struct executor){ .execution = execution, .wait = wait, .statistics = statistics };
	control_init(&executor->control, contract);
	breaker_init(&executor->breaker, config->breaker);
	sizing_init(&executor->sizing, (size_t)config->batch, config->batch_ms);
}

void executor_destroy(struct executor *executor)
{
	control_destroy(&executor->control);
}

/* Who has to be compared needs company, however small batches are. */
size_t executor_batch_limit(const struct executor *executor)
{
	const struct breaker *breaker = &executor->breaker;
	size_t limit = executor->sizing.limit;
	bool compares = breaker->open || breaker->alone_since_ms != 0 || suspect_is_sought(&executor->suspect);

	return compares && limit <= EXECUTOR_OTHERS ? EXECUTOR_OTHERS + 1 : limit;
}

/* While the breaker is open, or a suspect is sought, nothing is sent: executor_receive begins otherwise. */
void executor_send(struct executor *executor, const struct fence *fence, struct job **jobs, size_t n, struct arena *arena)
{
	executor->fence = *fence;
	executor->jobs = jobs;
	executor->count = n;
	executor->arena = arena;
	executor->sent_at_ms = clock_monotonic_ms();
	executor->sent = !executor->breaker.open && !suspect_is_sought(&executor->suspect);
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
	if (execute_all(executor, fault) < 0)
		return -1;
	observe_time(executor, asked_at_ms);
	return 0;
}

bool executor_met_lock(const struct fault *fault)
{
	return fault->kind == FAULT_RETRY && execution_is_locked(fault);
}

bool executor_is_breakers(const struct executor *executor, const struct fault *fault)
{
	return executor->breaker.open && fault->kind == FAULT_WAIT && strcmp(fault->sqlstate, executor->breaker.cause) == 0;
}
