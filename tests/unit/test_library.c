/* libcampaign where it needs no broker: options, errors, waiting commands, texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "producer/campaign.h"
#include "producer/connection.h"
#include "producer/pending.h"

static struct campaign_error error;

static int begin(void **state)
{
	(void)state;
	memset(&error, 0, sizeof error);
	return 0;
}

static void expect_error(enum campaign_error_kind kind, const char *message)
{
	assert_int_equal(error.kind, kind);
	if (strstr(error.message, message) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", error.message, message);
}

static struct campaign_client *client_with(const char *name, const char *value, const char *origin)
{
	struct campaign_property property = { name, value, origin };
	struct campaign_options options = {
		.brokers = "127.0.0.1:1", .commands = "c", .results = "r", .properties = &property, .property_count = name != NULL,
	};

	return campaign_client_new(&options, &error);
}

/* --- options --- */

static void test_options_that_are_refused(void **state)
{
	struct campaign_options options = { .commands = "c" };

	(void)state;
	assert_null(campaign_client_new(&options, &error));
	expect_error(CAMPAIGN_ERROR_FATAL, "brokers: missing");
	options = (struct campaign_options){ .brokers = "b", .schemas = "/nonexistent/schemas" };
	assert_null(campaign_client_new(&options, &error));
	expect_error(CAMPAIGN_ERROR_FATAL, "/nonexistent/schemas");
	assert_null(client_with("acks", "1", "gateway.conf:7"));
	expect_error(CAMPAIGN_ERROR_FATAL, "acks (gateway.conf:7): this librdkafka property cannot be set: an acknowledged");
	assert_null(client_with("isolation.level", "read_uncommitted", NULL));
	expect_error(CAMPAIGN_ERROR_FATAL, "isolation.level (options): ");
	assert_null(client_with("debug", NULL, NULL));
	expect_error(CAMPAIGN_ERROR_FATAL, "debug (options): has no value");
}

/* librdkafka is asked only when it is used; the caller's memory is not looked at any more by then. */
static void test_a_property_that_there_is_not(void **state)
{
	char name[] = "sasl.passwort", value[] = "hunter2";
	struct campaign_client *client = client_with(name, value, NULL);

	(void)state;
	assert_non_null(client);
	memset(name, 'x', sizeof name - 1);
	memset(value, 'x', sizeof value - 1);
	for (int i = 0; i < 2; i++) { /* an error leaves the client as it was */
		assert_int_equal(campaign_client_subscribe(client, CAMPAIGN_FROM_NOW, 0, &error), -1);
		expect_error(CAMPAIGN_ERROR_FATAL, "sasl.passwort (options): ");
		expect_error(CAMPAIGN_ERROR_FATAL, "did you mean sasl.password?");
		assert_null(strstr(error.message, "hunter2"));
	}
	campaign_client_free(client);
}

/* --- calls that cannot work --- */

static void test_calls_in_the_wrong_order(void **state)
{
	struct campaign_options options = { .brokers = "127.0.0.1:1" };
	struct campaign_client *client = campaign_client_new(&options, &error);
	struct duplicate_command command = { .head = { .trace_id = "t", .account_group_id = "g" }, .campaign_id = "c" };
	const char *leads[] = { "lead", "lead,2" };
	struct campaign_event event;

	(void)state;
	assert_non_null(client);
	assert_true(campaign_client_caught_up(client));
	assert_int_equal(campaign_client_watch(client, 0, &event, &error), -1);
	expect_error(CAMPAIGN_ERROR_FATAL, "the client has not subscribed");
	assert_int_equal(campaign_client_subscribe(client, CAMPAIGN_FROM_NOW, 0, &error), -1);
	expect_error(CAMPAIGN_ERROR_FATAL, "results: missing");
	assert_int_equal(campaign_client_submit(client, &command, NULL, 1000, &error), -1);
	expect_error(CAMPAIGN_ERROR_REJECT, "audienceId: missing");
	command.audience_id = "a";
	assert_int_equal(campaign_client_submit(client, &command, NULL, 1000, &error), -1);
	expect_error(CAMPAIGN_ERROR_FATAL, "commands: missing");
	command.head.trace_id = "a b";
	assert_int_equal(campaign_client_submit(client, &command, NULL, 1000, &error), -1);
	expect_error(CAMPAIGN_ERROR_REJECT, "traceId is not a well-formed id: 1 to 64 of A-Z a-z 0-9 _ -");
	command.head.trace_id = "t";
	command.campaign_id = "sk_live_1";
	assert_int_equal(campaign_client_submit(client, &command, NULL, 1000, &error), -1);
	expect_error(CAMPAIGN_ERROR_REJECT, "campaignId is not a well-formed id: it begins with sk_");
	command.campaign_id = "c";
	command.lead_ids = leads;
	command.lead_count = 2;
	assert_int_equal(campaign_client_submit(client, &command, NULL, 1000, &error), -1);
	expect_error(CAMPAIGN_ERROR_REJECT, "leadIds[1] is not a well-formed id: 1 to 64");
	assert_int_equal(campaign_client_in_flight(client), 0);
	assert_int_equal(campaign_client_await(client, 0, &event, &error), 0);
	assert_int_equal(event.kind, CAMPAIGN_NOTHING);
	campaign_client_free(client);
	campaign_client_free(NULL);
}

/* --- log --- */

static struct {
	enum campaign_log_level level;
	char event[32], message[200], client[64];
	volatile int lines;
} seen;

static void see(void *log_arg, const struct campaign_log_line *line)
{
	if (log_arg != &seen || seen.lines > 0)
		return;
	seen.level = line->level;
	snprintf(seen.event, sizeof seen.event, "%s", line->event);
	snprintf(seen.message, sizeof seen.message, "%s", line->message);
	snprintf(seen.client, sizeof seen.client, "%s", line->client);
	__sync_fetch_and_add(&seen.lines, 1);
}

static void test_trouble_is_told_to_the_callback(void **state)
{
	struct options options = { .brokers = "127.0.0.1:1", .client_id = "gateway", .log = see, .log_arg = &seen };
	struct fault fault;
	rd_kafka_t *rk = connection_open(&options, KAFKA_READER, &fault);

	(void)state;
	assert_non_null(rk);
	for (int i = 0; i < 250 && seen.lines == 0; i++)
		usleep(20000);
	rd_kafka_destroy(rk);
	assert_int_equal(seen.lines, 1);
	assert_int_equal(seen.level, CAMPAIGN_LOG_WARN);
	assert_string_equal(seen.event, "kafka_fail");
	assert_non_null(strstr(seen.message, "127.0.0.1:1/bootstrap: Connect to"));
	assert_non_null(strstr(seen.client, "gateway#consumer-"));
}

/* What delivery rests on stands; what was given goes over our defaults. */
static void assert_property(enum kafka_client client, const char *name, const char *wanted)
{
	struct property given = { "queued.min.messages", "77", "options" };
	struct options options = { .brokers = "127.0.0.1:1", .client_id = "gateway", .properties = &given, .property_count = 1 };
	struct fault fault;
	rd_kafka_t *rk = connection_open(&options, client, &fault);
	char value[128] = "";
	size_t size = sizeof value;

	assert_non_null(rk);
	assert_int_equal(rd_kafka_conf_get(rd_kafka_conf(rk), name, value, &size), RD_KAFKA_CONF_OK);
	assert_string_equal(value, wanted);
	rd_kafka_destroy(rk);
}

static void test_properties(void **state)
{
	(void)state;
	assert_property(KAFKA_READER, "isolation.level", "read_committed");
	assert_property(KAFKA_READER, "enable.auto.commit", "false");
	assert_property(KAFKA_READER, "enable.partition.eof", "true");
	assert_property(KAFKA_READER, "queued.max.messages.kbytes", "32768");
	assert_property(KAFKA_READER, "queued.min.messages", "77");
	assert_property(KAFKA_READER, "client.id", "gateway");
	assert_property(KAFKA_PRODUCER, "acks", "-1");
	assert_property(KAFKA_PRODUCER, "enable.idempotence", "true");
	assert_property(KAFKA_PRODUCER, "partitioner", "murmur2_random");
	assert_property(KAFKA_PRODUCER, "message.max.bytes", "1000000");
}

/* --- pending --- */

static void test_a_wait_ends_once(void **state)
{
	struct pending *pending = pending_new();

	(void)state;
	pending_add(pending, "t1", "g1", 10);
	pending_add(pending, "t1", "g2", 10);
	pending_add(pending, "t1", "g1", 20); /* the same command published again */
	assert_int_equal(pending_count(pending), 3);
	assert_true(pending_has(pending, "t1", 2));
	assert_false(pending_has(pending, "t1x", 3));
	assert_false(pending_has(pending, "t", 1));
	assert_false(pending_take(pending, "t1", "g3"));
	assert_false(pending_take(pending, "t2", "g1"));
	assert_true(pending_take(pending, "t1", "g1"));
	assert_true(pending_take(pending, "t1", "g1"));
	assert_false(pending_take(pending, "t1", "g1"));
	assert_true(pending_take(pending, "t1", NULL)); /* g2: the result names no group */
	assert_false(pending_has(pending, "t1", 2));
	assert_int_equal(pending_count(pending), 0);
	pending_free(pending);
}

static void test_waits_expire_oldest_first(void **state)
{
	struct pending *pending = pending_new();
	char trace_id[16];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(trace_id, sizeof trace_id, "t%d", i);
		pending_add(pending, trace_id, "g", i);
	}
	for (int i = 1; i < 1000; i += 2) {
		snprintf(trace_id, sizeof trace_id, "t%d", i);
		assert_true(pending_take(pending, trace_id, "g"));
	}
	for (int i = 0; i < 500; i += 2) {
		struct pending_wait *wait = pending_expire(pending, 499);

		assert_non_null(wait);
		snprintf(trace_id, sizeof trace_id, "t%d", i);
		assert_string_equal(wait->trace_id, trace_id);
		assert_string_equal(wait->account_group_id, "g");
		free(wait);
	}
	assert_null(pending_expire(pending, 499));
	assert_int_equal(pending_count(pending), 250);
	pending_free(pending);
}

/* --- texts --- */

static void test_trace_ids_differ(void **state)
{
	char one[CAMPAIGN_TRACE_ID_SIZE], other[CAMPAIGN_TRACE_ID_SIZE];

	(void)state;
	campaign_trace_id(one);
	campaign_trace_id(other);
	assert_int_equal(strspn(one, "0123456789abcdef"), 24);
	assert_string_not_equal(one, other);
}

static void test_key_digest(void **state)
{
	static const uint8_t abc[] = { 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea }; /* FIPS 180-4's example */
	uint8_t digest[CAMPAIGN_DIGEST_BYTES];

	(void)state;
	assert_int_equal(campaign_key_digest("abc", 3, digest, &error), 0);
	assert_memory_equal(digest, abc, sizeof abc);
	assert_int_equal(campaign_key_digest("", 0, digest, &error), -1);
	expect_error(CAMPAIGN_ERROR_REJECT, "the API key is empty");
}

static void test_texts(void **state)
{
	static const char line[] = "{\"traceId\":\"t\",\"accountGroupId\":\"g\",\"campaignId\":\"c\"}", bad[] = "{\"traceId\":}";
	struct campaign_pool *pool = campaign_pool_new();
	struct command_result result = {
		.trace_id = "t", .error_code = "RATE_LIMITED", .error_message = "m", .error_details = "d", .http_status = 429,
		.reason = "rate_limited", .has_retry_after = true, .retry_after_s = 7, .command_topic = "c",
	};
	struct campaign_event event = { .trace_id = "a\"b", .topic = "c", .partition = 3, .offset = 12 };
	struct campaign_response response;
	struct duplicate_command command;

	(void)state;
	assert_int_equal(campaign_command_from_json(line, sizeof line - 1, pool, &command, &error), 0);
	assert_string_equal(command.campaign_id, "c");
	assert_null(command.audience_id);
	assert_int_equal(campaign_command_from_json(bad, sizeof bad - 1, pool, &command, &error), -1);
	expect_error(CAMPAIGN_ERROR_REJECT, "column");
	assert_non_null(strstr(campaign_result_to_json(&result, pool), "\"reason\":\"rate_limited\""));
	assert_string_equal(campaign_position_to_json(&event, pool),
			    "{\"traceId\":\"a\\\"b\",\"topic\":\"c\",\"partition\":3,\"offset\":12}");
	campaign_result_to_http(&result, pool, &response);
	assert_int_equal(response.status, 429);
	assert_non_null(strstr(response.headers, "Retry-After: 7\r\n"));
	assert_int_equal(strncmp(campaign_response_text(&response, pool), "HTTP/1.1 429 ", 13), 0);
	campaign_pool_reset(pool);
	campaign_pool_free(pool);
	campaign_pool_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
	const struct CMUnitTest tests[] = {
		TEST(test_options_that_are_refused),
		TEST(test_a_property_that_there_is_not),
		TEST(test_calls_in_the_wrong_order),
		TEST(test_trouble_is_told_to_the_callback),
		TEST(test_properties),
		TEST(test_a_wait_ends_once),
		TEST(test_waits_expire_oldest_first),
		TEST(test_trace_ids_differ),
		TEST(test_key_digest),
		TEST(test_texts),
	};

	return cmocka_run_group_tests_name("library", tests, NULL, NULL);
}
