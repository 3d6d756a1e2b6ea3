/* The library's clients of Kafka. (The types are librdkafka's, declared here so that its header stays out of ours.) */
#ifndef PRODUCER_CONNECTION_H
#define PRODUCER_CONNECTION_H

#include <stdint.h>

#include "producer/options.h"
#include "worker/base/fault.h"
#include "worker/base/properties.h"

struct rd_kafka_s;
struct rd_kafka_topic_s;

/* A client with the properties of worker/base/properties.h; a KAFKA_PRODUCER reports deliveries as events. options are borrowed
 * until it is destroyed: its log lines go there. FAULT_FATAL names the property that cannot be set. */
struct rd_kafka_s *connection_open(const struct options *options, enum kafka_client client, struct fault *fault) MUST_CHECK;

/* The topic's number of partitions, or -1 with a fault: FAULT_WAIT when the brokers do not answer or it has no leader in time,
 * FAULT_FATAL when there is no such topic. */
int32_t connection_count_partitions(struct rd_kafka_s *rk, struct rd_kafka_topic_s *topic, const char *brokers,
				    struct fault *fault) MUST_CHECK;

#define LOOKUP_MS 10000 /* to find a topic, its partitions and offsets */

#endif
