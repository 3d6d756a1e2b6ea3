/* The parts of campaign-producer that need no broker: input lines, the API key's digest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "producer/input.h"
#include "producer/tool.h"

static struct campaign_pool *pool;
static char path[] = "/tmp/test_producer.XXXXXX";

static int setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	pool = campaign_pool_new();
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	(void)state;
	campaign_pool_free(pool);
	return unlink(path);
}

static void write_file(const char *text, size_t size)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

/* --- input --- */

static void expect_bad(struct input *input, const char *why)
{
	struct duplicate_command command;
	struct fault fault = { 0 };

	assert_int_equal(input_next(input, pool, &command, &fault), INPUT_BAD);
	if (strstr(fault.msg, why) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", fault.msg, why);
}

static void expect_command(struct input *input, const char *trace_id, int line)
{
	struct duplicate_command command;
	struct fault fault = { 0 };
	char place[64];

	if (input_next(input, pool, &command, &fault) != INPUT_COMMAND)
		fail_msg("no command: %s", fault.msg);
	assert_string_equal(command.head.trace_id, trace_id);
	snprintf(place, sizeof place, "%s:%d", path, line);
	assert_string_equal(input_place(input), place);
}

static void expect_end(struct input *input)
{
	struct duplicate_command command;
	struct fault fault;

	assert_int_equal(input_next(input, pool, &command, &fault), INPUT_END);
	assert_int_equal(input_next(input, pool, &command, &fault), INPUT_END);
	input_free(input);
}

static void test_a_bad_line_does_not_hide_the_others(void **state)
{
	static const char text[] = "{\"traceId\":\"a\"}\n\n  \r\n{\"traceId\":}\n{\"traceId\":\"b\"}\r\n{\"traceId\":\"c\"}";
	char missing[] = "/nonexistent/commands";
	char *paths[] = { missing, path };
	struct input *input = input_new(paths, 2);

	(void)state;
	write_file(text, sizeof text - 1);
	expect_bad(input, "/nonexistent/commands: No such file");
	expect_command(input, "a", 1);
	expect_bad(input, ":4: column");
	expect_command(input, "b", 5);
	expect_command(input, "c", 6); /* without a line break */
	expect_end(input);
}

static void test_lines_longer_than_a_read(void **state)
{
	static const char tail[] = "{\"traceId\":\"z\"}\n";
	size_t long_size = LINE_BYTES_MAX + 1000000, size = 0;
	char *text = malloc(long_size + 1000000), *paths[] = { path };
	struct input *input = input_new(paths, 1);

	(void)state;
	assert_non_null(text);
	size += (size_t)sprintf(text, "{\"traceId\":\"a\"%*s}\n", 300000, ""); /* blanks */
	memset(text + size, 'x', long_size);
	size += long_size;
	text[size++] = '\n';
	memcpy(text + size, tail, sizeof tail);
	write_file(text, size + sizeof tail - 1);
	expect_command(input, "a", 1);
	expect_bad(input, ":2: the line is longer than 8388608 bytes");
	expect_command(input, "z", 3);
	expect_end(input);
	free(text);
}

static void test_an_overlong_last_line(void **state)
{
	size_t size = 2 * LINE_BYTES_MAX;
	char *text = malloc(size), *paths[] = { path };
	struct input *input = input_new(paths, 1);

	(void)state;
	assert_non_null(text);
	memset(text, ' ', size);
	write_file(text, size);
	expect_bad(input, ":1: the line is longer than 8388608 bytes");
	expect_end(input);
	free(text);
}

static void test_a_silent_pipe_is_idle(void **state)
{
	char name[] = "-", *paths[] = { name };
	struct input *input = input_new(paths, 1);
	struct duplicate_command command;
	struct fault fault;
	int saved = dup(STDIN_FILENO), ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
	close(ends[0]);
	assert_int_equal(input_next(input, pool, &command, &fault), INPUT_IDLE);
	assert_int_equal(write(ends[1], "{\"traceId\":", 11), 11);
	assert_int_equal(input_next(input, pool, &command, &fault), INPUT_IDLE);
	assert_int_equal(write(ends[1], "\"a\"}\n{", 6), 6);
	assert_int_equal(input_next(input, pool, &command, &fault), INPUT_COMMAND);
	assert_string_equal(command.head.trace_id, "a");
	assert_string_equal(input_place(input), "standard input:1");
	close(ends[1]);
	expect_bad(input, "standard input:2: ");
	expect_end(input);
	dup2(saved, STDIN_FILENO);
	close(saved);
}

/* --- API key --- */

static void check_digest(const char *key_path, const char *wanted)
{
	uint8_t digest[CAMPAIGN_DIGEST_BYTES];
	struct fault fault;
	bool given;

	assert_int_equal(apikey_digest(key_path, digest, &given, &fault), 0);
	assert_true(given);
	for (int i = 0; i < CAMPAIGN_DIGEST_BYTES; i++) {
		char hex[3];

		snprintf(hex, sizeof hex, "%02x", digest[i]);
		assert_memory_equal(hex, wanted + (size_t)2 * (size_t)i, 2);
	}
}

/* SHA-256 of "abc" (FIPS 180-4's example). */
static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static void test_the_key_comes_from_file_or_environment(void **state)
{
	uint8_t digest[CAMPAIGN_DIGEST_BYTES];
	struct fault fault;
	bool given;

	(void)state;
	unsetenv("CAMPAIGN_API_KEY");
	assert_int_equal(apikey_digest(NULL, digest, &given, &fault), 0);
	assert_false(given);
	setenv("CAMPAIGN_API_KEY", "abc", 1);
	check_digest(NULL, abc);
	setenv("CAMPAIGN_API_KEY", "other", 1);
	write_file("abc", 3);
	check_digest(path, abc);
	write_file("abc\n", 4);
	check_digest(path, abc);
	write_file("abc\r\n", 5);
	check_digest(path, abc);
	unsetenv("CAMPAIGN_API_KEY");
}

static void test_keys_that_are_none(void **state)
{
	static char text[5000];
	uint8_t digest[CAMPAIGN_DIGEST_BYTES];
	struct fault fault;
	bool given;

	(void)state;
	write_file("\n", 1);
	assert_int_equal(apikey_digest(path, digest, &given, &fault), -1);
	assert_non_null(strstr(fault.msg, "is empty"));
	memset(text, 'k', sizeof text);
	write_file(text, sizeof text);
	assert_int_equal(apikey_digest(path, digest, &given, &fault), -1);
	assert_non_null(strstr(fault.msg, "longer than 4096 bytes"));
	assert_int_equal(apikey_digest("/nonexistent/key", digest, &given, &fault), -1);
	assert_non_null(strstr(fault.msg, "/nonexistent/key: No such file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_bad_line_does_not_hide_the_others),
		cmocka_unit_test(test_lines_longer_than_a_read),
		cmocka_unit_test(test_an_overlong_last_line),
		cmocka_unit_test(test_a_silent_pipe_is_idle),
		cmocka_unit_test(test_the_key_comes_from_file_or_environment),
		cmocka_unit_test(test_keys_that_are_none),
	};

	return cmocka_run_group_tests_name("producer", tests, setup, teardown);
}
