#include "producer/growth.h"

#include <stdbool.h>
#include <stdlib.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/clock.h"
#include "worker/base/must.h"

#define FEWER_TIMES 5 /* a broker that lags behind tells of fewer partitions for a moment */

struct growth {
	rd_kafka_t *rk;
	const char *topic;
	rd_kafka_queue_t *answers;
	rd_kafka_Uuid_t *id; /* of the topic; NULL: not told yet */
	int64_t next_ms;
	bool asked;
	int32_t count;
	int fewer; /* times in a row */
};

struct growth *growth_new(struct rd_kafka_s *rk, const char *topic, int32_t count)
{
	struct growth *growth = must(calloc(1, sizeof *growth));

	*growth = (struct growth){ .rk = rk, .topic = topic, .answers = rd_kafka_queue_new(rk), .count = count };
	return growth;
}

void growth_free(struct growth *growth)
{
	if (growth == NULL)
		return;
	rd_kafka_queue_destroy(growth->answers);
	if (growth->id)
		rd_kafka_Uuid_destroy(growth->id);
	free(growth);
}

static void ask(struct growth *growth, int64_t now_ms)
{
	rd_kafka_TopicCollection_t *topics = rd_kafka_TopicCollection_of_topic_names(&growth->topic, 1);

	rd_kafka_DescribeTopics(growth->rk, topics, NULL, growth->answers);
	rd_kafka_TopicCollection_destroy(topics);
	growth->asked = true;
	growth->next_ms = now_ms + LOOK_MS;
}

/* Brokers before 2.8 give every topic the id 0. */
static bool is_another(struct growth *growth, const rd_kafka_Uuid_t *id)
{
	if (growth->id == NULL)
		growth->id = must(rd_kafka_Uuid_copy(id));
	return rd_kafka_Uuid_most_significant_bits(id) != rd_kafka_Uuid_most_significant_bits(growth->id) ||
	       rd_kafka_Uuid_least_significant_bits(id) != rd_kafka_Uuid_least_significant_bits(growth->id);
}

/* An answer that says nothing of the partitions is passed over: reading them tells whether the topic is there. */
static int take_answer(struct growth *growth, rd_kafka_event_t *event, struct fault *fault)
{
	const rd_kafka_DescribeTopics_result_t *result = rd_kafka_event_DescribeTopics_result(event);
	const rd_kafka_TopicDescription_t **topics;
	size_t n = 0, count = 0;

	if (result == NULL || rd_kafka_event_error(event))
		return 0;
	topics = rd_kafka_DescribeTopics_result_topics(result, &n);
	if (n != 1 || rd_kafka_error_code(rd_kafka_TopicDescription_error(topics[0])))
		return 0;
	rd_kafka_TopicDescription_partitions(topics[0], &count);
	growth->fewer = (int32_t)count < growth->count ? growth->fewer + 1 : 0;
	if (is_another(growth, rd_kafka_TopicDescription_topic_id(topics[0])) || growth->fewer >= FEWER_TIMES)
		return fault_set(fault, FAULT_FATAL, "topic %s was deleted and created again (%zu partitions, %d before): what was "
				 "read is of the old one; start anew", growth->topic, count, (int)growth->count);
	if ((int32_t)count > growth->count)
		growth->count = (int32_t)count;
	return 0;
}

int32_t growth_look(struct growth *growth, struct fault *fault)
{
	int64_t now_ms = clock_monotonic_ms();
	rd_kafka_event_t *event;
	int rc;

	if (!growth->asked && now_ms >= growth->next_ms)
		ask(growth, now_ms);
	event = growth->asked ? rd_kafka_queue_poll(growth->answers, 0) : NULL;
	if (event == NULL)
		return growth->count;
	growth->asked = false;
	rc = take_answer(growth, event, fault);
	rd_kafka_event_destroy(event);
	return rc < 0 ? -1 : growth->count;
}
