/* Sessions: lost, refused, silent servers; what the login may not do. */
#include "store_fixture.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

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

/* A statement in a transaction of its own fails if its COMMIT is in doubt, and leaves no rows to be freed. */
static void test_doubtful_statement_has_no_rows(void **state)
{
	struct pg_result *rows;
	struct fault fault;

	(void)state;
	run_sql("CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS "
		"'BEGIN RAISE WARNING ''might not have been replicated''; RETURN NULL; END'");
	run_sql("CREATE TRIGGER warn AFTER UPDATE ON partition_owner FOR EACH ROW EXECUTE FUNCTION warn()");
	ownership_add_fence(fx.session, &fx.fence);
	assert_int_equal(session_run_one(fx.session, "fence", &rows, &fault), -1);
	assert_fault(&fault, FAULT_WAIT, "");
	assert_null(rows);
	assert_false(session_connected(fx.session));
	run_sql("DROP FUNCTION warn CASCADE");
	reconnect();
}

/* What is checked only at the COMMIT, which a statement in a transaction of its own has without asking for it. */
static void test_refused_at_the_commit(void **state)
{
	struct fault fault;

	(void)state;
	run_sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
		"'BEGIN RAISE EXCEPTION ''refused'' USING ERRCODE = ''23514''; END'");
	run_sql("CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON partition_resumes DEFERRABLE INITIALLY DEFERRED "
		"FOR EACH ROW EXECUTE FUNCTION refuse()");
	assert_int_equal(ownership_order_resume(fx.session, "cluster", "commands", 0, 7, "ann@desk", &fault), -1);
	assert_fault(&fault, FAULT_WAIT, "23514");
	run_sql("DROP FUNCTION refuse CASCADE");
	assert_string_equal(ask("SELECT count(*) FROM partition_resumes"), "0");
	reconnect();
	run_sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
		"'BEGIN RAISE EXCEPTION ''refused'' USING ERRCODE = ''23514''; END'");
	run_sql("CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON partition_owner DEFERRABLE INITIALLY DEFERRED "
		"FOR EACH ROW EXECUTE FUNCTION refuse()");
	fx.partition.start_offset = 99;
	assert_int_equal(ownership_confirm(fx.session, &fx.fence, &fault), -1);
	assert_fault(&fault, FAULT_WAIT, "23514");
	run_sql("DROP FUNCTION refuse CASCADE");
	reconnect();
}

/* A statement that is there before it is prepared was prepared through a pooler that shares sessions. */
static void test_statement_of_somebody_else(void **state)
{
	static const struct statement *const twice[] = { ownership_statements, ownership_statements, NULL };
	struct session_settings settings = settings_of("group");
	struct waiter polling = { wait_with_poll, NULL };
	struct session *session;
	struct fault fault;

	(void)state;
	settings.statements = twice;
	session = session_new(&settings, &polling);
	assert_int_equal(session_connect(session, &fault), -1);
	assert_int_equal(fault.kind, FAULT_FATAL);
	assert_non_null(strstr(fault.msg, "pooler"));
	session_free(session);
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
		assert_in_range(clock_monotonic_ms() - start_ms, 400, 10000);
		session_free(session);
		/* It does not hide the host behind it. */
		settings.database = arena_printf(fx.arena, "host=127.0.0.1,%s port=%d,%s dbname=%s user=%s password=" PASSWORD,
						 PQhost(fx.admin), host.port, PQport(fx.admin), fx.database, fx.login);
		session = session_new(&settings, &impatient);
		start_ms = clock_monotonic_ms();
		if (session_connect(session, &fault) < 0)
			fail_msg("%s", fault.msg);
		assert_in_range(clock_monotonic_ms() - start_ms, 400, 10000);
		session_free(session);
		close_silent_host(&host);
	}
}

/* A proxy whose server is gone accepts, and hangs up. */
static pid_t start_proxy_of_nothing(const struct silent_host *host)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (int fd; (fd = accept(host->listener, NULL, NULL)) >= 0;)
			close(fd);
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void test_host_that_hangs_up(void **state)
{
	struct waiter impatient = { wait_impatiently, NULL };
	struct silent_host host = open_silent_host(false);
	struct session_settings settings = settings_of("group");
	pid_t pid = start_proxy_of_nothing(&host);
	struct session *session;
	struct fault fault;

	(void)state;
	settings.database = arena_printf(fx.arena, "host=127.0.0.1,%s port=%d,%s dbname=%s user=%s password=" PASSWORD,
					 PQhost(fx.admin), host.port, PQport(fx.admin), fx.database, fx.login);
	session = session_new(&settings, &impatient);
	if (session_connect(session, &fault) < 0)
		fail_msg("%s", fault.msg);
	session_free(session);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close_silent_host(&host);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_lost_connection),
		STORE_TEST(test_doubtful_statement_has_no_rows),
		STORE_TEST(test_refused_at_the_commit),
		STORE_TEST(test_statement_of_somebody_else),
		STORE_TEST(test_server_not_there),
		STORE_TEST(test_silent_hosts),
		STORE_TEST(test_host_that_hangs_up),
		STORE_TEST(test_least_privilege),
	};

	return run_store_tests("session", tests, COUNT(tests));
}
