/* The log: both forms, hostile values, the rate limit, and that no output trouble reaches the caller. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/base/clock.h"
#include "worker/base/log.h"

static int file_fd;
static int64_t now_ms;

static int64_t still_clock(void)
{
	return now_ms;
}

static int begin(void **state)
{
	FILE *file = tmpfile();

	*state = file;
	file_fd = fileno(file);
	log_init(LOG_TEXT, LEVEL_INFO);
	log_set_fd(file_fd);
	return 0;
}

static int end(void **state)
{
	log_set_fd(STDERR_FILENO);
	log_set_clock(clock_monotonic_ms);
	return fclose(*state);
}

/* What was logged so far, without the first line's time. */
static char *logged(void)
{
	static char text[256 * 1024];
	ssize_t n = pread(file_fd, text, sizeof text - 1, 0);
	char *rest;

	assert_true(n >= 0);
	text[n] = '\0';
	if (strncmp(text, "time=", 5) != 0)
		return text;
	rest = strchr(text, ' ');
	assert_non_null(rest);
	return rest + 1;
}

static size_t lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void test_text(void **state)
{
	(void)state;
	log_warn("batch_dropped", "the batch was dropped", "traceId", "abc-1", "offset", LOG_INT(INT64_MIN), "none", NULL, "empty", "",
		 "quoted", "a \"b\" \\ c=d\n\t\r\x01", "name", "M\xc3\xbcller");
	assert_string_equal(logged(), "level=warn event=batch_dropped msg=\"the batch was dropped\" traceId=abc-1 "
				      "offset=-9223372036854775808 empty=\"\" "
				      "quoted=\"a \\\"b\\\" \\\\ c=d\\n\\t\\r\\u0001\" name=M\xc3\xbcller\n");
}

static void test_json(void **state)
{
	const char *text;
	json_t *json;

	(void)state;
	log_init(LOG_JSON, LEVEL_INFO);
	log_error("e", "say \"it\"", "offset", LOG_INT(12), "bad", "a\xff\xc0\x80z\xed\xa0\x80", "control", "\x1b[2J\x7f\xc2\x9b");
	text = logged();
	assert_int_equal(lines(text), 1);
	json = json_loads(text, 0, NULL);
	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(json, "level")), "error");
	assert_string_equal(json_string_value(json_object_get(json, "msg")), "say \"it\"");
	assert_string_equal(json_string_value(json_object_get(json, "offset")), "12");
	assert_string_equal(json_string_value(json_object_get(json, "bad")),
			    "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	assert_string_equal(json_string_value(json_object_get(json, "control")), "\x1b[2J\x7f\xc2\x9b");
	assert_null(strchr(text, '\x1b')); /* escaped in the line */
	assert_int_equal(strlen(json_string_value(json_object_get(json, "time"))), 24);
	json_decref(json);
}

static void test_levels(void **state)
{
	(void)state;
	log_debug("d", "not shown");
	assert_string_equal(logged(), "");
	log_init(LOG_TEXT, LEVEL_ERROR);
	log_warn("w", "not shown");
	assert_string_equal(logged(), "");
	log_init(LOG_TEXT, LEVEL_DEBUG);
	for (int i = 0; i < 30; i++)
		log_debug("d", "shown, each of them");
	assert_int_equal(lines(logged()), 30);
}

/* Lines of every length around the limit: one line each, whole JSON, no character cut in two. */
static void test_long_lines(void **state)
{
	static char value[LOG_LINE_BYTES * 2], event[32];
	const char *text, *last;

	(void)state;
	for (size_t size = LOG_LINE_BYTES - 200; size < LOG_LINE_BYTES + 50; size++) {
		log_init(size % 2 ? LOG_JSON : LOG_TEXT, LEVEL_INFO);
		memset(value, size % 3 ? 'x' : '"', size);
		for (size_t i = 0; size % 3 == 1 && i + 1 < size; i += 2)
			memcpy(value + i, "\xc3\xa9", 2);
		value[size] = '\0';
		snprintf(event, sizeof event, "size_%zu", size);
		assert_int_equal(ftruncate(file_fd, 0), 0);
		lseek(file_fd, 0, SEEK_SET);
		log_info(event, "m", "value", value, "after", "x");
		text = logged();
		assert_int_equal(lines(text), 1);
		assert_true(strlen(text) < LOG_LINE_BYTES);
		last = strstr(text, "after");
		if (size % 2) {
			json_t *json = json_loads(text, 0, NULL);

			assert_non_null(json);
			assert_true((last != NULL) != (json_object_get(json, "cut") != NULL) || strlen(text) > LOG_LINE_BYTES - 60);
			json_decref(json);
		} else if (last == NULL) {
			assert_non_null(strstr(text, " cut=true\n"));
		}
	}
	assert_int_equal(log_dropped(), 0);
}

static void test_rate_limit(void **state)
{
	(void)state;
	now_ms = 1000000;
	log_set_clock(still_clock);
	for (int i = 0; i < 100; i++)
		log_info("storm", "again");
	log_info("other", "still heard");
	now_ms += 9999;
	log_info("storm", "again");
	assert_int_equal(lines(logged()), 11);
	assert_null(strstr(logged(), "suppressed"));
	assert_non_null(strstr(logged(), "event=other"));
	now_ms += 1;
	log_info("storm", "again");
	log_info("storm", "again");
	assert_int_equal(lines(logged()), 13);
	assert_non_null(strstr(logged(), "event=storm suppressed=91 msg=again\n"));
	assert_non_null(strstr(strstr(logged(), "suppressed"), "event=storm msg=again\n"));
}

/* Each names another thing to act on. */
static void test_what_needs_a_person_is_never_suppressed(void **state)
{
	(void)state;
	for (int i = 0; i < 30; i++) {
		log_error("partition_halted", "m", "partition", LOG_INT(i));
		log_warn("transaction_open", "m", "partition", LOG_INT(i));
		log_error("fatal", "m");
	}
	assert_int_equal(lines(logged()), 90);
	assert_non_null(strstr(logged(), "partition=29"));
}

static void *shout(void *arg)
{
	for (int i = 0; i < 100; i++)
		log_info(arg, "again");
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, shout, i < 2 ? "one" : "two"), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(lines(logged()), 20);
}

/* More classes than are remembered: nothing breaks, the quiet ones are forgotten first. */
static void test_many_classes(void **state)
{
	char event[32];

	(void)state;
	for (int i = 0; i < 500; i++) {
		snprintf(event, sizeof event, "class_%d", i);
		log_info(event, "m");
	}
	assert_int_equal(lines(logged()), 500);
}

static void test_disk_full(void **state)
{
	int fd = open("/dev/full", O_WRONLY);

	(void)state;
	assert_true(fd >= 0);
	log_set_fd(fd);
	log_info("e", "m");
	log_info("e", "m");
	assert_int_equal(log_dropped(), 2);
	close(fd);
	log_info("e", "m"); /* closed under us */
	assert_int_equal(log_dropped(), 3);
	log_set_fd(-1);
	log_info("e", "m");
	assert_int_equal(log_dropped(), 1);
}

/* A blocking pipe whose reader stands still must not hold anybody up; one that is gone neither. */
static void test_stuck_pipe(void **state)
{
	int ends[2], written;
	char event[32];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	log_set_fd(ends[1]);
	for (int i = 0; i < 5000; i++) {
		snprintf(event, sizeof event, "class_%d", i);
		log_info(event, "a line that nobody reads");
	}
	assert_true(log_dropped() > 1000);
	written = 5000 - (int)log_dropped();
	assert_true(written > 100);
	close(ends[0]);
	log_info("gone", "m");
	assert_int_equal(log_dropped(), 5000 - written + 1);
	close(ends[1]);
}

/* Without stderr, the next file opened must not become the log. */
static void test_closed_stderr(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		int fd;

		log_set_fd(STDERR_FILENO);
		close(STDERR_FILENO);
		log_init(LOG_TEXT, LEVEL_INFO);
		fd = open("/dev/null", O_RDWR);
		log_info("e", "m");
		_exit(fd != STDERR_FILENO && log_dropped() == 1 ? 0 : 1);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	static const struct CMUnitTest tests[] = {
		TEST(test_text),    TEST(test_json),	     TEST(test_levels),	   TEST(test_long_lines), TEST(test_rate_limit),
		TEST(test_threads), TEST(test_many_classes), TEST(test_disk_full), TEST(test_stuck_pipe), TEST(test_closed_stderr),
		TEST(test_what_needs_a_person_is_never_suppressed),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
