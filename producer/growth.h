/* How many partitions a topic has, asked for now and then without waiting. (The types are librdkafka's.) */
#ifndef PRODUCER_GROWTH_H
#define PRODUCER_GROWTH_H

#include <stdint.h>

#include "worker/base/fault.h"

#define LOOK_MS 2000 /* between two questions */

struct growth;
struct rd_kafka_s;

/* A topic that has that many partitions. rk and topic are borrowed until growth_free. */
struct growth *growth_new(struct rd_kafka_s *rk, const char *topic, int32_t count);
void growth_free(struct growth *growth); /* accepts NULL */

/* The most partitions that brokers have told of. -1 with FAULT_FATAL: the topic was deleted and created again. */
int32_t growth_look(struct growth *growth, struct fault *fault) MUST_CHECK;

#endif
