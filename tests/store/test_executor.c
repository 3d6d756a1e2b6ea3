/* The executor on a real PostgreSQL: a batch is executed around the command that fails, and nothing is answered where nobody
 * knows whose fault it is. */
#include <fcntl.h>
#include <stdatomic.h>

#include "store_fixture.h"

#include "worker/base/log.h"
#include "worker/executor.h"

#define BATCH 20

static atomic_bool stop;
static struct wait wait;
static struct statistics statistics;
static struct execution *execution;
static struct executor executor;
static struct config config;

/* ---- the lane's part ---- */

static int poll_nothing(void *arg, int64_t waited_ms, struct fault *fault)
{
	(void)arg;
	(void)waited_ms;
	(void)fault;
	return 0;
}

static int serials; /* a pause asks for the serial twice at least */

static uint64_t stay_assigned(void *arg)
{
	(void)arg;
	serials++;
	return 1;
}

static int begin(void **state)
{
	const struct keep_alive keep_alive = { poll_nothing, stay_assigned, NULL };

	(void)state;
	log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	config.breaker = 3;
	config.batch = 100;
	config.batch_ms = 60000;
	memset(&statistics, 0, sizeof statistics);
	wait_init(&wait, &stop, 0, &keep_alive);
	execution = execution_new(fx.session, &fixture_execution);
	executor_init(&executor, execution, &wait, &statistics, &duplicate_contract, &config);
	run_sql("CREATE SEQUENCE tries; CREATE SEQUENCE firsts"); /* no rollback undoes what a sequence counts */
	return 0;
}

static int end(void **state)
{
	executor_destroy(&executor);
	execution_free(execution);
	run_sql("DROP FUNCTION IF EXISTS guard() CASCADE; DROP SEQUENCE tries, firsts");
	if (!session_connected(fx.session))
		reconnect();
	return reset_arena(state);
}

static int run(struct job **jobs, size_t n, struct fault *fault)
{
	fx.partition.end_offset = 100 + (int64_t)n;
	executor_send(&executor, &fx.fence, jobs, n, fx.arena);
	return executor_receive(&executor, fault);
}

static void run_whole(struct job **jobs, size_t n)
{
	struct fault fault;

	if (run(jobs, n, &fault) < 0)
		fail_msg("%s %s", fault_kind_name(fault.kind), fault.msg);
}

/* ---- commands that fail ---- */

/* Runs for each draft that is written. */
static void guard(const char *body)
{
	run_sql("CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN %s RETURN NEW; END$$",
		body);
	run_sql("CREATE OR REPLACE TRIGGER guard BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION guard()");
}

#define REFUSE "RAISE EXCEPTION 'no';"
#define TIME_OUT "RAISE EXCEPTION 'no' USING ERRCODE = '57014';"

/* Commands with their places, from 1, as names. */
static void fill(struct job **jobs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		jobs[i] = COMMAND(.name = arena_printf(fx.arena, "%d", (int)i + 1));
}

static void forget_results(struct job **jobs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		jobs[i]->executable = true;
		jobs[i]->reason = NULL;
		jobs[i]->result = (struct command_result){ 0 };
		result_describe(&jobs[i]->result, &duplicate_contract, jobs[i]->command);
	}
}

static long long number(const char *sequence)
{
	return atoll(ask("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM %s", sequence));
}

static void assert_unanswered(const struct job *job)
{
	assert_null(job->reason);
	assert_null(job->result.data);
	assert_null(job->result.error_code);
	assert_true(job->executable);
	assert_false(job->dead_letter);
}

static const char *executed_offset(void)
{
	return ask("SELECT executed_offset FROM partition_owner WHERE cluster_id = 'cluster' AND topic = 'commands' AND partition = 0");
}

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
	assert_int_equal(executor.suspect.alone, 0);
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

#define EXECUTOR_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EXECUTOR_TEST(test_answered_around_the_one_that_fails),
		EXECUTOR_TEST(test_the_end_is_told_with_the_last_part),
		EXECUTOR_TEST(test_probes_begin_behind_the_last_failure),
		EXECUTOR_TEST(test_failed_probes_go_on_behind),
		EXECUTOR_TEST(test_a_batch_that_timed_out_is_split_at_once),
		EXECUTOR_TEST(test_a_batch_that_met_others_is_tried_again_whole),
		EXECUTOR_TEST(test_what_nobody_else_met_is_not_tried_again),
		EXECUTOR_TEST(test_a_limit_that_is_not_shared),
		EXECUTOR_TEST(test_only_a_written_draft_ends_a_row_of_failures),
		EXECUTOR_TEST(test_others_are_looked_at_over_the_whole_batch),
		EXECUTOR_TEST(test_a_connection_that_ends_while_probing),
		EXECUTOR_TEST(test_alone_it_waits_for_another),
		EXECUTOR_TEST(test_passes_when_others_have_passed),
		EXECUTOR_TEST(test_nobody_is_blamed_where_the_connection_ends),
		EXECUTOR_TEST(test_the_last_draft_is_the_control),
		EXECUTOR_TEST(test_locked_rows_are_the_lanes_matter),
		EXECUTOR_TEST(test_slow_batches_become_smaller),
		EXECUTOR_TEST(test_a_stop_does_not_abandon_a_batch),
		EXECUTOR_TEST(test_no_limits_but_its_own_are_locked),
		EXECUTOR_TEST(test_a_draft_is_the_answer_whoever_locks_its_limits),
		EXECUTOR_TEST(test_a_draft_that_cannot_be_read_now_is_waited_for),
		EXECUTOR_TEST(test_a_command_that_ends_its_connection),
		EXECUTOR_TEST(test_who_is_compared_gets_company),
	};

	return run_store_tests("executor", tests, COUNT(tests));
}
