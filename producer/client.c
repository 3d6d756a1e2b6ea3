#include "producer/client.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"
#include "schemas/duplicate.h"
#include "worker/base/arena.h"
#include "worker/base/clock.h"
#include "worker/kafka/kafka.h"
#include "worker/base/log.h"
#include "producer/pending.h"

#define LOOKUP_MS 10000 /* to find a topic, its partitions and offsets */
#define SLICE_MS 20     /* how long the one client is waited for before the other is looked at */

struct progress { /* of one partition of the results topic */
	int64_t end; /* when the subscription began */
	bool passed;
};

struct client {
	const struct config *config;
	struct codec *codec;
	struct arena *arena; /* what the last event points to */
	struct pending *pending;

	rd_kafka_t *producer; /* NULL until the first submit */
	rd_kafka_queue_t *reports;
	rd_kafka_event_t *report; /* being walked */
	size_t unacknowledged_bytes;
	bool abandoned;

	rd_kafka_t *consumer; /* NULL until subscribed */
	rd_kafka_topic_t *results;
	rd_kafka_queue_t *records;
	rd_kafka_message_t *record; /* the last event's */
	struct progress *progress;
	int32_t partition_count, passed_count;
};

struct client *client_new(const struct config *config, struct fault *fault)
{
	struct codec *codec = codec_new(&duplicate_contract, config->schemas && *config->schemas ? config->schemas : NULL, NULL, fault);
	struct client *client;

	if (codec == NULL)
		return NULL;
	client = calloc(1, sizeof *client);
	if (client == NULL)
		abort();
	client->config = config;
	client->codec = codec;
	client->arena = arena_new((size_t)1024 * 1024);
	client->pending = pending_new();
	return client;
}

static void close_producer(struct client *client)
{
	if (client->producer == NULL)
		return;
	if (client->report)
		rd_kafka_event_destroy(client->report);
	rd_kafka_queue_destroy(client->reports);
	rd_kafka_purge(client->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	rd_kafka_destroy(client->producer);
	client->producer = NULL;
}

static void close_consumer(struct client *client)
{
	if (client->consumer == NULL)
		return;
	if (client->record)
		rd_kafka_message_destroy(client->record);
	for (int32_t i = 0; client->progress && i < client->partition_count; i++)
		rd_kafka_consume_stop(client->results, i);
	if (client->records)
		rd_kafka_queue_destroy(client->records);
	if (client->results)
		rd_kafka_topic_destroy(client->results);
	rd_kafka_destroy(client->consumer);
	free(client->progress);
	client->consumer = NULL;
}

void client_free(struct client *client)
{
	if (client == NULL)
		return;
	close_producer(client);
	close_consumer(client);
	codec_free(client->codec);
	arena_free(client->arena);
	pending_free(client->pending);
	free(client);
}

size_t client_in_flight(const struct client *client)
{
	return pending_count(client->pending);
}

/* The topic's number of partitions, or why it cannot be used: 0 when it may only need a moment (its leaders are being
 * elected), -1 with a fault. */
static int32_t look_for(rd_kafka_t *rk, rd_kafka_topic_t *topic, const char *brokers, int timeout_ms, struct fault *fault)
{
	const struct rd_kafka_metadata *metadata;
	const char *name = rd_kafka_topic_name(topic);
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, topic, &metadata, timeout_ms);
	int32_t count = 0;

	if (err)
		return fault_set(fault, FAULT_WAIT, "no answer from the brokers %s: %s", brokers, rd_kafka_err2str(err));
	err = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	if (!err)
		count = metadata->topics[0].partition_cnt;
	rd_kafka_metadata_destroy(metadata);
	switch (err) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
	case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		return count;
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		return fault_set(fault, FAULT_FATAL, "topic %s does not exist at %s (`campaign-worker topics` creates it)", name,
				 brokers);
	default:
		return fault_set(fault, FAULT_FATAL, "topic %s: %s", name, rd_kafka_err2str(err));
	}
}

static int32_t count_partitions(struct client *client, rd_kafka_t *rk, rd_kafka_topic_t *topic, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + LOOKUP_MS, left_ms = LOOKUP_MS;
	int32_t count = 0;

	for (; count == 0 && left_ms > 0; left_ms = deadline_ms - clock_monotonic_ms()) {
		count = look_for(rk, topic, client->config->brokers, (int)left_ms, fault);
		if (count == 0)
			clock_sleep_ms(100);
	}
	if (count == 0)
		return fault_set(fault, FAULT_WAIT, "topic %s has no leader", rd_kafka_topic_name(topic));
	return count;
}

/* Sets each partition's offset to that of `wanted`: a time, RD_KAFKA_OFFSET_BEGINNING or RD_KAFKA_OFFSET_END, which is the
 * last stable offset, because the consumer is read_committed. (ListOffsets takes all three in the same field.) */
static int find_offsets(struct client *client, rd_kafka_topic_partition_list_t *list, int64_t wanted, struct fault *fault)
{
	rd_kafka_resp_err_t err;

	for (int i = 0; i < list->cnt; i++)
		list->elems[i].offset = wanted;
	err = rd_kafka_offsets_for_times(client->consumer, list, LOOKUP_MS);
	for (int i = 0; !err && i < list->cnt; i++)
		err = list->elems[i].err;
	if (err)
		return fault_set(fault, FAULT_WAIT, "offsets of topic %s: %s", client->config->results, rd_kafka_err2str(err));
	return 0;
}

static int start_reading(struct client *client, rd_kafka_topic_partition_list_t *list, int64_t wanted, struct fault *fault)
{
	if (find_offsets(client, list, RD_KAFKA_OFFSET_END, fault) != 0)
		return -1;
	client->progress = calloc((size_t)list->cnt, sizeof *client->progress);
	if (client->progress == NULL)
		abort();
	for (int i = 0; i < list->cnt; i++)
		client->progress[i].end = list->elems[i].offset;
	if (wanted != RD_KAFKA_OFFSET_END && find_offsets(client, list, wanted, fault) != 0)
		return -1;
	for (int i = 0; i < list->cnt; i++) {
		struct progress *progress = &client->progress[i];
		int64_t start = list->elems[i].offset;

		if (start < 0) /* no record is as young as the wanted time */
			start = progress->end;
		progress->passed = start >= progress->end;
		client->passed_count += progress->passed;
		if (rd_kafka_consume_start_queue(client->results, i, start, client->records) != 0)
			return fault_set(fault, FAULT_FATAL, "topic %s, partition %d: %s", client->config->results, i,
					 rd_kafka_err2str(rd_kafka_last_error()));
	}
	return 0;
}

/* The worker fetches little ahead; a reader of all results wants more of it. What the user gave stays. */
static int set_fetching(struct client *client, rd_kafka_conf_t *conf, struct fault *fault)
{
	static const char *const values[][2] = {
		{ "enable.partition.eof", "true" }, /* the end of a topic whose last records are transaction markers */
		{ "queued.max.messages.kbytes", "32768" },
		{ "queued.min.messages", "100000" },
	};

	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		const struct property *property = client->config->properties, *end = property + client->config->property_count;

		while (property < end && strcmp(property->name, values[i][0]) != 0)
			property++;
		if (property == end && kafka_conf_set(conf, values[i][0], values[i][1], fault) != 0)
			return -1;
	}
	return 0;
}

int client_subscribe(struct client *client, enum client_from from, int64_t time_ms, struct fault *fault)
{
	int64_t wanted = from == CLIENT_FROM_NOW ? RD_KAFKA_OFFSET_END :
			 from == CLIENT_FROM_BEGINNING ? RD_KAFKA_OFFSET_BEGINNING : time_ms;
	struct rd_kafka_conf_s *conf = kafka_conf_new(client->config, KAFKA_CONSUMER, fault);
	rd_kafka_topic_partition_list_t *list;
	int rc;

	if (conf == NULL)
		return -1;
	if (set_fetching(client, conf, fault) != 0) {
		rd_kafka_conf_destroy(conf);
		return -1;
	}
	client->consumer = kafka_new_take(conf, KAFKA_CONSUMER, fault);
	if (client->consumer == NULL)
		return -1;
	client->results = rd_kafka_topic_new(client->consumer, client->config->results, NULL);
	if (client->results == NULL)
		return fault_set(fault, FAULT_FATAL, "topic %s: %s", client->config->results,
				 rd_kafka_err2str(rd_kafka_last_error()));
	client->partition_count = count_partitions(client, client->consumer, client->results, fault);
	if (client->partition_count < 0)
		return -1;
	client->records = rd_kafka_queue_new(client->consumer);
	list = rd_kafka_topic_partition_list_new(client->partition_count);
	for (int32_t i = 0; i < client->partition_count; i++)
		rd_kafka_topic_partition_list_add(list, client->config->results, i);
	rc = start_reading(client, list, wanted, fault);
	rd_kafka_topic_partition_list_destroy(list);
	return rc;
}

bool client_caught_up(const struct client *client)
{
	return client->passed_count == client->partition_count;
}

/* Publishing. */

static int find_commands_topic(struct client *client, rd_kafka_t *producer, struct fault *fault)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, client->config->commands, NULL);
	int32_t count;

	if (topic == NULL)
		return fault_set(fault, FAULT_FATAL, "topic %s: %s", client->config->commands,
				 rd_kafka_err2str(rd_kafka_last_error()));
	count = count_partitions(client, producer, topic, fault);
	rd_kafka_topic_destroy(topic);
	return count < 0 ? -1 : 0;
}

static int open_producer(struct client *client, struct fault *fault)
{
	struct rd_kafka_conf_s *conf = kafka_conf_new(client->config, KAFKA_PRODUCER, fault);
	rd_kafka_t *producer;

	if (conf == NULL)
		return -1;
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR);
	producer = kafka_new_take(conf, KAFKA_PRODUCER, fault);
	if (producer == NULL)
		return -1;
	if (find_commands_topic(client, producer, fault) != 0) {
		rd_kafka_destroy(producer);
		return -1;
	}
	client->producer = producer;
	client->reports = rd_kafka_queue_get_main(producer);
	return 0;
}

static rd_kafka_headers_t *headers_of(const struct duplicate_command *command, const struct client_trace *trace)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(3);

	rd_kafka_header_add(headers, "traceId", -1, command->head.trace_id, -1);
	if (trace->traceparent)
		rd_kafka_header_add(headers, "traceparent", -1, trace->traceparent, -1);
	if (trace->tracestate)
		rd_kafka_header_add(headers, "tracestate", -1, trace->tracestate, -1);
	return headers;
}

static int publish(struct client *client, const struct duplicate_command *command, const struct client_trace *trace, const void *value,
		   size_t size, struct fault *fault)
{
	rd_kafka_headers_t *headers = headers_of(command, trace);
	rd_kafka_resp_err_t err;

	/* clang-format off */
	err = rd_kafka_producev(client->producer, RD_KAFKA_V_TOPIC(client->config->commands),
				RD_KAFKA_V_KEY((void *)(uintptr_t)command->head.account_group_id, strlen(command->head.account_group_id)),
				RD_KAFKA_V_VALUE((void *)(uintptr_t)value, size), RD_KAFKA_V_HEADERS(headers),
				RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
	/* clang-format on */
	if (!err)
		return 0;
	rd_kafka_headers_destroy(headers);
	switch (err) {
	case RD_KAFKA_RESP_ERR__QUEUE_FULL:
		return fault_set(fault, FAULT_RETRY, "the client's queue is full");
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		return fault_set(fault, FAULT_REJECT, "a command of %zu bytes is larger than message.max.bytes", size);
	default:
		return fault_set(fault, FAULT_FATAL, "cannot publish: %s", rd_kafka_err2str(err));
	}
}

int client_submit(struct client *client, const struct duplicate_command *command, const struct client_trace *trace, int timeout_ms,
		  struct fault *fault)
{
	const void *value;
	size_t size;

	arena_reset(client->arena);
	if (client->producer == NULL && open_producer(client, fault) != 0)
		return -1;
	if (pending_count(client->pending) >= CLIENT_IN_FLIGHT_MAX)
		return fault_set(fault, FAULT_RETRY, "%d commands are in flight", CLIENT_IN_FLIGHT_MAX);
	if (codec_encode_command(client->codec, &command->head, client->arena, &value, &size, fault) != 0)
		return -1;
	if (client->unacknowledged_bytes > 0 && client->unacknowledged_bytes + size > CLIENT_IN_FLIGHT_BYTES)
		return fault_set(fault, FAULT_RETRY, "%zu bytes are in flight", client->unacknowledged_bytes);
	if (publish(client, command, trace, value, size, fault) != 0)
		return -1;
	client->unacknowledged_bytes += size;
	pending_add(client->pending, command->head.trace_id, command->head.account_group_id, clock_monotonic_ms() + timeout_ms);
	return 0;
}

/* What became of a record that was published. False: nothing to tell, it was reported missing before. */
static bool tell_report(struct client *client, const rd_kafka_message_t *message, struct client_event *event)
{
	rd_kafka_headers_t *headers;
	const void *trace_id = "";
	size_t size = 0;
	bool certain = rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_NOT_PERSISTED;

	if (rd_kafka_message_headers(message, &headers) == 0)
		(void)rd_kafka_header_get_last(headers, "traceId", &trace_id, &size);
	client->unacknowledged_bytes -= message->len;
	event->trace_id = arena_strndup(client->arena, trace_id, size);
	event->account_group_id = arena_strndup(client->arena, message->key, message->key_len);
	if (message->err) {
		event->kind = CLIENT_NOT_PUBLISHED;
		event->message = arena_printf(client->arena, "%s; %s", rd_kafka_err2str(message->err),
					      certain ? "it is not in the topic" : "it may or may not be in the topic");
		return pending_take(client->pending, event->trace_id, event->account_group_id);
	}
	event->kind = CLIENT_PUBLISHED;
	event->topic = arena_printf(client->arena, "%s", rd_kafka_topic_name(message->rkt));
	event->partition = message->partition;
	event->offset = message->offset;
	if (client->consumer == NULL)
		(void)pending_take(client->pending, event->trace_id, event->account_group_id);
	return true;
}

static bool next_report(struct client *client, int wait_ms, struct client_event *event)
{
	const rd_kafka_message_t *message;

	for (;;) {
		if (client->report == NULL)
			client->report = rd_kafka_queue_poll(client->reports, wait_ms);
		if (client->report == NULL)
			return false;
		while ((message = rd_kafka_event_message_next(client->report)))
			if (tell_report(client, message, event))
				return true;
		rd_kafka_event_destroy(client->report);
		client->report = NULL;
		wait_ms = 0;
	}
}

void client_abandon(struct client *client)
{
	client->abandoned = true;
}

static bool next_missing(struct client *client, struct client_event *event)
{
	struct pending_wait *wait = pending_expire(client->pending, client->abandoned ? INT64_MAX : clock_monotonic_ms());

	if (wait == NULL)
		return false;
	event->kind = CLIENT_MISSING;
	event->trace_id = arena_printf(client->arena, "%s", wait->trace_id);
	event->account_group_id = arena_printf(client->arena, "%s", wait->account_group_id);
	free(wait);
	return true;
}

/* Results. */

static void note_passed(struct client *client, int32_t partition, int64_t next_offset)
{
	struct progress *progress = &client->progress[partition];

	if (!progress->passed && next_offset >= progress->end) {
		progress->passed = true;
		client->passed_count++;
	}
}

static int tell_error(struct client *client, const rd_kafka_message_t *message, struct fault *fault)
{
	const char *topic = client->config->results;

	switch (message->err) {
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
		note_passed(client, message->partition, message->offset);
		return 0;
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
	case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
	case RD_KAFKA_RESP_ERR__FATAL:
		return fault_set(fault, FAULT_FATAL, "topic %s, partition %d: %s", topic, (int)message->partition,
				 rd_kafka_message_errstr(message));
	default:
		log_warn("results_trouble", rd_kafka_message_errstr(message), "topic", topic, "partition",
			 LOG_INT(message->partition));
		return 0;
	}
}

/* Decodes client->record. */
static void tell_record(struct client *client, struct client_event *event)
{
	const rd_kafka_message_t *record = client->record;
	struct command_result *result = arena_alloc(client->arena, sizeof *result);
	struct fault why;

	event->topic = client->config->results;
	event->partition = record->partition;
	event->offset = record->offset;
	event->is_new = record->offset >= client->progress[record->partition].end;
	if (codec_decode_result(client->codec, record->payload, record->len, client->arena, result, &why) == 0) {
		event->kind = CLIENT_RESULT;
		event->result = result;
	} else {
		event->kind = CLIENT_UNREADABLE;
		event->message = arena_printf(client->arena, "%s", why.msg);
	}
}

/* The next record into client->record: 1, or 0 if there is none yet, -1 with a fault. */
static int next_record(struct client *client, int wait_ms, struct fault *fault)
{
	rd_kafka_message_t *record = rd_kafka_consume_queue(client->records, wait_ms);
	int rc;

	if (client->record)
		rd_kafka_message_destroy(client->record);
	client->record = NULL;
	if (record == NULL)
		return 0;
	if (record->err) {
		rc = tell_error(client, record, fault);
		rd_kafka_message_destroy(record);
		return rc;
	}
	note_passed(client, record->partition, record->offset + 1);
	client->record = record;
	return 1;
}

static int remains(int64_t deadline_ms, int at_most_ms)
{
	int64_t left_ms = deadline_ms - clock_monotonic_ms();

	if (left_ms <= 0)
		return 0;
	return left_ms < at_most_ms ? (int)left_ms : at_most_ms;
}

/* Whether the record just read answers one of our commands; then it is told. Others are passed over undecoded. */
static bool tell_answer(struct client *client, struct client_event *event)
{
	const rd_kafka_message_t *record = client->record;

	if (record->key == NULL || !pending_has(client->pending, record->key, record->key_len))
		return false;
	tell_record(client, event);
	return event->kind == CLIENT_UNREADABLE ||
	       pending_take(client->pending, event->result->trace_id, event->result->account_group_id);
}

int client_await(struct client *client, int wait_ms, struct client_event *event, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + wait_ms;
	int left_ms, got;

	arena_reset(client->arena);
	do {
		memset(event, 0, sizeof *event);
		left_ms = remains(deadline_ms, SLICE_MS);
		if (client->producer && next_report(client, client->consumer ? 0 : left_ms, event))
			return 0;
		if (next_missing(client, event))
			return 0;
		if (client->consumer == NULL) {
			if (client->producer == NULL)
				clock_sleep_ms(left_ms);
			continue;
		}
		got = next_record(client, left_ms, fault);
		if (got < 0)
			return -1;
		if (got > 0 && tell_answer(client, event))
			return 0;
		if (got > 0)
			left_ms = remains(deadline_ms + SLICE_MS, 1); /* more may be ready, also when wait_ms is 0 */
	} while (left_ms > 0);
	memset(event, 0, sizeof *event);
	return 0;
}

int client_watch(struct client *client, int wait_ms, struct client_event *event, struct fault *fault)
{
	int got;

	memset(event, 0, sizeof *event);
	arena_reset(client->arena);
	got = next_record(client, wait_ms, fault);
	if (got < 0)
		return -1;
	if (got > 0)
		tell_record(client, event);
	return 0;
}
