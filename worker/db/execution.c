#include "worker/db/execution.h"

#include <stdlib.h>
#include <string.h>

#include "worker/base/failpoint.h"
#include "worker/base/must.h"
#include "worker/db/binding.h"
#include "worker/db/rows.h"

#define WRITE_MS 20 /* a server that does not read meanwhile has locks to wait for */

enum stage { STAGE_BEGIN, STAGE_FENCE, STAGE_LOCK, STAGE_EXECUTE, STAGE_CONSTRAINTS, STAGE_END, STAGES };

/* A batch's transaction, from execution_send to execution_receive. */
struct execution {
	struct session *session;
	struct execution_settings settings;
	const struct fence *fence; /* while it is sent */
	struct job **jobs; /* the executable ones */
	size_t count;
	enum execution_end end;
	enum stage stage; /* whose answer is awaited */
	bool sent;        /* all of it */
	bool received;    /* all answers */
	bool failed;
	bool lost;        /* the connection, while the last batch was executed */
	struct fault fault;
	struct pg_result *results[STAGES];
};

void execution_statements(const struct execution_settings *settings, struct statement statements[EXECUTION_STATEMENTS])
{
	size_t count = 0;

	if (settings->lock_sql)
		statements[count++] = (struct statement){ "lock", settings->lock_sql };
	statements[count++] = (struct statement){ "execute", settings->execute_sql };
	statements[count++] = (struct statement){ "written", settings->written_sql };
	statements[count] = (struct statement){ NULL, NULL };
}

struct execution *execution_new(struct session *session, const struct execution_settings *settings)
{
	struct execution *execution = must(calloc(1, sizeof *execution));

	execution->session = session;
	execution->settings = *settings;
	return execution;
}

void execution_free(struct execution *execution)
{
	if (execution == NULL)
		return;
	for (int stage = 0; stage < STAGES; stage++)
		rows_free(execution->results[stage]);
	free(execution);
}

/* Forgets the batch. */
static void reset(struct execution *execution)
{
	*execution = (struct execution){ .session = execution->session, .settings = execution->settings, .lost = execution->lost };
}

bool execution_is_locked(const struct fault *fault)
{
	return strcmp(fault->sqlstate, "55P03") == 0;
}

enum fault_kind execution_classify(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		enum fault_kind kind;
	} kinds[] = {
		{ SESSION_FENCED, FAULT_FENCED },   /* partition_fence() */
		{ "CD002", FAULT_RETRY },           /* raise_lost_race() */
		{ EXECUTION_SHARED_LIMIT, FAULT_RETRY },
		{ "55P03", FAULT_RETRY },           /* lock_not_available */
		{ "57014", FAULT_RETRY },           /* query_canceled: a timeout */
		{ "40003", FAULT_WAIT },            /* statement_completion_unknown */
		{ "40", FAULT_RETRY },              /* deadlock, serialization */
		{ "25006", FAULT_WAIT },            /* read_only_sql_transaction */
		{ "53400", FAULT_REJECT },          /* configuration_limit_exceeded: one statement's, of its temporary files */
		{ "53", FAULT_WAIT },               /* disk, memory, connections */
		{ "57P0", FAULT_WAIT },             /* shutting down, starting up */
	};

	if (sqlstate == NULL || strlen(sqlstate) != 5)
		return FAULT_WAIT;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (strncmp(sqlstate, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
			return kinds[i].kind;
	return FAULT_REJECT;
}

/* ---- the transaction ---- */

static bool is_skipped(const struct execution *execution, enum stage stage)
{
	if (stage == STAGE_CONSTRAINTS)
		return execution->end != EXECUTION_ROLLBACK;
	if (stage == STAGE_LOCK && (execution->end == EXECUTION_COMMIT_UNLOCKED || execution->settings.lock_sql == NULL))
		return true;
	return execution->count == 0 && (stage == STAGE_LOCK || stage == STAGE_EXECUTE);
}

static int send_stage(struct execution *execution, enum stage stage, struct fault *fault)
{
	struct session *session = execution->session;

	switch (stage) {
	case STAGE_BEGIN:
		return connection_send(session->connection, NULL, "BEGIN ISOLATION LEVEL READ COMMITTED", NULL, fault);
	case STAGE_FENCE:
		ownership_add_fence(session, execution->fence);
		return connection_send(session->connection, "fence", NULL, &session->params, fault);
	case STAGE_LOCK:
		binding_add_locks(&session->params, execution->jobs, execution->count);
		return connection_send(session->connection, "lock", NULL, &session->params, fault);
	case STAGE_EXECUTE:
		binding_add_commands(&session->params, execution->settings.contract, execution->jobs, execution->count,
				     execution->settings.limit);
		return connection_send(session->connection, "execute", NULL, &session->params, fault);
	case STAGE_CONSTRAINTS: /* a probe is to meet what would be checked at the COMMIT, too */
		return connection_send(session->connection, NULL, "SET CONSTRAINTS ALL IMMEDIATE", NULL, fault);
	default:
		return connection_send(session->connection, NULL, execution->end == EXECUTION_ROLLBACK ? "ROLLBACK" : "COMMIT", NULL, fault);
	}
}

static int receive_stage(struct execution *execution, enum stage stage, struct fault *fault)
{
	execution->stage = stage;
	if (stage == STAGE_END) /* a warning from now on is about the commit */
		(void)connection_commit_was_doubtful(execution->session->connection);
	return connection_receive(execution->session->connection, &execution->results[stage], fault);
}

static int receive_stages(struct execution *execution, enum stage first, struct fault *fault)
{
	for (enum stage stage = first; stage < STAGES; stage++)
		if (!is_skipped(execution, stage) && receive_stage(execution, stage, fault) < 0)
			return -1;
	execution->received = true;
	if (execution->end != EXECUTION_ROLLBACK)
		failpoint("commit-after");
	return 0;
}

/* Failpoints between two statements: each is answered before the next is sent. */
static int step_stage(struct execution *execution, enum stage stage, struct fault *fault)
{
	execution->stage = stage;
	if (stage == STAGE_END)
		return 0;
	if (connection_flush(execution->session->connection, fault) < 0 || receive_stage(execution, stage, fault) < 0)
		return -1;
	if (stage == STAGE_FENCE)
		failpoint("fence-after");
	if (stage == STAGE_EXECUTE)
		failpoint("statement-after");
	return 0;
}

static int send_stages(struct execution *execution, struct fault *fault)
{
	bool stepwise = failpoint_inside_pipeline(), commit = execution->end != EXECUTION_ROLLBACK;

	failpoint("begin");
	for (enum stage stage = STAGE_BEGIN; stage < STAGES; stage++) {
		if (is_skipped(execution, stage))
			continue;
		if (stepwise && commit && stage == STAGE_END)
			failpoint("commit-before");
		if (send_stage(execution, stage, fault) < 0 || (stepwise && step_stage(execution, stage, fault) < 0))
			return -1;
	}
	execution->sent = true; /* some of it may be, also when this fails */
	if (connection_sync(execution->session->connection, WRITE_MS, fault) < 0)
		return -1;
	if (commit)
		failpoint("commit-sent");
	return stepwise ? receive_stages(execution, STAGE_END, fault) : 0;
}

/* Until the fence has passed, and when the connection is gone, an error is never the commands' own. */
static void classify_stage(const struct execution *execution, struct fault *fault)
{
	enum fault_kind kind = execution_classify(fault->sqlstate);

	if (fault->kind != FAULT_WAIT || !connection_is_open(execution->session->connection))
		return;
	if (execution->stage <= STAGE_FENCE && kind != FAULT_FENCED && !execution_is_locked(fault))
		kind = FAULT_WAIT;
	fault->kind = kind;
}

static void read_results(const struct execution *execution, struct job **jobs, size_t n, struct arena *arena)
{
	const struct pg_result *rows = execution->results[STAGE_EXECUTE];
	int64_t now_ms = rows ? binding_now_ms(rows) : rows_time_ms(execution->results[STAGE_FENCE], 0, 0);

	for (size_t i = 0; i < n; i++)
		jobs[i]->result.processed_at_ms = now_ms;
	if (rows)
		binding_read(rows, execution->settings.contract, execution->jobs, arena);
}

void execution_send(struct execution *execution, const struct fence *fence, struct job **jobs, size_t n, enum execution_end end,
		    struct arena *arena)
{
	struct session *session = execution->session;

	reset(execution);
	execution->lost = false;
	execution->fence = fence;
	execution->end = end;
	execution->jobs = arena_array(arena, n, sizeof(struct job *));
	for (size_t i = 0; i < n; i++)
		if (jobs[i]->executable)
			execution->jobs[execution->count++] = jobs[i];
	if (!connection_is_open(session->connection))
		execution->failed = session_not_connected(&execution->fault) < 0;
	else
		execution->failed = send_stages(execution, &execution->fault) < 0;
	execution->fence = NULL;
}

static int fail_execution(struct execution *execution, struct fault *fault)
{
	struct session *session = execution->session;

	classify_stage(execution, fault);
	execution->lost = execution->sent && fault->kind == FAULT_WAIT && !connection_is_open(session->connection);
	if (execution->sent && execution->end != EXECUTION_ROLLBACK && !connection_is_open(session->connection))
		session_log_doubt("the connection broke before a COMMIT was answered");
	return session_give_up(session, fault);
}

int execution_receive(struct execution *execution, struct job **jobs, size_t n, struct arena *arena, struct fault *fault)
{
	struct session *session = execution->session;
	int done = -1;

	*fault = execution->fault;
	if (execution->failed || (!execution->received && receive_stages(execution, STAGE_BEGIN, fault) < 0)) {
		fail_execution(execution, fault);
	} else if (execution->end == EXECUTION_ROLLBACK || session_confirm_commit(session, fault) == 0) {
		struct fault late;

		done = 0; /* the commit is known; a connection that breaks now is closed, and was not needed any more */
		if (connection_is_open(session->connection) && connection_finish(session->connection, &late) < 0)
			connection_close(session->connection);
		read_results(execution, jobs, n, arena);
	}
	for (int stage = 0; stage < STAGES; stage++)
		rows_free(execution->results[stage]);
	reset(execution);
	return done;
}

bool execution_was_lost(const struct execution *execution)
{
	return execution->lost;
}

void execution_disconnect(struct execution *execution)
{
	connection_close(execution->session->connection);
}

int execution_find_written(struct execution *execution, const struct job *job, bool *found, struct fault *fault)
{
	struct session *session = execution->session;
	struct pg_result *result;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	params_reset(&session->params);
	params_add_text(&session->params, job->command->account_group_id);
	params_add_text(&session->params, job->command->trace_id);
	params_array_begin(&session->params, PARAM_BYTEA);
	params_array_bytes(&session->params, job->command->digest, CAMPAIGN_DIGEST_BYTES);
	params_array_end(&session->params);
	if (session_run_one(session, "written", &result, fault) < 0)
		return -1;
	*found = rows_int8(result, 0, 0) > 0;
	rows_free(result);
	return 0;
}
