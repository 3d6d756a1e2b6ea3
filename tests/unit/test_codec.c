/* Framings, writer schemas older and newer, round trips, and every hostile record. SEED=<n> repeats the random part.
 * Longer than 600 lines: all of it is put together with the same builder of bytes and schemas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "schemas/codec.h"
#include "schemas/command.h"
#include "schemas/duplicate.h"
#include "schemas/writer_schema.h"
#include "schemas/fingerprint.h"
#include "schemas/guard.h"
#include "schemas/result.h"
#include "bytes.h"

#define COUNT(array) (sizeof array / sizeof array[0])
#define HEADER 10 /* of single-object encoding */

static struct codec *codec;

/* Schemas that the common codec's source has, by id. */
static struct {
	uint32_t id;
	const char *json;
} known[4];
static size_t known_count;

static int find_known(void *arg, uint32_t id, char **json, struct fault *fault)
{
	(void)arg, (void)fault;
	for (size_t i = 0; i < known_count; i++)
		if (known[i].id == id)
			*json = strdup(known[i].json);
	return 0;
}

static const struct schema_source known_source = { find_known, NULL };

static void know(uint32_t id, const char *json)
{
	assert_true(known_count < sizeof known / sizeof known[0]);
	known[known_count].id = id;
	known[known_count++].json = json;
}
static struct arena *arena;
static char folder[64];

static int set_up(void **state)
{
	struct fault fault;

	(void)state;
	codec = codec_new(&duplicate_contract, NULL, &known_source, &fault);
	arena = arena_new(1024 * 1024);
	strcpy(folder, "/tmp/test_codec.XXXXXX");
	return codec && mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	codec_free(codec);
	arena_free(arena);
	return rmdir(folder);
}

static const char *const leads[] = { "lead-2", "lead-1", "", "lead-1" };

static struct duplicate_command full_command(void)
{
	struct duplicate_command command = {
		.head.trace_id = "trace-1",
		.head.account_group_id = "group-1",
		.campaign_id = "65a000000000000000000001",
		.name = "Sp\xc3\xa4te Antwort \xf0\x9f\x99\x82",
		.audience_id = "aud-1",
		.lead_ids = (const char **)leads,
		.lead_count = COUNT(leads),
		.head.has_key = true,
		.head.issued_at_ms = 1700000000000,
		.head.has_expiry = true,
		.head.expires_at_ms = -1,
	};

	for (int i = 0; i < CAMPAIGN_DIGEST_BYTES; i++)
		command.head.key_digest[i] = (uint8_t)(i * 9);
	return command;
}

static struct duplicate_command least_command(void)
{
	return (struct duplicate_command){
		.head.trace_id = "", .head.account_group_id = "g", .campaign_id = "c", .audience_id = "a", .head.issued_at_ms = INT64_MIN
	};
}

static void assert_same_text(const char *a, const char *b)
{
	assert_int_equal(a == NULL, b == NULL);
	if (a)
		assert_string_equal(a, b);
}

static void assert_same_command(const struct duplicate_command *a, const struct duplicate_command *b)
{
	assert_same_text(a->head.trace_id, b->head.trace_id);
	assert_same_text(a->head.account_group_id, b->head.account_group_id);
	assert_same_text(a->campaign_id, b->campaign_id);
	assert_same_text(a->name, b->name);
	assert_same_text(a->audience_id, b->audience_id);
	assert_int_equal(a->lead_ids == NULL, b->lead_ids == NULL);
	assert_int_equal(a->lead_count, b->lead_count);
	for (size_t i = 0; i < a->lead_count; i++)
		assert_string_equal(a->lead_ids[i], b->lead_ids[i]);
	assert_int_equal(a->head.has_key, b->head.has_key);
	assert_memory_equal(a->head.key_digest, b->head.key_digest, CAMPAIGN_DIGEST_BYTES);
	assert_int_equal(a->head.issued_at_ms, b->head.issued_at_ms);
	assert_int_equal(a->head.has_expiry, b->head.has_expiry);
	assert_int_equal(a->head.expires_at_ms, b->head.expires_at_ms);
}

/* Decodes a copy that is exactly as large as size: AddressSanitizer finds a read beyond it. */
static int decode(struct codec *with, const void *data, size_t size, struct duplicate_command *command, const struct reason **reason,
		  struct fault *fault)
{
	struct bytes copy = { 0 };
	int failed;

	put_raw(&copy, data, size);
	failed = codec_decode_command(with, copy.data, size, arena, &command->head, reason, fault);
	free_bytes(&copy);
	return failed;
}

static void assert_refused(const void *data, size_t size, const struct reason *wanted, const char *message)
{
	struct duplicate_command command;
	const struct reason *reason = NULL;
	struct fault fault = { 0 };

	if (decode(codec, data, size, &command, &reason, &fault) == 0)
		fail_msg("let through, wanted: %s", message);
	assert_int_equal(fault.kind, FAULT_REJECT);
	assert_int_equal(reason, wanted);
	if (strstr(fault.msg, message) == NULL)
		fail_msg("%s, wanted: %s", fault.msg, message);
}

static struct duplicate_command decoded(struct codec *with, const struct bytes *bytes)
{
	struct duplicate_command command;
	const struct reason *reason;
	struct fault fault;

	if (decode(with, bytes->data, bytes->size, &command, &reason, &fault) != 0)
		fail_msg("%s", fault.msg);
	return command;
}

static struct bytes encoded(const struct duplicate_command *command)
{
	struct bytes bytes = { 0 };
	struct fault fault;
	const void *value;
	size_t size;

	if (codec_encode_command(codec, &command->head, arena, &value, &size, &fault) != 0)
		fail_msg("%s", fault.msg);
	put_raw(&bytes, value, size);
	return bytes;
}

/* A command by hand, up to and without leadIds. */
static void put_beginning(struct bytes *bytes, uint64_t fingerprint)
{
	put_single_object(bytes, fingerprint);
	put_text(bytes, "trace-1");
	put_text(bytes, "group-1");
	put_text(bytes, "campaign-1");
	put_long(bytes, 0);
	put_text(bytes, "aud-1");
}

static uint64_t command_fingerprint(void)
{
	struct fault fault;
	uint64_t fingerprint;

	assert_int_equal(schema_fingerprint(schema_duplicate_campaign_command, &fingerprint, NULL, &fault), 0);
	return fingerprint;
}

static void commands_round_trip(void **state)
{
	struct duplicate_command commands[] = { full_command(), least_command(), full_command(), full_command() };

	(void)state;
	commands[2].lead_count = 0; /* an empty array is not null */
	commands[3].name = "";
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT(commands); i++) {
			struct bytes bytes = encoded(&commands[i]);
			struct duplicate_command command = decoded(codec, &bytes);

			assert_same_command(&command, &commands[i]);
			free_bytes(&bytes);
		}
	}
	arena_reset(arena);
}

static void encodes_as_the_specification_says(void **state)
{
	struct duplicate_command command = full_command();
	struct bytes bytes = encoded(&command), wanted = { 0 };

	(void)state;
	put_single_object(&wanted, command_fingerprint());
	put_text(&wanted, command.head.trace_id);
	put_text(&wanted, command.head.account_group_id);
	put_text(&wanted, command.campaign_id);
	put_long(&wanted, 1);
	put_text(&wanted, command.name);
	put_text(&wanted, command.audience_id);
	put_long(&wanted, 1);
	put_long(&wanted, COUNT(leads));
	for (size_t i = 0; i < COUNT(leads); i++)
		put_text(&wanted, leads[i]);
	put_long(&wanted, 0);
	put_long(&wanted, 1);
	put_raw(&wanted, command.head.key_digest, CAMPAIGN_DIGEST_BYTES);
	put_long(&wanted, command.head.issued_at_ms);
	put_long(&wanted, 1);
	put_long(&wanted, command.head.expires_at_ms);
	assert_int_equal(bytes.size, wanted.size);
	assert_memory_equal(bytes.data, wanted.data, wanted.size);
	free_bytes(&bytes);
	free_bytes(&wanted);
}

static void refuses_to_encode_what_nobody_could_read(void **state)
{
	char *long_text = calloc(1, GUARD_STRING_MAX + 2);
	const char **many = calloc(20, sizeof *many);
	struct duplicate_command command;
	const void *value;
	size_t size;
	struct fault fault;

	(void)state;
	memset(long_text, 'x', GUARD_STRING_MAX + 1);
	command = full_command();
	command.campaign_id = NULL;
	assert_int_equal(codec_encode_command(codec, &command.head, arena, &value, &size, &fault), -1);
	assert_string_equal(fault.msg, "field campaignId is missing");
	assert_int_equal(fault.kind, FAULT_REJECT);
	command = full_command();
	command.name = "\xff";
	assert_int_equal(codec_encode_command(codec, &command.head, arena, &value, &size, &fault), -1);
	assert_string_equal(fault.msg, "field name is not UTF-8");
	command.name = long_text;
	assert_int_equal(codec_encode_command(codec, &command.head, arena, &value, &size, &fault), -1);
	assert_string_equal(fault.msg, "field name has 65537 bytes, at most 65536");
	command = full_command();
	long_text[GUARD_STRING_MAX] = '\0';
	for (int i = 0; i < 20; i++)
		many[i] = long_text;
	command.lead_ids = many;
	command.lead_count = 20;
	assert_int_equal(codec_encode_command(codec, &command.head, arena, &value, &size, &fault), -1);
	assert_non_null(strstr(fault.msg, "at most 1048576"));
	command = full_command();
	assert_int_equal(codec_encode_command(codec, &command.head, arena, &value, &size, &fault), 0);
	free(long_text);
	free(many);
	arena_reset(arena);
}

static struct command_result error_result(void)
{
	struct command_result result = {
		.trace_id = "trace-1", .command_topic = "commands", .command_partition = 7, .command_offset = INT64_MAX,
		.command_timestamp_ms = 1700000000001, .processed_at_ms = 1700000000002,
	};

	result_refuse(&result, contract_find_reason(&duplicate_contract, "rate_limited"), "at most 10 commands a second");
	result.has_retry_after = true;
	result.retry_after_s = 3;
	return result;
}

static const struct campaign *full_campaign(void)
{
	static const struct campaign campaign = {
		.id = "65a000000000000000000009", .name = "\xf0\x9f\x99\x82", .description = "", .status = "draft",
		.outreach_language = "de", .selected_lead_count = 25, .include_conversation_history = true,
		.auto_cancel_on_message_received = false, .created_at_ms = 1, .updated_at_ms = 2, .has_started_at = true,
		.started_at_ms = 3, .has_rate_limited_until = true, .rate_limited_until_ms = 4,
	};

	return &campaign;
}

static struct command_result success_result(const struct campaign *campaign)
{
	struct command_result result = error_result();

	result_accept(&result, &duplicate_contract, campaign, true);
	result.account_group_id = "group-1";
	result.source_campaign_id = "c-1";
	result.audience_id = "aud-1";
	result.has_issued_at = true;
	result.issued_at_ms = -5;
	result.has_retry_after = false;
	result.retry_after_s = 0;
	return result;
}

static void assert_same_campaign(const struct campaign *a, const struct campaign *b)
{
	assert_same_text(a->id, b->id);
	assert_same_text(a->name, b->name);
	assert_same_text(a->description, b->description);
	assert_same_text(a->status, b->status);
	assert_same_text(a->outreach_language, b->outreach_language);
	assert_int_equal(a->selected_lead_count, b->selected_lead_count);
	assert_int_equal(a->include_conversation_history, b->include_conversation_history);
	assert_int_equal(a->auto_cancel_on_message_received, b->auto_cancel_on_message_received);
	assert_int_equal(a->created_at_ms, b->created_at_ms);
	assert_int_equal(a->updated_at_ms, b->updated_at_ms);
	assert_int_equal(a->has_started_at, b->has_started_at);
	assert_int_equal(a->started_at_ms, b->started_at_ms);
	assert_int_equal(a->has_rate_limited_until, b->has_rate_limited_until);
	assert_int_equal(a->rate_limited_until_ms, b->rate_limited_until_ms);
}

static void assert_same_result(const struct command_result *a, const struct command_result *b)
{
	assert_same_text(a->trace_id, b->trace_id);
	assert_int_equal(a->success, b->success);
	assert_int_equal(a->data == NULL, b->data == NULL);
	if (a->data)
		assert_same_campaign(a->data, b->data);
	assert_same_text(a->error_code, b->error_code);
	assert_same_text(a->error_message, b->error_message);
	assert_same_text(a->error_details, b->error_details);
	assert_int_equal(a->http_status, b->http_status);
	assert_same_text(a->reason, b->reason);
	assert_int_equal(a->retryable, b->retryable);
	assert_int_equal(a->has_retry_after, b->has_retry_after);
	assert_int_equal(a->retry_after_s, b->retry_after_s);
	assert_same_text(a->account_group_id, b->account_group_id);
	assert_same_text(a->source_campaign_id, b->source_campaign_id);
	assert_same_text(a->audience_id, b->audience_id);
	assert_int_equal(a->draft_existed, b->draft_existed);
	assert_same_text(a->command_topic, b->command_topic);
	assert_int_equal(a->command_partition, b->command_partition);
	assert_int_equal(a->command_offset, b->command_offset);
	assert_int_equal(a->command_timestamp_ms, b->command_timestamp_ms);
	assert_int_equal(a->has_issued_at, b->has_issued_at);
	assert_int_equal(a->issued_at_ms, b->issued_at_ms);
	assert_int_equal(a->processed_at_ms, b->processed_at_ms);
}

static void results_round_trip(void **state)
{
	static const struct campaign least = { .id = "", .name = "", .status = "" };
	struct command_result results[] = { error_result(), success_result(full_campaign()), success_result(&least), error_result() };

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT(results); i++) {
			struct command_result result;
			struct fault fault;
			const void *value;
			size_t size;

			if (codec_encode_result(codec, &results[i], arena, &value, &size, &fault) != 0 ||
			    codec_decode_result(codec, value, size, arena, &result, &fault) != 0)
				fail_msg("%s", fault.msg);
			assert_same_result(&result, &results[i]);
		}
	}
	arena_reset(arena);
}

static void results_keep_the_envelopes_promise(void **state)
{
	struct command_result result = error_result();
	struct fault fault;
	const void *value;
	size_t size;

	(void)state;
	result.data = full_campaign();
	assert_int_equal(codec_encode_result(codec, &result, arena, &value, &size, &fault), -1);
	result = error_result();
	result.error_code = NULL;
	assert_int_equal(codec_encode_result(codec, &result, arena, &value, &size, &fault), -1);
	result = error_result();
	result.error_details = NULL;
	assert_int_equal(codec_encode_result(codec, &result, arena, &value, &size, &fault), -1);
	assert_string_equal(fault.msg, "field details is missing");
	assert_int_equal(codec_decode_result(codec, NULL, 0, arena, &result, &fault), -1);
}

static void tells_kinds_of_unreadable_records_apart(void **state)
{
	struct duplicate_command command = least_command();
	struct bytes bytes = encoded(&command), large = { calloc(1, RECORD_SIZE_MAX + 1), RECORD_SIZE_MAX + 1 };
	struct command_result result = error_result();
	const struct reason *reason = NULL;
	struct fault fault;
	const void *value;
	size_t size;

	(void)state;
	assert_int_equal(codec_decode_command(codec, NULL, 0, arena, &command.head, &reason, &fault), -1);
	assert_ptr_equal(reason, &reason_tombstone);
	assert_refused("", 0, &reason_undecodable, "byte 0: neither");
	assert_refused("\0\0\0\0", 4, &reason_undecodable, "4 bytes");
	assert_refused("\0\0\0\1\2", 5, &reason_unknown_schema, "no schema is known by id 258");
	assert_refused("\xc3\x01\1\2\3\4\5\6\7", 9, &reason_undecodable, "9 bytes");
	assert_refused("\xc3\x01\1\2\3\4\5\6\7\x8", 10, &reason_unknown_schema, "by fingerprint 0807060504030201");
	assert_refused("\x01" "0123456789abcdef", 17, &reason_undecodable, "byte 0: neither"); /* Confluent's newer GUID */
	assert_refused("{\"traceId\":\"x\"}", 15, &reason_undecodable, "byte 0: neither");
	assert_refused(large.data, large.size, &reason_too_large, "1048577 bytes, at most 1048576");
	assert_refused(large.data, large.size - 1, &reason_unknown_schema, "id 0");
	assert_int_equal(codec_encode_result(codec, &result, arena, &value, &size, &fault), 0);
	assert_refused(value, size, &reason_undecodable, "it is a DuplicateCampaignResult, no DuplicateCampaignCommand");
	assert_int_equal(codec_decode_result(codec, bytes.data, bytes.size, arena, &result, &fault), -1);
	free_bytes(&bytes);
	free_bytes(&large);
}

static void reads_confluents_framing(void **state)
{
	struct duplicate_command command = full_command(), again;
	struct bytes bytes = encoded(&command), framed = { 0 };

	(void)state;
	put_raw(&framed, "\0\0\1\0\7", 5);
	put_raw(&framed, bytes.data + HEADER, bytes.size - HEADER);
	assert_refused(framed.data, framed.size, &reason_unknown_schema, "id 65543");
	know(65543, schema_duplicate_campaign_command);
	again = decoded(codec, &framed);
	assert_same_command(&again, &command);
	free_bytes(&bytes);
	free_bytes(&framed);
	arena_reset(arena);
}

static void an_id_stands_for_one_schema(void **state)
{
	struct fault fault;
	struct writer_schemas *schemas = writer_schemas_new(&duplicate_contract, NULL, &fault);

	(void)state;
	assert_non_null(schemas);
	assert_int_equal(writer_schemas_add_id(schemas, 65543, schema_duplicate_campaign_command, &fault), 0);
	assert_int_equal(writer_schemas_add_id(schemas, 65543, schema_duplicate_campaign_command, &fault), 0);
	assert_int_equal(writer_schemas_add_id(schemas, 65543, schema_duplicate_campaign_result, &fault), -1);
	assert_string_equal(fault.msg, "Avro schema id 65543: the id already stands for another schema");
	assert_int_equal(fault.kind, FAULT_FATAL);
	assert_int_equal(writer_schemas_add_id(schemas, 8, "{", &fault), -1);
	assert_non_null(strstr(fault.msg, "Avro schema id 8: no JSON: line 1"));
	writer_schemas_free(schemas);
}

struct registry {
	bool away;
	const char *json; /* NULL: it has none */
	int asked;
};

static int find_in_registry(void *arg, uint32_t id, char **json, struct fault *fault)
{
	struct registry *registry = arg;

	assert_int_equal(id, 7);
	registry->asked++;
	if (registry->away)
		return fault_set(fault, FAULT_WAIT, "the registry is away");
	*json = registry->json ? strdup(registry->json) : NULL;
	return 0;
}

static void assert_asked(struct codec *with, const struct bytes *framed, enum fault_kind kind, const char *message)
{
	struct duplicate_command command;
	const struct reason *reason;
	struct fault fault = { 0 };

	assert_int_equal(decode(with, framed->data, framed->size, &command, &reason, &fault), kind == FAULT_NONE ? 0 : -1);
	assert_int_equal(fault.kind, kind);
	if (kind == FAULT_REJECT)
		assert_ptr_equal(reason, &reason_unknown_schema);
	assert_non_null(strstr(fault.msg, message));
}

/* While the source cannot tell, nothing is said of the record; what it knows is asked once. */
static void waits_for_a_source_that_is_away(void **state)
{
	struct registry registry = { .away = true };
	const struct schema_source source = { find_in_registry, &registry };
	struct duplicate_command command = full_command();
	struct bytes bytes = encoded(&command), framed = { 0 };
	struct fault fault;
	struct codec *with = codec_new(&duplicate_contract, NULL, &source, &fault);

	(void)state;
	put_raw(&framed, "\0\0\0\0\7", 5);
	put_raw(&framed, bytes.data + HEADER, bytes.size - HEADER);
	assert_asked(with, &framed, FAULT_WAIT, "the registry is away");
	registry.away = false;
	assert_asked(with, &framed, FAULT_REJECT, "no schema is known by id 7");
	registry.json = "{\"type\":\"record\",\"name\":\"Other\",\"fields\":[]}";
	assert_asked(with, &framed, FAULT_REJECT, "Avro schema id 7: it is record Other");
	registry.json = schema_duplicate_campaign_command;
	assert_asked(with, &framed, FAULT_NONE, "");
	assert_asked(with, &framed, FAULT_NONE, "");
	assert_int_equal(registry.asked, 4);
	assert_asked(with, &bytes, FAULT_NONE, ""); /* what is built in is asked of nobody */
	assert_int_equal(registry.asked, 4);
	codec_free(with);
	free_bytes(&bytes);
	free_bytes(&framed);
	arena_reset(arena);
}

static void write_file(const char *name, const void *data, size_t size);
static void remove_file(const char *name);

static void reads_an_id_that_names_a_file(void **state)
{
	struct duplicate_command command = full_command(), again;
	struct bytes bytes = encoded(&command), framed = { 0 };
	struct fault fault;
	struct codec *with;

	(void)state;
	put_raw(&framed, "\0\0\0\x12\x67", 5); /* 4711 */
	put_raw(&framed, bytes.data + HEADER, bytes.size - HEADER);
	write_file("4711.avsc", schema_duplicate_campaign_command, strlen(schema_duplicate_campaign_command));
	with = codec_new(&duplicate_contract, folder, NULL, &fault);
	assert_non_null(with);
	again = decoded(with, &framed);
	assert_same_command(&again, &command);
	codec_free(with);
	write_file("04711.avsc", schema_duplicate_campaign_result, strlen(schema_duplicate_campaign_result));
	assert_null(codec_new(&duplicate_contract, folder, NULL, &fault));
	assert_non_null(strstr(fault.msg, "4711.avsc: the id already stands for another schema"));
	remove_file("04711.avsc");
	remove_file("4711.avsc");
	free_bytes(&bytes);
	free_bytes(&framed);
	arena_reset(arena);
}

static void refuses_every_truncation_and_extra_bytes(void **state)
{
	struct duplicate_command command = full_command();
	struct bytes bytes = encoded(&command);
	size_t before = 0;

	(void)state;
	for (int round = 0; round < 3; round++) { /* the first one warms malloc's caches */
		for (size_t size = HEADER; size < bytes.size; size++)
			assert_refused(bytes.data, size, &reason_undecodable, "byte ");
		if (round > 0)
			assert_flat(before);
		before = allocated_bytes();
	}
	put_raw(&bytes, "\0", 1);
	assert_refused(bytes.data, bytes.size, &reason_undecodable, "1 bytes too many");
	free_bytes(&bytes);
}

/* Each from the table of what avro-c does with hostile input. */
static void refuses_hostile_leads(void **state)
{
	static const struct {
		const char *data;
		size_t size;
		const char *message;
	} cases[] = {
#define CASE(data, message) { data, sizeof data - 1, message }
		CASE("\x04", "field leadIds, byte 44: a union's branch is out of range: 2, not 0 to 1"),
		CASE("\x01", "a union's branch is out of range: -1"),
		CASE("\x02\x80\x80\x80\x80\x80\x80\x01", "a block of 2199023255552 values"), /* about 2^41 */
		CASE("\x02\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a block of 9223372036854775807 values"),
		CASE("\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a block of -9223372036854775808 values"),
		CASE("\x02\x02\xd0\x0f", "a length of 1000"),
		CASE("\x02\x02\x80\x80\x80\x80\x08", "a length of 1073741824"),
		CASE("\x02\x02\x01", "a length of -1"),
		CASE("\x02\x01\x06\x02" "x\x00", "a block says 3 bytes and has 2"),
		CASE("\x02\x01\x02\x02" "x\x00", "a block says 1 bytes and has 2"),
		CASE("\x02\x01\x01\x02" "x\x00", "a block's size is out of range: -1"),
		CASE("\x02\x02\x04\xff\xfe\x00", "not UTF-8 or has a NUL"),
		CASE("\x02\x02\x06" "a\0b\x00", "not UTF-8 or has a NUL"),
		CASE("\x02\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "more than 64 bits"),
		CASE("\x02\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", "more than 64 bits"),
	};
	size_t before = 0;

	(void)state;
	for (size_t i = 0; i < 100 * COUNT(cases); i++) {
		struct bytes bytes = { 0 };

		put_beginning(&bytes, command_fingerprint());
		assert_int_equal(bytes.size, 44);
		put_raw(&bytes, cases[i % COUNT(cases)].data, cases[i % COUNT(cases)].size);
		put_raw(&bytes, "\0\2\0", 3); /* no key, issued at 1, no expiry */
		assert_refused(bytes.data, bytes.size, &reason_undecodable, cases[i % COUNT(cases)].message);
		free_bytes(&bytes);
		if (i + 1 == COUNT(cases)) /* malloc's caches are warm */
			before = allocated_bytes();
	}
	assert_flat(before);
}

static struct bytes many_leads(size_t n, const char *id)
{
	struct bytes bytes = { 0 };
	size_t len = strlen(id) + 1, at;

	put_beginning(&bytes, command_fingerprint());
	put_long(&bytes, 1);
	put_long(&bytes, (int64_t)n);
	at = bytes.size;
	bytes.data = realloc(bytes.data, bytes.size += n * len);
	for (size_t i = 0; i < n; i++, at += len) {
		bytes.data[at] = (uint8_t)(2 * (len - 1));
		memcpy(bytes.data + at + 1, id, len - 1);
	}
	put_raw(&bytes, "\0\0\2\0", 4);
	return bytes;
}

static void refuses_a_million_leads_before_it_allocates(void **state)
{
	struct bytes empty = many_leads(1000000, ""), some = many_leads(100001, "lead-1");
	size_t before = allocated_bytes();
	struct duplicate_command command;
	const struct reason *reason;
	struct fault fault;

	(void)state;
	assert_int_equal(codec_decode_command(codec, empty.data, empty.size, arena, &command.head, &reason, &fault), -1);
	assert_non_null(strstr(fault.msg, "field leadIds, byte 45: a block of 1000000 values, at most 100000 in a record"));
	assert_ptr_equal(reason, &reason_undecodable);
	assert_int_equal(codec_decode_command(codec, some.data, some.size, arena, &command.head, &reason, &fault), -1);
	assert_flat(before);
	free_bytes(&empty);
	free_bytes(&some);
}

static void leaves_too_many_leads_to_rule_1(void **state)
{
	struct bytes bytes = many_leads(CAMPAIGN_LEADS_MAX + 1, "lead-1");
	struct duplicate_command command = decoded(codec, &bytes);
	const char *details;

	(void)state;
	assert_int_equal(command.lead_count, CAMPAIGN_LEADS_MAX + 1);
	assert_string_equal(command.head.trace_id, "trace-1");
	assert_int_equal(command_check(&duplicate_contract, &command.head, arena, &details), -1);
	assert_string_equal(details, "leadIds has 10001 ids: at most 10000");
	free_bytes(&bytes);
	arena_reset(arena);
}

/* One lead after another is long, the others are empty: a reused value would in the end hold all of them long. */
static struct bytes one_long_lead(size_t n, size_t which)
{
	static char text[60001];
	struct bytes bytes = { 0 };

	memset(text, 'x', sizeof text - 1);
	put_beginning(&bytes, command_fingerprint());
	put_long(&bytes, 1);
	put_long(&bytes, (int64_t)n);
	for (size_t i = 0; i < n; i++)
		put_text(&bytes, i == which ? text : "");
	put_raw(&bytes, "\0\0\2\0", 4);
	return bytes;
}

static void memory_stays_flat(void **state)
{
	const size_t bound = 3 * 1024 * 1024;
	size_t before, peak = 0;

	(void)state;
	arena_free(arena);
	arena = arena_new(0);
	before = allocated_bytes();
	for (size_t round = 0; round < 150; round++) {
		struct bytes bytes = round % 50 == 0 ? many_leads(99000, "") : one_long_lead(500, round);
		struct duplicate_command command = decoded(codec, &bytes);

		assert_true(command.lead_count == 99000 || command.lead_count == 500);
		free_bytes(&bytes);
		arena_reset(arena);
		if (allocated_bytes() > peak)
			peak = allocated_bytes();
	}
	if (peak > before + bound)
		fail_msg("%zu bytes more were kept", peak - before);
}

/*
 * Writer schemas
 */

#define PLAIN(name, type) "{\"name\": \"" name "\", \"type\": " type "}"
#define IDS PLAIN("traceId", "\"string\"") "," PLAIN("accountGroupId", "\"string\"") "," PLAIN("campaignId", "\"string\"") "," \
	PLAIN("audienceId", "\"string\"")
#define COMMAND_OF(fields) "{\"type\": \"record\", \"name\": \"DuplicateCampaignCommand\", \"fields\": [" fields "]}"

static const char oldest[] = COMMAND_OF(IDS "," PLAIN("issuedAt", "\"long\""));

/* Reordered, with fields of every type among ours, nullable unions the other way round, a name that is never null and
 * times that are ints. */
static const char newest[] = COMMAND_OF(
	PLAIN("flags", "{\"type\": \"map\", \"values\": {\"type\": \"array\", \"items\": \"boolean\"}}") ","
	PLAIN("expiresAt", "[\"int\", \"null\"]") ","
	PLAIN("kind", "{\"type\": \"enum\", \"name\": \"Kind\", \"symbols\": [\"A\", \"B\"]}") ","
	PLAIN("leadIds", "[{\"type\": \"array\", \"items\": \"string\"}, \"null\"]") ","
	PLAIN("origin", "{\"type\": \"record\", \"name\": \"Origin\", \"fields\": [" PLAIN("kind", "\"Kind\"") ","
	      PLAIN("before", "[\"null\", \"Origin\"]") "]}") ","
	PLAIN("apiKeyDigest", "[\"null\", {\"type\": \"fixed\", \"name\": \"Other\", \"size\": 32}]") ","
	PLAIN("weight", "\"double\"") "," PLAIN("share", "\"float\"") "," PLAIN("blob", "\"bytes\"") ","
	PLAIN("nothing", "\"null\"") "," PLAIN("issuedAt", "\"int\"") "," PLAIN("name", "\"string\"") "," IDS);

static void put_newest(struct bytes *bytes)
{
	put_raw(bytes, "\2\2k\4\1\0\0\2\2k\2\1\0\0", 14); /* flags: k: [true, false], then k: [true] again */
	put_raw(bytes, "\0\7", 2);      /* expiresAt -4 */
	put_raw(bytes, "\2", 1);        /* kind B */
	put_raw(bytes, "\0\1\4\2x\2\2y\0", 9); /* leadIds x in a block with its size, y in one without */
	put_raw(bytes, "\0\2\2\0", 4);  /* origin A, before it B */
	put_raw(bytes, "\2", 1);
	for (int i = 0; i < CAMPAIGN_DIGEST_BYTES; i++)
		put_raw(bytes, &(uint8_t){ (uint8_t)i }, 1);
	put_raw(bytes, "12345678" "1234" "\6\0\xff\0", 16);
	put_long(bytes, 77);
	put_text(bytes, "a name");
	put_text(bytes, "trace-1");
	put_text(bytes, "group-1");
	put_text(bytes, "campaign-1");
	put_text(bytes, "aud-1");
}

static void write_file(const char *name, const void *data, size_t size)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, size, file), size);
	fclose(file);
}

static void remove_file(const char *name)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	assert_int_equal(unlink(path), 0);
}

static uint64_t fingerprint_of(const char *json)
{
	struct fault fault;
	uint64_t fingerprint;

	if (schema_fingerprint(json, &fingerprint, NULL, &fault) != 0)
		fail_msg("%s", fault.msg);
	return fingerprint;
}

static void check_newest(struct codec *with, const struct bytes *bytes)
{
	const char *ids[] = { "x", "y" };
	struct duplicate_command command = decoded(with, bytes), wanted = {
		.head.trace_id = "trace-1", .head.account_group_id = "group-1", .campaign_id = "campaign-1", .audience_id = "aud-1",
		.name = "a name", .lead_ids = ids, .lead_count = 2, .head.has_key = true, .head.issued_at_ms = 77, .head.has_expiry = true,
		.head.expires_at_ms = -4,
	};

	for (int i = 0; i < CAMPAIGN_DIGEST_BYTES; i++)
		wanted.head.key_digest[i] = (uint8_t)i;
	assert_same_command(&command, &wanted);
}

static void reads_older_and_newer_writers_from_a_folder(void **state)
{
	struct bytes old = { 0 }, new = { 0 };
	struct duplicate_command command, wanted = least_command();
	struct codec *with;
	struct fault fault;

	(void)state;
	write_file("1-oldest.avsc", oldest, strlen(oldest));
	write_file("2-newest.avsc", newest, strlen(newest));
	write_file("3-same.avsc", schema_duplicate_campaign_command, strlen(schema_duplicate_campaign_command));
	write_file("README", "not a schema", 12);
	write_file(".hidden.avsc", "{", 1);
	with = codec_new(&duplicate_contract, folder, NULL, &fault);
	if (with == NULL)
		fail_msg("%s", fault.msg);
	put_single_object(&old, fingerprint_of(oldest));
	put_text(&old, "");
	put_text(&old, "g");
	put_text(&old, "c");
	put_text(&old, "a");
	put_long(&old, INT64_MIN);
	put_single_object(&new, fingerprint_of(newest));
	put_newest(&new);
	for (int round = 0; round < 3; round++) {
		command = decoded(with, &old); /* what it lacks is null */
		assert_same_command(&command, &wanted);
		check_newest(with, &new);
	}
	assert_refused(old.data, old.size, &reason_unknown_schema, "fingerprint"); /* without the folder */
	codec_free(with);
	remove_file("1-oldest.avsc");
	remove_file("2-newest.avsc");
	remove_file("3-same.avsc");
	remove_file("README");
	remove_file(".hidden.avsc");
	free_bytes(&old);
	free_bytes(&new);
	arena_reset(arena);
}

static void refuses_unusable_writer_schemas(void **state)
{
	static const struct {
		const char *json, *message;
	} cases[] = {
		{ "", "no JSON" },
		{ "{\"type\": \"array\", \"items\": \"int\"}", "it is no record" },
		{ "[]", "avro-c does not accept it" },
		{ "{\"type\": \"record\", \"name\": \"Other\", \"fields\": []}", "it is record Other, neither" },
		{ "{\"type\": \"fixed\", \"name\": \"F\", \"size\": -1}", "no size of 1 to" },
		{ COMMAND_OF(IDS), "record DuplicateCampaignCommand lacks field issuedAt" },
		{ COMMAND_OF(IDS "," PLAIN("issuedAt", "\"string\"")), "field issuedAt of record DuplicateCampaignCommand has a type" },
		{ COMMAND_OF(IDS "," PLAIN("issuedAt", "[\"null\", \"long\"]")), "field issuedAt" },
		{ COMMAND_OF(IDS "," PLAIN("issuedAt", "\"long\"") "," PLAIN("name", "\"bytes\"")), "field name" },
		{ COMMAND_OF(IDS "," PLAIN("issuedAt", "\"long\"") "," PLAIN("name", "[\"null\", \"string\", \"int\"]")), "field name" },
		{ COMMAND_OF(IDS "," PLAIN("issuedAt", "\"long\"") "," PLAIN("leadIds", "\"string\"")), "field leadIds" },
		{ COMMAND_OF(IDS "," PLAIN("issuedAt", "\"long\"") ","
			     PLAIN("leadIds", "{\"type\": \"array\", \"items\": [\"null\", \"string\"]}")), "field leadIds" },
		{ COMMAND_OF(IDS "," PLAIN("issuedAt", "\"long\"") ","
			     PLAIN("apiKeyDigest", "{\"type\": \"fixed\", \"name\": \"Md5\", \"size\": 16}")), "field apiKeyDigest" },
		{ COMMAND_OF(PLAIN("self", "\"DuplicateCampaignCommand\"")), "more than 1000 records within records" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct fault fault = { 0 };
		struct codec *with;

		write_file("x.avsc", cases[i].json, strlen(cases[i].json));
		with = codec_new(&duplicate_contract, folder, NULL, &fault);
		if (with)
			fail_msg("accepted: %s", cases[i].json);
		assert_int_equal(fault.kind, FAULT_FATAL);
		if (strstr(fault.msg, cases[i].message) == NULL || strstr(fault.msg, "/x.avsc: ") == NULL)
			fail_msg("%s, wanted: %s", fault.msg, cases[i].message);
	}
	remove_file("x.avsc");
}

#define TIME(logical) "{\"type\": \"long\", \"logicalType\": \"" logical "\"}"
#define TIMES(issued, expires) COMMAND_OF(IDS "," PLAIN("issuedAt", issued) "," PLAIN("expiresAt", "[\"null\", " expires "]"))

static struct bytes command_of_times(uint64_t fingerprint, int64_t issued, int64_t expires)
{
	struct bytes bytes = { 0 };

	put_single_object(&bytes, fingerprint);
	put_text(&bytes, "t");
	put_text(&bytes, "g");
	put_text(&bytes, "c");
	put_text(&bytes, "a");
	put_long(&bytes, issued);
	put_long(&bytes, 1);
	put_long(&bytes, expires);
	return bytes;
}

static void converts_units_of_time(void **state)
{
	static const struct {
		const char *json;
		int64_t issued, expires, issued_ms, expires_ms;
	} cases[] = {
		{ TIMES("\"long\"", "\"long\""), 1700000000123, -1, 1700000000123, -1 },
		{ TIMES(TIME("timestamp-millis"), TIME("timestamp-millis")), 1700000000123, INT64_MAX, 1700000000123, INT64_MAX },
		{ TIMES(TIME("timestamp-micros"), TIME("timestamp-micros")), 1700000000123999, 1700000000123000, 1700000000123, 1700000000123 },
		{ TIMES(TIME("timestamp-millis"), TIME("timestamp-micros")), 1700000000123, -1, 1700000000123, -1 },
		{ TIMES(TIME("timestamp-nanos"), TIME("timestamp-micros")), 1700000000123999999, -1000, 1700000000123, -1 },
		{ TIMES(TIME("timestamp-nanos"), TIME("timestamp-nanos")), INT64_MIN, INT64_MAX, -9223372036855, 9223372036854 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bytes bytes = command_of_times(fingerprint_of(cases[i].json), cases[i].issued, cases[i].expires);
		struct duplicate_command command;
		struct codec *with;
		struct fault fault;

		write_file("x.avsc", cases[i].json, strlen(cases[i].json));
		with = codec_new(&duplicate_contract, folder, NULL, &fault);
		if (with == NULL)
			fail_msg("%s", fault.msg);
		command = decoded(with, &bytes);
		assert_int_equal(command.head.issued_at_ms, cases[i].issued_ms);
		assert_int_equal(command.head.expires_at_ms, cases[i].expires_ms);
		codec_free(with);
		free_bytes(&bytes);
	}
	remove_file("x.avsc");
	arena_reset(arena);
}

static void assert_folder_refused(const char *file, const char *message)
{
	struct fault fault = { 0 };
	struct codec *with = codec_new(&duplicate_contract, folder, NULL, &fault);

	if (with)
		fail_msg("accepted, wanted: %s", message);
	assert_int_equal(fault.kind, FAULT_FATAL);
	if (strstr(fault.msg, file) == NULL || strstr(fault.msg, message) == NULL)
		fail_msg("%s, wanted: %s", fault.msg, message);
}

static void refuses_times_that_are_no_instants(void **state)
{
	static const struct {
		const char *json, *message;
	} cases[] = {
		{ TIMES(TIME("local-timestamp-millis"), "\"long\""), "issuedAt of record DuplicateCampaignCommand has logicalType local-timestamp-millis" },
		{ TIMES("\"long\"", TIME("local-timestamp-micros")), "field expiresAt" },
		{ TIMES("\"long\"", TIME("time-micros")), "field expiresAt" },
		{ TIMES("{\"type\": \"int\", \"logicalType\": \"date\"}", "\"long\""), "logicalType date" },
		{ TIMES("\"long\"", "{\"type\": \"int\", \"logicalType\": \"time-millis\"}"), "logicalType time-millis" },
		{ COMMAND_OF(IDS ",{\"name\": \"issuedAt\", \"type\": \"long\", \"logicalType\": \"timestamp-micros\"}"),
		  "field issuedAt of record DuplicateCampaignCommand has its logicalType timestamp-micros beside its type" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		write_file("x.avsc", cases[i].json, strlen(cases[i].json));
		assert_folder_refused("/x.avsc: ", cases[i].message);
	}
	remove_file("x.avsc");
}

/* The built-in schema with micros for one of its times: a string to be freed. */
static char *built_in_with_micros(const char *field)
{
	const char *text = schema_duplicate_campaign_command, *at = strstr(strstr(text, field), "timestamp-millis");
	char *changed;

	assert_true(asprintf(&changed, "%.*s%s%s", (int)(at - text), text, "timestamp-micros", at + strlen("timestamp-millis")) > 0);
	assert_int_equal(fingerprint_of(changed), command_fingerprint());
	return changed;
}

/* Single-object encoding cannot tell such schemas apart; ids can. */
static void tells_units_of_one_fingerprint_apart_by_ids_only(void **state)
{
	static const char *const fields[] = { "\"issuedAt\"", "\"expiresAt\"" };
	struct bytes framed = { 0 };

	(void)state;
	for (size_t i = 0; i < COUNT(fields); i++) {
		struct duplicate_command command = full_command();
		char *micros = built_in_with_micros(fields[i]), field[32];
		struct bytes bytes = encoded(&command);
		struct codec *with;
		struct fault fault;

		snprintf(field, sizeof field, "field %.*s", (int)strlen(fields[i]) - 2, fields[i] + 1);
		write_file("micros.avsc", micros, strlen(micros));
		assert_folder_refused("/micros.avsc: ", field);
		write_file("12.avsc", micros, strlen(micros));
		assert_folder_refused("/micros.avsc: ", field); /* the id's does not vouch for it */
		remove_file("micros.avsc");
		with = codec_new(&duplicate_contract, folder, NULL, &fault);
		if (with == NULL)
			fail_msg("%s", fault.msg);
		put_raw(&framed, "\0\0\0\0\x0c", 5);
		put_raw(&framed, bytes.data + HEADER, bytes.size - HEADER);
		command = decoded(with, &framed);
		assert_int_equal(command.head.issued_at_ms, i == 0 ? 1700000000 : 1700000000000);
		assert_int_equal(command.head.expires_at_ms, -1);
		command = decoded(with, &bytes);
		assert_int_equal(command.head.issued_at_ms, 1700000000000);
		codec_free(with);
		remove_file("12.avsc");
		free_bytes(&framed);
		free_bytes(&bytes);
		free(micros);
	}
	arena_reset(arena);
}

/* Every level has the one below it twice: 2^28 records in one value. */
static void refuses_a_schema_that_doubles(void **state)
{
	char json[8000] = "{\"name\":\"T0\",\"type\":\"record\",\"fields\":[]}", outer[8000];
	struct fault fault;
	struct writer_schemas *schemas = writer_schemas_new(&duplicate_contract, NULL, &fault);

	(void)state;
	assert_non_null(schemas);
	for (int i = 1; i <= 28; i++) {
		snprintf(outer, sizeof outer, "{\"name\":\"T%d\",\"type\":\"record\",\"fields\":[" PLAIN("a", "%.6000s") ","
			 PLAIN("b", "\"T%d\"") "]}", i, json, i - 1);
		strcpy(json, outer);
	}
	snprintf(outer, sizeof outer, COMMAND_OF(PLAIN("t", "%.7000s")), json);
	assert_int_equal(writer_schemas_add_id(schemas, 99, outer, &fault), -1);
	assert_non_null(strstr(fault.msg, "records within records"));
	writer_schemas_free(schemas);
}

static void refuses_unusable_files(void **state)
{
	struct codec *with;
	struct fault fault;
	char *large = malloc(300000), path[128];

	(void)state;
	with = codec_new(&duplicate_contract, "/nonexistent", NULL, &fault);
	assert_null(with);
	assert_non_null(strstr(fault.msg, "/nonexistent: No such file"));
	memset(large, ' ', 300000);
	write_file("x.avsc", large, 300000);
	assert_null(codec_new(&duplicate_contract, folder, NULL, &fault));
	assert_non_null(strstr(fault.msg, "/x.avsc: it has more than 262144 bytes"));
	write_file("x.avsc", "\"int\"\0", 6);
	assert_null(codec_new(&duplicate_contract, folder, NULL, &fault));
	assert_non_null(strstr(fault.msg, "/x.avsc: it has a NUL"));
	remove_file("x.avsc");
	snprintf(path, sizeof path, "%s/x.avsc", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_null(codec_new(&duplicate_contract, folder, NULL, &fault));
	assert_non_null(strstr(fault.msg, "/x.avsc: Is a directory"));
	assert_int_equal(rmdir(path), 0);
	free(large);
	codec_free(NULL);
}

/* A result of a later worker: more fields, also within data, and a map with a key twice. */
static void reads_results_of_newer_workers(void **state)
{
	const char *from = "{\"name\": \"id\", \"type\": \"string\"},", *at = strstr(schema_duplicate_campaign_result, from);
	const char *more = PLAIN("tags", "{\"type\": \"map\", \"values\": {\"type\": \"array\", \"items\": \"string\"}}") ",";
	struct bytes bytes = { 0 };
	struct command_result wanted = success_result(full_campaign()), result;
	struct fault fault;
	static char json[10000];
	const void *value;
	size_t size;

	(void)state;
	assert_non_null(at);
	snprintf(json, sizeof json, "%.*s%s%s", (int)(at - schema_duplicate_campaign_result), schema_duplicate_campaign_result, more, at);
	know(12, json);
	assert_int_equal(codec_encode_result(codec, &wanted, arena, &value, &size, &fault), 0);
	put_raw(&bytes, "\0\0\0\0\x0c", 5);
	put_raw(&bytes, (const char *)value + HEADER, 10); /* traceId, success, the branch of data */
	put_raw(&bytes, "\4\2k\2\2a\0\2k\4\2b\2c\0\0", 16);
	put_raw(&bytes, (const char *)value + HEADER + 10, size - HEADER - 10);
	for (int round = 0; round < 3; round++) {
		if (codec_decode_result(codec, bytes.data, bytes.size, arena, &result, &fault) != 0)
			fail_msg("%s", fault.msg);
		assert_same_result(&result, &wanted);
	}
	free_bytes(&bytes);
	arena_reset(arena);
}

/*
 * Mutations
 */

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Whatever is let through must obey its types: it can be encoded, and is the same when decoded again. */
static bool check_mutant(const struct bytes *mutant)
{
	struct duplicate_command command, again;
	const struct reason *reason = NULL;
	struct fault fault = { 0 };
	const char *details;
	struct bytes bytes;

	arena_reset(arena);
	if (decode(codec, mutant->data, mutant->size, &command, &reason, &fault) != 0) {
		assert_int_equal(fault.kind, FAULT_REJECT);
		assert_true(reason == &reason_undecodable || reason == &reason_unknown_schema);
		return false;
	}
	bytes = encoded(&command);
	again = decoded(codec, &bytes);
	assert_same_command(&again, &command);
	if (command_check(&duplicate_contract, &command.head, arena, &details) != 0)
		assert_string_not_equal(details, "");
	free_bytes(&bytes);
	return true;
}

static void every_byte_may_have_every_value(void **state)
{
	struct duplicate_command command = full_command();
	struct bytes bytes = encoded(&command);
	size_t accepted = 0;

	(void)state;
	for (size_t i = 0; i < bytes.size; i++) {
		uint8_t was = bytes.data[i];

		for (int c = 0; c < 256; c++) {
			bytes.data[i] = (uint8_t)c;
			accepted += check_mutant(&bytes);
		}
		bytes.data[i] = was;
	}
	assert_true(accepted > bytes.size);
	free_bytes(&bytes);
}

static void mutate(struct bytes *bytes)
{
	size_t at = next_random() % bytes->size, len = next_random() % 8;

	if (len > bytes->size - at)
		len = bytes->size - at;
	switch (next_random() % 4) {
	case 0: /* some other byte */
		bytes->data[at] = (uint8_t)next_random();
		break;
	case 1: /* a bit */
		bytes->data[at] ^= (uint8_t)(1 << next_random() % 8);
		break;
	case 2: /* bytes taken out */
		memmove(bytes->data + at, bytes->data + at + len, bytes->size - at - len);
		bytes->size -= len;
		break;
	case 3: /* bytes said twice */
		put_raw(bytes, (uint8_t[8]){ 0 }, len);
		memmove(bytes->data + at + len, bytes->data + at, bytes->size - at - len);
		break;
	}
}

static void random_mutations_do_no_harm(void **state)
{
	const char *seed = getenv("SEED");
	struct duplicate_command command = full_command();
	struct bytes seeds[2] = { encoded(&command) };
	size_t accepted = 0, n = 30000;

	(void)state;
	random_state = seed ? strtoull(seed, NULL, 0) : 20240229;
	print_message("SEED=%llu\n", (unsigned long long)random_state);
	know(5, newest);
	put_raw(&seeds[1], "\0\0\0\0\5", 5);
	put_newest(&seeds[1]);
	for (size_t i = 0; i < n; i++) {
		struct bytes mutant = { 0 };

		put_raw(&mutant, seeds[i % 2].data, seeds[i % 2].size);
		for (uint64_t times = next_random() % 4 + 1; times > 0 && mutant.size > 0; times--)
			mutate(&mutant);
		accepted += check_mutant(&mutant);
		free_bytes(&mutant);
	}
	assert_in_range(accepted, n / 100, n - n / 100);
	free_bytes(&seeds[0]);
	free_bytes(&seeds[1]);
}

/* The tables have the fields of the built-in schemas, all of them, in their order. */
static void assert_same_fields(const struct record_type *type, json_t *schema)
{
	json_t *fields = json_object_get(schema, "fields");

	assert_string_equal(type->name, json_string_value(json_object_get(schema, "name")));
	assert_int_equal(type->count, json_array_size(fields));
	for (size_t i = 0; i < type->count; i++) {
		json_t *field = json_array_get(fields, i), *inner = json_object_get(field, "type");

		assert_string_equal(type->fields[i].name, json_string_value(json_object_get(field, "name")));
		assert_int_equal(type->fields[i].nullable, json_is_array(inner));
		if (json_is_array(inner)) {
			assert_string_equal(json_string_value(json_array_get(inner, 0)), "null");
			inner = json_array_get(inner, 1);
		}
		if (type->fields[i].type == FIELD_RECORD)
			assert_same_fields(type->fields[i].inner, inner);
		if (type->fields[i].type == FIELD_TIME)
			assert_string_equal(json_string_value(json_object_get(inner, "logicalType")), "timestamp-millis");
	}
}

static void tables_are_the_schemas(void **state)
{
	json_t *command = json_loads(schema_duplicate_campaign_command, 0, NULL),
	       *result = json_loads(schema_duplicate_campaign_result, 0, NULL);

	(void)state;
	assert_same_fields(duplicate_contract.command, command);
	assert_same_fields(duplicate_contract.result, result);
	json_decref(command);
	json_decref(result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_the_schemas),
		cmocka_unit_test(commands_round_trip),
		cmocka_unit_test(encodes_as_the_specification_says),
		cmocka_unit_test(refuses_to_encode_what_nobody_could_read),
		cmocka_unit_test(results_round_trip),
		cmocka_unit_test(results_keep_the_envelopes_promise),
		cmocka_unit_test(tells_kinds_of_unreadable_records_apart),
		cmocka_unit_test(reads_confluents_framing),
		cmocka_unit_test(an_id_stands_for_one_schema),
		cmocka_unit_test(waits_for_a_source_that_is_away),
		cmocka_unit_test(reads_an_id_that_names_a_file),
		cmocka_unit_test(refuses_every_truncation_and_extra_bytes),
		cmocka_unit_test(refuses_hostile_leads),
		cmocka_unit_test(refuses_a_million_leads_before_it_allocates),
		cmocka_unit_test(leaves_too_many_leads_to_rule_1),
		cmocka_unit_test(memory_stays_flat),
		cmocka_unit_test(reads_older_and_newer_writers_from_a_folder),
		cmocka_unit_test(refuses_unusable_writer_schemas),
		cmocka_unit_test(converts_units_of_time),
		cmocka_unit_test(refuses_times_that_are_no_instants),
		cmocka_unit_test(tells_units_of_one_fingerprint_apart_by_ids_only),
		cmocka_unit_test(refuses_a_schema_that_doubles),
		cmocka_unit_test(refuses_unusable_files),
		cmocka_unit_test(reads_results_of_newer_workers),
		cmocka_unit_test(every_byte_may_have_every_value),
		cmocka_unit_test(random_mutations_do_no_harm),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
