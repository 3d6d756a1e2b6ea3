/* Commands and results as JSON, and the HTTP response of a result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/duplicate.h"
#include "schemas/json.h"
#include "schemas/result.h"
#include "worker/base/clock.h"

static struct arena *arena;

static int setup(void **state)
{
	(void)state;
	arena = arena_new(0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(arena);
	return 0;
}

static const char full_command[] =
	"{\"traceId\":\"t1\",\"accountGroupId\":\"g\",\"campaignId\":\"c\",\"name\":\"N\\u00fc \\ud83d\\ude00\",\"audienceId\":\"a\","
	"\"leadIds\":[\"l2\",\"l1\"],"
	"\"apiKeyDigest\":\"000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1f\","
	"\"issuedAt\":\"2026-11-23T09:15:42.107Z\",\"expiresAt\":1763889350000}";

static void test_command_with_every_field(void **state)
{
	struct duplicate_command command;
	struct fault fault;

	(void)state;
	assert_int_equal(command_from_json(&duplicate_contract, full_command, strlen(full_command), arena, &command.head, &fault), 0);
	assert_string_equal(command.head.trace_id, "t1");
	assert_string_equal(command.head.account_group_id, "g");
	assert_string_equal(command.campaign_id, "c");
	assert_string_equal(command.name, "N\xc3\xbc \xf0\x9f\x98\x80");
	assert_string_equal(command.audience_id, "a");
	assert_int_equal(command.lead_count, 2);
	assert_string_equal(command.lead_ids[0], "l2");
	assert_string_equal(command.lead_ids[1], "l1");
	assert_true(command.head.has_key);
	for (int i = 0; i < CAMPAIGN_DIGEST_BYTES; i++)
		assert_int_equal(command.head.key_digest[i], i);
	assert_int_equal(command.head.issued_at_ms, 1795425342107);
	assert_true(command.head.has_expiry);
	assert_int_equal(command.head.expires_at_ms, 1763889350000);
}

static void test_absent_and_null_are_the_same(void **state)
{
	static const char *const texts[] = {
		"{}",
		" {\"traceId\":null,\"accountGroupId\":null,\"campaignId\":null,\"name\":null,\"audienceId\":null,\"leadIds\":null,"
		"\"apiKeyDigest\":null,\"issuedAt\":null,\"expiresAt\":null} ",
	};
	static const struct duplicate_command nothing;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct duplicate_command command;
		struct fault fault;

		memset(&command, 0x55, sizeof command);
		assert_int_equal(command_from_json(&duplicate_contract, texts[i], strlen(texts[i]), arena, &command.head, &fault), 0);
		assert_null(command.head.trace_id);
		assert_null(command.lead_ids);
		assert_int_equal(command.head.issued_at_ms, nothing.head.issued_at_ms);
		assert_false(command.head.has_key);
		assert_false(command.head.has_expiry);
	}
}

static void test_no_leads_differs_from_all_leads(void **state)
{
	struct duplicate_command command;
	struct fault fault;

	(void)state;
	assert_int_equal(command_from_json(&duplicate_contract, "{\"leadIds\":[]}", 14, arena, &command.head, &fault), 0);
	assert_non_null(command.lead_ids);
	assert_int_equal(command.lead_count, 0);
}

static void test_what_is_refused_in_a_command(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "", "end of file" },
		{ "[]", "command: an object is wanted" },
		{ "{\"traceId\":\"a\",\"traceId\":\"b\"}", "column 24: duplicate object key" },
		{ "{\"tracId\":\"a\"}", "command: unknown key \"tracId\"" },
		{ "{\"traceId\":1}", "traceId: a string is wanted" },
		{ "{\"traceId\":\"\\u0000\"}", "column" },
		{ "{\"leadIds\":\"l1\"}", "leadIds: an array of strings is wanted" },
		{ "{\"leadIds\":[\"l1\",2]}", "leadIds[1]: a string is wanted" },
		{ "{\"leadIds\":[null]}", "leadIds[0]: a string is wanted" },
		{ "{\"apiKeyDigest\":\"00\"}", "apiKeyDigest: 64 hex digits are wanted" },
		{ "{\"apiKeyDigest\":\"zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"}",
		  "apiKeyDigest: 64 hex digits are wanted" },
		{ "{\"issuedAt\":\"2026-02-30T00:00:00.000Z\"}", "issuedAt: a time" },
		{ "{\"issuedAt\":\"2026-02-28T00:00:00Z\"}", "issuedAt: a time" },
		{ "{\"issuedAt\":1.5}", "issuedAt: a time" },
		{ "{\"issuedAt\":true}", "issuedAt: a time" },
		{ "{\"traceId\":\"a\"} {}", "column" },
		{ "{\"traceId\":\"\xff\"}", "column" },
		{ "{'traceId':\"sk_secret\"}", "column" },
		{ "{\n \"traceId\": sk_secret }", "line 2, column" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct duplicate_command command;
		struct fault fault = { 0 };

		assert_int_equal(command_from_json(&duplicate_contract, cases[i].text, strlen(cases[i].text), arena, &command.head, &fault), -1);
		assert_int_equal(fault.kind, FAULT_REJECT);
		if (strstr(fault.msg, cases[i].why) == NULL)
			fail_msg("%s: \"%s\" lacks \"%s\"", cases[i].text, fault.msg, cases[i].why);
		assert_null(strstr(fault.msg, "secret"));
	}
}

static void test_times(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = {
		{ "1970-01-01T00:00:00.000Z", 0 },
		{ "1969-12-31T23:59:59.999Z", -1 },
		{ "2024-02-29T12:00:00.001Z", 1709208000001 },
		{ "9999-12-31T23:59:59.999Z", 253402300799999 },
	};
	static const char *const bad[] = { "", "2024-02-29", "2023-02-29T12:00:00.000Z", "2024-02-29T24:00:00.000Z",
					   "2024-02-29T12:00:00.000", "2024-02-29T12:00:00.000ZZ", "2024-2-29T12:00:00.000Z",
					   " 2024-02-29T12:00:00.000Z", "2024-02-29T12:00:00.1Z", "2024-02-29T12:00:60.000Z" };
	char again[TIME_TEXT_SIZE];
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(clock_parse(good[i].text, &ms), 0);
		assert_int_equal(ms, good[i].ms);
		assert_string_equal(clock_format(ms, again), good[i].text);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (clock_parse(bad[i], &ms) == 0)
			fail_msg("\"%s\" was taken for %lld", bad[i], (long long)ms);
}

static struct command_result refusal(void)
{
	struct command_result result = { .trace_id = "t1", .account_group_id = "g", .command_topic = "commands", .command_partition = 3,
				 .command_offset = INT64_MAX, .command_timestamp_ms = 1, .processed_at_ms = 1500 };

	result_refuse(&result, contract_find_reason(&duplicate_contract, "rate_limited"), "the \"limit\" is\n5 a second");
	result.has_retry_after = true;
	result.retry_after_s = 2;
	return result;
}

static void test_every_key_is_written_in_order(void **state)
{
	struct command_result result = refusal();

	(void)state;
	assert_string_equal(result_to_json(&duplicate_contract, &result, arena),
		"{\"traceId\":\"t1\",\"success\":false,\"data\":null,\"error\":{\"code\":\"RATE_LIMITED\","
		"\"message\":\"Rate limit exceeded.\",\"details\":\"the \\\"limit\\\" is\\n5 a second\"},\"httpStatus\":429,"
		"\"reason\":\"rate_limited\",\"retryable\":true,\"retryAfterSeconds\":2,\"accountGroupId\":\"g\","
		"\"sourceCampaignId\":null,\"audienceId\":null,\"draftExisted\":false,\"command\":{\"topic\":\"commands\","
		"\"partition\":3,\"offset\":9223372036854775807,\"timestamp\":\"1970-01-01T00:00:00.001Z\"},\"issuedAt\":null,"
		"\"processedAt\":\"1970-01-01T00:00:01.500Z\"}");
}

/* Null where that is allowed; the nearest one that has a text elsewhere. */
static void test_times_that_no_text_has(void **state)
{
	static const int64_t times[] = { INT64_MIN, -62135596800001, 253402300800000, INT64_MAX };
	struct command_result result = refusal();

	(void)state;
	result.has_issued_at = true;
	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
		const char *text;

		result.issued_at_ms = result.processed_at_ms = times[i];
		text = result_to_json(&duplicate_contract, &result, arena);
		assert_non_null(strstr(text, "\"issuedAt\":null"));
		assert_non_null(strstr(text, times[i] < 0 ? "\"processedAt\":\"0001-01-01T00:00:00.000Z\"" :
							  "\"processedAt\":\"9999-12-31T23:59:59.999Z\""));
	}
}

/* Avro's -1: the command's record has no timestamp. */
static void test_no_timestamp_is_null(void **state)
{
	struct command_result result = refusal(), again;
	const char *json;
	struct fault fault;

	(void)state;
	result.command_timestamp_ms = -1;
	json = result_to_json(&duplicate_contract, &result, arena);
	assert_non_null(strstr(json, "\"offset\":9223372036854775807,\"timestamp\":null}"));
	assert_int_equal(result_from_json(&duplicate_contract, json, strlen(json), arena, &again, &fault), 0);
	assert_int_equal(again.command_timestamp_ms, -1);
}

static void test_http_response(void **state)
{
	struct command_result result = refusal();
	struct http_response response;

	(void)state;
	result_to_http(&duplicate_contract, &result, arena, &response);
	assert_int_equal(response.status, 429);
	assert_string_equal(http_response_text(&response, arena),
		"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 150\r\nRetry-After: 2\r\n\r\n"
		"{\"success\":false,\"data\":null,\"error\":{\"code\":\"RATE_LIMITED\",\"message\":\"Rate limit exceeded.\","
		"\"details\":\"the \\\"limit\\\" is\\n5 a second\"},\"traceId\":\"t1\"}");
	result.http_status = 418; /* of a worker younger than this reader */
	result_to_http(&duplicate_contract, &result, arena, &response);
	assert_string_equal(response.reason_phrase, "");
}

static void test_position(void **state)
{
	(void)state;
	assert_string_equal(position_to_json("t\"1", "commands", 2, 7, arena),
			    "{\"traceId\":\"t\\\"1\",\"topic\":\"commands\",\"partition\":2,\"offset\":7}");
}

/* Each key of the event, left out, null, or of another type. */
static void test_result_is_read_strictly(void **state)
{
	static const struct {
		const char *from, *to, *why;
	} changes[] = {
		{ "\"traceId\":\"t1\",", "", "traceId: missing" },
		{ "\"retryable\":true", "\"retryable\":null", "retryable: may not be null" },
		{ "\"retryable\":true", "\"retryable\":1", "retryable: true or false is wanted" },
		{ "\"partition\":3", "\"partition\":3000000000", "partition: an integer of 32 bits is wanted" },
		{ "\"code\":\"RATE_LIMITED\"", "\"code\":null", "code: may not be null" },
		{ "\"code\":\"RATE_LIMITED\"", "\"cod\":\"RATE_LIMITED\"", "error: unknown key \"cod\"" },
		{ "\"data\":null", "\"data\":[]", "data: an object is wanted" },
		{ "\"command\":{", "\"command\":null,\"x\":{", "unknown key \"x\"" },
		{ "\"offset\":9223372036854775807", "\"offset\":1e3", "offset: an integer is wanted" },
	};
	struct command_result result = refusal();
	const char *text = result_to_json(&duplicate_contract, &result, arena);
	struct fault fault;

	(void)state;
	assert_int_equal(result_from_json(&duplicate_contract, text, strlen(text), arena, &result, &fault), 0);
	assert_string_equal(result_to_json(&duplicate_contract, &result, arena), text);
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		const char *at = strstr(text, changes[i].from);
		const char *changed = arena_printf(arena, "%.*s%s%s", (int)(at - text), text, changes[i].to,
						   at + strlen(changes[i].from));

		assert_int_equal(result_from_json(&duplicate_contract, changed, strlen(changed), arena, &result, &fault), -1);
		if (strstr(fault.msg, changes[i].why) == NULL)
			fail_msg("\"%s\" lacks \"%s\"", fault.msg, changes[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_command_with_every_field),
		cmocka_unit_test(test_absent_and_null_are_the_same),
		cmocka_unit_test(test_no_leads_differs_from_all_leads),
		cmocka_unit_test(test_what_is_refused_in_a_command),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_every_key_is_written_in_order),
		cmocka_unit_test(test_times_that_no_text_has),
		cmocka_unit_test(test_no_timestamp_is_null),
		cmocka_unit_test(test_http_response),
		cmocka_unit_test(test_position),
		cmocka_unit_test(test_result_is_read_strictly),
	};

	return cmocka_run_group_tests_name("json", tests, setup, teardown);
}
