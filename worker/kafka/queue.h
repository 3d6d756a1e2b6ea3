/* Records that were fetched: those at the front are taken and in a batch, the others wait. Owns librdkafka's messages. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/record.h"
#include "worker/base/arena.h"

#define QUEUE_SPARE 16 /* messages beyond its room that it may hold */

struct rd_kafka_message_s;

struct queue {
	size_t room, room_bytes; /* of those that wait */
	struct rd_kafka_message_s **messages; /* [0, taken) handed out, [taken, count) waiting */
	size_t taken, count, bytes;
};

void queue_init(struct queue *queue, size_t room, size_t room_bytes);
void queue_free(struct queue *queue); /* and all that is in it */

size_t queue_waiting(const struct queue *queue);
bool queue_has_room(const struct queue *queue);
void queue_add_take(struct queue *queue, struct rd_kafka_message_s *message);
void queue_drop_waiting(struct queue *queue);
bool queue_holds(const struct queue *queue, int32_t partition); /* a record of it, taken or waiting */

/* The next record, not taken yet; false if there is none. Text points into the message, headers into arena. */
bool queue_peek(const struct queue *queue, const char *topic, struct arena *arena, struct record *record);
void queue_take(struct queue *queue);              /* the peeked record */
void queue_release(struct queue *queue, size_t n); /* the first n taken ones are done with */

#endif
