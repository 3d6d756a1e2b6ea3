#include "worker/db/store.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/details.h"
#include "schemas/duplicate.h"
#include "schemas/id.h"
#include "schemas/result.h"
#include "worker/base/failpoint.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "worker/db/pg.h"
#include "worker/sql/sql.h"

#define WRITE_MS 20 /* a server that does not read meanwhile has locks to wait for */

enum stage { STAGE_BEGIN, STAGE_FENCE, STAGE_LOCK, STAGE_EXECUTE, STAGE_CONSTRAINTS, STAGE_END, STAGES };

/* A batch's transaction, from store_send to store_receive. */
struct execution {
	struct store *store;
	const struct fence *fence; /* while it is sent */
	struct job **jobs; /* the executable ones */
	size_t count;
	enum store_end end;
	enum stage stage; /* whose answer is awaited */
	bool sent;        /* all of it */
	bool received;    /* all answers */
	bool failed;
	struct fault fault;
	struct pg_result *results[STAGES];
};

struct store {
	struct pg *pg;
	char *database, *application, *group, *transactional_id;
	struct store_settings settings; /* numbers; its texts are the copies above */
	struct pg_params params;
	struct execution execution;
};

static char *copy_text(const char *text)
{
	char *copy = strdup(text ? text : "");

	if (copy == NULL)
		abort();
	return copy;
}

struct store *store_new(const struct store_settings *settings, const struct waiter *waiter)
{
	struct store *store = calloc(1, sizeof *store);

	if (store == NULL)
		abort();
	store->settings = *settings;
	store->settings.database = store->database = copy_text(settings->database);
	store->settings.application = store->application = copy_text(settings->application);
	store->settings.group = store->group = copy_text(settings->group);
	store->settings.transactional_id = store->transactional_id = copy_text(settings->transactional_id);
	store->pg = pg_new(waiter);
	return store;
}

void store_free(struct store *store)
{
	if (store == NULL)
		return;
	for (int stage = 0; stage < STAGES; stage++)
		pg_result_free(store->execution.results[stage]);
	pg_free(store->pg);
	pg_params_free(&store->params);
	free(store->database);
	free(store->application);
	free(store->group);
	free(store->transactional_id);
	free(store);
}

bool store_connected(const struct store *store)
{
	return pg_connected(store->pg);
}

/* ---- faults ---- */

enum fault_kind store_classify(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		enum fault_kind kind;
	} kinds[] = {
		{ "CD001", FAULT_FENCED },                                                      /* partition_fence() */
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

/* Ends what a failed operation left open. A connection that saw a fault of the system's is not used again. */
static int give_up(struct store *store, struct fault *fault)
{
	struct fault other;

	if (pg_connected(store->pg) && fault->kind == FAULT_WAIT)
		pg_close(store->pg);
	if (pg_connected(store->pg) &&
	    (pg_finish(store->pg, &other) < 0 || (pg_in_transaction(store->pg) && pg_run(store->pg, "ROLLBACK", &other) < 0)))
		pg_close(store->pg);
	return -1;
}

static void log_doubt(const char *why)
{
	log_warn("commit_in_doubt", why, "next", "the partitions are claimed anew, then the state is looked at again");
}

/* The answer to a COMMIT was received. Was it more than "committed here, perhaps not on the standby"? */
static int be_sure(struct store *store, struct fault *fault)
{
	if (!pg_commit_was_doubtful(store->pg))
		return 0;
	log_doubt("PostgreSQL cannot say whether the commit was replicated");
	pg_close(store->pg);
	return fault_set(fault, FAULT_WAIT, "PostgreSQL cannot say whether the commit was replicated");
}

/* ---- connecting ---- */

/* What the promises rest on, as conditions of SQL, and what to say where one does not hold. A standby is not for a person
 * to mend: after a failover the right server will be found. */
static const struct guarantee {
	const char *condition, *broken;
	enum fault_kind kind;
} guarantees[] = {
	{ "NOT pg_is_in_recovery()", "PostgreSQL is a standby: the worker needs the primary", FAULT_WAIT },
	{ "current_setting('server_encoding') = 'UTF8'", "the database's encoding is not UTF8", FAULT_FATAL },
	{ "current_setting('fsync') = 'on'", "fsync is off: PostgreSQL may lose commits", FAULT_FATAL },
	{ "current_setting('full_page_writes') = 'on'", "full_page_writes is off: PostgreSQL may lose commits", FAULT_FATAL },
	{ "current_setting('synchronous_commit') <> 'off'", "synchronous_commit is off: PostgreSQL may lose commits", FAULT_FATAL },
	{ "current_setting('synchronous_commit') <> 'local' OR current_setting('synchronous_standby_names') = ''",
	  "synchronous_commit is local, though there are synchronous standbys: a failover may lose commits", FAULT_FATAL },
};

#define GUARANTEES (sizeof guarantees / sizeof guarantees[0])
#define VERSION_MIN 150000

static int holds(struct pg *pg, const char *condition, bool *yes, struct fault *fault)
{
	char sql[512], answer[8];

	snprintf(sql, sizeof sql, "SELECT %s", condition);
	if (pg_ask(pg, sql, answer, sizeof answer, fault) < 0)
		return -1;
	*yes = strcmp(answer, "t") == 0;
	return 0;
}

/* Plans are made once and for all sizes of tables: every access is meant to be an index look-up (worker/sql/execute.sql),
 * also where the tables were empty when it was planned. work_mem: the statement's own rows stay in memory, also those of
 * commands of a thousand leads each, and a subplan of as many rows as it allows (1000) is hashed. Written as statements,
 * because poolers refuse start-up parameters. client_connection_check_interval: a statement that waits for a lock must not
 * run after its client is gone. */
static int set_up_session(struct store *store, struct fault *fault)
{
	const struct store_settings *s = &store->settings;
	char sql[1024];

	snprintf(sql, sizeof sql,
		 "SET search_path = pg_catalog, public, pg_temp; SET TimeZone = 'UTC'; SET client_min_messages = warning;"
		 "SET lock_timeout = %d; SET statement_timeout = %d; SET idle_in_transaction_session_timeout = %d;"
		 "SET client_connection_check_interval = 500; SET plan_cache_mode = force_generic_plan; SET jit = off;"
		 "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_mergejoin = off; SET work_mem = '32MB'",
		 s->lock_timeout_ms, s->statement_timeout_ms, s->idle_in_transaction_ms);
	return pg_run(store->pg, sql, fault);
}

/* A pooler that gives each transaction another session loses them, and with them every bound on how long a statement may
 * wait. */
static int check_session(struct store *store, struct fault *fault)
{
	char condition[256];
	bool kept;

	snprintf(condition, sizeof condition,
		 "current_setting('plan_cache_mode') = 'force_generic_plan' AND "
		 "(SELECT s.setting::bigint FROM pg_settings AS s WHERE s.name = 'lock_timeout') = %d",
		 store->settings.lock_timeout_ms);
	if (holds(store->pg, condition, &kept, fault) < 0)
		return -1;
	return kept ? 0 : fault_set(fault, FAULT_FATAL, "the connection does not keep its settings: a pooler in transaction mode? "
				    "session pooling is needed");
}

static int check_guarantees(struct store *store, struct fault *fault)
{
	bool yes;

	if (pg_server_version(store->pg) < VERSION_MIN)
		return fault_set(fault, FAULT_FATAL, "PostgreSQL %d.%d is too old: the worker needs 15 or newer",
				 pg_server_version(store->pg) / 10000, pg_server_version(store->pg) % 10000);
	for (size_t i = 0; i < GUARANTEES; i++) {
		if (holds(store->pg, guarantees[i].condition, &yes, fault) < 0)
			return -1;
		if (!yes)
			return fault_set(fault, guarantees[i].kind, "%s", guarantees[i].broken);
	}
	return 0;
}

/* missing: the lowest version that this program knows and the database lacks; 0 if it lacks none. */
static int find_missing_migration(struct pg *pg, int *missing, struct fault *fault)
{
	char sql[256], answer[16];
	bool any;

	if (holds(pg, "to_regclass('public.schema_migrations') IS NOT NULL", &any, fault) < 0)
		return -1;
	*missing = 1;
	if (!any)
		return 0;
	snprintf(sql, sizeof sql,
		 "SELECT min(v) FROM generate_series(1, %zu) AS v WHERE NOT EXISTS "
		 "(SELECT FROM public.schema_migrations AS m WHERE m.version = v)", migration_count);
	if (pg_ask(pg, sql, answer, sizeof answer, fault) < 0)
		return -1;
	*missing = atoi(answer);
	return 0;
}

static int check_migrations(struct store *store, struct fault *fault)
{
	int missing;

	if (find_missing_migration(store->pg, &missing, fault) < 0)
		return -1;
	if (missing > 0)
		return fault_set(fault, FAULT_FATAL, "the database lacks migration %s: run campaign-worker migrate",
				 migrations[missing - 1].name);
	return 0;
}

static const struct statement {
	const char *name, *sql;
} statements[] = {
	{ "fence", "SELECT partition_fence($1::text, $2::text, $3::text, $4::int[], $5::bigint[], $6::bigint[])" },
	{ "lock", sql_lock },
	{ "execute", sql_execute },
	{ "written", "SELECT count(*) FROM campaigns "
		     "WHERE account_group_id = $1::text AND trace_id = $2::text AND command_digest = ANY ($3::bytea[])" },
	{ "claim", sql_claim },
	{ "unblock", sql_unblock },
	{ "owners", "SELECT partition, group_id FROM partition_owner "
		    "WHERE cluster_id = $1::text AND topic = $2::text AND group_id <> $3::text AND partition = ANY ($4::int[])" },
	{ "resumed", "UPDATE partition_owner SET resume_from = NULL, confirmed_offset = $6::bigint "
		     "WHERE cluster_id = $1::text AND topic = $2::text AND group_id = $3::text AND partition = $4::int "
		     "AND epoch = $5::bigint RETURNING 1" },
	{ "orders", "SELECT count(*) FROM partition_owner WHERE cluster_id = $1::text AND topic = $2::text "
		    "AND group_id = $3::text AND partition = ANY ($4::int[]) AND resume_from IS NOT NULL" },
	{ "order_resume", sql_order_resume },
};

static int prepare_statements(struct store *store, struct fault *fault)
{
	for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
		if (pg_prepare(store->pg, statements[i].name, statements[i].sql, fault) < 0)
			return -1;
	return 0;
}

int store_connect(struct store *store, struct fault *fault)
{
	if (pg_connect(store->pg, store->database, store->application, store->settings.connect_timeout_ms, fault) < 0)
		return -1;
	if (check_guarantees(store, fault) == 0 && set_up_session(store, fault) == 0 && check_session(store, fault) == 0 &&
	    check_migrations(store, fault) == 0 && prepare_statements(store, fault) == 0)
		return 0;
	pg_close(store->pg);
	return -1;
}

/* ---- single transactions ---- */

static int not_connected(struct fault *fault)
{
	return fault_set(fault, FAULT_WAIT, "there is no connection to PostgreSQL");
}

/* Adds what every statement on partition_owner begins with. */
static struct pg_params *owner_params(struct store *store, const char *cluster_id, const char *topic)
{
	pg_params_reset(&store->params);
	pg_add_text(&store->params, cluster_id);
	pg_add_text(&store->params, topic);
	pg_add_text(&store->params, store->group);
	return &store->params;
}

/* One statement in a transaction of its own, and its rows. */
static int run_one(struct store *store, const char *prepared, struct pg_result **result, struct fault *fault)
{
	*result = NULL;
	(void)pg_commit_was_doubtful(store->pg);
	if (pg_send(store->pg, prepared, NULL, &store->params, fault) < 0 || pg_sync(store->pg, -1, fault) < 0 ||
	    pg_receive(store->pg, result, fault) < 0 || pg_finish(store->pg, fault) < 0) {
		pg_result_free(*result);
		*result = NULL;
		return give_up(store, fault);
	}
	return be_sure(store, fault);
}

static void read_claims(const struct pg_result *rows, const struct pg_result *others, struct claim *claims, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct claim *claim = &claims[i];

		*claim = (struct claim){ .partition = claim->partition, .refused = true, .confirmed_offset = OFFSET_NONE,
					 .resume_from = RESUME_NONE };
		for (int row = 0; row < pg_rows(rows); row++) {
			const char *previous = pg_text(rows, row, 4, NULL);

			if (pg_int4(rows, row, 0) != claim->partition)
				continue;
			claim->refused = false;
			claim->epoch = pg_int8(rows, row, 1);
			claim->confirmed_offset = pg_int8(rows, row, 2);
			claim->resume_from = pg_is_null(rows, row, 3) ? RESUME_NONE : pg_int8(rows, row, 3);
			snprintf(claim->previous_transactional_id, sizeof claim->previous_transactional_id, "%s",
				 previous ? previous : "");
		}
		for (int row = 0; row < pg_rows(others); row++)
			if (pg_int4(others, row, 0) == claim->partition)
				snprintf(claim->other_group, sizeof claim->other_group, "%s", pg_text(others, row, 1, NULL));
	}
}

static void add_partitions(struct pg_params *params, const struct claim *claims, size_t n)
{
	pg_array_begin(params, PG_INT4);
	for (size_t i = 0; i < n; i++)
		pg_array_int4(params, claims[i].partition);
	pg_array_end(params);
}

static int send_claim(struct store *store, const char *cluster_id, const char *topic, const struct claim *claims, size_t n,
		      struct fault *fault)
{
	struct pg_params *params = owner_params(store, cluster_id, topic);

	pg_add_text(params, store->transactional_id);
	add_partitions(params, claims, n);
	if (pg_send(store->pg, NULL, "BEGIN ISOLATION LEVEL READ COMMITTED", NULL, fault) < 0 ||
	    pg_send(store->pg, "claim", NULL, params, fault) < 0)
		return -1;
	params = owner_params(store, cluster_id, topic);
	add_partitions(params, claims, n);
	if (pg_send(store->pg, "owners", NULL, params, fault) < 0)
		return -1;
	return pg_send(store->pg, NULL, "COMMIT", NULL, fault);
}

/* A claim that waited in vain for a row's lock is to be tried again, after what may hold it for ever was ended. */
static void unblock_claim(struct store *store, const char *cluster_id, const char *topic, const struct claim *claims, size_t n,
			  struct fault *fault)
{
	struct pg_params *params = owner_params(store, cluster_id, topic);
	struct pg_result *result;
	struct fault other;

	add_partitions(params, claims, n);
	if (run_one(store, "unblock", &result, &other) < 0)
		return;
	if (pg_int8(result, 0, 0) > 0)
		fault_set(fault, FAULT_RETRY, "a session that waits for its client held these partitions: it was ended");
	pg_result_free(result);
}

int store_claim(struct store *store, const char *cluster_id, const char *topic, struct claim *claims, size_t n,
		struct fault *fault)
{
	struct pg_result *rows = NULL, *others = NULL;
	int done = -1;

	if (!pg_connected(store->pg))
		return not_connected(fault);
	failpoint("claim-before");
	if (send_claim(store, cluster_id, topic, claims, n, fault) < 0 || pg_sync(store->pg, -1, fault) < 0 ||
	    pg_receive(store->pg, NULL, fault) < 0 || pg_receive(store->pg, &rows, fault) < 0 ||
	    pg_receive(store->pg, &others, fault) < 0) {
		bool locked = strcmp(fault->sqlstate, "55P03") == 0;

		if (locked)
			fault->kind = FAULT_RETRY;
		give_up(store, fault);
		if (locked)
			unblock_claim(store, cluster_id, topic, claims, n, fault);
		goto out;
	}
	(void)pg_commit_was_doubtful(store->pg);
	if (pg_receive(store->pg, NULL, fault) < 0 || pg_finish(store->pg, fault) < 0) {
		give_up(store, fault);
		goto out;
	}
	if (be_sure(store, fault) < 0)
		goto out;
	failpoint("claim-after");
	read_claims(rows, others, claims, n);
	done = 0;
out:
	pg_result_free(rows);
	pg_result_free(others);
	return done;
}

int store_resumed(struct store *store, const char *cluster_id, const char *topic, const struct claim *claim, int64_t offset,
		  struct fault *fault)
{
	struct pg_params *params = owner_params(store, cluster_id, topic);
	struct pg_result *result;
	int rows;

	if (!pg_connected(store->pg))
		return not_connected(fault);
	pg_add_int4(params, claim->partition);
	pg_add_int8(params, claim->epoch);
	pg_add_int8(params, offset);
	if (run_one(store, "resumed", &result, fault) < 0) {
		pg_result_free(result);
		return -1;
	}
	rows = pg_rows(result);
	pg_result_free(result);
	if (rows == 0)
		return fault_set(fault, FAULT_FENCED, "partition %d of topic %s is owned by somebody else", claim->partition, topic);
	return 0;
}

int store_resume_orders(struct store *store, const char *cluster_id, const char *topic, const int32_t *partitions, size_t n,
			struct fault *fault)
{
	struct pg_params *params = owner_params(store, cluster_id, topic);
	struct pg_result *result;
	int orders = -1;

	if (!pg_connected(store->pg))
		return not_connected(fault);
	pg_array_begin(params, PG_INT4);
	for (size_t i = 0; i < n; i++)
		pg_array_int4(params, partitions[i]);
	pg_array_end(params);
	if (run_one(store, "orders", &result, fault) == 0)
		orders = (int)pg_int8(result, 0, 0);
	pg_result_free(result);
	return orders;
}

int store_order_resume(struct store *store, const char *cluster_id, const char *topic, int32_t partition, int64_t from,
		       const char *who, struct fault *fault)
{
	struct pg_params *params = &store->params;
	struct pg_result *result;
	int done;

	if (!pg_connected(store->pg))
		return not_connected(fault);
	pg_params_reset(params);
	pg_add_text(params, cluster_id);
	pg_add_text(params, topic);
	pg_add_int4(params, partition);
	pg_add_text(params, store->group);
	pg_add_int8(params, from);
	pg_add_text(params, who);
	done = run_one(store, "order_resume", &result, fault);
	pg_result_free(result);
	return done;
}

/* ---- a batch ---- */

/* Columns of the operation's statement; behind them those of the data of a success, in the order of their table. */
enum column { COL_ORD, COL_NOW, COL_VERDICT, COL_DETAILS, COL_KEY, COL_RETRY_AFTER_S, COL_LOST_RACE, COL_DATA };

static const char *text_at(const struct pg_result *rows, int row, int column, struct arena *arena)
{
	size_t size;
	const char *text = pg_text(rows, row, column, &size);

	return text ? arena_strndup(arena, text, size) : NULL;
}

static void read_field(const struct pg_result *rows, int row, int column, const struct field *field, char *base,
		       struct arena *arena)
{
	void *at = base + field->offset;

	if (field->companion)
		*(bool *)(void *)(base + field->companion) = !pg_is_null(rows, row, column);
	if (pg_is_null(rows, row, column))
		return;
	switch (field->type) {
	case FIELD_TEXT:
		*(const char **)at = text_at(rows, row, column, arena);
		return;
	case FIELD_BOOLEAN:
		*(bool *)at = pg_bool(rows, row, column);
		return;
	case FIELD_INT:
		*(int32_t *)at = pg_int4(rows, row, column);
		return;
	case FIELD_LONG:
		*(int64_t *)at = pg_int8(rows, row, column);
		return;
	case FIELD_TIME:
		*(int64_t *)at = pg_time_ms(rows, row, column);
		return;
	case FIELD_TEXTS:
	case FIELD_DIGEST:
	case FIELD_RECORD:
		break;
	}
	must_be(false); /* data has no such field */
}

static const void *read_data(const struct record_type *type, const struct pg_result *rows, int row, struct arena *arena)
{
	char *data = arena_alloc(arena, type->size);

	for (size_t i = 0; i < type->count; i++)
		read_field(rows, row, COL_DATA + (int)i, &type->fields[i], data, arena);
	return data;
}

static const char *read_details(const struct contract *contract, const struct job *job, const struct pg_result *rows, int row,
				struct arena *arena)
{
	const char **texts;
	size_t count = pg_texts(rows, row, COL_DETAILS, arena, &texts);

	if (job->reason->details == NULL)
		return NULL;
	return details_format(job->reason->details, contract->command, job->command, texts, count, arena);
}

static void read_verdict(const struct contract *contract, struct job *job, const struct pg_result *rows, int row,
			 struct arena *arena)
{
	const char *verdict = pg_text(rows, row, COL_VERDICT, NULL);
	bool existing = verdict && strcmp(verdict, "existing") == 0;

	job->key_public_id = text_at(rows, row, COL_KEY, arena);
	job->reason = NULL;
	if (verdict == NULL || existing) {
		result_accept(&job->result, contract, read_data(contract->data, rows, row, arena), existing);
		return;
	}
	job->reason = contract_find_reason(contract, verdict);
	must_be(job->reason != NULL); /* a test compares the statement's words with the table */
	result_refuse(&job->result, job->reason, read_details(contract, job, rows, row, arena));
	job->result.has_retry_after = !pg_is_null(rows, row, COL_RETRY_AFTER_S);
	job->result.retry_after_s = pg_int4(rows, row, COL_RETRY_AFTER_S);
}

static void add_fence(struct store *store, const struct fence *fence)
{
	struct pg_params *params = owner_params(store, fence->cluster_id, fence->topic);

	pg_array_begin(params, PG_INT4);
	for (size_t i = 0; i < fence->count; i++)
		pg_array_int4(params, fence->partitions[i].partition);
	pg_array_end(params);
	pg_array_begin(params, PG_INT8);
	for (size_t i = 0; i < fence->count; i++)
		pg_array_int8(params, fence->partitions[i].epoch);
	pg_array_end(params);
	pg_array_begin(params, PG_INT8);
	for (size_t i = 0; i < fence->count; i++)
		pg_array_int8(params, fence->partitions[i].start_offset);
	pg_array_end(params);
}

int store_confirm(struct store *store, const struct fence *fence, struct fault *fault)
{
	struct pg_result *result;
	int done;

	if (!pg_connected(store->pg))
		return not_connected(fault);
	add_fence(store, fence);
	done = run_one(store, "fence", &result, fault);
	if (done < 0 && store_classify(fault->sqlstate) == FAULT_FENCED)
		fault->kind = FAULT_FENCED;
	pg_result_free(result);
	return done;
}

int store_find_draft(struct store *store, const struct job *job, bool *found, struct fault *fault)
{
	struct pg_result *result;

	if (!pg_connected(store->pg))
		return not_connected(fault);
	pg_params_reset(&store->params);
	pg_add_text(&store->params, job->command->account_group_id);
	pg_add_text(&store->params, job->command->trace_id);
	pg_array_begin(&store->params, PG_BYTEA);
	pg_array_bytes(&store->params, job->command->digest, DIGEST_BYTES);
	pg_array_end(&store->params);
	if (run_one(store, "written", &result, fault) < 0)
		return -1;
	*found = pg_int8(result, 0, 0) > 0;
	pg_result_free(result);
	return 0;
}

/* Adds a text of every command as one array. */
static void add_texts(struct pg_params *params, struct job *const *jobs, size_t n, size_t member)
{
	pg_array_begin(params, PG_TEXT);
	for (size_t i = 0; i < n; i++)
		pg_array_text(params, *(const char *const *)((const char *)jobs[i]->command + member));
	pg_array_end(params);
}

static void add_keys(struct pg_params *params, struct job *const *jobs, size_t n)
{
	pg_array_begin(params, PG_BYTEA);
	for (size_t i = 0; i < n; i++)
		pg_array_bytes(params, jobs[i]->command->has_key ? jobs[i]->command->key_digest : NULL, DIGEST_BYTES);
	pg_array_end(params);
}

static void add_lock(struct pg_params *params, struct job *const *jobs, size_t n)
{
	pg_params_reset(params);
	add_texts(params, jobs, n, offsetof(struct duplicate_command, head.account_group_id));
	add_keys(params, jobs, n);
}

static void add_ids_and_leads(struct pg_params *params, struct job *const *jobs, size_t n)
{
	char id[NEW_ID_CHARS + 1];

	pg_array_begin(params, PG_TEXT);
	for (size_t i = 0; i < n; i++) {
		id_new(id);
		pg_array_text(params, id);
	}
	pg_array_end(params);
	pg_array_begin(params, PG_TEXT);
	for (size_t i = 0; i < n; i++) {
		const struct duplicate_command *command = (const struct duplicate_command *)jobs[i]->command;

		if (command->lead_ids)
			pg_array_joined(params, command->lead_ids, command->lead_count);
		else
			pg_array_null(params);
	}
	pg_array_end(params);
}

/* The parameters of worker/sql/execute.sql, in its order. */
static void add_commands(struct store *store, struct job *const *jobs, size_t n)
{
	struct pg_params *params = &store->params;

	pg_params_reset(params);
	add_texts(params, jobs, n, offsetof(struct duplicate_command, head.trace_id));
	add_texts(params, jobs, n, offsetof(struct duplicate_command, head.account_group_id));
	add_texts(params, jobs, n, offsetof(struct duplicate_command, campaign_id));
	add_texts(params, jobs, n, offsetof(struct duplicate_command, audience_id));
	add_texts(params, jobs, n, offsetof(struct duplicate_command, name));
	add_keys(params, jobs, n);
	add_ids_and_leads(params, jobs, n);
	pg_array_begin(params, PG_BYTEA);
	for (size_t i = 0; i < n; i++)
		pg_array_bytes(params, jobs[i]->command->digest, DIGEST_BYTES);
	pg_array_end(params);
	pg_array_begin(params, PG_INT8);
	for (size_t i = 0; i < n; i++) {
		if (jobs[i]->command->has_expiry)
			pg_array_int8(params, jobs[i]->command->expires_at_ms);
		else
			pg_array_null(params);
	}
	pg_array_end(params);
	pg_array_begin(params, PG_INT8);
	for (size_t i = 0; i < n; i++)
		pg_array_int8(params, jobs[i]->record.timestamp_ms);
	pg_array_end(params);
	pg_add_int4(params, store->settings.audience_leads_max);
}

static bool is_skipped(const struct execution *execution, enum stage stage)
{
	if (stage == STAGE_CONSTRAINTS)
		return execution->end != STORE_ROLLBACK;
	if (stage == STAGE_LOCK && execution->end == STORE_COMMIT_UNLOCKED)
		return true;
	return execution->count == 0 && (stage == STAGE_LOCK || stage == STAGE_EXECUTE);
}

static int send_stage(struct execution *execution, enum stage stage, struct fault *fault)
{
	struct store *store = execution->store;

	switch (stage) {
	case STAGE_BEGIN:
		return pg_send(store->pg, NULL, "BEGIN ISOLATION LEVEL READ COMMITTED", NULL, fault);
	case STAGE_FENCE:
		add_fence(store, execution->fence);
		return pg_send(store->pg, "fence", NULL, &store->params, fault);
	case STAGE_LOCK:
		add_lock(&store->params, execution->jobs, execution->count);
		return pg_send(store->pg, "lock", NULL, &store->params, fault);
	case STAGE_EXECUTE:
		add_commands(store, execution->jobs, execution->count);
		return pg_send(store->pg, "execute", NULL, &store->params, fault);
	case STAGE_CONSTRAINTS: /* a probe is to meet what would be checked at the COMMIT, too */
		return pg_send(store->pg, NULL, "SET CONSTRAINTS ALL IMMEDIATE", NULL, fault);
	default:
		return pg_send(store->pg, NULL, execution->end == STORE_ROLLBACK ? "ROLLBACK" : "COMMIT", NULL, fault);
	}
}

static int receive_stage(struct execution *execution, enum stage stage, struct fault *fault)
{
	execution->stage = stage;
	if (stage == STAGE_END) /* a warning from now on is about the commit */
		(void)pg_commit_was_doubtful(execution->store->pg);
	return pg_receive(execution->store->pg, &execution->results[stage], fault);
}

static int receive_stages(struct execution *execution, enum stage first, struct fault *fault)
{
	for (enum stage stage = first; stage < STAGES; stage++)
		if (!is_skipped(execution, stage) && receive_stage(execution, stage, fault) < 0)
			return -1;
	execution->received = true;
	if (execution->end != STORE_ROLLBACK)
		failpoint("commit-after");
	return 0;
}

/* Failpoints between two statements: each is answered before the next is sent. */
static int step_stage(struct execution *execution, enum stage stage, struct fault *fault)
{
	execution->stage = stage;
	if (stage == STAGE_END)
		return 0;
	if (pg_flush(execution->store->pg, fault) < 0 || receive_stage(execution, stage, fault) < 0)
		return -1;
	if (stage == STAGE_FENCE)
		failpoint("fence-after");
	if (stage == STAGE_EXECUTE)
		failpoint("statement-after");
	return 0;
}

static int send_stages(struct execution *execution, struct fault *fault)
{
	bool stepwise = failpoint_inside_pipeline(), commit = execution->end != STORE_ROLLBACK;

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
	if (pg_sync(execution->store->pg, WRITE_MS, fault) < 0)
		return -1;
	if (commit)
		failpoint("commit-sent");
	return stepwise ? receive_stages(execution, STAGE_END, fault) : 0;
}

/* An error is the commands' own only where their statement or the commit raised it; until the fence has passed, and when
 * the connection is gone, it is never theirs. */
static void classify_stage(const struct execution *execution, struct fault *fault)
{
	enum fault_kind kind = store_classify(fault->sqlstate);

	if (fault->kind != FAULT_WAIT || !pg_connected(execution->store->pg))
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
	int64_t now_ms = rows ? pg_time_ms(rows, 0, COL_NOW) : pg_time_ms(execution->results[STAGE_FENCE], 0, 0);

	for (size_t i = 0; i < n; i++)
		jobs[i]->result.processed_at_ms = now_ms;
	for (int row = 0; rows && row < pg_rows(rows); row++)
		read_verdict(&duplicate_contract, execution->jobs[pg_int4(rows, row, COL_ORD) - 1], rows, row, arena);
}

void store_send(struct store *store, const struct fence *fence, struct job **jobs, size_t n, enum store_end end,
		struct arena *arena)
{
	struct execution *execution = &store->execution;

	*execution = (struct execution){ .store = store, .fence = fence, .end = end };
	execution->jobs = arena_array(arena, n, sizeof(struct job *));
	for (size_t i = 0; i < n; i++)
		if (jobs[i]->executable)
			execution->jobs[execution->count++] = jobs[i];
	if (!pg_connected(store->pg))
		execution->failed = not_connected(&execution->fault) < 0;
	else
		execution->failed = send_stages(execution, &execution->fault) < 0;
	execution->fence = NULL;
}

static int fail_execution(struct execution *execution, struct fault *fault)
{
	struct store *store = execution->store;

	classify_stage(execution, fault);
	if (execution->sent && execution->end != STORE_ROLLBACK && !pg_connected(store->pg))
		log_doubt("the connection broke before a COMMIT was answered");
	return give_up(store, fault);
}

int store_receive(struct store *store, struct job **jobs, size_t n, struct arena *arena, struct fault *fault)
{
	struct execution *execution = &store->execution;
	int done = -1;

	*fault = execution->fault;
	if (execution->failed || (!execution->received && receive_stages(execution, STAGE_BEGIN, fault) < 0)) {
		fail_execution(execution, fault);
	} else if (execution->end == STORE_ROLLBACK || be_sure(store, fault) == 0) {
		struct fault late;

		done = 0; /* the commit is known; a connection that breaks now is closed, and was not needed any more */
		if (pg_connected(store->pg) && pg_finish(store->pg, &late) < 0)
			pg_close(store->pg);
		read_results(execution, jobs, n, arena);
	}
	for (int stage = 0; stage < STAGES; stage++)
		pg_result_free(execution->results[stage]);
	*execution = (struct execution){ 0 };
	return done;
}

int store_execute(struct store *store, const struct fence *fence, struct job **jobs, size_t n, enum store_end end,
		  struct arena *arena, struct fault *fault)
{
	store_send(store, fence, jobs, n, end, arena);
	return store_receive(store, jobs, n, arena, fault);
}

/* ---- check ---- */

/* The rights that the statements need; campaign_worker has them (schemas/sql). */
static const struct right {
	const char *privilege, *table, *columns;
} rights[] = {
	{ "SELECT", "schema_migrations", "version" },
	{ "SELECT", "api_keys", "key_digest, public_id, permissions, revoked_at" },
	{ "SELECT", "api_key_account_groups", "account_group_id, key_digest, rate_interval_us, rate_burst, rate_tat_us, rate_at_us" },
	{ "UPDATE", "api_key_account_groups", "rate_tat_us, rate_at_us" },
	{ "SELECT", "campaigns", "account_group_id, id, name, description, status, selected_lead_count, "
		    "include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow, trace_id, "
		    "command_digest, created_at, updated_at, started_at, rate_limited_until, deleted_at" },
	{ "INSERT", "campaigns", "account_group_id, id, name, description, status, selected_lead_count, selected_leads, "
		    "include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow, "
		    "source_campaign_id, trace_id, command_digest, created_by_key, created_at, updated_at" },
	{ "SELECT", "audiences", "account_group_id, id, kind, parent_id, ready, lead_count" },
	{ "SELECT", "audience_leads", "account_group_id, audience_id, lead_id" },
	{ "SELECT", "campaign_leads", "account_group_id, campaign_id, lead_id, state" },
	{ "SELECT", "partition_owner", "cluster_id, topic, partition, group_id, epoch, transactional_id, "
		    "previous_transactional_id, confirmed_offset, resume_from" },
	{ "INSERT", "partition_owner", "cluster_id, topic, partition, group_id, epoch, transactional_id, resume_from" },
	{ "UPDATE", "partition_owner", "group_id, epoch, transactional_id, previous_transactional_id, confirmed_offset, "
		    "resume_from, claimed_at" },
	{ "INSERT", "partition_resumes", "cluster_id, topic, partition, group_id, previous_group_id, "
		    "previous_confirmed_offset, resume_from, ordered_by" },
};

static const char *const functions[] = {
	"partition_fence(text, text, text, integer[], bigint[], bigint[])",
	"raise_lost_race()",
	"rate_limit_tat(bigint, bigint, bigint, bigint)",
};

struct report {
	struct pg *pg;
	void (*say)(void *arg, bool wrong, const char *line);
	void *arg;
};

static int report_server(struct report *report, struct fault *fault)
{
	char line[512];

	if (pg_ask(report->pg,
		   "SELECT format('PostgreSQL %s, %s, %s, database %s, user %s%s', current_setting('server_version'), "
		   "CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END, current_setting('server_encoding'), "
		   "current_database(), current_user, CASE WHEN current_setting('is_superuser') = 'on' "
		   "THEN ' (a superuser: a role with campaign_worker is enough)' ELSE '' END)", line, sizeof line, fault) < 0)
		return -1;
	report->say(report->arg, false, line);
	if (pg_server_version(report->pg) < VERSION_MIN)
		report->say(report->arg, true, "PostgreSQL is too old: the worker needs 15 or newer");
	if (pg_ask(report->pg,
		   "SELECT format('fsync %s, full_page_writes %s, synchronous_commit %s, synchronous standbys: %s', "
		   "current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), "
		   "coalesce(nullif(current_setting('synchronous_standby_names'), ''), 'none (a failover may lose commits)'))",
		   line, sizeof line, fault) < 0)
		return -1;
	report->say(report->arg, false, line);
	return 0;
}

static int report_guarantees(struct report *report, struct fault *fault)
{
	bool yes;

	for (size_t i = 0; i < GUARANTEES; i++) {
		if (holds(report->pg, guarantees[i].condition, &yes, fault) < 0)
			return -1;
		if (!yes)
			report->say(report->arg, true, guarantees[i].broken);
	}
	return 0;
}

/* complete: nothing is missing. */
static int report_migrations(struct report *report, bool *complete, struct fault *fault)
{
	char line[256], newest[16];
	int missing;

	if (find_missing_migration(report->pg, &missing, fault) < 0)
		return -1;
	*complete = missing == 0;
	if (missing > 0) {
		snprintf(line, sizeof line, "the database lacks migration %s: run campaign-worker migrate", migrations[missing - 1].name);
		report->say(report->arg, true, line);
		return 0;
	}
	if (pg_ask(report->pg, "SELECT max(version) FROM public.schema_migrations", newest, sizeof newest, fault) < 0)
		return -1;
	snprintf(line, sizeof line, "migrations complete: the database is at %s, this program at %zu", newest, migration_count);
	report->say(report->arg, false, line);
	return 0;
}

/* sql: answers what is lacking, as "SELECT on api_keys (column permissions)"; nothing if nothing is. */
static int report_lacking(struct report *report, const char *sql, bool *all, struct fault *fault)
{
	char lacking[640], line[768];

	if (pg_ask(report->pg, sql, lacking, sizeof lacking, fault) < 0)
		return -1;
	if (lacking[0] == '\0')
		return 0;
	*all = false;
	snprintf(line, sizeof line, "the user lacks %s: grant it the role campaign_worker", lacking);
	report->say(report->arg, true, line);
	return 0;
}

static int report_rights(struct report *report, struct fault *fault)
{
	char sql[1024];
	bool all = true;

	for (size_t i = 0; i < sizeof rights / sizeof rights[0]; i++) {
		snprintf(sql, sizeof sql,
			 "SELECT '%s on %s (column ' || string_agg(c, ', ') || ')' FROM unnest(string_to_array('%s', ', ')) AS c "
			 "WHERE NOT has_column_privilege('public.%s', c, '%s')", rights[i].privilege, rights[i].table,
			 rights[i].columns, rights[i].table, rights[i].privilege);
		if (report_lacking(report, sql, &all, fault) < 0)
			return -1;
	}
	for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
		snprintf(sql, sizeof sql, "SELECT 'EXECUTE on %s' WHERE NOT has_function_privilege('public.%s', 'EXECUTE')",
			 functions[i], functions[i]);
		if (report_lacking(report, sql, &all, fault) < 0)
			return -1;
	}
	if (all)
		report->say(report->arg, false, "the user has the rights that the worker needs");
	return 0;
}

int store_check(const struct store_settings *settings, void (*say)(void *arg, bool wrong, const char *line), void *arg,
		struct fault *fault)
{
	struct waiter waiter = { pg_wait_blocking, NULL };
	struct report report = { pg_new(&waiter), say, arg };
	bool complete = false;
	int done = -1;

	if (pg_connect(report.pg, settings->database, settings->application, settings->connect_timeout_ms, fault) == 0 &&
	    report_server(&report, fault) == 0 && report_guarantees(&report, fault) == 0 &&
	    report_migrations(&report, &complete, fault) == 0)
		done = complete ? report_rights(&report, fault) : 0;
	pg_free(report.pg);
	return done;
}
