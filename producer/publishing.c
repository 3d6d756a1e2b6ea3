#include "producer/publishing.h"

#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "producer/connection.h"
#include "worker/base/must.h"

struct publishing {
	const struct options *options;
	rd_kafka_t *producer;
	rd_kafka_queue_t *reports;
	rd_kafka_event_t *report; /* being walked */
	size_t unacknowledged_bytes;
};

static int find_topic(rd_kafka_t *producer, const struct options *options, struct fault *fault)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, options->commands, NULL);
	int32_t count;

	if (topic == NULL)
		return fault_set(fault, FAULT_FATAL, "topic %s: %s", options->commands, rd_kafka_err2str(rd_kafka_last_error()));
	count = connection_count_partitions(producer, topic, options->brokers, fault);
	rd_kafka_topic_destroy(topic);
	return count < 0 ? -1 : 0;
}

struct publishing *publishing_new(const struct options *options, struct fault *fault)
{
	rd_kafka_t *producer = connection_open(options, KAFKA_PRODUCER, fault);
	struct publishing *publishing;

	if (producer == NULL)
		return NULL;
	if (find_topic(producer, options, fault) < 0) {
		rd_kafka_destroy(producer);
		return NULL;
	}
	publishing = must(calloc(1, sizeof *publishing));
	publishing->options = options;
	publishing->producer = producer;
	publishing->reports = rd_kafka_queue_get_main(producer);
	return publishing;
}

void publishing_free(struct publishing *publishing)
{
	if (publishing == NULL)
		return;
	if (publishing->report)
		rd_kafka_event_destroy(publishing->report);
	rd_kafka_queue_destroy(publishing->reports);
	rd_kafka_purge(publishing->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	rd_kafka_destroy(publishing->producer);
	free(publishing);
}

size_t publishing_unacknowledged(const struct publishing *publishing)
{
	return publishing->unacknowledged_bytes;
}

static rd_kafka_headers_t *headers_of(const struct command_head *head, const struct campaign_trace *trace)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(3);

	rd_kafka_header_add(headers, "traceId", -1, head->trace_id, -1);
	if (trace && trace->traceparent)
		rd_kafka_header_add(headers, "traceparent", -1, trace->traceparent, -1);
	if (trace && trace->tracestate)
		rd_kafka_header_add(headers, "tracestate", -1, trace->tracestate, -1);
	return headers;
}

int publishing_send(struct publishing *publishing, const struct command_head *head, const struct campaign_trace *trace,
		    const void *value, size_t size, struct fault *fault)
{
	rd_kafka_headers_t *headers = headers_of(head, trace);
	rd_kafka_resp_err_t err;

	/* clang-format off */
	err = rd_kafka_producev(publishing->producer, RD_KAFKA_V_TOPIC(publishing->options->commands),
				RD_KAFKA_V_KEY((void *)(uintptr_t)head->account_group_id, strlen(head->account_group_id)),
				RD_KAFKA_V_VALUE((void *)(uintptr_t)value, size), RD_KAFKA_V_HEADERS(headers),
				RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
	/* clang-format on */
	if (!err) {
		publishing->unacknowledged_bytes += size;
		return 0;
	}
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

static void read_report(const rd_kafka_message_t *message, struct arena *arena, struct campaign_event *event)
{
	bool certain = rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
	rd_kafka_headers_t *headers;
	const void *trace_id = "";
	size_t size = 0;

	if (rd_kafka_message_headers(message, &headers) == 0)
		(void)rd_kafka_header_get_last(headers, "traceId", &trace_id, &size);
	event->trace_id = arena_strndup(arena, trace_id, size);
	event->account_group_id = arena_strndup(arena, message->key, message->key_len);
	if (message->err) {
		event->kind = CAMPAIGN_NOT_PUBLISHED;
		event->message = arena_printf(arena, "%s; %s", rd_kafka_err2str(message->err),
					      certain ? "it is not in the topic" : "it may or may not be in the topic");
		return;
	}
	event->kind = CAMPAIGN_PUBLISHED;
	event->topic = arena_printf(arena, "%s", rd_kafka_topic_name(message->rkt));
	event->partition = message->partition;
	event->offset = message->offset;
}

bool publishing_next(struct publishing *publishing, int wait_ms, struct arena *arena, struct campaign_event *event)
{
	const rd_kafka_message_t *message;

	for (;;) {
		if (publishing->report == NULL)
			publishing->report = rd_kafka_queue_poll(publishing->reports, wait_ms);
		if (publishing->report == NULL)
			return false;
		message = rd_kafka_event_message_next(publishing->report);
		if (message) {
			publishing->unacknowledged_bytes -= message->len;
			read_report(message, arena, event);
			return true;
		}
		rd_kafka_event_destroy(publishing->report);
		publishing->report = NULL;
		wait_ms = 0;
	}
}
