/* What the component tests share: librdkafka's mock cluster in the test's own process, a configuration for it, and a look at
 * what was written. The mock discards the offsets of transactions and hides no aborted record: these tests show how our
 * modules behave when requests fail, not the promises. */
#ifndef TESTS_COMPONENT_H
#define TESTS_COMPONENT_H

#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "tests/fault_kind.h"
#include "worker/base/clock.h"
#include "worker/base/config.h"
#include "worker/base/log.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#define BROKERS 4
#define COMMANDS "campaigns.duplicate.commands.v1"
#define RESULTS "campaigns.duplicate.results.v1"
#define DEAD_LETTERS "campaigns.duplicate.dead-letters.v1"

/* The mock leaves Nagle's algorithm on, which makes every small answer wait for a delayed acknowledgement. */
int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict size);
int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict size)
{
	int accepted = accept4(fd, address, size, 0), on = 1;

	if (accepted >= 0)
		setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return accepted;
}

struct cluster {
	rd_kafka_t *rk; /* the mock's own instance; also produces for the tests */
	rd_kafka_mock_cluster_t *mock;
};

static inline struct cluster cluster_new(void)
{
	struct cluster cluster;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[256];

	rd_kafka_conf_set(conf, "log_level", "3", why, sizeof why); /* its brokers are not known yet, and will go up and down */
	cluster.rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
	assert_non_null(cluster.rk);
	cluster.mock = rd_kafka_mock_cluster_new(cluster.rk, BROKERS);
	assert_non_null(cluster.mock);
	assert_true(rd_kafka_brokers_add(cluster.rk, rd_kafka_mock_cluster_bootstraps(cluster.mock)) > 0);
	return cluster;
}

static inline void cluster_free(struct cluster *cluster)
{
	rd_kafka_purge(cluster->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	rd_kafka_flush(cluster->rk, 1000);
	rd_kafka_mock_cluster_destroy(cluster->mock);
	rd_kafka_destroy(cluster->rk);
}

static inline void cluster_topic(struct cluster *cluster, const char *topic, int partitions, int32_t leader)
{
	assert_int_equal(rd_kafka_mock_topic_create(cluster->mock, topic, partitions, 1), 0);
	for (int i = 0; i < partitions; i++)
		assert_int_equal(rd_kafka_mock_partition_set_leader(cluster->mock, topic, i, leader), 0);
}

/* A worker's configuration, as its command line would give it. The mock answers an empty fetch only when the whole wait is
 * over, hence fetch.wait.max.ms. more: further arguments, ended by NULL. */
static inline void configure(struct config *config, const struct cluster *cluster, const char *group, const char *const *more)
{
	const char *argv[48] = { "test", "--brokers", rd_kafka_mock_cluster_bootstraps(cluster->mock), "--group", group,
				 "--instance", "one", "-X", "fetch.wait.max.ms=10", "-X", "reconnect.backoff.ms=10", "-X",
				 "reconnect.backoff.max.ms=100" };
	int argc = 13;
	struct fault fault;

	for (; more && *more; more++)
		argv[argc++] = *more;
	argv[argc] = NULL;
	if (config_load(config, FOR_WORKER, NULL, &argc, (char **)argv, &fault) < 0)
		fail_msg("%s", fault.msg);
	assert_int_equal(argc, 1);
}

/* librdkafka 2.0.2 now and then loses the operation behind a send_offsets_to_transaction() that failed or timed out (406
 * bytes): what the calling thread allocates is not looked at until leaks_matter(). */
static inline void leaks_do_not_matter(void)
{
#ifdef __SANITIZE_ADDRESS__
	__lsan_disable();
#endif
}

static inline void leaks_matter(void)
{
#ifdef __SANITIZE_ADDRESS__
	__lsan_enable();
#endif
}

/* Faults are provoked here on purpose: their log lines only if VERBOSE is set. */
static inline void log_quietly(void)
{
	log_init(LOG_TEXT, LEVEL_DEBUG);
	if (getenv("VERBOSE") == NULL)
		log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
}

/* ---- looking at what was written ---- */

static inline int64_t topic_end(const struct cluster *cluster, const char *topic)
{
	int64_t low, high;

	assert_int_equal(rd_kafka_query_watermark_offsets(cluster->rk, topic, 0, &low, &high, 5000), 0);
	return high;
}

struct reading {
	rd_kafka_t *rk;
	rd_kafka_message_t *messages[16];
	size_t count;
};

/* The records of a topic's partition 0 from that offset to its end. */
static inline void topic_read(struct reading *reading, const struct cluster *cluster, const char *topic, int64_t from)
{
	size_t expected = (size_t)(topic_end(cluster, topic) - from);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	int64_t deadline = clock_monotonic_ms() + 5000;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[256];

	*reading = (struct reading){ 0 };
	rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster->mock), why, sizeof why);
	rd_kafka_conf_set(conf, "group.id", "reader", why, sizeof why);
	rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", why, sizeof why);
	reading->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
	assert_non_null(reading->rk);
	rd_kafka_topic_partition_list_add(list, topic, 0)->offset = from;
	assert_int_equal(rd_kafka_assign(reading->rk, list), 0);
	rd_kafka_topic_partition_list_destroy(list);
	assert_in_range(expected, 0, 16);
	while (reading->count < expected && clock_monotonic_ms() < deadline) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(reading->rk, 100);

		if (message && message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			reading->messages[reading->count++] = message;
		else if (message)
			rd_kafka_message_destroy(message);
	}
	assert_int_equal(reading->count, expected);
}

static inline void reading_free(struct reading *reading)
{
	while (reading->count > 0)
		rd_kafka_message_destroy(reading->messages[--reading->count]);
	rd_kafka_destroy_flags(reading->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

/* A header's value; NULL if it is absent, null or there more than once. */
static inline const void *header_value(const rd_kafka_message_t *message, const char *name, size_t *size)
{
	rd_kafka_headers_t *headers;
	const void *value, *second;

	*size = 0;
	if (rd_kafka_message_headers(message, &headers) || rd_kafka_header_get(headers, 0, name, &value, size) ||
	    rd_kafka_header_get(headers, 1, name, &second, &(size_t){ 0 }) == RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	return value;
}

static inline void assert_header(const rd_kafka_message_t *message, const char *name, const char *text)
{
	size_t size;
	const char *value = header_value(message, name, &size);

	if (text == NULL && value)
		fail_msg("header %s: %.*s", name, (int)size, value);
	if (text && (value == NULL || size != strlen(text) || memcmp(value, text, size) != 0))
		fail_msg("header %s: %.*s instead of %s", name, (int)size, value ? value : "", text);
}

#endif
