#include "worker/kafka/queue.h"

#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/must.h"

void queue_init(struct queue *queue, size_t room, size_t room_bytes)
{
	*queue = (struct queue){ .room = room, .room_bytes = room_bytes, .only = QUEUE_ALL };
	queue->capacity = 3 * room + QUEUE_SPARE; /* two batches in hand, one waiting */
	queue->messages = must(calloc(queue->capacity, sizeof(rd_kafka_message_t *)));
}

void queue_free(struct queue *queue)
{
	queue_drop_waiting(queue);
	queue_release(queue, queue->taken);
	free(queue->messages);
	free(queue->aside);
	queue->messages = NULL;
	queue->aside = NULL;
	queue->aside_count = 0;
}

static bool is_aside(const struct queue *queue, int32_t partition)
{
	for (size_t i = 0; i < queue->aside_count; i++)
		if (queue->aside[i] == partition)
			return true;
	return false;
}

static void count_again(struct queue *queue)
{
	queue->bytes = queue->aside_waiting = queue->aside_bytes = 0;
	for (size_t i = queue->taken; i < queue->count; i++) {
		const rd_kafka_message_t *message = queue->messages[i];
		bool aside = is_aside(queue, message->partition);

		queue->bytes += message->len;
		queue->aside_waiting += aside;
		queue->aside_bytes += aside ? message->len : 0;
	}
}

size_t queue_waiting(const struct queue *queue)
{
	return queue->count - queue->taken - queue->aside_waiting;
}

bool queue_has_room(const struct queue *queue)
{
	return queue_waiting(queue) < queue->room && queue->count - queue->aside_waiting < 3 * queue->room &&
	       queue->bytes - queue->aside_bytes < queue->room_bytes;
}

void queue_add_take(struct queue *queue, struct rd_kafka_message_s *message)
{
	bool aside = is_aside(queue, message->partition);

	if (queue->count == queue->capacity) {
		queue->capacity *= 2;
		queue->messages = must(reallocarray(queue->messages, queue->capacity, sizeof(rd_kafka_message_t *)));
	}
	queue->bytes += message->len;
	queue->aside_waiting += aside;
	queue->aside_bytes += aside ? message->len : 0;
	queue->messages[queue->count++] = message;
}

void queue_drop_waiting(struct queue *queue)
{
	while (queue->count > queue->taken)
		rd_kafka_message_destroy(queue->messages[--queue->count]);
	queue->aside_count = 0;
	queue->only = QUEUE_ALL;
	count_again(queue);
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

/* The place of the next record to give out; count: there is none. */
static size_t find_next(const struct queue *queue)
{
	size_t i = queue->taken;

	while (i < queue->count && (queue->only == QUEUE_ALL ? is_aside(queue, queue->messages[i]->partition) :
							       queue->messages[i]->partition != queue->only))
		i++;
	return i;
}

bool queue_peek(const struct queue *queue, const char *topic, struct arena *arena, struct record *record)
{
	rd_kafka_timestamp_type_t type;
	rd_kafka_message_t *message;
	size_t next = find_next(queue);

	if (next == queue->count)
		return false;
	message = queue->messages[next];
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
	size_t next = find_next(queue);
	rd_kafka_message_t *message = queue->messages[next];
	bool aside = is_aside(queue, message->partition);

	memmove(queue->messages + queue->taken + 1, queue->messages + queue->taken, (next - queue->taken) * sizeof message);
	queue->messages[queue->taken++] = message;
	queue->bytes -= message->len;
	queue->aside_waiting -= aside;
	queue->aside_bytes -= aside ? message->len : 0;
}

void queue_put_back(struct queue *queue)
{
	queue->taken = 0;
	count_again(queue);
}

void queue_set_aside(struct queue *queue, int32_t partition, bool aside)
{
	size_t i = 0;

	while (i < queue->aside_count && queue->aside[i] != partition)
		i++;
	if (aside && i == queue->aside_count) {
		queue->aside = must(reallocarray(queue->aside, i + 1, sizeof *queue->aside));
		queue->aside[queue->aside_count++] = partition;
	} else if (!aside && i < queue->aside_count) {
		queue->aside[i] = queue->aside[--queue->aside_count];
	}
	count_again(queue);
}

int64_t queue_cut(struct queue *queue, int32_t partition, size_t keep)
{
	size_t kept = queue->taken;
	int64_t first = -1;

	for (size_t i = queue->taken; i < queue->count; i++) {
		rd_kafka_message_t *message = queue->messages[i];

		if (message->partition == partition && keep == 0) {
			first = first < 0 ? message->offset : first;
			rd_kafka_message_destroy(message);
			continue;
		}
		keep -= message->partition == partition;
		queue->messages[kept++] = message;
	}
	queue->count = kept;
	count_again(queue);
	return first;
}

void queue_release(struct queue *queue, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rd_kafka_message_destroy(queue->messages[i]);
	queue->taken -= n;
	queue->count -= n;
	memmove(queue->messages, queue->messages + n, queue->count * sizeof *queue->messages);
}
