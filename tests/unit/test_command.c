#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "schemas/command.h"
#include "schemas/digest.h"
#include "schemas/duplicate.h"
#include "schemas/id.h"
#include "schemas/murmur2.h"
#include "schemas/result.h"

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

static struct duplicate_command good_command(void)
{
	return (struct duplicate_command){
		.head.trace_id = "trace-1",
		.head.account_group_id = "group-1",
		.campaign_id = "65a000000000000000000001",
		.audience_id = "aud-1",
		.head.issued_at_ms = 1700000000000,
	};
}

/* NULL if the command passes rule 1. */
static const char *check(struct duplicate_command *command)
{
	const char *details = "never set";

	if (command_check(&duplicate_contract, &command->head, arena, &details) == 0) {
		assert_null(details);
		return NULL;
	}
	assert_non_null(details);
	return details;
}

static void assert_details(struct duplicate_command command, const char *expected)
{
	const char *details = check(&command);

	if (details == NULL)
		fail_msg("accepted, expected: %s", expected);
	assert_string_equal(details, expected);
}

static void tells_well_formed_ids(void **state)
{
	char id[CAMPAIGN_ID_MAX + 2];

	(void)state;
	assert_true(id_is_well_formed("a"));
	assert_true(id_is_well_formed("-_09azAZ"));
	assert_true(id_is_well_formed("sk"));
	assert_true(id_is_well_formed("sk-1"));
	assert_true(id_is_well_formed("ask_1"));
	assert_false(id_is_well_formed("sk_"));
	assert_false(id_is_well_formed("sk_live_1"));
	assert_false(id_is_well_formed(""));
	assert_false(id_is_well_formed(NULL));
	memset(id, 'x', sizeof id);
	id[CAMPAIGN_ID_MAX + 1] = '\0';
	assert_false(id_is_well_formed(id));
	id[CAMPAIGN_ID_MAX] = '\0';
	assert_true(id_is_well_formed(id));
	for (int c = 1; c < 256; c++) {
		char one[] = { 'a', (char)c, '\0' };
		int legal = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';

		assert_int_equal(id_is_well_formed(one), legal);
	}
}

static void names_the_first_malformed_id(void **state)
{
	struct duplicate_command command = good_command();

	(void)state;
	assert_null(check(&command));
	command.audience_id = "no id";
	assert_details(command, "audienceId is not a well-formed id: 1 to 64 of A-Z a-z 0-9 _ -");
	command.campaign_id = NULL;
	assert_details(command, "campaignId is missing");
	command.head.account_group_id = "";
	assert_details(command, "accountGroupId is not a well-formed id: 1 to 64 of A-Z a-z 0-9 _ -");
	command.head.trace_id = "sk_live_4242";
	assert_details(command, "traceId is not a well-formed id: it begins with sk_, as an API key does");
}

static void judges_names(void **state)
{
	static const struct {
		const char *name, *details; /* NULL: fine */
	} cases[] = {
		{ "Q3 follow-up", NULL },
		{ " x ", NULL },
		{ "Sp\xc3\xa4te Antwort \xf0\x9f\x99\x82", NULL },
		{ "\xe2\x80\x8f\xd7\x90\xd7\x91 ABC", NULL }, /* right-to-left mark before Hebrew */
		{ "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80", NULL }, /* zero-width joiner within an emoji */
		{ "", "name is empty: 1 to 255 characters, not only white space" },
		{ " ", "name is blank: 1 to 255 characters, not only white space" },
		{ " \xc2\xa0\xe1\x9a\x80\xe2\x80\x8a\xe2\x80\xaf\xe2\x81\x9f\xe3\x80\x80",
		  "name is blank: 1 to 255 characters, not only white space" },
		{ "\xe2\x80\x8b\xef\xbb\xbf\xe2\x81\xa0", "name is blank: 1 to 255 characters, not only white space" },
		{ "\xe2\x80\x8e", "name is blank: 1 to 255 characters, not only white space" },
		{ "\xe1\x85\x9f\xe1\x85\xa0\xef\xbe\xa0", "name is blank: 1 to 255 characters, not only white space" }, /* fillers */
		{ "\xe2\x81\xa1\xe2\x81\xa4\xe2\x81\xaa", "name is blank: 1 to 255 characters, not only white space" },
		{ "\xef\xb8\x8f\xe1\xa0\x8e\xcd\x8f\xf3\xa0\x84\x80", "name is blank: 1 to 255 characters, not only white space" },
		{ "\xe2\x9d\xa4\xef\xb8\x8f", NULL }, /* a heart and the selector of its emoji form */
		{ "a\xef\xb7\x90", "name has a noncharacter at character 2" },
		{ "\xef\xbf\xbf", "name has a noncharacter at character 1" },
		{ "ab\xf4\x8f\xbf\xbe", "name has a noncharacter at character 3" },
		{ "a\nb", "name has a control character at character 2" },
		{ "\ta", "name has a control character at character 1" },
		{ "ab\x7f", "name has a control character at character 3" },
		{ "\xc3\xa4\xc2\x85", "name has a control character at character 2" },
		{ "\xc2\x80", "name has a control character at character 1" },
		{ "\xc2\x9f", "name has a control character at character 1" },
		{ "a\xe2\x80\xa8", "name has a control character at character 2" },
		{ "a\xe2\x80\xa9", "name has a control character at character 2" },
		{ "\xe2\x80\xaa" "a", "name has a bidirectional-override character at character 1" },
		{ "a\xe2\x80\xae" "b", "name has a bidirectional-override character at character 2" },
		{ "a\xe2\x81\xa6", "name has a bidirectional-override character at character 2" },
		{ "a\xe2\x81\xa9", "name has a bidirectional-override character at character 2" },
		{ "a\xff", "name is not UTF-8 at character 2" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct duplicate_command command = good_command();

		command.name = cases[i].name;
		if (cases[i].details)
			assert_details(command, cases[i].details);
		else
			assert_null(check(&command));
	}
}

static void counts_characters_not_bytes(void **state)
{
	struct duplicate_command command = good_command();
	char name[4 * (CAMPAIGN_NAME_MAX_CHARS + 1) + 1] = "";

	(void)state;
	for (int i = 0; i < CAMPAIGN_NAME_MAX_CHARS; i++)
		strcat(name, "\xf0\x9f\x99\x82");
	command.name = name;
	assert_null(check(&command));
	strcat(name, "x");
	assert_details(command, "name is too long: 1 to 255 characters");
}

static void judges_leads(void **state)
{
	static const char *ids[CAMPAIGN_LEADS_MAX + 1];
	struct duplicate_command command = good_command();

	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++)
		ids[i] = "same";
	command.lead_ids = ids;
	assert_details(command, "leadIds is empty: 1 to 10000 ids, or null for all of the audience");
	command.lead_count = CAMPAIGN_LEADS_MAX + 1; /* received, though all are one */
	assert_details(command, "leadIds has 10001 ids: at most 10000");
	command.lead_count = 5;
	ids[3] = "<b>";
	assert_details(command, "leadIds[3] is not a well-formed id: 1 to 64 of A-Z a-z 0-9 _ -");
	ids[3] = "sk_1";
	assert_details(command, "leadIds[3] is not a well-formed id: it begins with sk_, as an API key does");
	ids[3] = NULL;
	assert_details(command, "leadIds[3] is missing");
	ids[3] = "same";
	ids[0] = "a b";
	assert_details(command, "leadIds[0] is not a well-formed id: 1 to 64 of A-Z a-z 0-9 _ -");
	ids[0] = "same";
	command.lead_count = CAMPAIGN_LEADS_MAX;
	assert_null(check(&command));
	assert_int_equal(command.lead_count, 1);
}

static void sorts_leads_bytewise_and_drops_duplicates(void **state)
{
	static const char *const sorted[] = { "-", "0", "A", "B", "_", "a", "aa", "b" };
	const char *ids[] = { "b", "a", "aa", "b", "A", "_", "-", "0", "a", "B", "b" };
	struct duplicate_command command = good_command();

	(void)state;
	command.lead_ids = ids;
	command.lead_count = COUNT(ids);
	assert_null(check(&command));
	assert_int_equal(command.lead_count, COUNT(sorted));
	for (size_t i = 0; i < COUNT(sorted); i++)
		assert_string_equal(command.lead_ids[i], sorted[i]);
}

/* The expected sums were computed with another implementation of SHA-256 over the layout that digest.c documents. */
static void pins_the_digest(void **state)
{
	static const uint8_t key_digest[CAMPAIGN_DIGEST_BYTES] = { /* SHA-256 of "an API key" */
		0x05, 0x57, 0x6e, 0xcd, 0xfc, 0x69, 0xd7, 0x46, 0x46, 0xc5, 0xd3, 0xf9, 0x9f, 0x7b, 0xc2, 0x08,
		0x9d, 0x52, 0xca, 0xd6, 0x86, 0x3a, 0xd2, 0xdf, 0x06, 0xb7, 0x7b, 0x4f, 0x60, 0x02, 0xe1, 0x61,
	};
	static const uint8_t least[CAMPAIGN_DIGEST_BYTES] = {
		0x80, 0x5e, 0x8f, 0xf1, 0xf5, 0x33, 0xcd, 0xcd, 0xb9, 0x61, 0xca, 0xdd, 0x2c, 0x14, 0x7b, 0xb3,
		0xa6, 0x59, 0x4a, 0xdc, 0xc0, 0x5e, 0x0d, 0xcb, 0x67, 0xfb, 0x5a, 0x43, 0xb3, 0x73, 0x04, 0xb4,
	};
	static const uint8_t full[CAMPAIGN_DIGEST_BYTES] = {
		0x56, 0xca, 0xf1, 0xa4, 0xa4, 0x99, 0xd3, 0x9b, 0xff, 0x86, 0xb4, 0xd3, 0xbf, 0xda, 0x22, 0x53,
		0x88, 0x95, 0x51, 0x53, 0x28, 0x32, 0x7d, 0xaf, 0x8a, 0xcb, 0x9d, 0x87, 0xb3, 0xac, 0x31, 0x07,
	};
	const char *ids[] = { "lead-b", "lead-a", "LEAD_c", "lead-a" };
	struct duplicate_command command = good_command();

	(void)state;
	assert_null(check(&command));
	assert_memory_equal(command.head.digest, least, CAMPAIGN_DIGEST_BYTES);
	command.name = "Sp\xc3\xa4te Antwort \xf0\x9f\x99\x82";
	command.lead_ids = ids;
	command.lead_count = COUNT(ids);
	command.head.has_key = true;
	memcpy(command.head.key_digest, key_digest, CAMPAIGN_DIGEST_BYTES);
	assert_null(check(&command));
	assert_memory_equal(command.head.digest, full, CAMPAIGN_DIGEST_BYTES);
}

static void digest_tells_commands_apart(void **state)
{
	const char *one[] = { "x" }, *two[] = { "x", "y" };
	struct duplicate_command commands[9];
	uint8_t digests[COUNT(commands)][CAMPAIGN_DIGEST_BYTES];

	(void)state;
	for (size_t i = 0; i < COUNT(commands); i++)
		commands[i] = good_command();
	commands[1].campaign_id = "65a000000000000000000001a"; /* a byte moved from one field to the next */
	commands[1].audience_id = "ud-1";
	commands[2].name = "x";
	commands[3].lead_ids = one;
	commands[3].lead_count = 1;
	commands[4].lead_ids = two;
	commands[4].lead_count = 2;
	commands[5].head.has_key = true;
	commands[6].head.has_key = true;
	commands[6].head.key_digest[31] = 1;
	commands[7].audience_id = "aud-2";
	commands[8].name = "";
	for (size_t i = 0; i < COUNT(commands); i++) {
		digest_fields(duplicate_contract.command, &commands[i], digests[i]);
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(digests[i], digests[k], CAMPAIGN_DIGEST_BYTES);
	}
	/* what does not make another command: the trace, the group, the times */
	commands[0].head.trace_id = "other";
	commands[0].head.account_group_id = "other";
	commands[0].head.issued_at_ms = 0;
	commands[0].head.has_expiry = true;
	digest_fields(duplicate_contract.command, &commands[0], digests[1]);
	assert_memory_equal(digests[0], digests[1], CAMPAIGN_DIGEST_BYTES);
}

/* A table as it will be when a field is added: commands that do not set it keep their digest. */
static void sums_an_added_field_only_where_it_is_set(void **state)
{
	struct extended {
		struct duplicate_command command;
		const char *note;
		bool has_count;
		int64_t count;
	} extended = { .command = good_command() };
	struct field fields[16];
	struct record_type type = *duplicate_contract.command;
	uint8_t before[CAMPAIGN_DIGEST_BYTES], digests[4][CAMPAIGN_DIGEST_BYTES];
	int places = 0;

	(void)state;
	for (size_t i = 0; i < type.count; i++)
		places += type.fields[i].digest > 0;
	memcpy(fields, type.fields, type.count * sizeof fields[0]);
	fields[type.count++] = (struct field){ "note", FIELD_TEXT, AT(extended, note), .nullable = true, .digest = places + 1,
					       .added = true };
	fields[type.count++] = (struct field){ "count", FIELD_LONG, AT(extended, count), BESIDE(extended, has_count),
					       .nullable = true, .digest = places + 2, .added = true };
	type.fields = fields;
	digest_fields(duplicate_contract.command, &extended, before);
	digest_fields(&type, &extended, digests[0]);
	assert_memory_equal(before, digests[0], CAMPAIGN_DIGEST_BYTES);
	extended.note = "";
	digest_fields(&type, &extended, digests[1]);
	extended.note = NULL;
	extended.has_count = true;
	digest_fields(&type, &extended, digests[2]);
	extended.note = "";
	digest_fields(&type, &extended, digests[3]);
	for (size_t i = 0; i < COUNT(digests); i++)
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(digests[i], digests[k], CAMPAIGN_DIGEST_BYTES);
}

static void places_in_the_digest_have_no_gap(void **state)
{
	const struct record_type *type = duplicate_contract.command;
	size_t places[32] = { 0 }, highest = 0;

	(void)state;
	for (size_t i = 0; i < type->count; i++) {
		const struct field *field = &type->fields[i];

		assert_true(field->digest >= 0 && field->digest < (int)COUNT(places));
		assert_true(!field->added || (field->nullable && field->digest > 1));
		places[field->digest]++;
		if ((size_t)field->digest > highest)
			highest = (size_t)field->digest;
	}
	for (size_t place = 1; place <= highest; place++)
		assert_int_equal(places[place], 1);
}

/* Microseconds, nanoseconds and .NET's ticks of today are far beyond, and what a sign turned round is before. */
static void refuses_times_of_other_units(void **state)
{
	static const int64_t bad[] = { -1, INT64_MIN, 253402300800000, INT64_MAX, 1795000000000000, 1795000000000000000 };
	static const int64_t good[] = { 0, 1, 1795000000000, 253402300799999 };

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct duplicate_command command = good_command();
		struct command_result result = { 0 };

		command.head.issued_at_ms = bad[i];
		assert_details(command, "issuedAt is outside the years 1970 to 9999: milliseconds since 1970 are wanted");
		result_describe(&result, &duplicate_contract, &command.head);
		assert_false(result.has_issued_at);
		command = good_command();
		command.head.expires_at_ms = bad[i];
		assert_null(check(&command)); /* not given */
		command.head.has_expiry = true;
		assert_details(command, "expiresAt is outside the years 1970 to 9999: milliseconds since 1970 are wanted");
	}
	for (size_t i = 0; i < COUNT(good); i++) {
		struct duplicate_command command = good_command();

		command.head.issued_at_ms = command.head.expires_at_ms = good[i];
		command.head.has_expiry = true;
		assert_null(check(&command));
	}
}

static void describes_and_refuses_and_accepts(void **state)
{
	static const struct campaign campaign = { .id = "65a000000000000000000009" };
	struct duplicate_command command = good_command();
	struct command_result result = { .trace_id = "from-header", .has_retry_after = true, .draft_existed = true };

	(void)state;
	command.head.trace_id = "sk_secret";
	command.audience_id = "<script>";
	result_describe(&result, &duplicate_contract, &command.head);
	assert_string_equal(result.trace_id, "from-header");
	assert_string_equal(result.account_group_id, "group-1");
	assert_string_equal(result.source_campaign_id, "65a000000000000000000001");
	assert_null(result.audience_id);
	assert_true(result.has_issued_at);
	assert_int_equal(result.issued_at_ms, 1700000000000);
	command.head.trace_id = "trace-1";
	command.audience_id = "aud-1";
	result_describe(&result, &duplicate_contract, &command.head);
	assert_string_equal(result.audience_id, "aud-1");
	assert_string_equal(result.trace_id, "trace-1");

	result_refuse(&result, contract_find_reason(&duplicate_contract, "lead_active"), "lead-1 is enrolled in campaign c-1");
	assert_false(result.success || result.retryable || result.has_retry_after || result.draft_existed);
	assert_null(result.data);
	assert_null(result_id(&result, &duplicate_contract));
	assert_int_equal(result.http_status, 409);
	assert_string_equal(result.error_code, "CONFLICT");
	assert_string_equal(result.error_details, "lead-1 is enrolled in campaign c-1");
	assert_string_equal(result.reason, "lead_active");

	result_accept(&result, &duplicate_contract, &campaign, true);
	assert_true(result.success && result.draft_existed && result.data == &campaign);
	assert_int_equal(result.http_status, 201);
	assert_string_equal(result_id(&result, &duplicate_contract), campaign.id);
	assert_true(!result.error_code && !result.error_message && !result.error_details && !result.reason);

	result_refuse(&result, contract_find_reason(&duplicate_contract, "rate_limited"), NULL);
	assert_true(result.retryable && !result.success && !result.data);
	assert_string_equal(result.error_details, "");
}

static void makes_new_ids(void **state)
{
	static char ids[1000][NEW_ID_CHARS + 1];
	long before = (long)time(NULL), after;

	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++)
		id_new(ids[i]);
	after = (long)time(NULL);
	for (size_t i = 0; i < COUNT(ids); i++) {
		unsigned seconds;

		assert_int_equal(strlen(ids[i]), NEW_ID_CHARS);
		assert_int_equal(strspn(ids[i], "0123456789abcdef"), NEW_ID_CHARS);
		assert_int_equal(sscanf(ids[i], "%8x", &seconds), 1);
		assert_in_range(seconds, (unsigned)before, (unsigned)after);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(ids[i], ids[k]);
	}
}

/* The sums that Java's Utils.murmur2 gives (kafka-clients 3.9.1). */
static void partitions_as_java_does(void **state)
{
	static const struct {
		const char *key;
		int32_t sum;
	} cases[] = {
		{ "21", -973932308 },
		{ "foobar", -790332482 },
		{ "a-little-bit-long-string", -985981536 },
		{ "a-little-bit-longer-string", -1486304829 },
		{ "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971 },
		{ "abc", 479470107 },
		{ "", 275646681 },
		{ "a", 584102524 },
		{ "ab", 316155434 },
		{ "group-1", 1096880779 },
		{ "Gr\xc3\xbc\xc3\x9f" "e \xf0\x9f\x99\x82", 830064071 },
		{ "\xc3\xa4\xff", 1284007856 }, /* bytes are not sign-extended */
	};
	uint8_t every[256];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(murmur2_positive(cases[i].key, strlen(cases[i].key)), (uint32_t)cases[i].sum & 0x7fffffff);
	for (size_t i = 0; i < sizeof every; i++)
		every[i] = (uint8_t)i;
	assert_int_equal(murmur2_positive(every, sizeof every), 199136374);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_well_formed_ids),
		cmocka_unit_test(names_the_first_malformed_id),
		cmocka_unit_test(judges_names),
		cmocka_unit_test(counts_characters_not_bytes),
		cmocka_unit_test(judges_leads),
		cmocka_unit_test(sorts_leads_bytewise_and_drops_duplicates),
		cmocka_unit_test(pins_the_digest),
		cmocka_unit_test(digest_tells_commands_apart),
		cmocka_unit_test(sums_an_added_field_only_where_it_is_set),
		cmocka_unit_test(places_in_the_digest_have_no_gap),
		cmocka_unit_test(refuses_times_of_other_units),
		cmocka_unit_test(describes_and_refuses_and_accepts),
		cmocka_unit_test(makes_new_ids),
		cmocka_unit_test(partitions_as_java_does),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
