/* publish: commands from a file, as fast as it goes or at a steady rate. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "wire.h"

int bench_publish(int argc, char **argv)
{
	struct bench_file *file = bench_open(bench_path(argc, argv));
	const char *brokers = bench_option(argc, argv, "brokers", NULL), *name = bench_option(argc, argv, "topic", NULL);
	size_t rate = (size_t)bench_number(argc, argv, "rate", "0"), from, count = bench_range(argc, argv, file, &from), bytes = 0;
	rd_kafka_t *rk = wire_publisher(brokers, rate == 0);
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
	int64_t start = wire_now_us();
	uint64_t delivered;
	double seconds;

	if (topic == NULL)
		bench_die("no such topic: %s", name);
	for (size_t i = 0; i < count; i++) {
		if (rate > 0)
			wire_sleep_until(start + (int64_t)(i * 1000000 / rate));
		bytes += wire_publish(rk, topic, file, from + i);
	}
	delivered = wire_finish(rk, topic);
	seconds = (double)(wire_now_us() - start) / 1e6;
	printf("{\"commands\": %" PRIu64 ", \"bytes\": %zu, \"seconds\": %.6f, \"cpu_s\": %.6f}\n", delivered, bytes, seconds,
	       bench_cpu_s());
	bench_close(file);
	return 0;
}
