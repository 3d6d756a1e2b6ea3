/* Whose fault a failure is: the executor on a real PostgreSQL answers nothing where nobody knows. */
#include "executor_fixture.h"

/* The third failure in a row for one cause opens it. The command behind is probed first, and what is answered then is right. */
static void test_probes_begin_behind_the_last_failure(void **state)
{
	struct job *jobs[BATCH];
	struct fault fault;

	(void)state;
	guard("IF NOT (SELECT is_called FROM firsts) THEN PERFORM setval('firsts', NEW.name::int); END IF; "
	      "IF NEW.name::int BETWEEN 11 AND 13 THEN " REFUSE " END IF;");
	fill(jobs, BATCH);
	assert_int_equal(run(jobs, BATCH, &fault), -1);
	assert_fault(&fault, FAULT_WAIT, "P0001");
	assert_true(executor.breaker.open && executor_is_breakers(&executor, &fault));
	assert_int_equal(statistics_count(&statistics, COUNT_BREAKER_OPENED), 1);
	assert_int_equal(executor.breaker.probe, 13); /* counted from 0 */
	assert_unanswered(jobs[12]);
	assert_false(session_connected(fx.session));

	reconnect();
	forget_results(jobs, BATCH);
	run_sql("SELECT setval('firsts', 1, false)");
	run_whole(jobs, BATCH);
	assert_int_equal(number("firsts"), 14);
	assert_false(executor.breaker.open);
	for (size_t i = 0; i < BATCH; i++)
		if (i >= 10 && i < 13)
			assert_refused(jobs[i], "database_error", NULL);
		else
			assert_agrees(jobs[i]);
}

/* Each try begins with another one. */
static void test_failed_probes_go_on_behind(void **state)
{
	struct job *jobs[4];
	struct fault fault;

	(void)state;
	guard("IF NOT (SELECT is_called FROM firsts) THEN PERFORM setval('firsts', NEW.name::int); END IF; " REFUSE);
	fill(jobs, COUNT(jobs));
	for (int i = 0; i < 6; i++) {
		forget_results(jobs, COUNT(jobs));
		run_sql("SELECT setval('firsts', 1, false)");
		assert_int_equal(run(jobs, COUNT(jobs), &fault), -1);
		assert_true(executor_is_breakers(&executor, &fault));
		assert_int_equal(number("firsts"), 1 + i % 4);
		for (size_t k = 0; k < COUNT(jobs); k++)
			assert_unanswered(jobs[k]);
		reconnect();
	}
	assert_int_equal(statistics_count(&statistics, COUNT_BREAKER_OPENED), 1);
}

/* ---- what shows that the database takes commands ---- */

static void fail_twice_before(void)
{
	assert_false(breaker_failed(&executor.breaker, "P0001") || breaker_failed(&executor.breaker, "P0001"));
}

static void test_only_a_written_draft_ends_a_row_of_failures(void **state)
{
	struct job *refused = COMMAND(.campaign = "none"), *again = execute_one(COMMAND()), *jobs[] = { COMMAND(.campaign = "none"), COMMAND() };

	(void)state;
	fail_twice_before();
	run_whole(&refused, 1);
	assert_int_equal(executor.breaker.run, 2);
	forget_results(&again, 1);
	run_whole(&again, 1);
	assert_true(again->result.draft_existed);
	assert_int_equal(executor.breaker.run, 2);
	run_whole(jobs, 2);
	assert_int_equal(executor.breaker.run, 0);
}

/* Eight at most, spread over what is behind it, before one is blamed. */
static void test_others_are_looked_at_over_the_whole_batch(void **state)
{
	struct job *jobs[BATCH];
	struct fault fault;

	(void)state;
	guard("PERFORM nextval('tries'); IF NEW.name <> '20' THEN " REFUSE " END IF;");
	fill(jobs, BATCH);
	assert_int_equal(run(jobs, BATCH, &fault), -1);
	assert_true(executor_is_breakers(&executor, &fault));
	assert_refused(jobs[0], "database_error", NULL); /* beside the 20th */
	assert_unanswered(jobs[1]); /* its sample ends with the 18th */
	assert_int_equal(executor.breaker.probe, 2);
	assert_int_equal(number("tries"), 1 + 1 + (1 + 7 + 1) + (1 + 6)); /* whole, in part, and each with its sample */
}

/* A connection that ends is nobody's fault, and no probe's outcome. */
static void test_a_connection_that_ends_while_probing(void **state)
{
	struct job *jobs[2];
	struct fault fault;

	(void)state;
	guard("PERFORM pg_terminate_backend(pg_backend_pid());");
	fill(jobs, 2);
	breaker_trip(&executor.breaker, "P0001");
	assert_int_equal(run(jobs, 2, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
	assert_false(executor_is_breakers(&executor, &fault));
	assert_int_equal(executor.breaker.probe, 0);
}

/* Nothing shows whose fault it is: the lane waits, on a connection that is made anew. */
static void test_alone_it_waits_for_another(void **state)
{
	struct job *job = COMMAND();
	struct fault fault;

	(void)state;
	guard(REFUSE);
	assert_int_equal(run(&job, 1, &fault), -1);
	assert_fault(&fault, FAULT_WAIT, "P0001");
	assert_non_null(strstr(fault.msg, "at most 20 s more. "));
	assert_false(executor.breaker.open || session_connected(fx.session));
	assert_unanswered(job);
}

/* The fault is over when another has passed: it is tried once more before it is blamed. */
static void test_passes_when_others_have_passed(void **state)
{
	struct job *jobs[2];

	(void)state;
	guard("IF NEW.name = '1' AND nextval('tries') < 3 THEN " REFUSE " END IF;");
	fill(jobs, 2);
	run_whole(jobs, 2);
	assert_created(jobs[0]);
	assert_created(jobs[1]);
	assert_int_equal(number("tries"), 3);
}

/* A connection that ends while others are looked at shows nothing. */
static void test_nobody_is_blamed_where_the_connection_ends(void **state)
{
	struct job *jobs[2];
	struct fault fault;

	(void)state;
	guard("IF NEW.name = '1' THEN " REFUSE " END IF; PERFORM pg_terminate_backend(pg_backend_pid());");
	fill(jobs, 2);
	assert_int_equal(run(jobs, 2, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
	assert_string_not_equal(fault.sqlstate, "P0001");
	assert_unanswered(jobs[0]);
	assert_int_equal(executor.breaker.run, 0);
}

/* A command that was written lately is the comparison where a batch has no other. */
static void test_the_last_draft_is_the_control(void **state)
{
	struct job *good = COMMAND(.name = "good"), *bad = COMMAND(.name = "bad");

	(void)state;
	guard("IF NEW.name = 'bad' THEN " REFUSE " END IF;");
	run_whole(&good, 1);
	run_whole(&bad, 1);
	assert_refused(bad, "database_error", NULL);
	assert_int_equal(executor.breaker.run, 1);
}

/* Of one account group, while a command of another one passes; then of everybody. */
static void test_locked_rows_of_one_are_not_the_databases_fault(void **state)
{
	struct job *jobs[4], *other = COMMAND(.group = BETA, .campaign = "65b000000000000000000001", .audience = "aud_beta");
	PGconn *holder = connect_to(fx.super);
	struct fault fault;

	(void)state;
	fill(jobs, COUNT(jobs));
	run_whole(&other, 1);
	assert_created(other);
	executor.answers_locked = true;
	run_on(holder, "BEGIN; SELECT 1 FROM api_key_account_groups WHERE account_group_id = '" AG "' FOR UPDATE");
	for (size_t i = 0; i < COUNT(jobs); i++) {
		run_whole(&jobs[i], 1);
		assert_refused(jobs[i], "rows_locked", "rows this command needs stayed locked by another session; nothing was written");
	}
	assert_false(executor.breaker.open);
	run_on(holder, "SELECT 1 FROM api_key_account_groups FOR UPDATE");
	forget_results(jobs, COUNT(jobs));
	run_whole(&jobs[0], 1);
	run_whole(&jobs[1], 1);
	assert_int_equal(run(&jobs[2], 1, &fault), -1);
	assert_true(executor_is_breakers(&executor, &fault));
	assert_fault(&fault, FAULT_WAIT, "55P03");
	run_on(holder, "ROLLBACK");
	PQfinish(holder);
}

/* Where connections are lost with batch after batch, commands are executed one by one; one that ends its own is convicted in the
 * end, and those before it are answered. */
static void test_a_command_that_ends_its_connection(void **state)
{
	struct job *jobs[3];
	struct fault fault;
	int tries = 0;

	(void)state;
	guard("IF NEW.name = '2' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;");
	fill(jobs, COUNT(jobs));
	for (size_t i = 0; i < COUNT(jobs); i++)
		jobs[i]->record.offset = 100 + (int64_t)i;
	while (run(jobs, COUNT(jobs), &fault) < 0) {
		assert_int_equal(fault.kind, FAULT_WAIT);
		assert_false(session_connected(fx.session));
		assert_true(++tries <= 2 * SUSPECT_TRIES + 1);
		reconnect();
		forget_results(jobs, COUNT(jobs));
	}
	assert_int_equal(tries, 2 * SUSPECT_TRIES + 1);
	assert_refused(jobs[1], "database_error", NULL);
	assert_true(jobs[1]->dead_letter && strstr(jobs[1]->cause, "08006"));
	assert_true(jobs[0]->result.success);
	assert_true(jobs[2]->result.success);
	assert_int_equal(executor.suspect.losses, 0);
	assert_int_equal(executor.suspect.compared + executor.suspect.uncompared, 0);
}

/* Once in each of the batches that make it sought, and so often alone. Nobody can tell yet whose fault it is. */
static void test_a_lone_command_that_ends_its_process_is_not_executed_for_ever(void **state)
{
	struct job *job;
	struct fault fault;

	(void)state;
	guard("PERFORM nextval('tries'); PERFORM pg_terminate_backend(pg_backend_pid());");
	fill(&job, 1);
	for (int i = 0; i < 10; i++) {
		forget_results(&job, 1);
		assert_int_equal(run(&job, 1, &fault), -1);
		assert_int_equal(fault.kind, FAULT_WAIT);
		assert_unanswered(job);
		reconnect();
	}
	assert_int_equal(number("tries"), 2 * SUSPECT_TRIES);
	assert_fault(&fault, FAULT_WAIT, "08006");
	assert_false(executor.breaker.open);
	executor.breaker.alone_since_ms = 1; /* long ago */
	run_whole(&job, 1);
	assert_refused(job, "database_error", "the database refused this command (SQLSTATE 08006); nothing was written");
	assert_true(job->dead_letter);
	assert_int_equal(number("tries"), 2 * SUSPECT_TRIES);
}

static void test_who_is_compared_gets_company(void **state)
{
	(void)state;
	executor.sizing.limit = 1;
	assert_int_equal(executor_batch_limit(&executor), 1);
	executor.breaker.open = true;
	assert_int_equal(executor_batch_limit(&executor), EXECUTOR_OTHERS + 1);
	executor.breaker.open = false;
	for (int i = 0; i < SUSPECT_TRIES; i++)
		suspect_lost_batch(&executor.suspect);
	assert_int_equal(executor_batch_limit(&executor), EXECUTOR_OTHERS + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EXECUTOR_TEST(test_probes_begin_behind_the_last_failure),
		EXECUTOR_TEST(test_failed_probes_go_on_behind),
		EXECUTOR_TEST(test_only_a_written_draft_ends_a_row_of_failures),
		EXECUTOR_TEST(test_others_are_looked_at_over_the_whole_batch),
		EXECUTOR_TEST(test_a_connection_that_ends_while_probing),
		EXECUTOR_TEST(test_alone_it_waits_for_another),
		EXECUTOR_TEST(test_passes_when_others_have_passed),
		EXECUTOR_TEST(test_nobody_is_blamed_where_the_connection_ends),
		EXECUTOR_TEST(test_the_last_draft_is_the_control),
		EXECUTOR_TEST(test_locked_rows_of_one_are_not_the_databases_fault),
		EXECUTOR_TEST(test_a_command_that_ends_its_connection),
		EXECUTOR_TEST(test_a_lone_command_that_ends_its_process_is_not_executed_for_ever),
		EXECUTOR_TEST(test_who_is_compared_gets_company),
	};

	return run_store_tests("blame", tests, COUNT(tests));
}
