/* What is published where a topic takes little: nothing that is not so, and no byte too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/codec.h"
#include "schemas/dead_letter.h"
#include "schemas/duplicate.h"
#include "schemas/guard.h"
#include "schemas/result.h"
#include "worker/kafka/message.h"

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define HEADER(name, text) { name, text, sizeof text - 1 }
#define NO_LIMIT 1000000

static struct arena *arena;
static struct codec *codec;
static char description[70000], language[250];

static int set_up(void **state)
{
	struct fault fault;

	(void)state;
	arena = arena_new(0);
	codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	return codec ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	codec_free(codec);
	arena_free(arena);
	return 0;
}

static const struct header trace[] = { HEADER("traceparent", PARENT), HEADER("tracestate", "vendor=1") };

static struct job a_job(void)
{
	return (struct job){
		.record = { .topic = "commands", .partition = 2, .offset = 41, .timestamp_ms = 1700000000123, .key = "ag_1", .key_size = 4,
			    .value = description, .headers = trace, .header_count = 2 },
		.answerable = true, .executable = true,
		.result = { .trace_id = "trace-1", .account_group_id = "ag_1", .source_campaign_id = "c1", .audience_id = "a1",
			    .command_topic = "commands", .command_partition = 2, .command_offset = 41, .command_timestamp_ms = 1700000000123 },
	};
}

static struct job accepted(const struct campaign *campaign)
{
	struct job job = a_job();

	job.result.processed_at_ms = 1700000000200;
	result_accept(&job.result, &duplicate_contract, campaign, false);
	return job;
}

static struct job refused(const char *details)
{
	struct job job = a_job();

	job.reason = &reason_undecodable;
	result_refuse(&job.result, job.reason, details);
	job.cause = "it is broken";
	return job;
}

static struct campaign a_campaign(size_t description_bytes)
{
	memset(description, 'd', sizeof description - 1);
	description[description_bytes] = '\0';
	return (struct campaign){ .id = "0123456789abcdef01234567", .name = "Spring", .description = description, .status = "draft",
				  .selected_lead_count = INT32_MAX, .created_at_ms = 1700000000200, .updated_at_ms = 1700000000200 };
}

static const char *header_of(const struct message *message, const char *name)
{
	for (size_t i = 0; i < message->header_count; i++)
		if (strcmp(message->headers[i].name, name) == 0)
			return arena_strndup(arena, message->headers[i].value, message->headers[i].size);
	return NULL;
}

/* Publishes, as far as that goes without a broker. */
static struct command_result told(const struct job *job, size_t limit, struct message *message)
{
	struct command_result result;
	struct fault fault;

	if (message_of_result(job, codec, limit, arena, message, &fault) < 0 ||
	    codec_decode_result(codec, message->value, message->value_size, arena, &result, &fault) < 0)
		fail_msg("%s", fault.msg);
	assert_string_equal(result.trace_id, "trace-1");
	return result;
}

/* As librdkafka counts them, at most. */
static void counts_its_bytes(void **state)
{
	const struct header headers[] = { HEADER("ab", "12345"), HEADER("c", "") };
	struct message message = { .key_size = 3, .value_size = 1000 };

	(void)state;
	assert_int_equal(message_bytes(&message), 61 + 36 + 3 + 1000);
	message.headers = headers;
	message.header_count = 2;
	assert_int_equal(message_bytes(&message), 61 + 36 + 3 + 1000 + 2 + 5 + 10 + 1 + 10);
}

static void tells_whose_result_it_is(void **state)
{
	struct job job = refused("why");
	struct message message;

	(void)state;
	told(&job, NO_LIMIT, &message);
	assert_int_equal(message.key_size, strlen("trace-1"));
	assert_memory_equal(message.key, "trace-1", message.key_size);
	assert_int_equal(message.header_count, 5);
	assert_string_equal(header_of(&message, "code"), "VALIDATION_ERROR");
	assert_string_equal(header_of(&message, "accountGroupId"), "ag_1");
	assert_string_equal(header_of(&message, "tracestate"), "vendor=1");
}

/* To nothing, if need be; never within a character. */
static void cuts_short_details(void **state)
{
	static const char *const details[] = { "x", "\xc3\xa4" };
	struct message message;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct job job = refused(details[i]);
		size_t whole;

		told(&job, NO_LIMIT, &message);
		whole = message_bytes(&message);
		assert_string_equal(told(&job, whole - 1, &message).error_details, "");
		assert_non_null(header_of(&message, "traceparent"));
	}
}

static void cuts_the_details_of_an_error(void **state)
{
	const char *details = "1234567890" "\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82" "x"; /* of 1, 2, 3, 4 and 1 bytes */
	struct job job = refused(details);
	struct message message;
	size_t whole;

	(void)state;
	assert_string_equal(told(&job, NO_LIMIT, &message).error_details, details);
	whole = message_bytes(&message);
	for (size_t excess = 0; excess <= strlen(details); excess++) {
		struct command_result result = told(&job, whole - excess, &message);
		static const size_t ends[] = { 20, 19, 15, 15, 15, 15, 12, 12, 12, 10, 10 };
		size_t wanted = excess < 11 ? ends[excess] : strlen(details) - excess;

		assert_int_equal(strlen(result.error_details), wanted);
		assert_memory_equal(result.error_details, details, wanted);
		assert_true(message_bytes(&message) <= whole - excess);
		assert_string_equal(header_of(&message, "traceparent"), PARENT);
		assert_int_equal(result.http_status, 400);
		assert_string_equal(result.reason, "undecodable");
	}
	told(&job, whole - strlen(details) - 1, &message); /* then the trace context; and no further */
	assert_null(header_of(&message, "traceparent"));
	assert_null(header_of(&message, "tracestate"));
	assert_string_equal(header_of(&message, "httpStatus"), "400");
	assert_string_equal(told(&job, 1, &message).error_code, "VALIDATION_ERROR");
	assert_true(message_bytes(&message) > 1);
}

static void leaves_out_the_largest_texts_of_a_success(void **state)
{
	struct campaign campaign = a_campaign(40000);
	struct job job = accepted(&campaign);
	struct command_result result;
	struct message message;
	size_t whole;

	(void)state;
	memset(language, 'l', sizeof language - 1);
	campaign.outreach_language = language;
	result = told(&job, NO_LIMIT, &message);
	assert_string_equal(result.campaign->description, description);
	assert_null(header_of(&message, "omitted"));
	whole = message_bytes(&message);
	assert_string_equal(told(&job, whole, &message).campaign->description, description);
	result = told(&job, whole - 1, &message);
	assert_true(result.success);
	assert_null(result.campaign->description);
	assert_string_equal(result.campaign->outreach_language, language);
	assert_string_equal(result.campaign->id, "0123456789abcdef01234567");
	assert_string_equal(header_of(&message, "omitted"), "description");
	assert_string_equal(header_of(&message, "traceparent"), PARENT);
	result = told(&job, message_bytes(&message) - 1, &message);
	assert_null(result.campaign->outreach_language);
	assert_string_equal(header_of(&message, "omitted"), "description,outreachLanguage");
	assert_string_equal(job.result.campaign->description, description); /* the job is as it was */
}

/* A text that no reader would take is left out as one that is too large. */
static void leaves_out_what_cannot_be_encoded(void **state)
{
	struct campaign campaign = a_campaign(GUARD_STRING_MAX + 1);
	struct job job = accepted(&campaign);
	struct message message;

	(void)state;
	assert_null(told(&job, NO_LIMIT, &message).campaign->description);
	assert_string_equal(header_of(&message, "omitted"), "description");
}

/* A success whose texts have as many bytes as was said is told whole. */
static void says_how_large_texts_may_be(void **state)
{
	static char state_text[500], id[CAMPAIGN_ID_MAX + 1];
	const struct header headers[] = { HEADER("traceparent", PARENT), { "tracestate", state_text, sizeof state_text } };
	static const size_t limits[] = { 2000, 5000, 20000, 65536, 131072, 131073, NO_LIMIT };
	struct job asked = a_job();
	struct message message;

	(void)state;
	memset(state_text, 's', sizeof state_text);
	memcpy(state_text, "v=", 2);
	memset(id, 'i', sizeof id - 1);
	asked.record.headers = headers;
	for (size_t limit = 1; limit < 3000; limit++) /* 0 would be no limit */
		assert_true(message_text_bytes_max(&asked, codec, limit, arena) > 0);
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		int32_t most = message_text_bytes_max(&asked, codec, limits[i], arena);
		struct campaign campaign = a_campaign((size_t)most - strlen("Spring"));
		struct job job = accepted(&campaign);

		job.record.headers = headers;
		campaign.id = id;
		campaign.has_started_at = campaign.has_rate_limited_until = true;
		campaign.started_at_ms = campaign.rate_limited_until_ms = 1700000000200;
		assert_in_range(most, limits[i] < 65536 ? limits[i] - 1300 : GUARD_STRING_MAX - 1300, GUARD_STRING_MAX);
		assert_true(told(&job, limits[i], &message).campaign->description != NULL);
		assert_true(message_bytes(&message) <= limits[i]);
	}
	assert_int_equal(message_text_bytes_max(&asked, codec, 100, arena), 1);
}

static size_t letter_size(struct job *job, size_t kept_max, size_t limit, struct message *message)
{
	message_of_dead_letter(job, "group", kept_max, limit, arena, message);
	return message_bytes(message);
}

static void cuts_dead_letters_to_what_the_topic_takes(void **state)
{
	struct job job = refused("why");
	struct message message;

	(void)state;
	a_campaign(sizeof description - 1);
	job.record.value_size = 60000;
	letter_size(&job, 900000, NO_LIMIT, &message);
	assert_int_equal(message.value_size, 60000);
	assert_null(header_of(&message, "campaign-dlt-original-size"));
	letter_size(&job, 60004, NO_LIMIT, &message); /* with its key, to the byte */
	assert_int_equal(message.value_size, 60000);
	assert_null(header_of(&message, "campaign-dlt-original-size"));
	letter_size(&job, 60003, NO_LIMIT, &message);
	assert_int_equal(message.value_size, 59999);
	assert_non_null(header_of(&message, "campaign-dlt-original-size"));
	assert_string_equal(header_of(&message, "kafka_dlt-exception-message"), "it is broken");
	assert_string_equal(header_of(&message, "campaign-dlt-answered"), "VALIDATION_ERROR");
	assert_true(letter_size(&job, 20000, 20000, &message) <= 20000);
	letter_size(&job, 50000, NO_LIMIT, &message);
	assert_int_equal(message.value_size, 50000 - 4);
	assert_string_equal(header_of(&message, "campaign-dlt-original-size"), "60000");
	for (size_t limit = 1500; limit < 60000; limit += 777) {
		assert_true(letter_size(&job, 900000, limit, &message) <= limit);
		assert_in_range(message.value_size, limit - 1400, limit);
		assert_string_equal(header_of(&message, "traceparent"), PARENT);
		assert_non_null(header_of(&message, "campaign-dlt-original-sha256"));
	}
	assert_true(letter_size(&job, 900000, 100, &message) > 100); /* its own headers are more */
	assert_int_equal(message.value_size + message.key_size, 0);
}

/* The original's headers take a quarter at most. */
static void bounds_the_headers_of_dead_letters(void **state)
{
	static const char large[3000], largest[17000];
	const struct header larger[] = { { "large", largest, sizeof largest }, HEADER("small", "1") };
	const struct header headers[] = { { "large", large, sizeof large }, HEADER("small", "1") };
	struct job job = refused("why");
	struct message message;

	(void)state;
	job.record.headers = headers;
	job.record.header_count = 2;
	job.record.value_size = 60000;
	assert_true(letter_size(&job, 900000, 40000, &message) <= 40000);
	assert_non_null(header_of(&message, "large"));
	letter_size(&job, 900000, 12100, &message); /* a quarter is enough for it */
	assert_non_null(header_of(&message, "large"));
	letter_size(&job, 900000, 12000, &message);
	assert_null(header_of(&message, "large"));
	assert_true(letter_size(&job, 900000, 8000, &message) <= 8000);
	assert_null(header_of(&message, "large"));
	assert_string_equal(header_of(&message, "small"), "1");
	assert_string_equal(header_of(&message, "campaign-dlt-headers-left-out"), "1");
	job.record.headers = larger;
	letter_size(&job, 900000, 70000, &message); /* nor more than 16 kB */
	assert_null(header_of(&message, "large"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_its_bytes),
		cmocka_unit_test(tells_whose_result_it_is),
		cmocka_unit_test(cuts_short_details),
		cmocka_unit_test(cuts_the_details_of_an_error),
		cmocka_unit_test(leaves_out_the_largest_texts_of_a_success),
		cmocka_unit_test(leaves_out_what_cannot_be_encoded),
		cmocka_unit_test(says_how_large_texts_may_be),
		cmocka_unit_test(cuts_dead_letters_to_what_the_topic_takes),
		cmocka_unit_test(bounds_the_headers_of_dead_letters),
	};

	return cmocka_run_group_tests_name("message", tests, set_up, tear_down);
}
