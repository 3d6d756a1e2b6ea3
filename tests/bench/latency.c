/* latency: open loop. Record i is due at a time that does not depend on any answer, and its latency counts from then, also
 * when the publisher itself was late: who waits for an answer before he asks again does not see what he kept waiting
 * (coordinated omission). */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define GRACE_US 30000000 /* for the last results */
#define SEED 0x9e3779b97f4a7c15

struct latency {
	struct bench_file *file;
	size_t n, first; /* records, and the first one behind the warm-up */
	int64_t start_us;
	int64_t *due_us; /* from the start */
	int64_t *late_us; /* how late the publisher was */
	int64_t *took_us; /* -1: no result */
	uint32_t *slots; /* by traceId: 1 + record */
	size_t mask;
	rd_kafka_t *reader;
	atomic_size_t answered;
	atomic_bool end;
	size_t twice;
};

static void *allocate(size_t n, size_t size)
{
	void *memory = calloc(n, size);

	if (memory == NULL)
		abort();
	return memory;
}

/* When record i is due: evenly, or with exponential gaps, the same ones in every run. */
static void plan(struct latency *latency, double rate, double seconds, double warm_up, bool poisson)
{
	size_t room = bench_count(latency->file);
	uint64_t random = SEED;
	double at = 0;

	latency->due_us = allocate(room + 1, sizeof *latency->due_us);
	while (at < warm_up + seconds) {
		if (latency->n == room)
			bench_die("the file holds too few commands: %zu", room);
		if (at < warm_up)
			latency->first = latency->n + 1;
		latency->due_us[latency->n++] = (int64_t)(at * 1e6);
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		at = poisson ? at - log(((double)(random >> 11) + 0.5) / 9007199254740992.0) / rate : (double)latency->n / rate;
	}
}

static uint32_t *find(const struct latency *latency, const void *trace, size_t size)
{
	struct bench_record record;

	for (size_t slot = wire_hash(trace, size) & latency->mask;; slot = (slot + 1) & latency->mask) {
		if (latency->slots[slot] == 0)
			return &latency->slots[slot];
		bench_get(latency->file, latency->slots[slot] - 1, &record);
		if (record.trace_size == size && memcmp(record.trace_id, trace, size) == 0)
			return &latency->slots[slot];
	}
}

static void index_traces(struct latency *latency)
{
	size_t size = 16;
	struct bench_record record;

	while (size < 2 * latency->n)
		size *= 2;
	latency->mask = size - 1;
	latency->slots = allocate(size, sizeof *latency->slots);
	latency->late_us = allocate(latency->n, sizeof *latency->late_us);
	latency->took_us = allocate(latency->n, sizeof *latency->took_us);
	for (size_t i = 0; i < latency->n; i++) {
		bench_get(latency->file, i, &record);
		*find(latency, record.trace_id, record.trace_size) = (uint32_t)i + 1;
		latency->took_us[i] = -1;
	}
}

static void *read_results(void *arg)
{
	struct latency *latency = arg;

	while (!atomic_load(&latency->end)) {
		rd_kafka_message_t *message = wire_read(latency->reader, NULL);
		int64_t now = wire_now_us();
		uint32_t i;

		if (message == NULL)
			continue;
		i = *find(latency, message->key, message->key_len);
		rd_kafka_message_destroy(message);
		if (i == 0)
			continue; /* somebody else's */
		if (latency->took_us[i - 1] >= 0) {
			latency->twice++;
			continue;
		}
		latency->took_us[i - 1] = now - latency->start_us - latency->due_us[i - 1];
		atomic_fetch_add(&latency->answered, 1);
	}
	return NULL;
}

static void send_commands(struct latency *latency, const char *brokers, const char *commands)
{
	rd_kafka_t *rk = wire_publisher(brokers, false);
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, commands, NULL);
	const struct rd_kafka_metadata *metadata;
	int64_t give_up;

	if (topic == NULL || rd_kafka_metadata(rk, 0, topic, &metadata, 10000) != RD_KAFKA_RESP_ERR_NO_ERROR)
		bench_die("topic %s cannot be looked up", commands);
	rd_kafka_metadata_destroy(metadata);
	latency->start_us = wire_now_us() + 100000;
	for (size_t i = 0; i < latency->n; i++) {
		wire_sleep_until(latency->start_us + latency->due_us[i]);
		latency->late_us[i] = wire_now_us() - latency->start_us - latency->due_us[i];
		wire_publish(rk, topic, latency->file, i);
	}
	wire_finish(rk, topic);
	give_up = wire_now_us() + GRACE_US;
	while (atomic_load(&latency->answered) < latency->n && wire_now_us() < give_up)
		wire_sleep_until(wire_now_us() + 10000);
	atomic_store(&latency->end, true);
}

static void write_raw(const char *path, const int64_t *values, size_t n)
{
	FILE *file = fopen(path, "wb");

	if (file == NULL || fwrite(values, sizeof *values, n, file) != n || fclose(file) != 0)
		bench_die("%s cannot be written", path);
}

static double ms(int64_t *values, size_t n, double share)
{
	return (double)bench_percentile(values, n, share) / 1000;
}

static void print(struct latency *latency, const char *raw)
{
	int64_t *took = allocate(latency->n + 1, sizeof *took);
	size_t n = 0, missing = 0;

	for (size_t i = 0; i < latency->n; i++) {
		missing += latency->took_us[i] < 0;
		if (i >= latency->first && latency->took_us[i] >= 0)
			took[n++] = latency->took_us[i];
	}
	write_raw(raw, took, n);
	printf("{\"commands\": %zu, \"missing\": %zu, \"twice\": %zu, \"measured\": %zu, \"p50_ms\": %.3f, \"p90_ms\": %.3f, "
	       "\"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f, \"publisher_late_p99_ms\": %.3f, \"cpu_s\": %.6f}\n",
	       latency->n, missing, latency->twice, n, ms(took, n, 0.5), ms(took, n, 0.9), ms(took, n, 0.99), ms(took, n, 0.999),
	       ms(took, n, 1), ms(latency->late_us + latency->first, latency->n - latency->first, 0.99), bench_cpu_s());
	free(took);
}

int bench_latency(int argc, char **argv)
{
	struct latency latency = { .file = bench_open(bench_path(argc, argv)) };
	const char *brokers = bench_option(argc, argv, "brokers", NULL), *commands = bench_option(argc, argv, "commands", NULL);
	const char *results = bench_option(argc, argv, "results", NULL), *raw = bench_option(argc, argv, "raw", NULL);
	int32_t partitions;
	pthread_t thread;

	plan(&latency, (double)bench_number(argc, argv, "rate", NULL), (double)bench_number(argc, argv, "seconds", NULL),
	     (double)bench_number(argc, argv, "warmup", "0"), bench_number(argc, argv, "poisson", "0") != 0);
	index_traces(&latency);
	latency.reader = wire_reader(brokers, results, &partitions);
	if (pthread_create(&thread, NULL, read_results, &latency) != 0)
		abort();
	send_commands(&latency, brokers, commands);
	pthread_join(thread, NULL);
	print(&latency, raw);
	rd_kafka_consumer_close(latency.reader);
	rd_kafka_destroy(latency.reader);
	free(latency.due_us);
	free(latency.late_us);
	free(latency.slots);
	bench_close(latency.file);
	return atomic_load(&latency.answered) == latency.n && latency.twice == 0 ? 0 : 1;
}
