/* A dead letter's headers, written and read. tests/component/test_publisher.c has their names and bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/dead_letter.h"

#define HEADER(name, text) { name, text, sizeof text - 1 }

static struct arena *arena;

static int set_up(void **state)
{
	(void)state;
	arena = arena_new(0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	arena_free(arena);
	return 0;
}

static struct dead_letter a_letter(void)
{
	return (struct dead_letter){ .topic = "commands", .partition = -7, .offset = INT64_MAX - 1, .timestamp_ms = -1,
				     .group = "workers", .message = "", .reason = "undecodable", .answered = "VALIDATION_ERROR" };
}

static void assert_same(const char *a, const char *b)
{
	assert_int_equal(a == NULL, b == NULL);
	if (a)
		assert_string_equal(a, b);
}

static void reads_what_was_written(void **state)
{
	static const struct header originals[] = { HEADER("mine", "1"), HEADER("reason", "of an earlier life"),
						   HEADER("kafka_dlt-original-fqcn", "x") };
	struct record record = { .headers = originals, .header_count = 3 };
	struct dead_letter letter = a_letter(), again;
	const struct header *headers;
	struct fault fault;
	size_t count;

	(void)state;
	for (int cut = 0; cut < 2; cut++) {
		if (cut)
			dead_letter_cut(&letter, "abc", 3, arena);
		count = dead_letter_write(&letter, &record, arena, &headers);
		assert_int_equal(count, cut ? 11 : 9);
		assert_string_equal(headers[0].name, "mine");
		assert_int_equal(dead_letter_read(&again, headers, count, arena, &fault), 0);
		assert_same(again.topic, letter.topic);
		assert_int_equal(again.partition, letter.partition);
		assert_int_equal(again.offset, letter.offset);
		assert_int_equal(again.timestamp_ms, letter.timestamp_ms);
		assert_same(again.group, letter.group);
		assert_same(again.message, letter.message);
		assert_same(again.reason, letter.reason);
		assert_same(again.answered, letter.answered);
		assert_same(again.original_sha256, letter.original_sha256);
		assert_same(again.original_size, letter.original_size);
	}
	assert_string_equal(letter.original_sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_string_equal(letter.original_size, "3");
}

static void leaves_out_what_there_is_not(void **state)
{
	struct dead_letter letter = a_letter(), again;
	struct record record = { 0 };
	const struct header *headers;
	struct fault fault;
	size_t count;

	(void)state;
	letter.answered = NULL;
	count = dead_letter_write(&letter, &record, arena, &headers);
	assert_int_equal(count, 7);
	assert_int_equal(dead_letter_read(&again, headers, count, arena, &fault), 0);
	assert_null(again.answered);
	assert_null(again.original_size);
}

static void names_what_is_wrong(void **state)
{
	struct dead_letter letter = a_letter();
	struct record record = { 0 };
	const struct header *written;
	struct header headers[16];
	struct fault fault;
	size_t count;

	(void)state;
	count = dead_letter_write(&letter, &record, arena, &written);
	memcpy(headers, written, count * sizeof headers[0]);
	assert_int_equal(dead_letter_read(&letter, headers + 1, count - 1, arena, &fault), -1);
	assert_int_equal(fault.kind, FAULT_REJECT);
	assert_string_equal(fault.msg, "header kafka_dlt-original-topic is missing");
	headers[2].size = 3;
	assert_int_equal(dead_letter_read(&letter, headers, count, arena, &fault), -1);
	assert_string_equal(fault.msg, "header kafka_dlt-original-offset has 3 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_was_written),
		cmocka_unit_test(leaves_out_what_there_is_not),
		cmocka_unit_test(names_what_is_wrong),
	};

	return cmocka_run_group_tests_name("dead_letter", tests, set_up, tear_down);
}
