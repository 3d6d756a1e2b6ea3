#include "worker/db/execution.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/failpoint.h"
#include "worker/base/must.h"
#include "worker/db/rows.h"
#include "worker/sql/sql.h"

#define WRITE_MS 20 /* a server that does not read meanwhile has locks to wait for */

const struct statement execution_statements[] = {
	{ "lock", sql_lock },
	{ "execute", sql_execute },
	{ "written", "SELECT count(*) FROM campaigns "
		     "WHERE account_group_id = $1::text AND trace_id = $2::text AND command_digest = ANY ($3::bytea[])" },
	{ NULL, NULL },
};

enum stage { STAGE_BEGIN, STAGE_FENCE, STAGE_LOCK, STAGE_EXECUTE, STAGE_CONSTRAINTS, STAGE_END, STAGES };

/* A batch's transaction, from execution_send to execution_receive. */
struct execution {
	struct session *session;
	const struct fence *fence; /* while it is sent */
	struct job **jobs; /* the executable ones */
	size_t count;
	enum execution_end end;
	enum stage stage; /* whose answer is awaited */
	bool sent;        /* all of it */
	bool received;    /* all answers */
	bool failed;
	struct fault fault;
	struct pg_result *results[STAGES];
};

struct execution *execution_new(struct session *session)
{
	struct execution *execution = must(calloc(1, sizeof *execution));

	execution->session = session;
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

enum fault_kind execution_classify(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		enum fault_kind kind;
	} kinds[] = {
		{ OWNERSHIP_FENCED, FAULT_FENCED },                                              /* partition_fence() */
		{ "CD002", FAULT_RETRY },                                                       /* raise_lost_race() */
		{ "55P03", FAULT_RETRY },                                                       /* lock_not_available */
		{ "57014", FAULT_RETRY },                                                       /* query_canceled: a timeout */
		{ "40003", FAULT_WAIT },                                                        /* statement_completion_unknown */
		{ "40", FAULT_RETRY },                                                          /* deadlock, serialization */
		{ "22", FAULT_REJECT }, { "23", FAULT_REJECT }, { "54", FAULT_REJECT }, { "P0001", FAULT_REJECT },
	};

	for (size_t i = 0; sqlstate && i < sizeof kinds / sizeof kinds[0]; i++)
		if (strncmp(sqlstate, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
			return kinds[i].kind;
	return FAULT_WAIT;
}

/* ---- what goes in and what comes back: of the operation ---- */

/* Columns of worker/sql/execute.sql. */
enum column {
	COL_ORD, COL_NOW, COL_VERDICT, COL_PUBLIC_ID, COL_EMISSION_US, COL_BURST, COL_RETRY_AFTER_S, COL_POPULATING, COL_MISSING,
	COL_MISSING_COUNT, COL_BUSY_LEAD, COL_BUSY_CAMPAIGN, COL_BUSY_STATUS, COL_ID, COL_NAME, COL_DESCRIPTION, COL_STATUS,
	COL_LEAD_COUNT, COL_HISTORY, COL_AUTO_CANCEL, COL_LANGUAGE, COL_CREATED_AT, COL_UPDATED_AT, COL_STARTED_AT,
	COL_RATE_LIMITED_UNTIL
};

static const char *text_at(const struct pg_result *rows, int row, enum column column, struct arena *arena)
{
	size_t size;
	const char *text = rows_text(rows, row, column, &size);

	return text ? arena_strndup(arena, text, size) : NULL;
}

static const struct campaign *read_campaign(const struct pg_result *rows, int row, struct arena *arena)
{
	struct campaign *campaign = arena_alloc(arena, sizeof *campaign);

	*campaign = (struct campaign){
		.id = text_at(rows, row, COL_ID, arena),
		.name = text_at(rows, row, COL_NAME, arena),
		.description = text_at(rows, row, COL_DESCRIPTION, arena),
		.status = text_at(rows, row, COL_STATUS, arena),
		.outreach_language = text_at(rows, row, COL_LANGUAGE, arena),
		.selected_lead_count = rows_int4(rows, row, COL_LEAD_COUNT),
		.include_conversation_history = rows_bool(rows, row, COL_HISTORY),
		.auto_cancel_on_message_received = rows_bool(rows, row, COL_AUTO_CANCEL),
		.created_at_ms = rows_time_ms(rows, row, COL_CREATED_AT),
		.updated_at_ms = rows_time_ms(rows, row, COL_UPDATED_AT),
		.has_started_at = !rows_is_null(rows, row, COL_STARTED_AT),
		.has_rate_limited_until = !rows_is_null(rows, row, COL_RATE_LIMITED_UNTIL),
	};
	if (campaign->has_started_at)
		campaign->started_at_ms = rows_time_ms(rows, row, COL_STARTED_AT);
	if (campaign->has_rate_limited_until)
		campaign->rate_limited_until_ms = rows_time_ms(rows, row, COL_RATE_LIMITED_UNTIL);
	return campaign;
}

/* "10 per second", "1 per minute", "1 per 2.5 s" */
static const char *describe_rate(int64_t emission_us, struct arena *arena)
{
	static const struct {
		int64_t us;
		const char *name;
	} units[] = { { 1000000, "second" }, { 60000000, "minute" }, { INT64_C(3600000000), "hour" } };

	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (units[i].us % emission_us == 0)
			return arena_printf(arena, "%lld per %s", (long long)(units[i].us / emission_us), units[i].name);
	return arena_printf(arena, "1 per %g s", (double)emission_us / 1e6);
}

/* "lead_1, lead_2 and 3 more" of the first few, comma-separated, and of how many there are */
static const char *describe_missing(const struct pg_result *rows, int row, struct arena *arena)
{
	int32_t more = rows_int4(rows, row, COL_MISSING_COUNT);
	const char *rest = text_at(rows, row, COL_MISSING, arena), *comma, *text = "";

	while (rest) {
		comma = strchr(rest, ',');
		more--;
		text = arena_printf(arena, "%s%s%.*s", text, text[0] == '\0' ? "" : comma || more > 0 ? ", " : " and ",
				    (int)(comma ? comma - rest : (ptrdiff_t)strlen(rest)), rest);
		rest = comma ? comma + 1 : NULL;
	}
	return more > 0 ? arena_printf(arena, "%s and %d more", text, more) : text;
}

static const char *describe_populating(const struct pg_result *rows, int row, const char *audience, struct arena *arena)
{
	const char *list = text_at(rows, row, COL_POPULATING, arena);

	if (list == NULL)
		return arena_printf(arena, "audience %s is still being populated", audience);
	return arena_printf(arena, "list %s of audience %s is still being populated", list, audience);
}

static int32_t retry_after_s(const struct pg_result *rows, int row)
{
	int64_t s = rows_int8(rows, row, COL_RETRY_AFTER_S);

	return s < INT32_MAX ? (int32_t)s : INT32_MAX;
}

static const char *describe_refusal(enum reason reason, const struct job *job, const struct pg_result *rows, int row, int max,
				    struct arena *arena)
{
	const struct command *command = &job->command;
	char at[TIME_TEXT_SIZE];

	switch (reason) {
	case REASON_DRAFT_DELETED:
		return arena_printf(arena, "the draft of traceId %s has been deleted", command->trace_id);
	case REASON_EXPIRED:
		return arena_printf(arena, "expiresAt %s had passed", clock_format(command->expires_at_ms, at));
	case REASON_KEY_MISSING:
		return "apiKeyDigest is missing";
	case REASON_KEY_UNKNOWN:
		return "no API key has this apiKeyDigest";
	case REASON_KEY_REVOKED:
		return arena_printf(arena, "API key %s has been revoked", job->key_public_id);
	case REASON_PERMISSION_MISSING:
		return arena_printf(arena, "API key %s lacks campaigns:write", job->key_public_id);
	case REASON_ACCOUNT_GROUP_DENIED:
		return arena_printf(arena, "API key %s has no access to account group %s", job->key_public_id,
				    command->account_group_id);
	case REASON_TRACE_REUSED:
		return arena_printf(arena, "traceId %s belongs to another command", command->trace_id);
	case REASON_RATE_LIMITED:
		return arena_printf(arena, "rate limit of %s, burst %d; retry after %d s",
				    describe_rate(rows_int8(rows, row, COL_EMISSION_US), arena), rows_int4(rows, row, COL_BURST),
				    retry_after_s(rows, row));
	case REASON_CAMPAIGN_NOT_FOUND:
		return arena_printf(arena, "no campaign %s in account group %s", command->campaign_id, command->account_group_id);
	case REASON_AUDIENCE_NOT_FOUND:
		return arena_printf(arena, "no audience %s in account group %s", command->audience_id, command->account_group_id);
	case REASON_AUDIENCE_POPULATING:
		return describe_populating(rows, row, command->audience_id, arena);
	case REASON_LEAD_NOT_IN_AUDIENCE:
		return arena_printf(arena, "leadIds not in audience %s: %s", command->audience_id, describe_missing(rows, row, arena));
	case REASON_AUDIENCE_TOO_LARGE:
		return arena_printf(arena, "audience %s has more than %d leads; name the leads in leadIds", command->audience_id, max);
	case REASON_LEAD_ACTIVE:
		return arena_printf(arena, "lead %s is enrolled in campaign %s (%s)", text_at(rows, row, COL_BUSY_LEAD, arena),
				    text_at(rows, row, COL_BUSY_CAMPAIGN, arena), text_at(rows, row, COL_BUSY_STATUS, arena));
	default:
		return "";
	}
}

static void read_verdict(struct job *job, const struct pg_result *rows, int row, int max, struct arena *arena)
{
	const char *verdict = rows_text(rows, row, COL_VERDICT, NULL);
	bool existing = verdict && strcmp(verdict, "existing") == 0;

	job->key_public_id = text_at(rows, row, COL_PUBLIC_ID, arena);
	job->reason = verdict && !existing ? reason_find(verdict) : REASON_NONE;
	if (job->reason == REASON_NONE) {
		result_accept(&job->result, read_campaign(rows, row, arena), existing);
		return;
	}
	result_refuse(&job->result, job->reason, describe_refusal(job->reason, job, rows, row, max, arena));
	if (job->reason == REASON_RATE_LIMITED) {
		job->result.has_retry_after = true;
		job->result.retry_after_s = retry_after_s(rows, row);
	}
}

/* Adds a text of every command as one array. */
static void add_texts(struct params *params, struct job *const *jobs, size_t n, size_t member)
{
	params_array_begin(params, PARAM_TEXT);
	for (size_t i = 0; i < n; i++)
		params_array_text(params, *(const char *const *)((const char *)&jobs[i]->command + member));
	params_array_end(params);
}

static void add_keys(struct params *params, struct job *const *jobs, size_t n)
{
	params_array_begin(params, PARAM_BYTEA);
	for (size_t i = 0; i < n; i++)
		params_array_bytes(params, jobs[i]->command.has_key ? jobs[i]->command.key_digest : NULL, DIGEST_BYTES);
	params_array_end(params);
}

static void add_lock(struct params *params, struct job *const *jobs, size_t n)
{
	params_reset(params);
	add_texts(params, jobs, n, offsetof(struct command, account_group_id));
	add_keys(params, jobs, n);
}

static void add_ids_and_leads(struct params *params, struct job *const *jobs, size_t n)
{
	char id[CAMPAIGN_ID_CHARS + 1];

	params_array_begin(params, PARAM_TEXT);
	for (size_t i = 0; i < n; i++) {
		campaign_new_id(id);
		params_array_text(params, id);
	}
	params_array_end(params);
	params_array_begin(params, PARAM_TEXT);
	for (size_t i = 0; i < n; i++) {
		if (jobs[i]->command.lead_ids)
			params_array_joined(params, jobs[i]->command.lead_ids, jobs[i]->command.lead_count);
		else
			params_array_null(params);
	}
	params_array_end(params);
}

/* The parameters of worker/sql/execute.sql, in its order. */
static void add_commands(struct session *session, struct job *const *jobs, size_t n)
{
	struct params *params = &session->params;

	params_reset(params);
	add_texts(params, jobs, n, offsetof(struct command, trace_id));
	add_texts(params, jobs, n, offsetof(struct command, account_group_id));
	add_texts(params, jobs, n, offsetof(struct command, campaign_id));
	add_texts(params, jobs, n, offsetof(struct command, audience_id));
	add_texts(params, jobs, n, offsetof(struct command, name));
	add_keys(params, jobs, n);
	add_ids_and_leads(params, jobs, n);
	params_array_begin(params, PARAM_BYTEA);
	for (size_t i = 0; i < n; i++)
		params_array_bytes(params, jobs[i]->command.digest, DIGEST_BYTES);
	params_array_end(params);
	params_array_begin(params, PARAM_INT8);
	for (size_t i = 0; i < n; i++) {
		if (jobs[i]->command.has_expiry)
			params_array_int8(params, jobs[i]->command.expires_at_ms);
		else
			params_array_null(params);
	}
	params_array_end(params);
	params_array_begin(params, PARAM_INT8);
	for (size_t i = 0; i < n; i++)
		params_array_int8(params, jobs[i]->record.timestamp_ms);
	params_array_end(params);
	params_add_int4(params, session->settings.audience_leads_max);
}

/* ---- the transaction ---- */

static bool is_skipped(const struct execution *execution, enum stage stage)
{
	if (stage == STAGE_CONSTRAINTS)
		return execution->end != EXECUTION_ROLLBACK;
	if (stage == STAGE_LOCK && execution->end == EXECUTION_COMMIT_UNLOCKED)
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
		add_lock(&session->params, execution->jobs, execution->count);
		return connection_send(session->connection, "lock", NULL, &session->params, fault);
	case STAGE_EXECUTE:
		add_commands(session, execution->jobs, execution->count);
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

/* An error is the commands' own only where their statement or the commit raised it; until the fence has passed, and when
 * the connection is gone, it is never theirs. */
static void classify_stage(const struct execution *execution, struct fault *fault)
{
	enum fault_kind kind = execution_classify(fault->sqlstate);

	if (fault->kind != FAULT_WAIT || !connection_is_open(execution->session->connection))
		return;
	if (execution->stage <= STAGE_FENCE && kind != FAULT_FENCED)
		kind = FAULT_WAIT;
	if (execution->stage == STAGE_LOCK && kind == FAULT_REJECT)
		kind = FAULT_WAIT;
	fault->kind = kind;
}

static void read_results(const struct execution *execution, struct job **jobs, size_t n, struct arena *arena)
{
	const struct pg_result *rows = execution->results[STAGE_EXECUTE];
	int64_t now_ms = rows ? rows_time_ms(rows, 0, COL_NOW) : rows_time_ms(execution->results[STAGE_FENCE], 0, 0);

	for (size_t i = 0; i < n; i++)
		jobs[i]->result.processed_at_ms = now_ms;
	for (int row = 0; rows && row < rows_count(rows); row++)
		read_verdict(execution->jobs[rows_int4(rows, row, COL_ORD) - 1], rows, row,
			     execution->session->settings.audience_leads_max, arena);
}

void execution_send(struct execution *execution, const struct fence *fence, struct job **jobs, size_t n, enum execution_end end,
		struct arena *arena)
{
	struct session *session = execution->session;

	*execution = (struct execution){ .session = session, .fence = fence, .end = end };
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
	*execution = (struct execution){ .session = session };
	return done;
}

int execution_find_draft(struct execution *execution, const struct job *job, bool *found, struct fault *fault)
{
	struct session *session = execution->session;
	struct pg_result *result;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	params_reset(&session->params);
	params_add_text(&session->params, job->command.account_group_id);
	params_add_text(&session->params, job->command.trace_id);
	params_array_begin(&session->params, PARAM_BYTEA);
	params_array_bytes(&session->params, job->command.digest, DIGEST_BYTES);
	params_array_end(&session->params);
	if (session_run_one(session, "written", &result, fault) < 0)
		return -1;
	*found = rows_int8(result, 0, 0) > 0;
	rows_free(result);
	return 0;
}
