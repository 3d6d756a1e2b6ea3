/* A dead letter's headers, written and read. tests/component/test_publisher.c has their names and bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/dead_letter.h"

#define ROOM 100 /* bytes for the original's headers */
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
	static const struct header originals[] = { HEADER("reason", "mine"), HEADER("campaign-dlt-answered", "of an earlier life"),
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
		count = dead_letter_write(&letter, &record, ROOM, arena, &headers);
		assert_int_equal(count, cut ? 11 : 9);
		assert_string_equal(headers[0].name, "reason");
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
		assert_null(again.headers_left_out);
	}
	assert_string_equal(letter.original_sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_string_equal(letter.original_size, "3");
}

/* What is kept of these, by the first letters of their names, and how many are not. */
static void assert_kept(const struct header *originals, size_t n, const char *kept, const char *left_out)
{
	struct record record = { .headers = originals, .header_count = n };
	struct dead_letter letter = a_letter(), again;
	char names[32] = "";
	const struct header *headers;
	struct fault fault;
	size_t count = dead_letter_write(&letter, &record, ROOM, arena, &headers);

	for (size_t i = 0; i < count && strncmp(headers[i].name, "kafka_dlt-", 10) != 0; i++)
		names[i] = headers[i].name[0];
	assert_string_equal(names, kept);
	assert_int_equal(dead_letter_read(&again, headers, count, arena, &fault), 0);
	assert_same(again.headers_left_out, left_out);
}

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define COUNT(array) (sizeof array / sizeof array[0])

static void skips_only_what_is_too_large(void **state)
{
	static char large[ROOM + 1], most[ROOM - 5], id[65];
	const struct header first_large[] = { { "a", large, ROOM }, HEADER("b", "1"), HEADER("c", "2") };
	const struct header exactly[] = { { "a", most, sizeof most }, HEADER("b", "1"), HEADER("c", ""), HEADER("d", "") };
	const struct header trace[] = { { "a", large, ROOM - 1 }, HEADER("b", ""), HEADER("traceId", "t-1"), HEADER("traceparent", PARENT),
					HEADER("tracestate", "x=1"), { "c", NULL, 0 } };
	const struct header no_trace[] = { { "a", large, ROOM - 1 }, HEADER("traceId", "not well-formed"), HEADER("traceparent", "00"),
					   HEADER("tracestate", "x=1"), { "traceId", id, 65 }, { "traceId", NULL, 0 } };
	const struct header earlier[] = { { "a", large, ROOM - 1 }, HEADER("traceId", "t-1"), HEADER("traceId", "t-2"), HEADER("traceId", "t 3") };
	const struct header reserved[] = { { "kafka_dlt-original-topic", large, ROOM }, { "campaign-dlt-x", large, ROOM }, HEADER("b", "1") };

	(void)state;
	memset(id, 'a', sizeof id);
	assert_kept(first_large, COUNT(first_large), "bc", "1");
	assert_kept(exactly, COUNT(exactly), "abcd", NULL);
	assert_kept(trace, COUNT(trace), "attt", "2");
	assert_kept(no_trace, COUNT(no_trace), "a", "5");
	assert_kept(earlier, COUNT(earlier), "at", "2");
	assert_kept(reserved, COUNT(reserved), "b", NULL);
}

static void keeps_many(void **state)
{
	static struct header many[1200];
	struct record record = { .headers = many, .header_count = COUNT(many) };
	struct dead_letter letter = a_letter(), again;
	const struct header *headers;
	struct fault fault;
	size_t count;

	(void)state;
	for (size_t i = 0; i < COUNT(many); i++)
		many[i] = (struct header)HEADER("m", "");
	many[1199] = (struct header)HEADER("traceId", "t-1");
	count = dead_letter_write(&letter, &record, 16384, arena, &headers);
	assert_int_equal(count, 1000 + 1 + 9);
	assert_string_equal(headers[1000].name, "traceId");
	assert_int_equal(dead_letter_read(&again, headers, count, arena, &fault), 0);
	assert_string_equal(again.headers_left_out, "199");
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
	count = dead_letter_write(&letter, &record, ROOM, arena, &headers);
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
	count = dead_letter_write(&letter, &record, ROOM, arena, &written);
	memcpy(headers, written, count * sizeof headers[0]);
	assert_int_equal(dead_letter_read(&letter, headers + 1, count - 1, arena, &fault), -1);
	assert_int_equal(fault.kind, FAULT_REJECT);
	assert_string_equal(fault.msg, "header kafka_dlt-original-topic is missing");
	for (size_t i = 0; i < 7; i++) { /* all but who was answered is needed */
		memcpy(headers, written, count * sizeof headers[0]);
		headers[i].value = NULL;
		assert_int_equal(dead_letter_read(&letter, headers, count, arena, &fault), -1);
		assert_string_equal(fault.msg, arena_printf(arena, "header %s is missing", headers[i].name));
	}
	memcpy(headers, written, count * sizeof headers[0]);
	headers[2].size = 3;
	assert_int_equal(dead_letter_read(&letter, headers, count, arena, &fault), -1);
	assert_string_equal(fault.msg, "header kafka_dlt-original-offset has 3 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_was_written),
		cmocka_unit_test(skips_only_what_is_too_large),
		cmocka_unit_test(keeps_many),
		cmocka_unit_test(leaves_out_what_there_is_not),
		cmocka_unit_test(names_what_is_wrong),
	};

	return cmocka_run_group_tests_name("dead_letter", tests, set_up, tear_down);
}
