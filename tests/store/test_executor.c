/* The executor on a real PostgreSQL: a batch is executed around the command that fails, and what is tried again. */
#include "executor_fixture.h"

/* Transactions that write follow each other as the commands do. */
static void test_answered_around_the_one_that_fails(void **state)
{
	struct job *jobs[BATCH];
	long long last = 0;

	(void)state;
	guard("IF NEW.name = '11' THEN " REFUSE " END IF;");
	fill(jobs, BATCH);
	run_whole(jobs, BATCH);
	for (size_t i = 0; i < BATCH; i++) {
		long long xid;

		assert_int_equal(i == 10, was_refused(jobs[i], "database_error"));
		if (i == 10)
			continue;
		assert_created(jobs[i]);
		assert_agrees(jobs[i]);
		xid = atoll(ask("SELECT xmin FROM campaigns WHERE id = '%s'", jobs[i]->result.campaign->id));
		assert_true(xid >= last);
		last = xid;
	}
	assert_not_written(jobs[10]);
	assert_true(jobs[10]->dead_letter && !jobs[10]->executable);
	assert_non_null(strstr(jobs[10]->cause, "SQLSTATE P0001"));
	assert_true(jobs[10]->result.processed_at_ms >= jobs[9]->result.processed_at_ms);
	assert_true(jobs[10]->result.processed_at_ms <= jobs[11]->result.processed_at_ms);
	assert_int_equal(statistics_count(&statistics, COUNT_SPLITS), 2); /* 20, and the 3 with it */
	assert_false(executor.breaker.open);
	assert_string_equal(executed_offset(), "120");
}

/* What is committed of it is committed, and its end is not told before all of it is. */
static void test_the_end_is_told_with_the_last_part(void **state)
{
	struct job *jobs[BATCH];
	struct fault fault;

	(void)state;
	run_sql("UPDATE partition_owner SET executed_offset = 100");
	guard("IF NEW.name IN ('11', '12', '13') THEN " REFUSE " END IF;");
	fill(jobs, BATCH);
	assert_int_equal(run(jobs, BATCH, &fault), -1);
	assert_true(executor_is_breakers(&executor, &fault));
	assert_created(jobs[9]);
	assert_string_not_equal(draft_of(jobs[9]), "");
	assert_not_written(jobs[13]);
	assert_string_equal(executed_offset(), "100");
}

/* ---- what is tried again, and what is not ---- */

/* Once whole; then alone, as often as one command is tried. */
static void test_a_batch_that_timed_out_is_split_at_once(void **state)
{
	struct job *jobs[2];

	(void)state;
	guard("IF NEW.name = '2' THEN PERFORM nextval('tries'); " TIME_OUT " END IF;");
	fill(jobs, 2);
	run_whole(jobs, 2);
	assert_created(jobs[0]);
	assert_refused(jobs[1], "rows_locked", "the command could not be judged or written in time; nothing was written");
	assert_int_equal(number("tries"), 1 + 3);
	assert_int_equal(statistics_count(&statistics, COUNT_SPLITS), 1);
}

static void test_a_batch_that_met_others_is_tried_again_whole(void **state)
{
	struct job *jobs[2];
	int64_t begun_ms;

	(void)state;
	guard("IF NEW.name = '2' AND nextval('tries') < 3 THEN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END IF;");
	fill(jobs, 2);
	begun_ms = clock_monotonic_ms();
	run_whole(jobs, 2);
	assert_true(clock_monotonic_ms() - begun_ms >= 2 * 50); /* its pauses */
	assert_created(jobs[0]);
	assert_created(jobs[1]);
	assert_int_equal(statistics_count(&statistics, COUNT_SPLITS), 0);
}

static void test_what_nobody_else_met_is_not_tried_again(void **state)
{
	struct job *jobs[2];

	(void)state;
	guard("IF NEW.name = '2' THEN PERFORM nextval('tries'); " REFUSE " END IF;");
	fill(jobs, 2);
	serials = 0;
	run_whole(jobs, 2);
	assert_refused(jobs[1], "database_error", NULL);
	assert_int_equal(number("tries"), 3); /* with the other, alone, and once more when another had passed */
	assert_int_equal(serials, 0);
}

/* A copy of another timestamp cannot take a refusal by the limit: each is executed alone, at once. */
static void test_a_limit_that_is_not_shared(void **state)
{
	struct job *jobs[2];

	(void)state;
	run_sql("UPDATE api_key_account_groups SET rate_interval_us = 60000000, rate_burst = 1, rate_at_us = 0, rate_tat_us = "
		"extract(epoch FROM clock_timestamp()) * 1000000 + 50000000 WHERE key_digest = sha256('demo-key-slow')");
	for (size_t i = 0; i < 2; i++)
		jobs[i] = COMMAND(.trace = "twice", .key = "demo-key-slow", .stamp_ms = clock_wall_ms() - 1000 + (int64_t)i);
	jobs[1]->copy_of = jobs[0] < jobs[1] ? jobs[0] : NULL; /* the arena is ascending */
	jobs[1]->executable = false;
	serials = 0;
	run_whole(jobs, 2);
	assert_refused(jobs[0], "rate_limited", NULL);
	assert_refused(jobs[1], "rate_limited", NULL);
	assert_int_equal(statistics_count(&statistics, COUNT_SPLITS), 0);
	assert_int_equal(serials, 0);

	executor.breaker.open = true; /* a probe shares with nobody, and a refusal shows nothing */
	forget_results(jobs, 2);
	jobs[0]->shared = jobs[1]->shared = true;
	jobs[1]->copy_of = NULL;
	run_whole(jobs, 2);
	assert_refused(jobs[1], "rate_limited", NULL);
	assert_true(executor.breaker.open);
}

static void test_locked_rows_are_the_lanes_matter(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct job *jobs[2];
	struct fault fault;

	(void)state;
	fill(jobs, 2);
	run_on(holder, "BEGIN; SELECT 1 FROM api_key_account_groups FOR UPDATE");
	assert_int_equal(run(jobs, 2, &fault), -1);
	assert_true(executor_met_lock(&fault));
	assert_unanswered(jobs[0]);
	assert_int_equal(statistics_count(&statistics, COUNT_SPLITS), 0);
	executor.answers_locked = true;
	run_whole(jobs, 1);
	assert_refused(jobs[0], "rows_locked", "rows this command needs stayed locked by another session; nothing was written");
	run_on(holder, "ROLLBACK");
	PQfinish(holder);
}

/* It fits into its time, next time. */
static void test_slow_batches_become_smaller(void **state)
{
	struct job *jobs[BATCH];

	(void)state;
	guard("IF NEW.name = '1' THEN PERFORM pg_sleep(0.2); END IF;");
	fill(jobs, BATCH);
	executor.sizing.budget_ms = 100;
	run_whole(jobs, BATCH);
	assert_in_range(executor.sizing.limit, 1, BATCH / 2);
}

/* So large that it is not sent at once. */
static struct job *large_command(void)
{
	char *leads = arena_alloc(fx.arena, 10000 * 9 + 1), *p = leads;

	for (int i = 0; i < 10000; i++)
		p += sprintf(p, "%sbig_%04d", i ? " " : "", i);
	return COMMAND(.leads = leads);
}

/* Whoever stops has to know what became of the batch: it is waited for, also after a wait that a stop would have ended. */
static void test_a_stop_does_not_abandon_a_batch(void **state)
{
	const struct waiter waiter = { wait_for_socket, &wait };
	struct session *session = open_session("group", &waiter);
	struct job *jobs[6] = { COMMAND() };
	struct fault fault;

	(void)state;
	execution_free(execution);
	executor.execution = execution = execution_new(session, &fixture_execution);
	for (size_t i = 1; i < COUNT(jobs); i++)
		jobs[i] = large_command();
	guard("PERFORM pg_sleep(0.05);");
	atomic_store(&stop, true);
	for (int probing = 0; probing < 2; probing++) {
		executor.breaker.open = probing;
		wait_begin(&wait, true, clock_monotonic_ms());
		forget_results(jobs, COUNT(jobs));
		fx.partition.end_offset = 100 + COUNT(jobs);
		executor_send(&executor, &fx.fence, jobs, COUNT(jobs), fx.arena);
		wait_begin(&wait, true, clock_monotonic_ms());
		if (executor_receive(&executor, &fault) < 0) {
			atomic_store(&stop, false);
			fail_msg("%s", fault.msg);
		}
		assert_true(jobs[0]->result.success);
		assert_true(was_refused(jobs[5], "lead_not_in_audience"));
	}
	atomic_store(&stop, false);
	execution_free(execution);
	execution = NULL;
	session_free(session);
}

/* Another key's grant is nobody's business here, and neither is this key's in another account group. */
static void test_no_limits_but_its_own_are_locked(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct job *jobs[] = { COMMAND(), COMMAND(.group = BETA, .campaign = "65b000000000000000000001", .audience = "aud_beta",
						  .key = "demo-key-other") };

	(void)state;
	run_on(holder, "BEGIN; SELECT 1 FROM api_key_account_groups WHERE (account_group_id, key_digest) NOT IN "
		       "(('" AG "', sha256('demo-key-full')), ('" BETA "', sha256('demo-key-other'))) FOR UPDATE");
	run_whole(jobs, 2);
	assert_created(jobs[0]);
	run_on(holder, "ROLLBACK");
	PQfinish(holder);
}

/* ---- a command that was delivered again ---- */

static struct job *write_and_deliver_again(void)
{
	struct job *job = execute_one(COMMAND());

	assert_created(job);
	forget_results(&job, 1);
	return job;
}

static void test_a_draft_is_the_answer_whoever_locks_its_limits(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct job *job = write_and_deliver_again();

	(void)state;
	executor.answers_locked = true;
	run_on(holder, "BEGIN; SELECT 1 FROM api_key_account_groups FOR UPDATE");
	run_whole(&job, 1);
	assert_true(job->result.success && job->result.draft_existed);
	run_on(holder, "ROLLBACK");
	PQfinish(holder);
}

static void assert_waits(struct job *job, enum fault_kind kind, const char *sqlstate)
{
	struct fault fault;

	executor.answers_locked = true;
	assert_int_equal(run(&job, 1, &fault), -1);
	assert_fault(&fault, kind, sqlstate);
	assert_false(executor.breaker.open);
	assert_unanswered(job);
}

static void test_a_draft_that_cannot_be_read_now_is_waited_for(void **state)
{
	PGconn *holder = connect_to(fx.super);
	struct job *job = write_and_deliver_again();

	(void)state;
	run_sql("REVOKE SELECT (state) ON campaign_leads FROM campaign_worker");
	assert_waits(job, FAULT_WAIT, "42501");
	run_sql("GRANT SELECT (state) ON campaign_leads TO campaign_worker");
	run_on(holder, "BEGIN; LOCK TABLE audiences IN ACCESS EXCLUSIVE MODE");
	assert_waits(job, FAULT_RETRY, "55P03"); /* its partition's matter */
	run_on(holder, "ROLLBACK");
	PQfinish(holder);
	run_whole(&job, 1);
	assert_true(job->result.success && job->result.draft_existed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EXECUTOR_TEST(test_answered_around_the_one_that_fails),
		EXECUTOR_TEST(test_the_end_is_told_with_the_last_part),
		EXECUTOR_TEST(test_a_batch_that_timed_out_is_split_at_once),
		EXECUTOR_TEST(test_a_batch_that_met_others_is_tried_again_whole),
		EXECUTOR_TEST(test_what_nobody_else_met_is_not_tried_again),
		EXECUTOR_TEST(test_a_limit_that_is_not_shared),
		EXECUTOR_TEST(test_locked_rows_are_the_lanes_matter),
		EXECUTOR_TEST(test_slow_batches_become_smaller),
		EXECUTOR_TEST(test_a_stop_does_not_abandon_a_batch),
		EXECUTOR_TEST(test_no_limits_but_its_own_are_locked),
		EXECUTOR_TEST(test_a_draft_is_the_answer_whoever_locks_its_limits),
		EXECUTOR_TEST(test_a_draft_that_cannot_be_read_now_is_waited_for),
	};

	return run_store_tests("executor", tests, COUNT(tests));
}
