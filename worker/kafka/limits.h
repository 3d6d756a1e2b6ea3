/* How large a record the topics of a producer take: what their max.message.bytes says, asked from time to time. Where that may not
 * be read, it is learnt from refusals. Never more than the producer's own message.max.bytes. (librdkafka's types are declared
 * here so that its header stays out of ours.) */
#ifndef LIMITS_H
#define LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rd_kafka_s;
struct rd_kafka_queue_s;

enum { LIMIT_RESULTS, LIMIT_DEAD_LETTERS, LIMITS };

struct limit { /* zeroed: nothing was learnt */
	size_t bytes;
	bool known;           /* the topic was asked; else it is taken to be bytes */
	int64_t guessed_at_ms;
};

struct limits {
	struct rd_kafka_s *rk;
	struct rd_kafka_queue_s *queue;
	const char *names[LIMITS];
	struct limit *topics; /* LIMITS of them: they outlive the producer */
	size_t message_max; /* message.max.bytes */
	size_t batch_max;   /* no batch of several records is larger */
	bool asked;         /* an answer is on its way */
	int64_t ask_at_ms;
};

/* The topics' limits and names are borrowed. */
void limits_init(struct limits *limits, struct rd_kafka_s *rk, struct limit *topics, const char *results, const char *dead_letters);
void limits_destroy(struct limits *limits); /* also if nothing was initialised */

/* Asks, and waits for the answer for that long at most. What it does not say stays as it was. */
void limits_ask(struct limits *limits, int timeout_ms);
/* Takes an answer that is there, and asks where the last answer is old. Waits for nothing. */
void limits_renew(struct limits *limits, int64_t now_ms);

/* The topic refused the size of a batch; none that was sent had more than that many bytes. Asks, and where that gives no
 * reason, guesses. */
void limits_learn(struct limits *limits, int topic, size_t sent_bytes, int timeout_ms);

#endif
