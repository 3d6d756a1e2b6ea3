/* Failpoints, each in a child of its own. A release build has none: then only that is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/base/clock.h"
#include "worker/base/failpoint.h"

#ifdef FAILPOINTS

static char marks[] = "/tmp/test_failpoint.XXXXXX";

/* Runs a child that passes step so many times and then exits with what it passed; returns its wait status. */
static int run(const char *value, const char *step, int times)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		setenv("CAMPAIGN_FAILPOINT", value, 1);
		setenv("CAMPAIGN_FAILPOINT_FILE", marks, 1);
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(99);
		for (int i = 0; i < times; i++)
			failpoint(step);
		_exit(failpoint_inside_pipeline() ? 2 : 1);
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	if (WIFSTOPPED(status)) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return status;
}

static bool exits(int status, int code)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static bool dies(int status, int number)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == number;
}

static void test_actions(void **state)
{
	int status;

	(void)state;
	assert_true(exits(run("", "decode", 3), 1));
	assert_true(dies(run("decode:kill", "decode", 1), SIGKILL));
	assert_true(dies(run("decode:term", "decode", 1), SIGTERM));
	assert_true(exits(run("decode:exit", "decode", 1), 70));
	status = run("decode:stop", "decode", 1);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	assert_true(exits(run("decode:kill", "decodes", 1), 1));
	assert_true(exits(run("other:kill,decode:exit", "decode", 1), 70));
}

/* How many times something was done in the run. */
static int count_marks(const char *value, int times)
{
	FILE *file;
	int n = 0;

	assert_int_equal(truncate(marks, 0), 0);
	assert_true(exits(run(value, "decode", times), 1));
	file = fopen(marks, "r");
	assert_non_null(file);
	for (int c; (c = getc(file)) != EOF;)
		n += c == '\n';
	fclose(file);
	return n;
}

static void test_passes(void **state)
{
	int64_t start_ms;

	(void)state;
	assert_true(exits(run("decode:kill:3", "decode", 2), 1));
	assert_true(dies(run("decode:kill:3", "decode", 3), SIGKILL));
	start_ms = clock_monotonic_ms();
	assert_int_equal(count_marks("decode:sleep:2:50", 5), 1);
	assert_true(clock_monotonic_ms() - start_ms >= 50);
	assert_int_equal(count_marks("decode:sleep:2+:1", 5), 4);
	assert_int_equal(count_marks("decode:sleep:1:1,decode:sleep:3:1", 5), 2);
}

static void test_pipeline(void **state)
{
	(void)state;
	assert_true(exits(run("fence-after:kill", "decode", 1), 2));
	assert_true(exits(run("statement-after:kill", "decode", 1), 2));
	assert_true(exits(run("decode:sleep:9,commit-before:kill", "decode", 1), 2));
	assert_true(exits(run("commit-after:kill", "decode", 1), 1));
}

static void test_malformed(void **state)
{
	static const char *const values[] = { "decode", "decode:", "decode:burn", "decode:kill:0", "decode:kill:x", "decode:kill:1:",
					      ":kill", "decode:kill:1+:5x", "decode:kill,burn" };

	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
		if (!dies(run(values[i], "decode", 1), SIGABRT))
			fail_msg("%s was accepted", values[i]);
}

static void test_marks(void **state)
{
	char line[80] = "", step[32], action[8];
	FILE *file;
	int pid;

	(void)state;
	assert_int_equal(truncate(marks, 0), 0);
	run("decode:kill:2", "decode", 2);
	file = fopen(marks, "r");
	assert_non_null(file);
	assert_non_null(fgets(line, sizeof line, file));
	assert_int_equal(sscanf(line, "%31s %7s %d", step, action, &pid), 3);
	assert_string_equal(step, "decode");
	assert_string_equal(action, "kill");
	assert_null(fgets(line, sizeof line, file));
	fclose(file);
}

static int make_marks(void **state)
{
	int fd = mkstemp(marks);

	(void)state;
	return fd >= 0 ? close(fd) : -1;
}

static int remove_marks(void **state)
{
	(void)state;
	return unlink(marks);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_actions),	  cmocka_unit_test(test_passes), cmocka_unit_test(test_pipeline),
		cmocka_unit_test(test_malformed), cmocka_unit_test(test_marks),
	};

	return cmocka_run_group_tests(tests, make_marks, remove_marks);
}

#else

static void test_none(void **state)
{
	(void)state;
	setenv("CAMPAIGN_FAILPOINT", "decode:kill", 1);
	failpoint("decode");
	assert_false(failpoint_inside_pipeline());
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_none) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
