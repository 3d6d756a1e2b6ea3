#include "worker/kafka/limits.h"

#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/clock.h"
#include "worker/base/log.h"

#define RENEW_MS 5000  /* between two questions */
#define GUESS_MS 60000 /* a guess is then tried for being too low */
#define GUESS_MIN 1024

/* Of a producer's configuration. */
static size_t read_size(rd_kafka_t *rk, const char *name)
{
	char text[32];
	size_t size = sizeof text;

	return rd_kafka_conf_get(rd_kafka_conf(rk), name, text, &size) == RD_KAFKA_CONF_OK ? strtoul(text, NULL, 10) : SIZE_MAX;
}

void limits_init(struct limits *limits, struct rd_kafka_s *rk, struct limit *topics, const char *results, const char *dead_letters)
{
	size_t batch_size = read_size(rk, "batch.size");

	*limits = (struct limits){ .rk = rk, .queue = rd_kafka_queue_new(rk), .topics = topics, .names = { results, dead_letters },
				   .message_max = read_size(rk, "message.max.bytes") };
	limits->batch_max = batch_size < limits->message_max ? batch_size : limits->message_max;
	for (int i = 0; i < LIMITS; i++)
		if (topics[i].bytes == 0)
			topics[i].bytes = limits->message_max;
}

void limits_destroy(struct limits *limits)
{
	if (limits->queue)
		rd_kafka_queue_destroy(limits->queue);
	limits->queue = NULL;
}

static void send_question(struct limits *limits, int timeout_ms)
{
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(limits->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_ConfigResource_t *topics[LIMITS];

	for (int i = 0; i < LIMITS; i++)
		topics[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, limits->names[i]);
	rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, NULL, 0);
	rd_kafka_DescribeConfigs(limits->rk, topics, LIMITS, options, limits->queue);
	rd_kafka_ConfigResource_destroy_array(topics, LIMITS);
	rd_kafka_AdminOptions_destroy(options);
	limits->asked = true;
}

static void set(struct limits *limits, int topic, size_t bytes)
{
	struct limit *limit = &limits->topics[topic];

	if (bytes > limits->message_max)
		bytes = limits->message_max;
	if (bytes != limit->bytes)
		log_info("topic_limit", "records are made to fit what the topic takes", "topic", limits->names[topic], "bytes",
			 LOG_INT((int64_t)bytes), "before", LOG_INT((int64_t)limit->bytes));
	limit->bytes = bytes;
}

static void take_topic(struct limits *limits, const rd_kafka_ConfigResource_t *resource)
{
	size_t n;
	const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &n);

	for (int topic = 0; topic < LIMITS; topic++) {
		if (strcmp(limits->names[topic], rd_kafka_ConfigResource_name(resource)) != 0)
			continue;
		for (size_t i = 0; i < n; i++) {
			if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "max.message.bytes") != 0 || !rd_kafka_ConfigEntry_value(entries[i]))
				continue;
			limits->topics[topic].known = true;
			set(limits, topic, strtoul(rd_kafka_ConfigEntry_value(entries[i]), NULL, 10));
		}
	}
}

/* Waits for the answer to the question for that long at most. */
static void take_answer(struct limits *limits, int timeout_ms)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(limits->queue, timeout_ms);
	const rd_kafka_ConfigResource_t **resources;
	size_t n = 0;

	if (event == NULL)
		return;
	limits->asked = false;
	limits->ask_at_ms = clock_monotonic_ms() + RENEW_MS;
	if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR) {
		resources = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
		for (size_t i = 0; i < n; i++)
			if (rd_kafka_ConfigResource_error(resources[i]) == RD_KAFKA_RESP_ERR_NO_ERROR)
				take_topic(limits, resources[i]);
	}
	rd_kafka_event_destroy(event);
}

void limits_ask(struct limits *limits, int timeout_ms)
{
	if (limits->asked) /* that answer may be older than the reason for asking */
		take_answer(limits, timeout_ms);
	if (!limits->asked)
		send_question(limits, timeout_ms);
	take_answer(limits, timeout_ms);
}

void limits_renew(struct limits *limits, int64_t now_ms)
{
	for (int topic = 0; topic < LIMITS; topic++) {
		const struct limit *limit = &limits->topics[topic];

		if (!limit->known && limit->bytes < limits->message_max && now_ms - limit->guessed_at_ms > GUESS_MS)
			set(limits, topic, limits->message_max);
	}
	if (limits->asked)
		take_answer(limits, 0);
	else if (now_ms >= limits->ask_at_ms)
		send_question(limits, RENEW_MS);
}

void limits_learn(struct limits *limits, int topic, size_t sent_bytes, int timeout_ms)
{
	struct limit *limit = &limits->topics[topic];
	size_t guess = (limit->bytes < sent_bytes ? limit->bytes : sent_bytes) / 2;

	limit->known = false;
	limits_ask(limits, timeout_ms);
	if (limit->known && limit->bytes < sent_bytes)
		return;
	limit->known = false; /* it is no reason to refuse what was sent */
	limit->guessed_at_ms = clock_monotonic_ms();
	set(limits, topic, guess > GUESS_MIN ? guess : GUESS_MIN);
}
