/* What the tests of the executor share: the lane's part, and commands that fail. */
#ifndef EXECUTOR_FIXTURE_H
#define EXECUTOR_FIXTURE_H

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

static inline int poll_nothing(void *arg, int64_t waited_ms, struct fault *fault)
{
	(void)arg;
	(void)waited_ms;
	(void)fault;
	return 0;
}

static int serials; /* a pause asks for the serial twice at least */

static inline uint64_t stay_assigned(void *arg)
{
	(void)arg;
	serials++;
	return 1;
}

static inline int begin(void **state)
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

static inline int end(void **state)
{
	executor_destroy(&executor);
	execution_free(execution);
	run_sql("DROP FUNCTION IF EXISTS guard() CASCADE; DROP SEQUENCE tries, firsts");
	if (!session_connected(fx.session))
		reconnect();
	return reset_arena(state);
}

static inline int run(struct job **jobs, size_t n, struct fault *fault)
{
	fx.partition.end_offset = 100 + (int64_t)n;
	executor_send(&executor, &fx.fence, jobs, n, fx.arena);
	return executor_receive(&executor, fault);
}

static inline void run_whole(struct job **jobs, size_t n)
{
	struct fault fault;

	if (run(jobs, n, &fault) < 0)
		fail_msg("%s %s", fault_kind_name(fault.kind), fault.msg);
}

/* ---- commands that fail ---- */

/* Runs for each draft that is written. */
static inline void guard(const char *body)
{
	run_sql("CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN %s RETURN NEW; END$$",
		body);
	run_sql("CREATE OR REPLACE TRIGGER guard BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION guard()");
}

#define REFUSE "RAISE EXCEPTION 'no';"
#define TIME_OUT "RAISE EXCEPTION 'no' USING ERRCODE = '57014';"

/* Commands with their places, from 1, as names. */
static inline void fill(struct job **jobs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		jobs[i] = COMMAND(.name = arena_printf(fx.arena, "%d", (int)i + 1));
}

static inline void forget_results(struct job **jobs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		jobs[i]->executable = true;
		jobs[i]->reason = NULL;
		jobs[i]->result = (struct command_result){ 0 };
		result_describe(&jobs[i]->result, &duplicate_contract, jobs[i]->command);
	}
}

static inline long long number(const char *sequence)
{
	return atoll(ask("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM %s", sequence));
}

static inline void assert_unanswered(const struct job *job)
{
	assert_null(job->reason);
	assert_null(job->result.data);
	assert_null(job->result.error_code);
	assert_true(job->executable);
	assert_false(job->dead_letter);
}

static inline const char *executed_offset(void)
{
	return ask("SELECT executed_offset FROM partition_owner WHERE cluster_id = 'cluster' AND topic = 'commands' AND partition = 0");
}

#define EXECUTOR_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

#endif
