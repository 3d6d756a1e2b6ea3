/* The librdkafka configurations: our defaults, the user's properties over them, the promised values over those. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "worker/kafka/kafka.h"
#include "worker/base/log.h"

static struct property properties[8];
static struct config config;
static struct fault fault;

static int begin(void **state)
{
	(void)state;
	config = (struct config){ .program = FOR_WORKER, .brokers = "localhost:1", .group = "g", .instance = "i",
				  .batch_bytes = 8 << 20, .dead_letter_bytes = 900000, .properties = properties };
	memset(&fault, 0, sizeof fault);
	return 0;
}

static void give(const char *name, const char *value)
{
	properties[config.property_count++] = (struct property){ name, value, "file.conf:3" };
}

static void assert_property(enum kafka_client client, const char *name, const char *wanted)
{
	char value[512] = "";
	size_t size = sizeof value;
	rd_kafka_conf_t *conf = kafka_conf_new(&config, client, &fault);

	assert_non_null(conf);
	assert_int_equal(rd_kafka_conf_get(conf, name, value, &size), RD_KAFKA_CONF_OK);
	assert_string_equal(value, wanted);
	rd_kafka_conf_destroy(conf);
}

static void test_consumer(void **state)
{
	(void)state;
	assert_property(KAFKA_CONSUMER, "bootstrap.servers", "localhost:1");
	assert_property(KAFKA_CONSUMER, "client.id", "campaign-worker-i");
	assert_property(KAFKA_CONSUMER, "enable.auto.commit", "false");
	assert_property(KAFKA_CONSUMER, "enable.auto.offset.store", "false");
	assert_property(KAFKA_CONSUMER, "auto.offset.reset", "error");
	assert_property(KAFKA_CONSUMER, "isolation.level", "read_committed");
	assert_property(KAFKA_CONSUMER, "partition.assignment.strategy", "range");
	assert_property(KAFKA_CONSUMER, "enable.partition.eof", "true");
	assert_property(KAFKA_CONSUMER, "session.timeout.ms", "6000");
	assert_property(KAFKA_CONSUMER, "reconnect.backoff.max.ms", "2000");
	assert_property(KAFKA_CONSUMER, "socket.nagle.disable", "true");
	assert_property(KAFKA_CONSUMER, "queued.max.messages.kbytes", "8192");
}

static void test_producers(void **state)
{
	static const enum kafka_client producers[] = { KAFKA_TRANSACTIONAL_PRODUCER, KAFKA_PRODUCER };

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_property(producers[i], "enable.idempotence", "true");
		assert_property(producers[i], "acks", "-1");
		assert_property(producers[i], "partitioner", "murmur2_random");
		assert_property(producers[i], "allow.auto.create.topics", "false");
		assert_property(producers[i], "compression.codec", "zstd");
		assert_property(producers[i], "message.max.bytes", "1000000");
	}
	assert_property(KAFKA_TRANSACTIONAL_PRODUCER, "transaction.timeout.ms", "10000");
	assert_property(KAFKA_TRANSACTIONAL_PRODUCER, "retry.backoff.ms", "5");
	assert_property(KAFKA_TRANSACTIONAL_PRODUCER, "linger.ms", "0");
	assert_property(KAFKA_PRODUCER, "retry.backoff.ms", "100");
	config.dead_letter_bytes = 2000000;
	assert_property(KAFKA_TRANSACTIONAL_PRODUCER, "message.max.bytes", "2100000");
}

/* Whatever reaches us, the promised values stand. */
static void test_precedence(void **state)
{
	(void)state;
	give("session.timeout.ms", "7000");
	give("compression.type", "none");
	give("client.id", "mine");
	give("isolation.level", "read_uncommitted");
	give("partitioner", "random");
	give("allow.auto.create.topics", "true");
	give("bootstrap.servers", "elsewhere:1");
	assert_property(KAFKA_CONSUMER, "session.timeout.ms", "7000");
	assert_property(KAFKA_CONSUMER, "client.id", "mine");
	assert_property(KAFKA_CONSUMER, "isolation.level", "read_committed");
	assert_property(KAFKA_CONSUMER, "bootstrap.servers", "localhost:1");
	assert_property(KAFKA_PRODUCER, "compression.codec", "none");
	assert_property(KAFKA_TRANSACTIONAL_PRODUCER, "allow.auto.create.topics", "false");
	assert_property(KAFKA_CONSUMER, "allow.auto.create.topics", "false");
	assert_property(KAFKA_PRODUCER, "partitioner", "murmur2_random");
}

static void test_unknown(void **state)
{
	(void)state;
	give("sasl.passwort", "hunter2");
	assert_null(kafka_conf_new(&config, KAFKA_ADMIN, &fault));
	assert_int_equal(fault.kind, FAULT_FATAL);
	assert_non_null(strstr(fault.msg, "sasl.passwort (file.conf:3)"));
	assert_non_null(strstr(fault.msg, "did you mean sasl.password?"));
	assert_null(strstr(fault.msg, "hunter2"));
	config.property_count = 0;
	give("session.timeout.ms", "soon");
	assert_null(kafka_conf_new(&config, KAFKA_CONSUMER, &fault));
	assert_non_null(strstr(fault.msg, "session.timeout.ms (file.conf:3)"));
}

/* Every kind can be made from one set of properties, without a word about those that are the other kind's; one that
 * librdkafka refuses as a whole is said to be so. */
static void test_clients(void **state)
{
	char text[4096] = "";
	FILE *file = tmpfile();

	(void)state;
	give("linger.ms", "1");
	give("fetch.min.bytes", "2");
	log_init(LOG_TEXT, LEVEL_INFO);
	log_set_fd(fileno(file));
	for (enum kafka_client client = KAFKA_CONSUMER; client <= KAFKA_ADMIN; client++) {
		rd_kafka_conf_t *conf = kafka_conf_new(&config, client, &fault);
		rd_kafka_t *rk;

		assert_non_null(conf);
		assert_int_equal(kafka_conf_set(conf, client == KAFKA_CONSUMER ? "group.id" : "transactional.id", "x", &fault), 0);
		rk = kafka_new_take(conf, client, &fault);
		if (rk == NULL)
			fail_msg("%s", fault.msg);
		rd_kafka_destroy(rk);
	}
	assert_true(pread(fileno(file), text, sizeof text - 1, 0) >= 0);
	assert_null(strstr(text, "confwarn"));

	give("session.timeout.ms", "400000");
	assert_null(kafka_new_take(kafka_conf_new(&config, KAFKA_CONSUMER, &fault), KAFKA_CONSUMER, &fault));
	assert_int_equal(fault.kind, FAULT_FATAL);
	assert_non_null(strstr(fault.msg, "max.poll.interval.ms"));
	log_set_fd(STDERR_FILENO);
	fclose(file);
}

/* librdkafka's lines become events with its facility, without its thread's name. */
static void test_log_lines(void **state)
{
	char text[4096] = "";
	FILE *file = tmpfile();
	rd_kafka_t *rk;

	(void)state;
	log_init(LOG_TEXT, LEVEL_INFO);
	log_set_fd(fileno(file));
	config.brokers = "127.0.0.1:1";
	rk = kafka_new_take(kafka_conf_new(&config, KAFKA_PRODUCER, &fault), KAFKA_PRODUCER, &fault);
	assert_non_null(rk);
	for (int i = 0; i < 100 && strstr(text, "\n") == NULL; i++) {
		usleep(20000);
		assert_true(pread(fileno(file), text, sizeof text - 1, 0) >= 0);
	}
	rd_kafka_destroy(rk);
	log_set_fd(STDERR_FILENO);
	fclose(file);
	assert_non_null(strstr(text, "level=warn event=kafka_fail msg=\"127.0.0.1:1/bootstrap: Connect to"));
	assert_non_null(strstr(text, "client=campaign-worker-i#producer-"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
	static const struct CMUnitTest tests[] = {
		TEST(test_consumer), TEST(test_producers), TEST(test_precedence),
		TEST(test_unknown),  TEST(test_clients),   TEST(test_log_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
