/* What the sub-commands that speak Kafka share: a publisher of commands and a reader of results. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/config.h"
#include "commands.h"

#define WIRE_POLL_MS 100

int64_t wire_now_us(void); /* monotonic */
void wire_sleep_until(int64_t us);
uint64_t wire_hash(const void *data, size_t size);

/* What the worker's Kafka clients are configured with, for clients that shall have the same properties. */
struct config wire_config(const char *brokers, const char *group);

/* An idempotent producer that puts records where Java clients do; dies when a record cannot be delivered. bulk: large
 * batches; else each record is sent at once. */
rd_kafka_t *wire_publisher(const char *brokers, bool bulk);
/* Publishes record i of the file with header traceId, so that bytes need not be decoded to be answered. Its memory is
 * referred to until the delivery; a full queue is waited for. Returns how many bytes key, header and value have. */
size_t wire_publish(rd_kafka_t *rk, rd_kafka_topic_t *topic, const struct bench_file *file, size_t i);
uint64_t wire_finish(rd_kafka_t *rk, rd_kafka_topic_t *topic); /* waits, frees both; records delivered by this process */

/* A read_committed reader of what is published to the topic from now on. */
rd_kafka_t *wire_reader(const char *brokers, const char *topic, int32_t *partitions);
/* The next record within WIRE_POLL_MS, to be destroyed; NULL: none. at_end, if given, says of each partition whether it is
 * read to its end. */
rd_kafka_message_t *wire_read(rd_kafka_t *rk, bool *at_end);

#endif
