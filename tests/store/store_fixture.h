/* What the tests of the store share: databases of their own on a real PostgreSQL, a login that has nothing but
 * campaign_worker, commands, and the check that results and tables agree.
 * CAMPAIGN_TEST_DATABASE is the conninfo of a superuser on a server where databases and roles may be made. */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <errno.h>
#include <libpq-fe.h>
#include <openssl/sha.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "schemas/command.h"
#include "schemas/duplicate.h"
#include "schemas/id.h"
#include "schemas/result.h"
#include "tests/fault_kind.h"
#include "worker/base/clock.h"
#include "worker/db/execution.h"
#include "worker/db/migrate.h"
#include "worker/db/ownership.h"
#include "worker/db/rows.h"
#include "worker/db/session.h"
#include "worker/sql/sql.h"

#define COUNT(array) (sizeof array / sizeof array[0])
#define EXIT_SKIPPED 77
#define PASSWORD "only-for-this-test"
#define AG "ag_acme"
#define BETA "64f1a2b3c4d5e6f708192a3b"
#define RUNNING "65a000000000000000000001"
#define PLAIN "65a000000000000000000002"
#define LEADS_CAP 50000

struct fixture {
	char database[64], login[64];
	char *super, *worker; /* conninfos of that database */
	PGconn *admin;
	struct session *session;
	struct arena *arena;
	struct claim claim;
	struct fence_partition partition;
	struct fence fence;
	unsigned traces;
};

static struct fixture fx;

/* ---- conninfos ---- */

static inline char *conninfo_with(const char *database, const char *user)
{
	PQconninfoOption *options = PQconninfoParse(getenv("CAMPAIGN_TEST_DATABASE"), NULL);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(options);
	for (PQconninfoOption *o = options; o->keyword; o++) {
		const char *value = o->val;

		if (strcmp(o->keyword, "dbname") == 0)
			value = database;
		if (user && strcmp(o->keyword, "user") == 0)
			value = user;
		if (user && strcmp(o->keyword, "password") == 0)
			value = PASSWORD;
		if (value == NULL)
			continue;
		fprintf(out, "%s='", o->keyword);
		for (; *value; value++)
			fprintf(out, "%s%c", *value == '\'' || *value == '\\' ? "\\" : "", *value);
		fprintf(out, "' ");
	}
	fclose(out);
	PQconninfoFree(options);
	return text;
}

static inline PGconn *connect_to(const char *conninfo)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		fail_msg("%s", PQerrorMessage(conn));
	PQclear(PQexec(conn, "SET client_min_messages = error; SET lock_timeout = '15s'"));
	return conn;
}

/* ---- the database ---- */

static inline void run_on(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(conn));
	PQclear(result);
}

static inline void run_sql(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void run_sql(const char *fmt, ...)
{
	char sql[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	run_on(fx.admin, sql);
}

/* The first value, in a buffer that the next but seven call overwrites; "" for null and for no row. */
static inline const char *ask(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline const char *ask(const char *fmt, ...)
{
	static char answers[8][4096];
	static int next;
	char sql[4096], *answer = answers[next++ % 8];
	PGresult *result;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	result = PQexec(fx.admin, sql);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(fx.admin));
	snprintf(answer, sizeof answers[0], "%s", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return answer;
}

static inline char *read_file(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	if (file == NULL)
		fail_msg("%s: %s (run from the top of the tree)", path, strerror(errno));
	assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
	fclose(file);
	return text;
}

static inline void print_nothing(void *arg, const char *line)
{
	(void)arg;
	(void)line;
}

static inline int wait_with_poll(void *arg, int fd, short events, int timeout_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = events };

	(void)arg;
	(void)poll(&pollfd, 1, timeout_ms);
	return 0;
}

static const struct execution_settings fixture_execution = {
	.contract = &duplicate_contract,
	.lock_sql = sql_lock,
	.execute_sql = sql_execute,
	.written_sql = sql_written,
	.limit = LEADS_CAP,
};

static inline struct session_settings settings_of(const char *group)
{
	static struct statement own[EXECUTION_STATEMENTS];
	static const struct statement *const statements[] = { ownership_statements, own, NULL };

	execution_statements(&fixture_execution, own);
	return (struct session_settings){
		.database = fx.worker,
		.application = "store-test",
		.statements = statements,
		.group = group,
		.transactional_id = "group.instance.0",
		.claim_timeout_ms = 400,
		.lock_timeout_ms = 400,
		.statement_timeout_ms = 20000,
		.idle_in_transaction_ms = 2000,
		.connect_timeout_ms = 5000,
	};
}

static inline struct session *open_session(const char *group, const struct waiter *waiter)
{
	struct waiter polling = { wait_with_poll, NULL };
	struct session_settings settings = settings_of(group);
	struct session *session = session_new(&settings, waiter ? waiter : &polling);
	struct fault fault;

	if (session_connect(session, &fault) < 0)
		fail_msg("%s", fault.msg);
	return session;
}

static inline void claim_partition(struct session *session, int32_t partition, struct claim *claim)
{
	struct fault fault;

	*claim = (struct claim){ .partition = partition };
	if (ownership_claim(session, "cluster", "commands", claim, 1, &fault) < 0)
		fail_msg("%s", fault.msg);
	assert_false(claim->refused);
}

/* One batch in a transaction of its own, sent and received. */
static inline int execute(struct session *session, const struct fence *fence, struct job **jobs, size_t n, enum execution_end end,
			  struct arena *arena, struct fault *fault)
{
	struct execution *execution = execution_new(session, &fixture_execution);
	int done;

	execution_send(execution, fence, jobs, n, end, arena);
	done = execution_receive(execution, jobs, n, arena, fault);
	execution_free(execution);
	return done;
}

static inline int find_draft(struct session *session, const struct job *job, bool *found, struct fault *fault)
{
	struct execution *execution = execution_new(session, &fixture_execution);
	int done = execution_find_written(execution, job, found, fault);

	execution_free(execution);
	return done;
}

/* A fresh claim and fence of the fixture's own session on partition 0. */
static inline void claim_again(void)
{
	claim_partition(fx.session, 0, &fx.claim);
	fx.partition = (struct fence_partition){ 0, fx.claim.epoch, 100, 100 };
	fx.fence = (struct fence){ "cluster", "commands", &fx.partition, 1, false };
}

static inline void drop_database(const char *name)
{
	char *conninfo = conninfo_with("postgres", NULL), sql[256];
	PGconn *conn = connect_to(conninfo);

	snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
	run_on(conn, sql);
	PQfinish(conn);
	free(conninfo);
}

static inline void create_database(const char *name)
{
	char *conninfo = conninfo_with("postgres", NULL), sql[256];
	PGconn *conn = connect_to(conninfo);

	snprintf(sql, sizeof sql, "CREATE DATABASE %s ENCODING 'UTF8' TEMPLATE template0", name);
	run_on(conn, sql);
	PQfinish(conn);
	free(conninfo);
}

/* A migrated, seeded database, and a login with only campaign_worker. */
static inline int open_fixture(void **state)
{
	struct fault fault;
	char *seed;

	(void)state;
	snprintf(fx.database, sizeof fx.database, "store_test_%d", (int)getpid());
	snprintf(fx.login, sizeof fx.login, "store_test_worker_%d", (int)getpid());
	drop_database(fx.database);
	create_database(fx.database);
	fx.super = conninfo_with(fx.database, NULL);
	fx.worker = conninfo_with(fx.database, fx.login);
	if (migrate_run(fx.super, print_nothing, NULL, &fault) < 0)
		fail_msg("%s", fault.msg);
	fx.admin = connect_to(fx.super);
	run_sql("DROP ROLE IF EXISTS %s", fx.login);
	run_sql("CREATE ROLE %s LOGIN PASSWORD '" PASSWORD "' IN ROLE campaign_worker", fx.login);
	seed = read_file("schemas/sql/seed.sql");
	run_on(fx.admin, seed);
	free(seed);
	fx.arena = arena_new(1 << 20);
	fx.session = open_session("group", NULL);
	claim_again();
	return 0;
}

static inline int close_fixture(void **state)
{
	(void)state;
	session_free(fx.session);
	arena_free(fx.arena);
	PQfinish(fx.admin);
	drop_database(fx.database);
	free(fx.super);
	free(fx.worker);
	fx.super = conninfo_with("postgres", NULL);
	fx.admin = connect_to(fx.super);
	run_sql("DROP ROLE %s", fx.login);
	PQfinish(fx.admin);
	free(fx.super);
	return 0;
}

static inline int run_store_tests(const char *name, const struct CMUnitTest *tests, size_t n)
{
	if (getenv("CAMPAIGN_TEST_DATABASE") == NULL) {
		printf("SKIPPED %s: CAMPAIGN_TEST_DATABASE is not set (a superuser's conninfo of a PostgreSQL to test on)\n", name);
		return EXIT_SKIPPED;
	}
	return _cmocka_run_group_tests(name, tests, n, open_fixture, close_fixture);
}

/* ---- commands ---- */

struct spec {
	const char *trace, *group, *campaign, *audience, *name, *key;
	const char *leads; /* separated by blanks */
	int64_t stamp_ms, expires_ms; /* 0: none */
	bool no_key, publishers_stamp; /* the stamp is of type CreateTime */
};

static inline void digest_key(const char *key, uint8_t digest[CAMPAIGN_DIGEST_BYTES])
{
	SHA256((const unsigned char *)key, strlen(key), digest);
}

static inline void split_leads(struct duplicate_command *command, const char *leads)
{
	size_t n = 1;
	const char **ids;

	for (const char *p = leads; *p; p++)
		n += *p == ' ';
	ids = arena_array(fx.arena, n, sizeof *ids);
	for (size_t i = 0; i < n; i++) {
		size_t size = strcspn(leads, " ");

		ids[i] = arena_strndup(fx.arena, leads, size);
		leads += size + (leads[size] == ' ');
	}
	command->lead_ids = ids;
	command->lead_count = n;
}

static inline struct job *make_command(struct spec spec)
{
	struct job *job = arena_alloc(fx.arena, sizeof *job);
	struct duplicate_command *command = arena_alloc(fx.arena, sizeof *command);
	const char *details;

	*command = (struct duplicate_command){
		.head.trace_id = spec.trace ? spec.trace : arena_printf(fx.arena, "trace-%u", ++fx.traces),
		.head.account_group_id = spec.group ? spec.group : AG,
		.campaign_id = spec.campaign ? spec.campaign : RUNNING,
		.audience_id = spec.audience ? spec.audience : "aud_list",
		.name = spec.name,
		.head.has_key = !spec.no_key,
		.head.has_expiry = spec.expires_ms != 0,
		.head.expires_at_ms = spec.expires_ms,
	};
	digest_key(spec.key ? spec.key : "demo-key-full", command->head.key_digest);
	if (spec.leads)
		split_leads(command, spec.leads);
	if (command_check(&duplicate_contract, &command->head, fx.arena, &details) < 0)
		fail_msg("%s", details);
	job->record.timestamp_ms = spec.stamp_ms ? spec.stamp_ms : -1;
	job->record.stamped_by_broker = !spec.publishers_stamp;
	job->executable = true;
	job->command = &command->head;
	result_describe(&job->result, &duplicate_contract, &command->head);
	return job;
}

#define COMMAND(...) make_command((struct spec){ __VA_ARGS__ })

/* ---- results against the table ---- */

static inline bool was_refused(const struct job *job, const char *word)
{
	return job->reason && strcmp(job->reason->word, word) == 0;
}

static inline void assert_same_text(const char *result, const char *table, const char *what)
{
	if (strcmp(result ? result : "(null)", table) != 0)
		fail_msg("%s: result %s, table %s", what, result ? result : "(null)", table);
}

static inline void assert_draft_is_there(const struct job *job)
{
	static const char sql[] =
		"SELECT id, name, coalesce(description, '(null)'), status, selected_lead_count, include_conversation_history, "
		"auto_cancel_on_message_received, coalesce(outreach_language, '(null)'), "
		"(extract(epoch FROM created_at) * 1000)::bigint, (extract(epoch FROM updated_at) * 1000)::bigint "
		"FROM campaigns WHERE account_group_id = $1 AND trace_id = $2 AND deleted_at IS NULL";
	const char *values[] = { job->command->account_group_id, job->command->trace_id };
	const struct campaign *data = job->result.data;
	PGresult *row = PQexecParams(fx.admin, sql, 2, NULL, values, NULL, NULL, 0);

	assert_int_equal(PQntuples(row), 1);
	assert_same_text(data->id, PQgetvalue(row, 0, 0), "id");
	assert_same_text(data->name, PQgetvalue(row, 0, 1), "name");
	assert_same_text(data->description, PQgetvalue(row, 0, 2), "description");
	assert_same_text(data->status, PQgetvalue(row, 0, 3), "status");
	assert_int_equal(data->selected_lead_count, atoi(PQgetvalue(row, 0, 4)));
	assert_int_equal(data->include_conversation_history, PQgetvalue(row, 0, 5)[0] == 't');
	assert_int_equal(data->auto_cancel_on_message_received, PQgetvalue(row, 0, 6)[0] == 't');
	assert_same_text(data->outreach_language, PQgetvalue(row, 0, 7), "outreach_language");
	assert_int_equal(data->created_at_ms, atoll(PQgetvalue(row, 0, 8)));
	assert_int_equal(data->updated_at_ms, atoll(PQgetvalue(row, 0, 9)));
	PQclear(row);
}

/* The id of the draft that this very command has, deleted or not; "" if none. */
static inline const char *draft_of(const struct job *job)
{
	char digest[2 * CAMPAIGN_DIGEST_BYTES + 1];

	for (size_t i = 0; i < CAMPAIGN_DIGEST_BYTES; i++)
		sprintf(digest + 2 * i, "%02x", job->command->digest[i]);
	return ask("SELECT id FROM campaigns WHERE account_group_id = '%s' AND trace_id = '%s' AND command_digest = '\\x%s'",
		   job->command->account_group_id, job->command->trace_id, digest);
}

/* I3: success if and only if the draft of this very command is there. */
static inline void assert_agrees(const struct job *job)
{
	if (job->result.success) {
		assert_null(job->reason);
		assert_int_equal(job->result.http_status, 201);
		assert_draft_is_there(job);
	} else if (job->executable && draft_of(job)[0] != '\0' && !was_refused(job, "draft_deleted")) {
		fail_msg("%s was refused (%s) and has a draft", job->command->trace_id, job->result.reason);
	}
}

static inline int try_execute(struct job **jobs, size_t n, struct fault *fault)
{
	return execute(fx.session, &fx.fence, jobs, n, EXECUTION_COMMIT, fx.arena, fault);
}

static inline void execute_all(struct job **jobs, size_t n)
{
	struct fault fault;

	if (try_execute(jobs, n, &fault) < 0)
		fail_msg("%s %s", fault_kind_name(fault.kind), fault.msg);
	for (size_t i = 0; i < n; i++) {
		assert_true(llabs(jobs[i]->result.processed_at_ms - clock_wall_ms()) < 60000);
		assert_agrees(jobs[i]);
	}
}

#define EXECUTE(...)                                                       \
	do {                                                               \
		struct job *batch_[] = { __VA_ARGS__ };                    \
		execute_all(batch_, COUNT(batch_));                        \
	} while (0)

static inline struct job *execute_one(struct job *job)
{
	execute_all(&job, 1);
	return job;
}

static inline void assert_created(const struct job *job)
{
	if (!job->result.success)
		fail_msg("%s: %s %s", job->command->trace_id, job->result.reason, job->result.error_details);
	assert_false(job->result.draft_existed);
	assert_string_equal(job->result.campaign->status, "draft");
	assert_int_equal(strspn(job->result.campaign->id, "0123456789abcdef"), NEW_ID_CHARS);
}

static inline void assert_refused(const struct job *job, const char *word, const char *details)
{
	if (job->result.success || !was_refused(job, word))
		fail_msg("%s: wanted %s, got %s", job->command->trace_id, word, job->reason ? job->reason->word : "a draft");
	assert_int_equal(job->result.http_status, job->reason->http_status);
	assert_string_equal(job->result.error_code, job->reason->code);
	assert_string_equal(job->result.reason, word);
	assert_null(job->result.data);
	if (details)
		assert_string_equal(job->result.error_details, details);
}

static inline const char *leads_of(const struct job *job)
{
	return ask("SELECT array_to_string(selected_leads, ' ') FROM campaigns WHERE account_group_id = '%s' AND trace_id = '%s'",
		   job->command->account_group_id, job->command->trace_id);
}

static inline int reset_arena(void **state)
{
	(void)state;
	arena_reset(fx.arena);
	return 0;
}

#define STORE_TEST(f) cmocka_unit_test_teardown(f, reset_arena)

static inline void assert_fault(const struct fault *fault, enum fault_kind kind, const char *sqlstate)
{
	if (fault->kind != kind || strcmp(fault->sqlstate, sqlstate) != 0)
		fail_msg("wanted %s %s, got %s %s: %s", fault_kind_name(kind), sqlstate, fault_kind_name(fault->kind), fault->sqlstate,
			 fault->msg);
}

static inline void assert_fails(struct job *job, enum fault_kind kind, const char *sqlstate)
{
	struct fault fault;

	assert_int_equal(try_execute(&job, 1, &fault), -1);
	assert_fault(&fault, kind, sqlstate);
	assert_null(job->result.data);
	assert_null(job->result.error_code);
	assert_int_equal(job->result.processed_at_ms, 0);
}

static inline void assert_not_written(const struct job *job)
{
	assert_string_equal(draft_of(job), "");
}

static inline void reconnect(void)
{
	struct fault fault;

	if (session_connect(fx.session, &fault) < 0)
		fail_msg("%s", fault.msg);
	claim_again();
}

#endif
