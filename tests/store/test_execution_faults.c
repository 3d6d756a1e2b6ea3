/* A batch under every class of error: of its commands, of the system, of other sessions, of the connection in mid-commit. */
#include "store_fixture.h"

/* ---- the commands' own errors ---- */

static void test_poison_is_rejected_and_nothing_is_written(void **state)
{
	struct job *good = COMMAND(.trace = "with-poison"), *bad = COMMAND(.name = "poison secret-payload"), *jobs[] = { good, bad };
	const char *tat = ask("SELECT sum(rate_tat_us) FROM api_key_account_groups");
	struct fault fault;

	(void)state;
	run_sql("ALTER TABLE campaigns ADD CONSTRAINT no_poison CHECK (name NOT LIKE 'poison%%')");
	assert_int_equal(try_execute(jobs, 2, &fault), -1);
	assert_fault(&fault, FAULT_REJECT, "23514");
	assert_non_null(strstr(fault.msg, "no_poison"));
	assert_null(strstr(fault.msg, "secret-payload"));
	assert_not_written(good);
	assert_string_equal(ask("SELECT sum(rate_tat_us) FROM api_key_account_groups"), tat);
	assert_fails(bad, FAULT_REJECT, "23514");
	assert_true(session_connected(fx.session));
	assert_created(execute_one(good));
	run_sql("ALTER TABLE campaigns DROP CONSTRAINT no_poison");
	assert_created(execute_one(bad));
}

static void test_errors_of_other_peoples_triggers(void **state)
{
	struct fault fault;
	struct job *job = COMMAND();

	(void)state;
	run_sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no %%'', NEW.name; END'");
	run_sql("CREATE TRIGGER refuse BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION refuse()");
	assert_int_equal(try_execute(&job, 1, &fault), -1);
	assert_fault(&fault, FAULT_REJECT, "P0001");
	assert_null(strstr(fault.msg, "Spring"));
	run_sql("DROP TRIGGER refuse ON campaigns");
	/* The same at the commit. */
	run_sql("CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON campaigns DEFERRABLE INITIALLY DEFERRED "
		"FOR EACH ROW EXECUTE FUNCTION refuse()");
	assert_fails(job, FAULT_REJECT, "P0001");
	assert_not_written(job);
	run_sql("DROP TRIGGER refuse ON campaigns");
	assert_created(execute_one(job));
}

static void raise_in_trigger(const char *body)
{
	run_sql("CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN %s RETURN NEW; END$$", body);
	run_sql("CREATE OR REPLACE TRIGGER guard BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION guard()");
}

/* Names are shown, and whatever a function says is not. PostgreSQL's own sentence about our statements is. */
static void test_what_is_said_of_an_error(void **state)
{
	static const char *const raised[] = { "42501", "XX000", "53100", "08006", "57014", "55P03", "40001", "P0002", "ABCDE" };
	struct job *job = COMMAND(.name = "secret name");
	struct fault fault;

	(void)state;
	for (size_t i = 0; i < COUNT(raised); i++) {
		raise_in_trigger(arena_printf(fx.arena, "RAISE EXCEPTION 'no %%', NEW.name USING ERRCODE = '%s', TABLE = 'campaigns', "
					      "DETAIL = NEW.name, HINT = NEW.name;", raised[i]));
		assert_int_equal(try_execute(&job, 1, &fault), -1);
		assert_string_equal(fault.sqlstate, raised[i]);
		assert_null(strstr(fault.msg, "secret"));
		assert_non_null(strstr(fault.msg, "table campaigns, function guard"));
		if (!session_connected(fx.session))
			reconnect();
	}
	raise_in_trigger("EXECUTE 'SELECT ' || quote_ident(NEW.name);"); /* a column that is not there */
	assert_int_equal(try_execute(&job, 1, &fault), -1);
	assert_fault(&fault, FAULT_REJECT, "42703");
	assert_null(strstr(fault.msg, "secret"));
	run_sql("DROP FUNCTION guard() CASCADE");
	run_sql("REVOKE SELECT (state) ON campaign_leads FROM campaign_worker");
	assert_int_equal(try_execute(&job, 1, &fault), -1);
	assert_non_null(strstr(fault.msg, "permission denied for table campaign_leads"));
	run_sql("GRANT SELECT (state) ON campaign_leads TO campaign_worker");
	assert_created(execute_one(job));
}

/* ---- the system's errors ---- */

/* Who is at fault is found out by others (worker/executor.c); without a table there is no new session, and without a right on
 * the fence nobody is. */
static void test_missing_table_or_right(void **state)
{
	struct job *job = COMMAND();
	struct fault fault;

	(void)state;
	run_sql("ALTER TABLE audiences RENAME TO audiences_away");
	assert_fails(job, FAULT_REJECT, "42P01");
	assert_true(session_connected(fx.session));
	assert_int_equal(session_connect(fx.session, &fault), -1);
	assert_fault(&fault, FAULT_WAIT, "42P01");
	run_sql("ALTER TABLE audiences_away RENAME TO audiences");
	reconnect();
	run_sql("REVOKE SELECT (state) ON campaign_leads FROM campaign_worker");
	assert_fails(job, FAULT_REJECT, "42501");
	run_sql("GRANT SELECT (state) ON campaign_leads TO campaign_worker");
	run_sql("REVOKE UPDATE ON partition_owner FROM campaign_worker");
	run_sql("REVOKE UPDATE (confirmed_offset, executed_offset) ON partition_owner FROM campaign_worker");
	assert_fails(job, FAULT_WAIT, "42501");
	run_sql("GRANT UPDATE (confirmed_offset, executed_offset) ON partition_owner TO campaign_worker");
	run_sql("GRANT UPDATE (group_id, epoch, transactional_id, previous_transactional_id, resume_from, claimed_at) "
		"ON partition_owner TO campaign_worker");
	reconnect();
	assert_not_written(job);
	assert_created(execute_one(job));
}

static void test_read_only_is_waited_for(void **state)
{
	struct job *job = COMMAND();
	struct fault fault;

	(void)state;
	run_sql("ALTER ROLE %s SET default_transaction_read_only = on", fx.login);
	assert_int_equal(session_connect(fx.session, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
	assert_fails(job, FAULT_WAIT, "");
	run_sql("ALTER ROLE %s RESET default_transaction_read_only", fx.login);
	reconnect();
}

static void test_lock_timeout_is_tried_again(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct job *job = COMMAND();

	(void)state;
	run_on(holder, "BEGIN; SELECT 1 FROM api_key_account_groups FOR UPDATE");
	assert_fails(job, FAULT_RETRY, "55P03");
	assert_true(session_connected(fx.session));
	run_on(holder, "ROLLBACK; BEGIN; LOCK TABLE campaigns IN SHARE MODE");
	assert_fails(job, FAULT_RETRY, "55P03");
	run_on(holder, "ROLLBACK");
	PQfinish(holder);
	assert_not_written(job);
	assert_created(execute_one(job));
}

/* What a session's waiter does once pg_stat_activity shows that the session's backend waits for wait_event_type. */
struct script {
	const char *wait_event_type; /* NULL: not yet armed, or done */
	PGconn *conn;
	const char *sql; /* sent on conn */
	bool stop;       /* the waiter ends the wait */
};

static int wait_with_script(void *arg, int fd, short events, int timeout_ms)
{
	struct script *script = arg;

	if (script->wait_event_type &&
	    ask("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'store-test' "
		"AND state = 'active' AND wait_event_type = '%s'", script->wait_event_type)[0] != '\0') {
		script->wait_event_type = NULL;
		if (script->stop)
			return -1;
		assert_true(PQsendQuery(script->conn, script->sql));
	}
	return wait_with_poll(NULL, fd, events, timeout_ms < 50 ? timeout_ms : 50);
}

static struct session *open_scripted_session(struct script *script, int lock_timeout_ms)
{
	struct session_settings settings = settings_of("group");
	struct waiter waiter = { wait_with_script, script };
	struct session *session;
	struct fault fault;

	settings.lock_timeout_ms = lock_timeout_ms;
	session = session_new(&settings, &waiter);
	if (session_connect(session, &fault) < 0)
		fail_msg("%s", fault.msg);
	claim_partition(session, 0, &fx.claim);
	fx.partition.epoch = fx.claim.epoch;
	return session;
}

static void drain(PGconn *conn)
{
	PGresult *result;

	while ((result = PQgetResult(conn)))
		PQclear(result);
}

/* The other session holds the trace and then wants the rate limit that the batch holds. */
static void test_deadlock_is_tried_again(void **state)
{
	PGconn *other = connect_to(fx.super);
	struct script script = { .conn = other, .sql = "UPDATE api_key_account_groups SET rate_tat_us = rate_tat_us" };
	struct session *session = open_scripted_session(&script, 10000);
	struct job *job = COMMAND(.trace = "deadlock");
	struct fault fault;

	(void)state;
	run_on(other, "SET deadlock_timeout = '30s'; BEGIN");
	run_on(other, "INSERT INTO campaigns (account_group_id, id, name, status, trace_id, command_digest) "
		      "VALUES ('" AG "', 'dead', 'n', 'draft', 'deadlock', sha256('x'))");
	script.wait_event_type = "Lock";
	assert_int_equal(execute(session, &fx.fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), -1);
	assert_fault(&fault, FAULT_RETRY, "40P01");
	assert_true(session_connected(session));
	drain(other);
	run_on(other, "ROLLBACK");
	assert_int_equal(execute(session, &fx.fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), 0);
	assert_created(job);
	PQfinish(other);
	session_free(session);
	claim_again();
}

/* The other session's draft of the same trace appears after our snapshot: all is judged again. */
static void test_lost_race_for_a_trace_is_tried_again(void **state)
{
	PGconn *other = connect_to(fx.super);
	struct script script = { .conn = other, .sql = "COMMIT" };
	struct session *session = open_scripted_session(&script, 10000);
	struct job *job = COMMAND(.trace = "race"), *beside = COMMAND(.trace = "beside"), *jobs[] = { beside, job };
	struct fault fault;

	(void)state;
	run_on(other, "BEGIN");
	run_on(other, "INSERT INTO campaigns (account_group_id, id, name, status, trace_id, command_digest) "
		      "VALUES ('" AG "', 'racer', 'n', 'draft', 'race', sha256('x'))");
	script.wait_event_type = "Lock";
	assert_int_equal(execute(session, &fx.fence, jobs, 2, EXECUTION_COMMIT, fx.arena, &fault), -1);
	assert_fault(&fault, FAULT_RETRY, "CD002");
	drain(other);
	assert_not_written(beside);
	assert_int_equal(execute(session, &fx.fence, jobs, 2, EXECUTION_COMMIT, fx.arena, &fault), 0);
	assert_created(beside);
	assert_refused(job, "trace_reused", NULL);
	PQfinish(other);
	session_free(session);
	claim_again();
}

static void install_at_commit(const char *body)
{
	run_sql("CREATE OR REPLACE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN %s RETURN NULL; END$$", body);
	run_sql("DROP TRIGGER IF EXISTS at_commit ON campaigns");
	run_sql("CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON campaigns DEFERRABLE INITIALLY DEFERRED "
		"FOR EACH ROW EXECUTE FUNCTION at_commit()");
}

static void test_backend_killed_in_mid_commit(void **state)
{
	PGconn *killer = connect_to(fx.super);
	struct script script = { .conn = killer, .sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
							"WHERE datname = current_database() AND wait_event = 'PgSleep' "
							"AND application_name = 'store-test'" };
	struct session *session = open_scripted_session(&script, 400);
	struct job *job = COMMAND();
	struct fault fault;

	(void)state;
	install_at_commit("PERFORM pg_sleep(20);");
	script.wait_event_type = "Timeout"; /* pg_sleep */
	assert_int_equal(execute(session, &fx.fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
	assert_false(session_connected(session));
	drain(killer);
	run_sql("DROP TRIGGER at_commit ON campaigns");
	assert_not_written(job);
	PQfinish(killer);
	session_free(session);
	claim_again();
}

/* What a cancelled wait for synchronous replication says: the draft is there, and nobody may rely on it yet. */
static void test_doubtful_commit_is_looked_at_again(void **state)
{
	struct job *job = COMMAND();

	(void)state;
	install_at_commit("RAISE WARNING 'might not have been replicated';");
	assert_fails(job, FAULT_WAIT, "");
	assert_false(session_connected(fx.session));
	run_sql("DROP TRIGGER at_commit ON campaigns");
	reconnect();
	execute_one(job);
	assert_true(job->result.success && job->result.draft_existed);
}

/* What a trigger of somebody's says before the COMMIT is no doubt about it. */
static void test_a_warning_before_the_commit(void **state)
{
	struct job *job = COMMAND();

	(void)state;
	run_sql("CREATE FUNCTION warn_early() RETURNS trigger LANGUAGE plpgsql AS "
		"'BEGIN RAISE WARNING ''might not have been replicated''; RETURN NEW; END'");
	run_sql("CREATE TRIGGER warn_early BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION warn_early()");
	assert_created(execute_one(job));
	assert_true(session_connected(fx.session));
	run_sql("DROP FUNCTION warn_early CASCADE");
}

static void test_stopping_the_wait(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct script script = { .stop = true };
	struct session *session = open_scripted_session(&script, 10000);
	struct job *job = COMMAND();
	struct fault fault;

	(void)state;
	run_on(holder, "BEGIN; SELECT 1 FROM api_key_account_groups FOR UPDATE");
	script.wait_event_type = "Lock";
	assert_int_equal(execute(session, &fx.fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), -1);
	assert_fault(&fault, FAULT_STOP, "");
	assert_false(session_connected(session));
	run_on(holder, "ROLLBACK");
	PQfinish(holder);
	session_free(session);
	/* The server notices that the client is gone while its statement waits, or it would run late. */
	for (int i = 0; i < 100 && ask("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
				       "AND application_name = 'store-test'")[0]; i++)
		clock_sleep_ms(50);
	claim_again();
}

static void test_probe_writes_nothing(void **state)
{
	struct job *job = COMMAND(.trace = "probe");
	const char *before = ask("SELECT sum(rate_tat_us), (SELECT sum(confirmed_offset) FROM partition_owner) FROM api_key_account_groups");
	struct fault fault;

	(void)state;
	fx.partition.start_offset = 999;
	install_at_commit("RAISE EXCEPTION 'no';"); /* a probe meets what a COMMIT would */
	assert_int_equal(execute(fx.session, &fx.fence, &job, 1, EXECUTION_ROLLBACK, fx.arena, &fault), -1);
	assert_fault(&fault, FAULT_REJECT, "P0001");
	run_sql("DROP TRIGGER at_commit ON campaigns");
	assert_int_equal(execute(fx.session, &fx.fence, &job, 1, EXECUTION_ROLLBACK, fx.arena, &fault), 0);
	assert_true(job->result.success);
	assert_not_written(job);
	assert_string_equal(ask("SELECT sum(rate_tat_us), (SELECT sum(confirmed_offset) FROM partition_owner) FROM api_key_account_groups"),
			    before);
	fx.partition.start_offset = 100;
}

/* Explaining a command needs no partition: a session that has claimed none, and a fence of no partitions. */
static void test_probe_without_a_partition(void **state)
{
	struct session *session = open_session("", NULL);
	struct fence none = { "", "", NULL, 0, false };
	struct job *good = COMMAND(), *bad = COMMAND(.campaign = "none"), *jobs[] = { good, bad };
	struct fault fault;

	(void)state;
	assert_int_equal(execute(session, &none, jobs, 2, EXECUTION_ROLLBACK, fx.arena, &fault), 0);
	assert_created(good);
	assert_not_written(good);
	assert_refused(bad, "campaign_not_found", NULL);
	assert_true(good->result.processed_at_ms > 0);
	session_free(session);
	assert_created(execute_one(good)); /* the owner's epoch still holds */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_poison_is_rejected_and_nothing_is_written),
		STORE_TEST(test_errors_of_other_peoples_triggers),
		STORE_TEST(test_what_is_said_of_an_error),
		STORE_TEST(test_missing_table_or_right),
		STORE_TEST(test_read_only_is_waited_for),
		STORE_TEST(test_lock_timeout_is_tried_again),
		STORE_TEST(test_deadlock_is_tried_again),
		STORE_TEST(test_lost_race_for_a_trace_is_tried_again),
		STORE_TEST(test_backend_killed_in_mid_commit),
		STORE_TEST(test_doubtful_commit_is_looked_at_again),
		STORE_TEST(test_a_warning_before_the_commit),
		STORE_TEST(test_stopping_the_wait),
		STORE_TEST(test_probe_writes_nothing),
		STORE_TEST(test_probe_without_a_partition),
	};

	return run_store_tests("execution_faults", tests, COUNT(tests));
}
