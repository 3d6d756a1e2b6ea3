/* The table of reasons, and the details that are made of it. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/details.h"
#include "schemas/duplicate.h"
#include "worker/sql/sql.h"

#define COUNT(array) (sizeof array / sizeof array[0])

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

static void lists_every_reason(void **state)
{
	static const struct {
		const char *word, *code;
		int status;
		bool retryable, dead_letter;
	} expected[] = {
		{ "undecodable", "VALIDATION_ERROR", 400, false, true },
		{ "too_large", "VALIDATION_ERROR", 400, false, true },
		{ "tombstone", "VALIDATION_ERROR", 400, false, true },
		{ "unknown_schema", "VALIDATION_ERROR", 400, false, true },
		{ "key_mismatch", "VALIDATION_ERROR", 400, false, true },
		{ "invalid_field", "VALIDATION_ERROR", 400, false, false },
		{ "draft_deleted", "CONFLICT", 409, false, false },
		{ "expired", "UPSTREAM_ERROR", 502, true, false },
		{ "key_missing", "UNAUTHORIZED", 401, false, false },
		{ "key_unknown", "UNAUTHORIZED", 401, false, false },
		{ "key_revoked", "UNAUTHORIZED", 401, false, false },
		{ "permission_missing", "FORBIDDEN", 403, false, false },
		{ "account_group_denied", "FORBIDDEN", 403, false, false },
		{ "trace_reused", "CONFLICT", 409, false, false },
		{ "rate_limited", "RATE_LIMITED", 429, true, false },
		{ "campaign_not_found", "NOT_FOUND", 404, false, false },
		{ "audience_not_found", "NOT_FOUND", 404, false, false },
		{ "audience_populating", "AUDIENCE_NOT_READY", 409, true, false },
		{ "lead_not_in_audience", "VALIDATION_ERROR", 400, false, false },
		{ "audience_too_large", "VALIDATION_ERROR", 400, false, false },
		{ "lead_active", "CONFLICT", 409, false, false },
		{ "result_too_large", "INTERNAL_ERROR", 500, false, true },
		{ "database_error", "INTERNAL_ERROR", 500, false, true },
		{ "rows_locked", "UPSTREAM_ERROR", 502, true, false },
	};
	size_t count = 0;

	(void)state;
	while (contract_reason(&duplicate_contract, count))
		count++;
	assert_int_equal(count, COUNT(expected));
	for (size_t i = 0; i < COUNT(expected); i++) {
		const struct reason *reason = contract_find_reason(&duplicate_contract, expected[i].word);

		if (reason == NULL)
			fail_msg("%s", expected[i].word);
		assert_string_equal(reason->word, expected[i].word);
		assert_string_equal(reason->code, expected[i].code);
		assert_int_equal(reason->http_status, expected[i].status);
		assert_int_equal(reason->retryable, expected[i].retryable);
		assert_int_equal(reason->dead_letter, expected[i].dead_letter);
		assert_true(strlen(reason->message) > 10);
		assert_int_equal(reason->message[strlen(reason->message) - 1], '.');
	}
	assert_null(contract_find_reason(&duplicate_contract, ""));
	assert_null(contract_find_reason(&duplicate_contract, "no_such_reason"));
}

/* Every word that the statement gives as a verdict: behind THEN, up to the next quote. */
static void the_statement_gives_known_words_only(void **state)
{
	size_t found = 0;

	(void)state;
	for (const char *at = sql_execute; (at = strstr(at, "THEN '")) != NULL; at++) {
		const char *word = at + strlen("THEN '"), *end = strchr(word, '\'');
		const struct reason *reason;

		word = arena_strndup(arena, word, (size_t)(end - word));
		if (!islower((unsigned char)*word) || strcmp(word, "existing") == 0)
			continue;
		found++;
		reason = contract_find_reason(&duplicate_contract, word);
		if (reason == NULL || reason->details == NULL)
			fail_msg("%s is not in the table, or nothing is said of it", word);
	}
	assert_in_range(found, 10, 100);
}

static const char *say_details(const char *template, const char *first, const char *second, const char *third)
{
	static const struct duplicate_command command = { .head = { .trace_id = "t-1", .account_group_id = "g-1", .has_expiry = true,
								    .expires_at_ms = 1763889350000 },
							  .campaign_id = "c-1", .audience_id = "a-1" };
	const char *const texts[] = { first, second, third };

	return details_format(template, duplicate_contract.command, &command, texts, COUNT(texts), arena);
}

static void fills_templates(void **state)
{
	static const struct {
		const char *template, *texts[3], *said;
	} cases[] = {
		{ "", { NULL }, "" },
		{ "plain", { NULL }, "plain" },
		{ "expiresAt {expiresAt} had passed", { NULL }, "expiresAt 2025-11-23T09:15:50.000Z had passed" },
		{ "{traceId}{accountGroupId}", { NULL }, "t-1g-1" },
		{ "name {name}.", { NULL }, "name ." },
		{ "{2}, {1} and {9}", { "one", "two" }, "two, one and " },
		{ "[list {1} of ]audience {audienceId}", { "l" }, "list l of audience a-1" },
		{ "[list {1} of ]audience {audienceId}", { NULL }, "audience a-1" },
		{ "[{name}]{1}", { "x" }, "x" },
		{ "{1:rate}", { "100000" }, "10 per second" },
		{ "{1:rate}", { "60000000" }, "1 per minute" },
		{ "{1:rate}", { "1800000000" }, "2 per hour" },
		{ "{1:rate}", { "700000" }, "1 per 0.7 s" },
		{ "{1:rate}", { "0" }, "1 per 0 s" },
		{ "{1:list}", { "a", "1" }, "a" },
		{ "{1:list}", { "a,b", "2" }, "a and b" },
		{ "{1:list}", { "a,b,c", "3" }, "a, b and c" },
		{ "{1:list}", { "a,b,c", "4" }, "a, b, c and 1 more" },
		{ "{1:list}", { NULL, "4" }, "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_string_equal(say_details(cases[i].template, cases[i].texts[0], cases[i].texts[1], cases[i].texts[2]),
				    cases[i].said);
}

/* A template that names a field which is not there, or a form that is not known, would abort. */
static void fills_every_template_of_the_table(void **state)
{
	const struct reason *reason;

	(void)state;
	for (size_t i = 0; (reason = contract_reason(&duplicate_contract, i)) != NULL; i++)
		if (reason->details) {
			const char *said = say_details(reason->details, "10", "20", "30");

			assert_true(strlen(said) > 10);
			assert_null(strpbrk(said, "{}[]"));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_every_reason),
		cmocka_unit_test(the_statement_gives_known_words_only),
		cmocka_unit_test(fills_templates),
		cmocka_unit_test(fills_every_template_of_the_table),
	};

	return cmocka_run_group_tests_name("reason", tests, set_up, tear_down);
}
