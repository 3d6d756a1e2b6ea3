/* loop: the empty transactional consume-produce loop, Kafka's own floor under the worker. It takes what is ready, publishes
 * a record for each and the offsets in one transaction, with the properties of the worker's clients, and does nothing else. */
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/kafka/kafka.h"
#include "wire.h"

#define BATCH_MAX 500
#define CALL_MS 30000
#define RESULT_BYTES 600

struct loop {
	const char *commands, *results;
	rd_kafka_t *consumer, *producer;
	rd_kafka_message_t *batch[BATCH_MAX];
	size_t count;
	char result[RESULT_BYTES]; /* what a result weighs, the commands' traceIds apart */
	uint64_t done, transactions;
};

static atomic_bool stop;

static void on_signal(int number)
{
	(void)number;
	atomic_store(&stop, true);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	(void)rk;
	(void)opaque;
	if (message->err)
		bench_die("a result was not delivered: %s", rd_kafka_err2str(message->err));
}

/* Without a delivery callback librdkafka looks every 10 ms only whether everything is flushed. */
static rd_kafka_t *make_client(const struct config *config, enum kafka_client client, const char *name, const char *value)
{
	struct fault fault;
	rd_kafka_conf_t *conf = kafka_conf_new(config, client, &fault);
	rd_kafka_t *rk = NULL;

	if (conf && client != KAFKA_CONSUMER)
		rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	if (conf && kafka_conf_set(conf, name, value, &fault) == 0 &&
	    (client != KAFKA_CONSUMER || kafka_conf_set(conf, "auto.offset.reset", "earliest", &fault) == 0))
		rk = kafka_new_take(conf, client, &fault);
	if (rk == NULL)
		bench_die("%s", fault.msg);
	return rk;
}

static void must(rd_kafka_error_t *error, const char *call)
{
	if (error)
		bench_die("%s: %s", call, rd_kafka_error_string(error));
}

static void open_loop(struct loop *loop, const char *brokers, const char *group)
{
	struct config config = wire_config(brokers, group);
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_t *results;
	const struct rd_kafka_metadata *metadata;

	loop->consumer = make_client(&config, KAFKA_CONSUMER, "group.id", group);
	loop->producer = make_client(&config, KAFKA_TRANSACTIONAL_PRODUCER, "transactional.id", group);
	must(rd_kafka_init_transactions(loop->producer, CALL_MS), "init_transactions");
	results = rd_kafka_topic_new(loop->producer, loop->results, NULL);
	if (rd_kafka_metadata(loop->producer, 0, results, &metadata, CALL_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		bench_die("topic %s cannot be looked up", loop->results);
	rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(results);
	rd_kafka_poll_set_consumer(loop->consumer);
	rd_kafka_topic_partition_list_add(topics, loop->commands, RD_KAFKA_PARTITION_UA);
	if (rd_kafka_subscribe(loop->consumer, topics) != RD_KAFKA_RESP_ERR_NO_ERROR)
		bench_die("cannot subscribe to %s", loop->commands);
	rd_kafka_topic_partition_list_destroy(topics);
	for (size_t i = 0; i < RESULT_BYTES; i++)
		loop->result[i] = "0123456789abcdef"[(i * i * 2654435761u) >> 13 & 15];
}

static bool has_partitions(const struct loop *loop)
{
	rd_kafka_topic_partition_list_t *list;
	bool has;

	if (rd_kafka_assignment(loop->consumer, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	has = list->cnt > 0;
	rd_kafka_topic_partition_list_destroy(list);
	return has;
}

/* Waits for one, then takes what is there. */
static void fetch(struct loop *loop)
{
	loop->count = 0;
	while (loop->count < BATCH_MAX) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(loop->consumer, loop->count == 0 ? WIRE_POLL_MS : 0);

		if (message == NULL)
			break;
		if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) { /* a lane's consumer is told of ends, too */
			rd_kafka_message_destroy(message);
			continue;
		}
		if (message->err)
			bench_die("cannot consume: %s", rd_kafka_message_errstr(message));
		loop->batch[loop->count++] = message;
	}
}

static void answer(const struct loop *loop, const rd_kafka_message_t *message)
{
	rd_kafka_headers_t *headers;
	const void *trace;
	size_t size;
	rd_kafka_resp_err_t err;

	if (rd_kafka_message_headers(message, &headers) || rd_kafka_header_get_last(headers, "traceId", &trace, &size))
		bench_die("a command without header traceId");
	err = rd_kafka_producev(loop->producer, RD_KAFKA_V_TOPIC(loop->results), RD_KAFKA_V_KEY(trace, size),
				RD_KAFKA_V_VALUE((void *)loop->result, RESULT_BYTES), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
				RD_KAFKA_V_HEADER("httpStatus", "201", 3),
				RD_KAFKA_V_HEADER("accountGroupId", message->key, message->key_len), RD_KAFKA_V_END);
	if (err)
		bench_die("cannot produce: %s", rd_kafka_err2str(err));
}

static void send_offsets(const struct loop *loop)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_consumer_group_metadata_t *metadata = rd_kafka_consumer_group_metadata(loop->consumer);

	for (size_t i = 0; i < loop->count; i++) {
		int32_t partition = loop->batch[i]->partition;
		rd_kafka_topic_partition_t *place = rd_kafka_topic_partition_list_find(list, loop->commands, partition);

		if (place == NULL)
			place = rd_kafka_topic_partition_list_add(list, loop->commands, partition);
		place->offset = loop->batch[i]->offset + 1;
	}
	must(rd_kafka_send_offsets_to_transaction(loop->producer, list, metadata, CALL_MS), "send_offsets_to_transaction");
	rd_kafka_consumer_group_metadata_destroy(metadata);
	rd_kafka_topic_partition_list_destroy(list);
}

static void run_transaction(struct loop *loop)
{
	must(rd_kafka_begin_transaction(loop->producer), "begin_transaction");
	for (size_t i = 0; i < loop->count; i++)
		answer(loop, loop->batch[i]);
	send_offsets(loop);
	must(rd_kafka_commit_transaction(loop->producer, CALL_MS), "commit_transaction");
	loop->done += loop->count;
	loop->transactions++;
	for (size_t i = 0; i < loop->count; i++)
		rd_kafka_message_destroy(loop->batch[i]);
}

int bench_loop(int argc, char **argv)
{
	const char *brokers = bench_option(argc, argv, "brokers", NULL), *group = bench_option(argc, argv, "group", NULL);
	struct loop loop = { 0 };
	bool ready = false;

	loop.commands = bench_option(argc, argv, "commands", NULL);
	loop.results = bench_option(argc, argv, "results", NULL);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	open_loop(&loop, brokers, group);
	while (!atomic_load(&stop)) {
		fetch(&loop);
		if (!ready && (ready = has_partitions(&loop)))
			fputs("ready\n", stderr);
		if (loop.count > 0)
			run_transaction(&loop);
	}
	printf("{\"commands\": %" PRIu64 ", \"transactions\": %" PRIu64 ", \"cpu_s\": %.6f}\n", loop.done, loop.transactions,
	       bench_cpu_s());
	rd_kafka_consumer_close(loop.consumer);
	rd_kafka_destroy(loop.consumer);
	rd_kafka_destroy(loop.producer);
	return 0;
}
