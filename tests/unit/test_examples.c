/* schemas/examples/: a pair for every outcome. NAME.result.json is the event, NAME.response.http what it becomes. Run from
 * the top of the tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"
#include "schemas/duplicate.h"
#include "schemas/json.h"

#define FOLDER "schemas/examples/"

static struct arena *arena;
static struct codec *codec;
static glob_t events;

static int setup(void **state)
{
	struct fault fault;

	(void)state;
	arena = arena_new(0);
	codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	return codec && glob(FOLDER "*.result.json", 0, NULL, &events) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	globfree(&events);
	codec_free(codec);
	arena_free(arena);
	return 0;
}

static char *read_file(const char *path)
{
	static char text[64 * 1024];
	FILE *file = fopen(path, "r");
	size_t size;

	if (file == NULL)
		fail_msg("%s cannot be opened", path);
	size = fread(text, 1, sizeof text, file);
	fclose(file);
	assert_true(size < sizeof text);
	return arena_strndup(arena, text, size);
}

/* The event, without its line break. */
static char *read_event(const char *path)
{
	char *text = read_file(path);
	size_t len = strlen(text);

	assert_true(len > 0 && text[len - 1] == '\n');
	text[len - 1] = '\0';
	return text;
}

static void parse_event(const char *path, struct command_result *result)
{
	const char *text = read_event(path);
	struct fault fault;

	if (result_from_json(&duplicate_contract, text, strlen(text), arena, result, &fault) != 0)
		fail_msg("%s: %s", path, fault.msg);
}

static const char *response_path(const char *path)
{
	return arena_printf(arena, "%.*s.response.http", (int)(strlen(path) - strlen(".result.json")), path);
}

static void test_events_survive_avro(void **state)
{
	(void)state;
	for (size_t i = 0; i < events.gl_pathc; i++) {
		struct command_result result, decoded;
		const void *value;
		struct fault fault;
		size_t size;

		parse_event(events.gl_pathv[i], &result);
		if (codec_encode_result(codec, &result, arena, &value, &size, &fault) != 0 ||
		    codec_decode_result(codec, value, size, arena, &decoded, &fault) != 0)
			fail_msg("%s: %s", events.gl_pathv[i], fault.msg);
		assert_string_equal(result_to_json(&duplicate_contract, &decoded, arena), read_event(events.gl_pathv[i]));
	}
}

static void test_responses_byte_for_byte(void **state)
{
	glob_t responses;

	(void)state;
	for (size_t i = 0; i < events.gl_pathc; i++) {
		struct http_response response;
		struct command_result result;

		parse_event(events.gl_pathv[i], &result);
		result_to_http(&duplicate_contract, &result, arena, &response);
		assert_string_equal(http_response_text(&response, arena), read_file(response_path(events.gl_pathv[i])));
	}
	assert_int_equal(glob(FOLDER "*.response.http", 0, NULL, &responses), 0);
	assert_int_equal(responses.gl_pathc, events.gl_pathc);
	globfree(&responses);
}

static size_t index_of(const struct reason *wanted)
{
	const struct reason *reason;
	size_t i = 0;

	while ((reason = contract_reason(&duplicate_contract, i)) != NULL && reason != wanted)
		i++;
	return i;
}

/* The worker would say the same. */
static void test_they_agree_with_the_table_of_reasons(void **state)
{
	const struct reason *reason;
	int seen[64] = { 0 }, successes = 0;

	(void)state;
	for (size_t i = 0; i < events.gl_pathc; i++) {
		struct command_result result;

		parse_event(events.gl_pathv[i], &result);
		assert_int_equal(result.success, result.data != NULL);
		assert_int_equal(result.success, result.error_code == NULL);
		if (result.success) {
			assert_int_equal(result.http_status, duplicate_contract.success_status);
			assert_false(result.retryable || result.has_retry_after);
			successes++;
			continue;
		}
		reason = contract_find_reason(&duplicate_contract, result.reason);
		if (reason == NULL)
			fail_msg("%s: no such reason: %s", events.gl_pathv[i], result.reason);
		seen[index_of(reason)]++;
		assert_int_equal(result.http_status, reason->http_status);
		assert_int_equal(result.retryable, reason->retryable);
		assert_string_equal(result.error_code, reason->code);
		assert_string_equal(result.error_message, reason->message);
		assert_true(strlen(result.error_details) > 0);
		assert_int_equal(result.has_retry_after, strcmp(reason->word, "rate_limited") == 0);
		assert_false(result.draft_existed);
	}
	assert_true(successes > 0);
	for (size_t i = 0; (reason = contract_reason(&duplicate_contract, i)) != NULL; i++)
		if (!seen[i])
			fail_msg("there is no example for reason \"%s\"", reason->word);
}

/* A draft of this command, one that was there before; its nullable fields all null and all set. */
static void test_kinds_of_success(void **state)
{
	bool created = false, existed = false, all_null = false, all_set = false;

	(void)state;
	for (size_t i = 0; i < events.gl_pathc; i++) {
		const struct campaign *data;
		struct command_result result;

		parse_event(events.gl_pathv[i], &result);
		data = result.data;
		if (data == NULL)
			continue;
		created |= !result.draft_existed;
		existed |= result.draft_existed;
		all_null |= !data->description && !data->outreach_language && !data->has_started_at &&
			    !data->has_rate_limited_until;
		all_set |= data->description && data->outreach_language && data->has_started_at && data->has_rate_limited_until;
	}
	assert_true(created);
	assert_true(existed);
	assert_true(all_null);
	assert_true(all_set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events_survive_avro),
		cmocka_unit_test(test_responses_byte_for_byte),
		cmocka_unit_test(test_they_agree_with_the_table_of_reasons),
		cmocka_unit_test(test_kinds_of_success),
	};

	return cmocka_run_group_tests_name("examples", tests, setup, teardown);
}
