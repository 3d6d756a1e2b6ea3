/* The store under faults: the fence, claims and orders to resume, every class of error, lost connections, races with other
 * sessions, migrations from several places at once. */
#include "store_fixture.h"
#include "worker/db/rights.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "worker/sql/sql.h"

static void assert_fault(const struct fault *fault, enum fault_kind kind, const char *sqlstate)
{
	if (fault->kind != kind || strcmp(fault->sqlstate, sqlstate) != 0)
		fail_msg("wanted %s %s, got %s %s: %s", fault_kind_name(kind), sqlstate, fault_kind_name(fault->kind), fault->sqlstate,
			 fault->msg);
}

static void assert_fails(struct job *job, enum fault_kind kind, const char *sqlstate)
{
	struct fault fault;

	assert_int_equal(try_execute(&job, 1, &fault), -1);
	assert_fault(&fault, kind, sqlstate);
	assert_null(job->result.data);
	assert_null(job->result.error_code);
	assert_int_equal(job->result.processed_at_ms, 0);
}

static void assert_not_written(const struct job *job)
{
	assert_string_equal(draft_of(job), "");
}

static void reconnect(void)
{
	struct fault fault;

	if (session_connect(fx.session, &fault) < 0)
		fail_msg("%s", fault.msg);
	claim_again();
}

/* ---- the fence ---- */

static void test_stale_epoch_writes_nothing(void **state)
{
	struct job *job = COMMAND(.trace = "stale");
	struct session *other = open_session("group", NULL);
	struct claim claim;

	(void)state;
	claim_partition(other, 0, &claim);
	assert_true(claim.epoch == fx.claim.epoch + 1);
	assert_fails(job, FAULT_FENCED, "CD001");
	assert_true(session_connected(fx.session));
	assert_not_written(job);
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE partition = 0"), "-1");
	session_free(other);
	claim_again();
	assert_created(execute_one(job));
}

static void test_every_partition_of_a_batch_is_fenced(void **state)
{
	struct claim claims[3] = { { .partition = 7 }, { .partition = 5 }, { .partition = 6 } };
	struct fence_partition partitions[3];
	struct fence fence = { "cluster", "commands", partitions, 3 };
	struct job *job = COMMAND(.trace = "several");
	struct fault fault;

	(void)state;
	assert_int_equal(ownership_claim(fx.session, "cluster", "commands", claims, 3, &fault), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_true(claims[i].epoch == 1 && claims[i].confirmed_offset == OFFSET_NONE && claims[i].resume_from == RESUME_NONE);
		assert_false(claims[i].refused);
		partitions[i] = (struct fence_partition){ 5 + (int)i, 1, 10 * (int)i };
	}
	assert_int_equal(execute(fx.session, &fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), 0);
	assert_string_equal(ask("SELECT string_agg(confirmed_offset::text, ' ' ORDER BY partition) FROM partition_owner "
				"WHERE partition BETWEEN 5 AND 7"), "0 10 20");
	partitions[2].epoch = 2;
	partitions[0].start_offset = 1000;
	job = COMMAND(.trace = "several-2");
	assert_int_equal(execute(fx.session, &fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "CD001");
	assert_not_written(job);
	partitions[2] = (struct fence_partition){ 8, 1, 0 }; /* never claimed */
	assert_int_equal(execute(fx.session, &fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "CD001");
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE partition = 5"), "0");
}

static void test_claims_say_what_they_found(void **state)
{
	struct session_settings settings = settings_of("group");
	struct waiter polling = { wait_with_poll, NULL };
	struct session *second;
	struct claim claim = { .partition = 0 };
	struct fault fault;

	(void)state;
	execute_one(COMMAND());
	settings.transactional_id = "group.instance.1";
	second = session_new(&settings, &polling);
	assert_int_equal(session_connect(second, &fault), 0);
	assert_int_equal(ownership_claim(second, "cluster", "commands", &claim, 1, &fault), 0);
	assert_int_equal(claim.confirmed_offset, 100);
	assert_string_equal(claim.previous_transactional_id, "group.instance.0");
	claim = (struct claim){ .partition = 0 };
	assert_int_equal(ownership_claim(second, "cluster", "other-topic", &claim, 1, &fault), 0);
	assert_true(claim.epoch == 1 && claim.previous_transactional_id[0] == '\0');
	session_free(second);
	claim_again();
}

static void test_another_consumer_group_is_refused(void **state)
{
	struct session *other = open_session("other-group", NULL);
	struct claim claims[2] = { { .partition = 0 }, { .partition = 40 } };
	struct fault fault;

	(void)state;
	assert_int_equal(ownership_claim(other, "cluster", "commands", claims, 2, &fault), 0);
	assert_true(claims[0].refused && !claims[1].refused);
	assert_string_equal(claims[0].other_group, "group");
	assert_created(execute_one(COMMAND())); /* our epoch still holds */
	session_free(other);
}

/* A claim waits for the batch in flight: it returns after the batch has ended, and the batch is not disturbed. */
static void test_claim_waits_for_the_batch(void **state)
{
	PGconn *batch = connect_to(fx.super);
	struct session *other = open_session("group", NULL);
	struct claim claim = { .partition = 0 };
	struct fault fault;
	char sql[256];

	(void)state;
	run_on(batch, "BEGIN");
	snprintf(sql, sizeof sql, "SELECT partition_fence('cluster', 'commands', 'group', '{0}', '{%lld}', '{100}')",
		 (long long)fx.claim.epoch);
	run_on(batch, sql);
	assert_int_equal(ownership_claim(other, "cluster", "commands", &claim, 1, &fault), -1);
	assert_fault(&fault, FAULT_RETRY, "55P03");
	assert_true(session_connected(other));
	run_on(batch, "COMMIT");
	assert_int_equal(ownership_claim(other, "cluster", "commands", &claim, 1, &fault), 0);
	assert_true(claim.epoch == fx.claim.epoch + 1);
	PQfinish(batch);
	session_free(other);
	claim_again();
}

/* A worker that was stopped while it was sending its batch: no time-out of the server's ends its transaction. */
static void test_claim_ends_a_stuck_pipeline(void **state)
{
	PGconn *stuck = connect_to(fx.worker);
	struct session *other = open_session("group", NULL);
	struct claim claim = { .partition = 0 };
	struct fault fault;
	char sql[256];

	(void)state;
	snprintf(sql, sizeof sql, "SELECT partition_fence('cluster', 'commands', 'group', '{0}', '{%lld}', '{100}')",
		 (long long)fx.claim.epoch);
	assert_true(PQenterPipelineMode(stuck) && PQsendQueryParams(stuck, "BEGIN", 0, NULL, NULL, NULL, NULL, 0) &&
		    PQsendQueryParams(stuck, sql, 0, NULL, NULL, NULL, NULL, 0) && PQsendFlushRequest(stuck) && PQflush(stuck) == 0);
	clock_sleep_ms(200);
	assert_int_equal(ownership_claim(other, "cluster", "commands", &claim, 1, &fault), -1);
	assert_int_equal(fault.kind, FAULT_RETRY);
	assert_int_equal(ownership_claim(other, "cluster", "commands", &claim, 1, &fault), 0);
	assert_true(claim.epoch == fx.claim.epoch + 1);
	PQfinish(stuck);
	session_free(other);
	claim_again();
}

static void test_confirming_outside_of_a_batch(void **state)
{
	struct session *other = open_session("group", NULL);
	struct claim claim;
	struct fault fault;

	(void)state;
	fx.partition.start_offset = 321;
	assert_int_equal(ownership_confirm(fx.session, &fx.fence, &fault), 0);
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE topic = 'commands' AND partition = 0"), "321");
	claim_partition(other, 0, &claim);
	fx.partition.start_offset = 322;
	assert_int_equal(ownership_confirm(fx.session, &fx.fence, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "CD001");
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE topic = 'commands' AND partition = 0"), "321");
	session_free(other);
	reconnect();
}

static void test_a_claim_in_flight_stops_the_batch(void **state)
{
	PGconn *claimant = connect_to(fx.super);
	struct job *job = COMMAND();

	(void)state;
	run_on(claimant, "BEGIN");
	run_on(claimant, "UPDATE partition_owner SET epoch = epoch + 1 WHERE topic = 'commands' AND partition = 0");
	assert_fails(job, FAULT_WAIT, "55P03"); /* at the fence a lock timeout is nobody's command */
	assert_false(session_connected(fx.session));
	run_on(claimant, "COMMIT");
	PQfinish(claimant);
	assert_not_written(job);
	reconnect();
}

static void test_orders_to_resume(void **state)
{
	struct session *other = open_session("other-group", NULL);
	int32_t partitions[] = { 0, 20, 21 };
	struct claim claim = { .partition = 20 }, taken;
	struct fault fault;

	(void)state;
	assert_int_equal(ownership_count_orders(fx.session, "cluster", "commands", partitions, 3, &fault), 0);
	assert_int_equal(ownership_order_resume(fx.session, "cluster", "commands", 20, RESUME_EARLIEST, "ann@desk", &fault), 0);
	assert_int_equal(ownership_count_orders(fx.session, "cluster", "commands", partitions, 3, &fault), 1);
	assert_int_equal(ownership_claim(fx.session, "cluster", "commands", &claim, 1, &fault), 0);
	assert_int_equal(claim.resume_from, RESUME_EARLIEST);
	assert_int_equal(ownership_resumed(fx.session, "cluster", "commands", &claim, 17, &fault), 0);
	assert_int_equal(ownership_count_orders(fx.session, "cluster", "commands", partitions, 3, &fault), 0);
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE partition = 20"), "17");
	/* It passes to whoever ordered, fences the owner at once, and is recorded. */
	assert_int_equal(ownership_order_resume(other, "cluster", "commands", 20, 4711, "bob", &fault), 0);
	assert_int_equal(ownership_resumed(fx.session, "cluster", "commands", &claim, 18, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "");
	assert_int_equal(ownership_claim(fx.session, "cluster", "commands", &claim, 1, &fault), 0);
	assert_true(claim.refused);
	claim_partition(other, 20, &taken);
	assert_int_equal(taken.resume_from, 4711);
	assert_string_equal(ask("SELECT string_agg(concat_ws(' ', group_id, previous_group_id, previous_confirmed_offset, resume_from, "
				"ordered_by), '; ' ORDER BY id) FROM partition_resumes WHERE partition = 20"),
			    "group -2 ann@desk; other-group group 17 4711 bob");
	session_free(other);
}

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

/* ---- the system's errors ---- */

static void test_missing_table_or_right_is_waited_for(void **state)
{
	struct job *job = COMMAND();
	struct fault fault;

	(void)state;
	run_sql("ALTER TABLE audiences RENAME TO audiences_away");
	assert_fails(job, FAULT_WAIT, "42P01");
	assert_false(session_connected(fx.session));
	assert_int_equal(session_connect(fx.session, &fault), -1);
	assert_fault(&fault, FAULT_WAIT, "42P01");
	run_sql("ALTER TABLE audiences_away RENAME TO audiences");
	reconnect();
	run_sql("REVOKE SELECT (state) ON campaign_leads FROM campaign_worker");
	assert_fails(job, FAULT_WAIT, "42501");
	run_sql("GRANT SELECT (state) ON campaign_leads TO campaign_worker");
	reconnect();
	run_sql("REVOKE UPDATE ON partition_owner FROM campaign_worker");
	run_sql("REVOKE UPDATE (confirmed_offset) ON partition_owner FROM campaign_worker");
	assert_fails(job, FAULT_WAIT, "42501");
	run_sql("GRANT UPDATE (confirmed_offset) ON partition_owner TO campaign_worker");
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

/* What happens while the store waits, once pg_stat_activity shows that its backend waits for wait_event_type. */
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
	    ask("SELECT 1 FROM pg_stat_activity WHERE application_name = 'store-test' AND state = 'active' AND wait_event_type = '%s'",
		script->wait_event_type)[0] != '\0') {
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
							"WHERE wait_event = 'PgSleep' AND application_name = 'store-test'" };
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
	for (int i = 0; i < 100 && ask("SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND application_name = 'store-test'")[0]; i++)
		clock_sleep_ms(50);
	claim_again();
}

static void test_lost_connection(void **state)
{
	struct job *job = COMMAND();
	struct fault fault;

	(void)state;
	run_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'", fx.login);
	clock_sleep_ms(200);
	assert_int_equal(try_execute(&job, 1, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
	assert_false(session_connected(fx.session));
	assert_int_equal(try_execute(&job, 1, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
	reconnect();
	assert_not_written(job);
}

static void test_server_not_there(void **state)
{
	struct session_settings settings = settings_of("group");
	struct waiter polling = { wait_with_poll, NULL };
	struct session *session;
	struct fault fault;

	(void)state;
	settings.database = "host=127.0.0.1 port=1 dbname=x password=hunter2";
	session = session_new(&settings, &polling);
	assert_int_equal(session_connect(session, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
	assert_null(strstr(fault.msg, "hunter2"));
	session_free(session);
	settings.database = "host=127.0.0.1 port=1 password= 'hunter2";
	session = session_new(&settings, &polling);
	assert_int_equal(session_connect(session, &fault), -1);
	assert_int_equal(fault.kind, FAULT_FATAL);
	assert_null(strstr(fault.msg, "hunter2"));
	session_free(session);
}

/* A host that never speaks: it accepts, or, with its queue full, does not even answer a SYN. */
struct silent_host {
	int listener, fillers[8], port;
};

static struct silent_host open_silent_host(bool full)
{
	struct silent_host host = { .listener = socket(AF_INET, SOCK_STREAM, 0) };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof address;

	assert_int_equal(bind(host.listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(host.listener, full ? 0 : 8), 0);
	assert_int_equal(getsockname(host.listener, (struct sockaddr *)&address, &size), 0);
	host.port = ntohs(address.sin_port);
	for (size_t i = 0; i < COUNT(host.fillers); i++) {
		host.fillers[i] = full ? socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0) : -1;
		if (full)
			(void)connect(host.fillers[i], (struct sockaddr *)&address, size);
	}
	return host;
}

static void close_silent_host(struct silent_host *host)
{
	close(host->listener);
	for (size_t i = 0; i < COUNT(host->fillers); i++)
		if (host->fillers[i] >= 0)
			close(host->fillers[i]);
}

/* Returns long before the socket is ready, as a lane does that has to look after its consumer. */
static int wait_impatiently(void *arg, int fd, short events, int timeout_ms)
{
	return wait_with_poll(arg, fd, events, timeout_ms < 10 ? timeout_ms : 10);
}

static void test_silent_hosts(void **state)
{
	struct waiter impatient = { wait_impatiently, NULL };

	(void)state;
	for (int full = 0; full < 2; full++) {
		struct silent_host host = open_silent_host(full);
		struct session_settings settings = settings_of("group");
		int64_t start_ms = clock_monotonic_ms();
		struct session *session;
		struct fault fault;

		settings.connect_timeout_ms = 500;
		settings.database = arena_printf(fx.arena, "host=127.0.0.1 port=%d dbname=x", host.port);
		session = session_new(&settings, &impatient);
		assert_int_equal(session_connect(session, &fault), -1);
		assert_fault(&fault, FAULT_WAIT, "");
		assert_in_range(clock_monotonic_ms() - start_ms, 400, 1500);
		session_free(session);
		/* It does not hide the host behind it. */
		settings.database = arena_printf(fx.arena, "host=127.0.0.1,%s port=%d,%s dbname=%s user=%s password=" PASSWORD,
						 PQhost(fx.admin), host.port, PQport(fx.admin), fx.database, fx.login);
		session = session_new(&settings, &impatient);
		start_ms = clock_monotonic_ms();
		if (session_connect(session, &fault) < 0)
			fail_msg("%s", fault.msg);
		assert_in_range(clock_monotonic_ms() - start_ms, 400, 2500);
		session_free(session);
		close_silent_host(&host);
	}
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

/* ---- what the login may not do ---- */

static void test_least_privilege(void **state)
{
	static const char *const forbidden[] = {
		"DELETE FROM campaigns", "UPDATE campaigns SET name = 'x'", "SELECT selected_leads FROM campaigns", "SELECT * FROM leads",
		"DELETE FROM partition_owner", "UPDATE api_keys SET revoked_at = NULL", "INSERT INTO api_keys DEFAULT VALUES",
		"UPDATE api_key_account_groups SET rate_burst = 9", "DELETE FROM api_key_account_groups", "SELECT * FROM partition_resumes",
		"INSERT INTO audience_leads VALUES ('a', 'b', 'c')", "TRUNCATE campaigns", "DROP TABLE campaigns", "SELECT name FROM api_keys",
		"CREATE TABLE mine (x int)", "INSERT INTO schema_migrations VALUES (9, 'x')", "SELECT * FROM account_groups",
	};
	PGconn *conn = connect_to(fx.worker);

	(void)state;
	for (size_t i = 0; i < COUNT(forbidden); i++) {
		PGresult *result = PQexec(conn, forbidden[i]);
		const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		if (sqlstate == NULL || strcmp(sqlstate, "42501") != 0)
			fail_msg("%s: %s", forbidden[i], sqlstate ? sqlstate : "allowed");
		PQclear(result);
	}
	PQfinish(conn);
}

/* ---- check ---- */

struct found {
	int lines, wrong;
	char text[4096];
};

static void find(void *arg, bool wrong, const char *line)
{
	struct found *found = arg;

	found->lines++;
	found->wrong += wrong;
	strncat(found->text, line, sizeof found->text - strlen(found->text) - 2);
	strcat(found->text, "\n");
}

static struct found check_store(const char *database)
{
	struct session_settings settings = settings_of("group");
	struct found found = { 0 };
	struct findings findings = { find, &found, 0 };
	struct fault fault;

	settings.database = database;
	if (rights_report(&settings, &findings, &fault) < 0)
		fail_msg("%s", fault.msg);
	return found;
}

static void test_check_says_what_is_there(void **state)
{
	struct found found = check_store(fx.worker);

	(void)state;
	if (found.wrong > 0)
		fail_msg("%s", found.text);
	assert_non_null(strstr(found.text, "primary, UTF8"));
	assert_non_null(strstr(found.text, "has the rights"));
	run_sql("REVOKE UPDATE (rate_tat_us) ON api_key_account_groups FROM campaign_worker");
	found = check_store(fx.worker);
	assert_int_equal(found.wrong, 1);
	assert_non_null(strstr(found.text, "lacks UPDATE on api_key_account_groups (column rate_tat_us)"));
	run_sql("GRANT UPDATE (rate_tat_us) ON api_key_account_groups TO campaign_worker");
	run_sql("ALTER ROLE %s SET synchronous_commit = off", fx.login);
	found = check_store(fx.worker);
	assert_non_null(strstr(found.text, "synchronous_commit is off"));
	run_sql("ALTER ROLE %s RESET synchronous_commit", fx.login);
}

/* Until the server has read its settings again. */
static void set_synchronous_standbys(const char *names)
{
	run_sql("ALTER SYSTEM SET synchronous_standby_names = '%s'", names);
	run_sql("SELECT pg_reload_conf()");
	for (int i = 0; i < 100 && strcmp(ask("SHOW synchronous_standby_names"), names) != 0; i++)
		clock_sleep_ms(20);
}

static void test_local_commits_where_there_are_synchronous_standbys(void **state)
{
	struct found alone, with_standby;
	struct fault fault;

	(void)state;
	run_sql("ALTER ROLE %s SET synchronous_commit = local", fx.login);
	alone = check_store(fx.worker);
	run_sql("SET synchronous_commit = local");
	set_synchronous_standbys("standby");
	with_standby = check_store(fx.worker);
	assert_int_equal(session_connect(fx.session, &fault), -1);
	run_sql("ALTER SYSTEM RESET synchronous_standby_names");
	set_synchronous_standbys("");
	run_sql("RESET synchronous_commit");
	run_sql("ALTER ROLE %s RESET synchronous_commit", fx.login);
	assert_int_equal(alone.wrong, 0);
	assert_int_equal(with_standby.wrong, 1);
	assert_non_null(strstr(with_standby.text, "synchronous_commit is local"));
	assert_fault(&fault, FAULT_FATAL, "");
	reconnect();
}

/* Every right that campaign_worker has been granted, as "SELECT (id) ON campaigns", one by one. */
static void test_check_misses_no_right(void **state)
{
	PGresult *granted = PQexec(fx.admin,
		"SELECT format('%s (%I) ON %I', p.privilege_type, a.attname, c.relname) FROM pg_class c, pg_attribute a, "
		"aclexplode(a.attacl) p WHERE c.relnamespace = 'public'::regnamespace AND a.attrelid = c.oid "
		"AND p.grantee = 'campaign_worker'::regrole "
		"UNION ALL SELECT format('%s ON %I', p.privilege_type, c.relname) FROM pg_class c, aclexplode(c.relacl) p "
		"WHERE c.relnamespace = 'public'::regnamespace AND p.grantee = 'campaign_worker'::regrole "
		"AND c.relname <> 'schema_migrations' "
		"UNION ALL SELECT format('%s ON FUNCTION %s', p.privilege_type, f.oid::regprocedure) FROM pg_proc f, "
		"aclexplode(f.proacl) p WHERE f.pronamespace = 'public'::regnamespace AND p.grantee = 'campaign_worker'::regrole");

	(void)state;
	assert_true(PQntuples(granted) > 60);
	for (int i = 0; i < PQntuples(granted); i++) {
		const char *right = PQgetvalue(granted, i, 0);
		struct found found;

		run_sql("REVOKE %s FROM campaign_worker", right);
		found = check_store(fx.worker);
		run_sql("GRANT %s TO campaign_worker", right);
		if (found.wrong != 1)
			fail_msg("%s: %s", right, found.text);
	}
	PQclear(granted);
}

/* ---- migrations ---- */

static void test_migrations_decide_whether_the_worker_starts(void **state)
{
	struct fault fault;

	(void)state;
	run_sql("INSERT INTO schema_migrations (version, name) VALUES (999, '999-of-a-newer-program')");
	reconnect();
	run_sql("DELETE FROM schema_migrations WHERE version = 999");
	run_sql("UPDATE schema_migrations SET version = 1000 WHERE version = 1");
	assert_int_equal(session_connect(fx.session, &fault), -1);
	assert_fault(&fault, FAULT_FATAL, "");
	assert_non_null(strstr(fault.msg, "001-"));
	assert_int_equal(check_store(fx.worker).wrong, 1);
	run_sql("UPDATE schema_migrations SET version = 1 WHERE version = 1000");
	reconnect();
}

static void print_line(void *arg, const char *line)
{
	fprintf(arg, "%s\n", line);
}

/* A process that migrates and writes what was said, or the fault, to a file. */
static pid_t spawn_migrator(const char *conninfo, FILE *out)
{
	pid_t pid = fork();
	struct fault fault;
	int done;

	if (pid != 0)
		return pid;
	done = migrate_run(conninfo, print_line, out, &fault);
	if (done < 0)
		fprintf(out, "fault: %s\n", fault.msg);
	fflush(out);
	_exit(done < 0);
}

static void test_migrations_race(void **state)
{
	char names[2][64], line[512];
	FILE *out = tmpfile();
	int applied = 0, applied_last = 0, nothing = 0;

	(void)state;
	for (int d = 0; d < 2; d++) {
		snprintf(names[d], sizeof names[d], "store_test_%d_%d", (int)getpid(), d);
		create_database(names[d]);
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 8; i++) {
			char *conninfo = conninfo_with(names[i % 2], NULL);

			assert_true(spawn_migrator(conninfo, out) > 0);
			free(conninfo);
		}
		for (int i = 0; i < 8; i++) {
			int status;

			assert_true(wait(&status) > 0);
			assert_int_equal(status, 0);
		}
	}
	rewind(out);
	while (fgets(line, sizeof line, out)) {
		applied += strcmp(line, "applied 001-campaign-store\n") == 0;
		applied_last += strcmp(line, "applied 003-campaign-compression\n") == 0;
		nothing += strcmp(line, "nothing to do: at 003-campaign-compression\n") == 0;
	}
	fclose(out);
	assert_int_equal(applied, 2);
	assert_int_equal(applied_last, 2);
	assert_in_range(nothing, 10, 14); /* a database's three may be applied by three */
	drop_database(names[0]);
	drop_database(names[1]);
}

static void count_line(void *arg, const char *line)
{
	(void)line;
	++*(int *)arg;
}

/* The roles exist: a login that is a member of campaign_owner and owns the database is enough. */
static void test_migrator_without_createrole(void **state)
{
	char name[64], login[64], *conninfo;
	struct fault fault;
	int lines = 0;

	(void)state;
	snprintf(name, sizeof name, "store_test_%d_own", (int)getpid());
	snprintf(login, sizeof login, "store_test_owner_%d", (int)getpid());
	run_sql("DROP ROLE IF EXISTS %s", login);
	run_sql("CREATE ROLE %s LOGIN PASSWORD '" PASSWORD "' IN ROLE campaign_owner", login);
	create_database(name);
	run_sql("ALTER DATABASE %s OWNER TO %s", name, login);
	conninfo = conninfo_with(name, login);
	if (migrate_run(conninfo, count_line, &lines, &fault) < 0)
		fail_msg("%s", fault.msg);
	assert_int_equal(lines, (int)migration_count);
	free(conninfo);
	drop_database(name);
	/* And a stranger is told what is missing. */
	run_sql("REVOKE campaign_owner FROM %s", login);
	create_database(name);
	conninfo = conninfo_with(name, login);
	assert_int_equal(migrate_run(conninfo, count_line, &lines, &fault), -1);
	assert_fault(&fault, FAULT_FATAL, "42501");
	assert_non_null(strstr(fault.msg, arena_printf(fx.arena, "GRANT campaign_owner TO %s", login)));
	free(conninfo);
	drop_database(name);
	run_sql("DROP ROLE %s", login);
}

/* ---- other sessions at the same time ---- */

#define RACERS 3
#define RACE_BATCHES 12
#define RACE_BATCH 40

struct racer {
	int number;
	const char *key;
	struct arena *arena;
	struct job *jobs;
	size_t created, existed, reused, retries;
	char failure[600];
};

static void fill_race(struct racer *racer, int batch, struct job **order)
{
	for (int i = 0; i < RACE_BATCH; i++) {
		struct job *job = &racer->jobs[batch * RACE_BATCH + i];
		struct duplicate_command *command = arena_alloc(racer->arena, sizeof *command);
		const char *details;

		*command = (struct duplicate_command){
			.head.trace_id = arena_printf(racer->arena, "race-%d-%d", batch, i),
			.head.account_group_id = AG,
			.campaign_id = PLAIN,
			.audience_id = "aud_empty",
			.head.has_key = true,
		};
		digest_key(racer->key, command->head.key_digest);
		if (command_check(&duplicate_contract, &command->head, racer->arena, &details) < 0)
			abort();
		job->command = &command->head;
		job->record.timestamp_ms = -1;
		job->executable = true;
		order[(i + racer->number * 13) % RACE_BATCH] = job; /* each in another order */
	}
}

static void *race(void *arg)
{
	struct racer *racer = arg;
	struct session *session = open_session("group", NULL);
	struct claim claim;
	struct fence_partition partition;
	struct fence fence = { "cluster", "commands", &partition, 1 };
	struct fault fault;

	claim_partition(session, 100 + racer->number, &claim);
	partition = (struct fence_partition){ claim.partition, claim.epoch, 0 };
	for (int batch = 0; batch < RACE_BATCHES; batch++) {
		struct job *order[RACE_BATCH];

		fill_race(racer, batch, order);
		while (execute(session, &fence, order, RACE_BATCH, EXECUTION_COMMIT, racer->arena, &fault) < 0) {
			if (fault.kind != FAULT_RETRY || racer->retries++ > 200) {
				snprintf(racer->failure, sizeof racer->failure, "%s %s", fault_kind_name(fault.kind), fault.msg);
				session_free(session);
				return NULL;
			}
			clock_sleep_ms(rand() % 20);
		}
		for (int i = 0; i < RACE_BATCH; i++) {
			racer->created += order[i]->result.success && !order[i]->result.draft_existed;
			racer->existed += order[i]->result.success && order[i]->result.draft_existed;
			racer->reused += was_refused(order[i], "trace_reused");
		}
	}
	session_free(session);
	return NULL;
}

/* Three workers get the same traces, two of them as the same commands, the third with another key. */
static void test_workers_race_for_the_same_traces(void **state)
{
	static const char *const keys[RACERS] = { "demo-key-full", "demo-key-full", "demo-key-other" };
	struct racer racers[RACERS];
	pthread_t threads[RACERS];
	size_t created = 0, total = RACE_BATCHES * RACE_BATCH;

	(void)state;
	for (int i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){ .number = i, .key = keys[i], .arena = arena_new(1 << 20) };
		racers[i].jobs = calloc(total, sizeof *racers[i].jobs);
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (int i = 0; i < RACERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < RACERS; i++) {
		assert_string_equal(racers[i].failure, "");
		assert_int_equal(racers[i].created + racers[i].existed + racers[i].reused, total);
		created += racers[i].created;
		for (size_t j = 0; j < total; j++)
			assert_agrees(&racers[i].jobs[j]);
	}
	assert_int_equal(created, total);
	assert_int_equal(racers[0].existed + racers[1].existed + racers[0].created + racers[1].created + racers[2].created +
			 racers[2].existed, 2 * racers[0].created + 2 * racers[1].created + racers[2].created);
	assert_string_equal(ask("SELECT count(*) || ' ' || count(DISTINCT trace_id) FROM campaigns WHERE trace_id LIKE 'race-%%'"),
			    arena_printf(fx.arena, "%zu %zu", total, total));
	for (int i = 0; i < RACERS; i++) {
		free(racers[i].jobs);
		arena_free(racers[i].arena);
	}
}

/* Facts that another session flips while batches run: when each was surely or possibly true. */
#define FLIPS_MAX 20000
#define FACTS 3

static const struct fact {
	const char *set, *clear;
	const char *reason; /* the refusal while it is set */
} facts[FACTS] = {
	{ "UPDATE api_keys SET revoked_at = now() WHERE public_id = 'key_other'",
	  "UPDATE api_keys SET revoked_at = NULL WHERE public_id = 'key_other'", "key_revoked" },
	{ "UPDATE audiences SET ready = false WHERE id = 'aud_second'", "UPDATE audiences SET ready = true WHERE id = 'aud_second'",
	  "audience_populating" },
	{ "UPDATE campaign_leads SET state = 'enrolled' WHERE campaign_id = '" RUNNING "' AND lead_id = 'lead_12'",
	  "UPDATE campaign_leads SET state = 'removed' WHERE campaign_id = '" RUNNING "' AND lead_id = 'lead_12'", "lead_active" },
};

struct flips {
	volatile bool stop;
	size_t count;
	struct flip {
		int fact;
		bool set;
		int64_t begin_us, end_us; /* the change became visible between these */
	} all[FLIPS_MAX];
};

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void *flip_facts(void *arg)
{
	struct flips *flips = arg;
	PGconn *conn = PQconnectdb(fx.super);
	bool set[FACTS] = { false };
	unsigned seed = 11;

	while (!flips->stop && flips->count < FLIPS_MAX) {
		struct flip *flip = &flips->all[flips->count++];

		flip->fact = rand_r(&seed) % FACTS;
		flip->set = set[flip->fact] = !set[flip->fact];
		flip->begin_us = now_us();
		PQclear(PQexec(conn, flip->set ? facts[flip->fact].set : facts[flip->fact].clear));
		flip->end_us = now_us();
		clock_sleep_ms(rand_r(&seed) % 4);
	}
	for (int i = 0; i < FACTS; i++)
		PQclear(PQexec(conn, facts[i].clear));
	PQfinish(conn);
	return NULL;
}

/* Whether the fact can have been as said at some moment between from and to. */
static bool may_have_been(const struct flips *flips, int fact, bool set, int64_t from_us, int64_t to_us)
{
	bool current = false;
	int64_t since_us = 0; /* since when, at the earliest */

	for (size_t i = 0; i < flips->count; i++) {
		const struct flip *flip = &flips->all[i];

		if (flip->fact != fact)
			continue;
		if (current == set && since_us <= to_us && flip->end_us >= from_us)
			return true;
		current = flip->set;
		since_us = flip->begin_us;
	}
	return current == set && since_us <= to_us;
}

struct flip_batch {
	struct job *jobs[10];
	int64_t from_us, to_us;
};

static void check_flip_batch(const struct flips *flips, const struct flip_batch *batch, size_t verdicts[FACTS + 1])
{
	const struct reason *first = batch->jobs[0]->reason;

	for (size_t i = 0; i < COUNT(batch->jobs); i++) {
		const struct job *job = batch->jobs[i];
		int fact = 0;

		assert_agrees(job);
		assert_ptr_equal(job->reason, first); /* one snapshot: the same commands get the same verdict */
		while (fact < FACTS && !was_refused(job, facts[fact].reason))
			fact++;
		verdicts[fact]++;
		if (fact == FACTS)
			assert_true(job->result.success);
		/* The rules before were passed, so their facts were clear; the one that refused was set. */
		for (int f = 0; f < fact; f++)
			assert_true(may_have_been(flips, f, false, batch->from_us, batch->to_us));
		if (fact < FACTS)
			assert_true(may_have_been(flips, fact, true, batch->from_us, batch->to_us));
	}
}

static void test_facts_flip_while_batches_run(void **state)
{
	struct flips *flips = calloc(1, sizeof *flips);
	struct flip_batch *batches = calloc(300, sizeof *batches);
	size_t verdicts[FACTS + 1] = { 0 };
	pthread_t thread;

	(void)state;
	run_sql("INSERT INTO campaign_leads VALUES ('" AG "', '" RUNNING "', 'lead_12', 'removed') ON CONFLICT DO NOTHING");
	assert_int_equal(pthread_create(&thread, NULL, flip_facts, flips), 0);
	for (size_t b = 0; b < 300; b++) {
		struct flip_batch *batch = &batches[b];
		struct fault fault;

		for (size_t i = 0; i < COUNT(batch->jobs); i++)
			batch->jobs[i] = COMMAND(.key = "demo-key-other", .audience = "aud_second");
		batch->from_us = now_us();
		if (try_execute(batch->jobs, COUNT(batch->jobs), &fault) < 0)
			fail_msg("%s", fault.msg);
		batch->to_us = now_us();
	}
	flips->stop = true;
	pthread_join(thread, NULL);
	for (size_t b = 0; b < 300; b++)
		check_flip_batch(flips, &batches[b], verdicts);
	for (int i = 0; i <= FACTS; i++) /* each happened, or the test shows nothing */
		assert_true(verdicts[i] > 0);
	free(batches);
	free(flips);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_stale_epoch_writes_nothing),
		STORE_TEST(test_every_partition_of_a_batch_is_fenced),
		STORE_TEST(test_claims_say_what_they_found),
		STORE_TEST(test_another_consumer_group_is_refused),
		STORE_TEST(test_claim_waits_for_the_batch),
		STORE_TEST(test_claim_ends_a_stuck_pipeline),
		STORE_TEST(test_confirming_outside_of_a_batch),
		STORE_TEST(test_a_claim_in_flight_stops_the_batch),
		STORE_TEST(test_orders_to_resume),
		STORE_TEST(test_poison_is_rejected_and_nothing_is_written),
		STORE_TEST(test_errors_of_other_peoples_triggers),
		STORE_TEST(test_missing_table_or_right_is_waited_for),
		STORE_TEST(test_read_only_is_waited_for),
		STORE_TEST(test_lock_timeout_is_tried_again),
		STORE_TEST(test_deadlock_is_tried_again),
		STORE_TEST(test_lost_race_for_a_trace_is_tried_again),
		STORE_TEST(test_backend_killed_in_mid_commit),
		STORE_TEST(test_doubtful_commit_is_looked_at_again),
		STORE_TEST(test_stopping_the_wait),
		STORE_TEST(test_lost_connection),
		STORE_TEST(test_server_not_there),
		STORE_TEST(test_silent_hosts),
		STORE_TEST(test_probe_writes_nothing),
		STORE_TEST(test_least_privilege),
		STORE_TEST(test_check_says_what_is_there),
		STORE_TEST(test_local_commits_where_there_are_synchronous_standbys),
		STORE_TEST(test_check_misses_no_right),
		STORE_TEST(test_migrations_decide_whether_the_worker_starts),
		STORE_TEST(test_migrations_race),
		STORE_TEST(test_migrator_without_createrole),
		STORE_TEST(test_workers_race_for_the_same_traces),
		STORE_TEST(test_facts_flip_while_batches_run),
	};

	return run_store_tests("store_faults", tests, COUNT(tests));
}
