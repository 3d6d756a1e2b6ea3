/* subscribe: counts the visible results until there are so many, and tells their number from second to second.
 *
 * On stderr it says "ready" once it would miss none, "begin" when a twentieth came and "end" when a twentieth is left, where
 * there are enough in whole batches: whoever measures between these two (the window) measures neither start nor end, and finds
 * as much half done at the one as at the other. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define BATCH 500 /* of those that are measured */
#define CODES_MAX 32
#define SECONDS_MAX 86400

struct code {
	char name[64];
	uint64_t count;
};

struct subscriber {
	size_t wanted, begin, end; /* results that are waited for; the window is what follows begin, up to end */
	size_t count;
	uint64_t bytes;
	int64_t first_us, begin_us, end_us, last_us;
	uint64_t *keys; /* hashes of the results' keys */
	size_t key_room;
	uint32_t seconds[SECONDS_MAX];
	struct code codes[CODES_MAX];
};

static void count_code(struct subscriber *subscriber, const rd_kafka_message_t *message)
{
	rd_kafka_headers_t *headers;
	const void *value = "ok";
	size_t size = 2, i = 0;

	if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
	    rd_kafka_header_get_last(headers, "code", &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR) {
		value = "ok";
		size = 2;
	}
	if (size >= sizeof subscriber->codes[0].name)
		size = sizeof subscriber->codes[0].name - 1;
	while (i < CODES_MAX - 1 && subscriber->codes[i].count > 0 &&
	       (strlen(subscriber->codes[i].name) != size || memcmp(subscriber->codes[i].name, value, size) != 0))
		i++;
	if (subscriber->codes[i].count++ == 0) {
		memcpy(subscriber->codes[i].name, value, size);
		subscriber->codes[i].name[size] = '\0';
	}
}

static void say(const char *word)
{
	fprintf(stderr, "%s\n", word);
}

static void count_result(struct subscriber *subscriber, const rd_kafka_message_t *message)
{
	int64_t now = wire_now_us();
	size_t second;

	if (subscriber->count == subscriber->key_room) {
		subscriber->key_room = subscriber->key_room ? 2 * subscriber->key_room : 65536;
		subscriber->keys = realloc(subscriber->keys, subscriber->key_room * sizeof *subscriber->keys);
		if (subscriber->keys == NULL)
			abort();
	}
	subscriber->keys[subscriber->count++] = wire_hash(message->key, message->key_len);
	subscriber->bytes += message->len;
	subscriber->last_us = now;
	if (subscriber->count == 1)
		subscriber->first_us = now;
	second = (size_t)((now - subscriber->first_us) / 1000000);
	if (second < SECONDS_MAX)
		subscriber->seconds[second]++;
	count_code(subscriber, message);
	if (subscriber->count == subscriber->begin) {
		subscriber->begin_us = now;
		say("begin");
	}
	if (subscriber->count == subscriber->end) {
		subscriber->end_us = now;
		say("end");
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static size_t count_distinct(uint64_t *keys, size_t n)
{
	size_t distinct = n > 0;

	if (n > 0)
		qsort(keys, n, sizeof *keys, compare);
	for (size_t i = 1; i < n; i++)
		distinct += keys[i] != keys[i - 1];
	return distinct;
}

static void print(struct subscriber *subscriber)
{
	size_t last = SECONDS_MAX;

	printf("{\"count\": %zu, \"distinct\": %zu, \"bytes\": %" PRIu64 ", \"seconds\": %.6f, \"window\": %zu, "
	       "\"window_seconds\": %.6f, \"codes\": {",
	       subscriber->count, count_distinct(subscriber->keys, subscriber->count), subscriber->bytes,
	       (double)(subscriber->last_us - subscriber->first_us) / 1e6, subscriber->end - subscriber->begin,
	       (double)(subscriber->end_us - subscriber->begin_us) / 1e6);
	for (size_t i = 0; i < CODES_MAX && subscriber->codes[i].count > 0; i++)
		printf("%s\"%s\": %" PRIu64, i ? ", " : "", subscriber->codes[i].name, subscriber->codes[i].count);
	printf("}, \"per_second\": [");
	while (last > 0 && subscriber->seconds[last - 1] == 0)
		last--;
	for (size_t i = 0; i < last; i++)
		printf("%s%u", i ? ", " : "", subscriber->seconds[i]);
	printf("], \"cpu_s\": %.6f}\n", bench_cpu_s());
}

static bool all(const bool *at_end, int32_t n)
{
	for (int32_t i = 0; i < n; i++)
		if (!at_end[i])
			return false;
	return true;
}

/* Reads on behind the last one to the end of the topic: a result too many must show. */
static void read_results(struct subscriber *subscriber, rd_kafka_t *rk, int32_t partitions, int64_t timeout_us)
{
	bool *at_end = calloc((size_t)partitions, sizeof *at_end);
	int64_t since = wire_now_us();
	rd_kafka_message_t *message;

	if (at_end == NULL)
		abort();
	say("ready");
	while (subscriber->count < subscriber->wanted || !all(at_end, partitions)) {
		message = wire_read(rk, at_end);
		if (message) {
			count_result(subscriber, message);
			rd_kafka_message_destroy(message);
			since = wire_now_us();
		} else if (wire_now_us() - since > timeout_us) {
			break;
		}
	}
	free(at_end);
}

static void set_window(struct subscriber *subscriber, size_t edge)
{
	if (subscriber->wanted >= 4 * BATCH)
		edge = (edge + BATCH - 1) / BATCH * BATCH;
	subscriber->begin = edge > 0 ? edge : 1;
	subscriber->end = subscriber->wanted - edge;
}

int bench_subscribe(int argc, char **argv)
{
	const char *brokers = bench_option(argc, argv, "brokers", NULL), *topic = bench_option(argc, argv, "topic", NULL);
	int64_t timeout_us = (int64_t)bench_number(argc, argv, "timeout", "60") * 1000000; /* without a single result */
	struct subscriber *subscriber = calloc(1, sizeof *subscriber);
	int32_t partitions;
	rd_kafka_t *rk;
	bool complete;

	if (subscriber == NULL)
		abort();
	subscriber->wanted = (size_t)bench_number(argc, argv, "count", NULL);
	set_window(subscriber, subscriber->wanted / 20);
	rk = wire_reader(brokers, topic, &partitions);
	read_results(subscriber, rk, partitions, timeout_us);
	complete = subscriber->count == subscriber->wanted;
	print(subscriber);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	free(subscriber->keys);
	free(subscriber);
	return complete ? 0 : 1;
}
