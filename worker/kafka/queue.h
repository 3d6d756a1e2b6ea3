/* A queue of fetched records: those at the front are taken by a batch, the others wait. Owns librdkafka's messages. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/record.h"
#include "worker/base/arena.h"

#define QUEUE_SPARE 16 /* messages beyond its room that it may hold */
#define QUEUE_ALL (-1)

struct rd_kafka_message_s;

struct queue {
	size_t room, room_bytes; /* limits of the waiting records */
	struct rd_kafka_message_s **messages; /* [0, taken) handed out, [taken, count) waiting */
	size_t capacity, taken, count, bytes; /* bytes: of the waiting ones */
	int32_t *aside;          /* partitions whose records wait without counting as waiting */
	size_t aside_count;
	size_t aside_waiting, aside_bytes; /* their records */
	int32_t only;            /* the partition whose records are given out; QUEUE_ALL: all that are not set aside */
};

void queue_init(struct queue *queue, size_t room, size_t room_bytes);
void queue_free(struct queue *queue); /* frees its messages, too */

size_t queue_waiting(const struct queue *queue);
bool queue_has_room(const struct queue *queue);
void queue_add_take(struct queue *queue, struct rd_kafka_message_s *message);
void queue_drop_waiting(struct queue *queue);
bool queue_holds(const struct queue *queue, int32_t partition); /* a record of that partition, taken or waiting */

/* The next record, not taken yet; false if there is none. Text points into the message, headers into arena. */
bool queue_peek(const struct queue *queue, const char *topic, struct arena *arena, struct record *record);
void queue_take(struct queue *queue);              /* the peeked record */
void queue_release(struct queue *queue, size_t n); /* frees the first n taken records */
void queue_put_back(struct queue *queue);          /* all taken records wait again, in their order */

/* Sets a partition aside, or readmits it. */
void queue_set_aside(struct queue *queue, int32_t partition, bool aside);
/* Drops the waiting records of a partition but for the first of them; returns the offset of the first dropped one, -1: none. */
int64_t queue_cut(struct queue *queue, int32_t partition, size_t keep);

#endif
