/* Whom a batch waits for: what worker/sql/blockers.sql says of the session that holds the row. */
#include "store_fixture.h"

#include "worker/db/blockers.h"

static int wait_for(void *arg, int fd, short events, int timeout_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = events };

	(void)arg;
	poll(&pollfd, 1, timeout_ms);
	return 0;
}

static const struct waiter waiter = { wait_for, NULL };

#define GRANT "SELECT 1 FROM api_key_account_groups WHERE account_group_id = '" AG "' FOR UPDATE"

/* What is said while a batch waits; the holder then gives way. */
static bool find(PGconn *holder, const char *end, struct blocker *blocker)
{
	struct execution *execution = execution_new(fx.session, &fixture_execution);
	struct blockers *blockers = blockers_new(fx.super, &waiter);
	struct job *job = COMMAND();
	struct fault fault;
	bool found;

	*blocker = (struct blocker){ "?", "?", "?", "?", "?" };
	execution_send(execution, &fx.fence, &job, 1, EXECUTION_COMMIT, fx.arena);
	found = blockers_find(blockers, fx.session, blocker);
	run_on(holder, end);
	if (execution_receive(execution, &job, 1, fx.arena, &fault) < 0)
		fail_msg("%s", fault.msg);
	assert_created(job);
	blockers_free(blockers);
	execution_free(execution);
	return found;
}

static void test_another_session(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct blocker blocker;
	char pid[16];

	(void)state;
	snprintf(pid, sizeof pid, "%d", PQbackendPID(holder));
	run_on(holder, "SET application_name = 'night job'; BEGIN; " GRANT);
	assert_true(find(holder, "ROLLBACK", &blocker));
	assert_string_equal(blocker.table, "api_key_account_groups");
	assert_string_equal(blocker.pid, pid);
	assert_string_equal(blocker.application, "night job");
	assert_string_equal(blocker.user, PQuser(holder));
	assert_int_equal(strlen(blocker.since), strlen("2026-01-01T00:00:00+00"));
	PQfinish(holder);
}

/* It has no session: only the database's administrator can end it. */
static void test_a_prepared_transaction(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct blocker blocker;

	(void)state;
	run_on(holder, "BEGIN; " GRANT "; PREPARE TRANSACTION 'held'");
	assert_true(find(holder, "ROLLBACK PREPARED 'held'", &blocker));
	assert_string_equal(blocker.table, "api_key_account_groups");
	assert_string_equal(blocker.pid, "0");
	assert_string_equal(blocker.application, "a prepared transaction");
	assert_string_equal(blocker.user, "");
	assert_string_equal(blocker.since, "");
	PQfinish(holder);
}

static void test_nobody(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct blocker blocker;

	(void)state;
	assert_false(find(holder, "SELECT 1", &blocker));
	PQfinish(holder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_another_session),
		STORE_TEST(test_a_prepared_transaction),
		STORE_TEST(test_nobody),
	};

	return run_store_tests("blockers", tests, COUNT(tests));
}
