#include "wire.h"

#include <string.h>
#include <time.h>

#include "worker/kafka/kafka.h"

#define METADATA_MS 10000
#define FLUSH_MS 60000

static uint64_t delivered;

int64_t wire_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void wire_sleep_until(int64_t us)
{
	struct timespec until = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
		;
}

struct config wire_config(const char *brokers, const char *group)
{
	return (struct config){
		.program = FOR_WORKER, .brokers = brokers, .group = group, .instance = group,
		.batch_bytes = 8 * 1024 * 1024, .dead_letter_bytes = 900000,
	};
}

uint64_t wire_hash(const void *data, size_t size)
{
	const unsigned char *byte = data;
	uint64_t h = 0xcbf29ce484222325; /* FNV-1a */

	for (size_t i = 0; i < size; i++)
		h = (h ^ byte[i]) * 0x100000001b3;
	return h;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	struct fault fault;

	if (kafka_conf_set(conf, name, value, &fault) < 0)
		bench_die("%s", fault.msg);
}

/* ---- commands ---- */

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	(void)rk;
	(void)opaque;
	if (message->err)
		bench_die("a record could not be delivered: %s", rd_kafka_err2str(message->err));
	delivered++;
}

rd_kafka_t *wire_publisher(const char *brokers, bool bulk)
{
	struct config config = wire_config(brokers, "bench-publisher");
	struct fault fault;
	rd_kafka_conf_t *conf = kafka_conf_new(&config, KAFKA_PRODUCER, &fault);
	rd_kafka_t *rk;

	if (conf == NULL)
		bench_die("%s", fault.msg);
	set(conf, "compression.codec", "none");
	set(conf, "linger.ms", bulk ? "20" : "0");
	set(conf, "queue.buffering.max.messages", "200000");
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rk = kafka_new_take(conf, KAFKA_PRODUCER, &fault);
	if (rk == NULL)
		bench_die("%s", fault.msg);
	return rk;
}

size_t wire_publish(rd_kafka_t *rk, rd_kafka_topic_t *topic, const struct bench_file *file, size_t i)
{
	struct bench_record record;
	rd_kafka_resp_err_t err;

	bench_get(file, i, &record);
	for (;;) {
		err = rd_kafka_producev(rk, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_KEY(record.key, record.key_size),
					RD_KAFKA_V_VALUE((void *)record.value, record.value_size),
					RD_KAFKA_V_HEADER("traceId", record.trace_id, record.trace_size), RD_KAFKA_V_END);
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			break;
		rd_kafka_poll(rk, WIRE_POLL_MS);
	}
	if (err)
		bench_die("a record cannot be published: %s", rd_kafka_err2str(err));
	rd_kafka_poll(rk, 0);
	return record.key_size + record.trace_size + record.value_size;
}

uint64_t wire_finish(rd_kafka_t *rk, rd_kafka_topic_t *topic)
{
	rd_kafka_resp_err_t err = rd_kafka_flush(rk, FLUSH_MS);

	if (err)
		bench_die("not everything was delivered: %s", rd_kafka_err2str(err));
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(rk);
	return delivered;
}

/* ---- results ---- */

/* Where the topic ends is looked up before it is read: what is published afterwards is not missed, and nothing else comes. */
static void begin_at_end(rd_kafka_t *rk, const char *name, const struct rd_kafka_metadata_topic *topic)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(topic->partition_cnt);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
	int64_t low, high;

	for (int32_t i = 0; i < topic->partition_cnt && !err; i++) {
		err = rd_kafka_query_watermark_offsets(rk, name, i, &low, &high, METADATA_MS);
		rd_kafka_topic_partition_list_add(list, name, i)->offset = high;
	}
	if (!err)
		err = rd_kafka_assign(rk, list);
	if (err)
		bench_die("cannot read %s: %s", name, rd_kafka_err2str(err));
	rd_kafka_topic_partition_list_destroy(list);
}

static int32_t begin(rd_kafka_t *rk, const char *name)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, topic, &metadata, METADATA_MS);
	int32_t partitions;

	if (!err && metadata->topics[0].err)
		err = metadata->topics[0].err;
	if (err)
		bench_die("cannot look up %s: %s", name, rd_kafka_err2str(err));
	begin_at_end(rk, name, &metadata->topics[0]);
	partitions = metadata->topics[0].partition_cnt;
	rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(topic);
	return partitions;
}

rd_kafka_t *wire_reader(const char *brokers, const char *topic, int32_t *partitions)
{
	struct config config = wire_config(brokers, "bench-reader");
	struct fault fault;
	rd_kafka_conf_t *conf = kafka_conf_new(&config, KAFKA_CONSUMER, &fault);
	rd_kafka_t *rk;

	if (conf == NULL)
		bench_die("%s", fault.msg);
	set(conf, "group.id", config.group);
	set(conf, "enable.partition.eof", "true");
	set(conf, "fetch.message.max.bytes", "1048576");
	rk = kafka_new_take(conf, KAFKA_CONSUMER, &fault);
	if (rk == NULL)
		bench_die("%s", fault.msg);
	rd_kafka_poll_set_consumer(rk);
	*partitions = begin(rk, topic);
	return rk;
}

rd_kafka_message_t *wire_read(rd_kafka_t *rk, bool *at_end)
{
	rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, WIRE_POLL_MS);

	if (message == NULL)
		return NULL;
	if (message->err && message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
		bench_die("cannot read: %s", rd_kafka_message_errstr(message));
	if (at_end)
		at_end[message->partition] = message->err != 0;
	if (message->err == 0)
		return message;
	rd_kafka_message_destroy(message);
	return NULL;
}
