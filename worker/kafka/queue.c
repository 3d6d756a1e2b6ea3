#include "worker/kafka/queue.h"

#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/must.h"

void queue_init(struct queue *queue, size_t room, size_t room_bytes)
{
	*queue = (struct queue){ .room = room, .room_bytes = room_bytes };
	queue->messages = must(calloc(3 * room + QUEUE_SPARE, sizeof(rd_kafka_message_t *))); /* two batches in hand, one waiting */
}

void queue_free(struct queue *queue)
{
	queue_drop_waiting(queue);
	queue_release(queue, queue->taken);
	free(queue->messages);
	queue->messages = NULL;
}

size_t queue_waiting(const struct queue *queue)
{
	return queue->count - queue->taken;
}

bool queue_has_room(const struct queue *queue)
{
	return queue_waiting(queue) < queue->room && queue->count < 3 * queue->room && queue->bytes < queue->room_bytes;
}

void queue_add_take(struct queue *queue, struct rd_kafka_message_s *message)
{
	queue->bytes += message->len;
	queue->messages[queue->count++] = message;
}

void queue_drop_waiting(struct queue *queue)
{
	while (queue->count > queue->taken)
		rd_kafka_message_destroy(queue->messages[--queue->count]);
	queue->bytes = 0;
}

bool queue_holds(const struct queue *queue, int32_t partition)
{
	for (size_t i = 0; i < queue->count; i++)
		if (queue->messages[i]->partition == partition)
			return true;
	return false;
}

static const struct header *copy_headers(rd_kafka_message_t *message, struct arena *arena, size_t *count)
{
	rd_kafka_headers_t *headers;
	struct header *copy;

	*count = 0;
	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	*count = rd_kafka_header_cnt(headers);
	copy = arena_array(arena, *count, sizeof *copy);
	for (size_t i = 0; i < *count; i++)
		if (rd_kafka_header_get_all(headers, i, &copy[i].name, &copy[i].value, &copy[i].size))
			*count = i;
	return copy;
}

bool queue_peek(const struct queue *queue, const char *topic, struct arena *arena, struct record *record)
{
	rd_kafka_timestamp_type_t type;
	rd_kafka_message_t *message;

	if (queue->taken == queue->count)
		return false;
	message = queue->messages[queue->taken];
	*record = (struct record){
		.topic = topic,
		.partition = message->partition,
		.offset = message->offset,
		.timestamp_ms = rd_kafka_message_timestamp(message, &type),
		.key = message->key,
		.key_size = message->key_len,
		.value = message->payload,
		.value_size = message->len,
	};
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
		record->timestamp_ms = -1;
	record->stamped_by_broker = type == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
	record->headers = copy_headers(message, arena, &record->header_count);
	return true;
}

void queue_take(struct queue *queue)
{
	size_t len = queue->messages[queue->taken++]->len;

	queue->bytes -= len < queue->bytes ? len : queue->bytes;
}

void queue_release(struct queue *queue, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rd_kafka_message_destroy(queue->messages[i]);
	queue->taken -= n;
	queue->count -= n;
	memmove(queue->messages, queue->messages + n, queue->count * sizeof *queue->messages);
}
