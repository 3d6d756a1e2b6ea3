#include "producer/subscription.h"

#include <stdlib.h>

#include <librdkafka/rdkafka.h>

#include "producer/connection.h"
#include "producer/growth.h"
#include "worker/base/clock.h"
#include "worker/base/must.h"

#define RETRY_MS 100

struct progress { /* of one partition of the results topic */
	int64_t end; /* when the subscription began */
	bool passed;
};

struct subscription {
	const struct options *options;
	rd_kafka_t *consumer;
	rd_kafka_topic_t *results;
	rd_kafka_queue_t *records;
	rd_kafka_message_t *record; /* the last that was taken */
	struct growth *growth;
	struct progress *progress;
	int32_t partition_count, passed_count; /* of those that are read */
};

static rd_kafka_resp_err_t ask_offsets(struct subscription *subscription, rd_kafka_topic_partition_list_t *list, int64_t wanted,
				       int timeout_ms)
{
	rd_kafka_resp_err_t err;

	for (int i = 0; i < list->cnt; i++)
		list->elems[i].offset = wanted;
	err = rd_kafka_offsets_for_times(subscription->consumer, list, timeout_ms);
	for (int i = 0; !err && i < list->cnt; i++)
		err = list->elems[i].err;
	return err;
}

/* Of a topic that was just created, the leaders may take their time.
 * Sets each partition's offset to that of `wanted`: a time, RD_KAFKA_OFFSET_BEGINNING or RD_KAFKA_OFFSET_END, which is the
 * last stable offset, because the consumer is read_committed. (ListOffsets takes all three in the same field.) */
static int find_offsets(struct subscription *subscription, rd_kafka_topic_partition_list_t *list, int64_t wanted, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + LOOKUP_MS, left_ms = LOOKUP_MS;
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;

	for (; left_ms > 0; left_ms = deadline_ms - clock_monotonic_ms()) {
		err = ask_offsets(subscription, list, wanted, (int)left_ms);
		if (!err)
			return 0;
		if (err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
			break;
		clock_sleep_ms(RETRY_MS);
	}
	return fault_set(fault, FAULT_WAIT, "offsets of topic %s: %s", subscription->options->results, rd_kafka_err2str(err));
}

static int read_partition(struct subscription *subscription, int32_t partition, int64_t start, struct fault *fault)
{
	if (rd_kafka_consume_start_queue(subscription->results, partition, start, subscription->records) == 0)
		return 0;
	return fault_set(fault, FAULT_FATAL, "topic %s, partition %d: %s", subscription->options->results, (int)partition,
			 rd_kafka_err2str(rd_kafka_last_error()));
}

static int start_reading(struct subscription *subscription, rd_kafka_topic_partition_list_t *list, int64_t wanted, struct fault *fault)
{
	if (find_offsets(subscription, list, RD_KAFKA_OFFSET_END, fault) < 0)
		return -1;
	subscription->progress = must(calloc((size_t)list->cnt, sizeof *subscription->progress));
	for (int i = 0; i < list->cnt; i++)
		subscription->progress[i].end = list->elems[i].offset;
	if (wanted != RD_KAFKA_OFFSET_END && find_offsets(subscription, list, wanted, fault) < 0)
		return -1;
	for (int i = 0; i < list->cnt; i++) {
		struct progress *progress = &subscription->progress[i];
		int64_t start = list->elems[i].offset;

		if (start < 0) /* no record is as young as the wanted time */
			start = progress->end;
		progress->passed = start >= progress->end;
		subscription->passed_count += progress->passed;
		if (read_partition(subscription, i, start, fault) < 0)
			return -1;
	}
	return 0;
}

/* Partitions that were added since. Whatever they hold was published meanwhile. One that librdkafka does not know yet, it
 * looks for. */
static int read_added(struct subscription *subscription, int32_t count, struct fault *fault)
{
	int32_t before = subscription->partition_count;
	const struct campaign_log_line line = {
		CAMPAIGN_LOG_INFO, "partitions_added", "the results topic has more partitions: they are read from their beginning", NULL,
		subscription->options->results, before
	};

	subscription->progress = must(realloc(subscription->progress, (size_t)count * sizeof *subscription->progress));
	for (int32_t i = before; i < count; i++) {
		subscription->progress[i] = (struct progress){ .end = 0, .passed = true };
		subscription->partition_count++;
		subscription->passed_count++;
		if (read_partition(subscription, i, RD_KAFKA_OFFSET_BEGINNING, fault) < 0)
			return -1;
	}
	options_log(subscription->options, &line);
	return 0;
}

static int look_for_added(struct subscription *subscription, struct fault *fault)
{
	int32_t count = growth_look(subscription->growth, fault);

	return count > subscription->partition_count ? read_added(subscription, count, fault) : count < 0 ? -1 : 0;
}

static int find_topic(struct subscription *subscription, struct fault *fault)
{
	const char *topic = subscription->options->results;

	subscription->results = rd_kafka_topic_new(subscription->consumer, topic, NULL);
	if (subscription->results == NULL)
		return fault_set(fault, FAULT_FATAL, "topic %s: %s", topic, rd_kafka_err2str(rd_kafka_last_error()));
	subscription->partition_count = connection_count_partitions(subscription->consumer, subscription->results,
								    subscription->options->brokers, fault);
	return subscription->partition_count < 0 ? -1 : 0;
}

static int start(struct subscription *subscription, enum campaign_from from, int64_t time_ms, struct fault *fault)
{
	int64_t wanted = from == CAMPAIGN_FROM_NOW ? RD_KAFKA_OFFSET_END :
			 from == CAMPAIGN_FROM_BEGINNING ? RD_KAFKA_OFFSET_BEGINNING : time_ms;
	rd_kafka_topic_partition_list_t *list;
	int rc;

	if (find_topic(subscription, fault) < 0)
		return -1;
	subscription->records = rd_kafka_queue_new(subscription->consumer);
	list = rd_kafka_topic_partition_list_new(subscription->partition_count);
	for (int32_t i = 0; i < subscription->partition_count; i++)
		rd_kafka_topic_partition_list_add(list, subscription->options->results, i);
	rc = start_reading(subscription, list, wanted, fault);
	rd_kafka_topic_partition_list_destroy(list);
	subscription->growth = growth_new(subscription->consumer, subscription->options->results, subscription->partition_count);
	return rc;
}

struct subscription *subscription_new(const struct options *options, enum campaign_from from, int64_t time_ms, struct fault *fault)
{
	struct subscription *subscription = must(calloc(1, sizeof *subscription));

	subscription->options = options;
	subscription->consumer = connection_open(options, KAFKA_READER, fault);
	if (subscription->consumer && start(subscription, from, time_ms, fault) == 0)
		return subscription;
	subscription_free(subscription);
	return NULL;
}

void subscription_free(struct subscription *subscription)
{
	if (subscription == NULL)
		return;
	if (subscription->record)
		rd_kafka_message_destroy(subscription->record);
	for (int32_t i = 0; subscription->progress && i < subscription->partition_count; i++)
		rd_kafka_consume_stop(subscription->results, i);
	growth_free(subscription->growth);
	if (subscription->records)
		rd_kafka_queue_destroy(subscription->records);
	if (subscription->results)
		rd_kafka_topic_destroy(subscription->results);
	if (subscription->consumer)
		rd_kafka_destroy(subscription->consumer);
	free(subscription->progress);
	free(subscription);
}

bool subscription_caught_up(const struct subscription *subscription)
{
	return subscription->passed_count == subscription->partition_count;
}

static void record_passed(struct subscription *subscription, int32_t partition, int64_t next_offset)
{
	struct progress *progress = &subscription->progress[partition];

	if (!progress->passed && next_offset >= progress->end) {
		progress->passed = true;
		subscription->passed_count++;
	}
}

static int report_error(struct subscription *subscription, const rd_kafka_message_t *message, struct fault *fault)
{
	const char *topic = subscription->options->results;
	const struct campaign_log_line line = {
		CAMPAIGN_LOG_WARN, "results_trouble", rd_kafka_message_errstr(message), NULL, topic, message->partition
	};

	switch (message->err) {
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
		record_passed(subscription, message->partition, message->offset);
		return 0;
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
	case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
		return fault_set(fault, FAULT_FATAL, "topic %s, partition %d: %s; the next results were deleted before they were read, or the "
				 "topic was created again", topic, (int)message->partition, rd_kafka_message_errstr(message));
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR__FATAL:
		return fault_set(fault, FAULT_FATAL, "topic %s, partition %d: %s", topic, (int)message->partition,
				 rd_kafka_message_errstr(message));
	default:
		options_log(subscription->options, &line);
		return 0;
	}
}

int subscription_next(struct subscription *subscription, int wait_ms, struct fault *fault)
{
	rd_kafka_message_t *record;
	int rc;

	if (subscription->record)
		rd_kafka_message_destroy(subscription->record);
	subscription->record = NULL;
	if (look_for_added(subscription, fault) < 0)
		return -1;
	record = rd_kafka_consume_queue(subscription->records, wait_ms);
	if (record == NULL)
		return 0;
	if (record->err) {
		rc = report_error(subscription, record, fault);
		rd_kafka_message_destroy(record);
		return rc;
	}
	record_passed(subscription, record->partition, record->offset + 1);
	subscription->record = record;
	return 1;
}

const void *subscription_key(const struct subscription *subscription, size_t *size)
{
	*size = subscription->record->key_len;
	return subscription->record->key;
}

void subscription_decode(const struct subscription *subscription, struct codec *codec, struct arena *arena,
			 struct campaign_event *event)
{
	const rd_kafka_message_t *record = subscription->record;
	struct command_result *result = arena_alloc(arena, sizeof *result);
	struct fault why;

	event->topic = subscription->options->results;
	event->partition = record->partition;
	event->offset = record->offset;
	event->is_new = record->offset >= subscription->progress[record->partition].end;
	if (codec_decode_result(codec, record->payload, record->len, arena, result, &why) == 0) {
		event->kind = CAMPAIGN_RESULT;
		event->result = result;
	} else {
		event->kind = CAMPAIGN_UNREADABLE;
		event->message = arena_printf(arena, "%s", why.msg);
	}
}
