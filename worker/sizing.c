#include "worker/sizing.h"

#define COMMAND_US 100   /* what PostgreSQL takes for a command, about (tests/bench/README.md) */
#define OVERLAP_US 4000

void sizing_init(struct sizing *sizing, size_t most, int budget_ms)
{
	sizing->most = sizing->limit = most;
	sizing->budget_ms = budget_ms;
	sizing->kafka_us = 0;
}

/* Down at once, up again by doubling, and not before half of the budget would do: between the two it rests. */
void sizing_observe(struct sizing *sizing, size_t n, int64_t ms)
{
	if (ms > sizing->budget_ms) {
		sizing->limit = (size_t)((int64_t)n * sizing->budget_ms / ms);
		if (sizing->limit == 0)
			sizing->limit = 1;
	} else if (n >= sizing->limit && ms <= sizing->budget_ms / 2) {
		sizing->limit = sizing->limit > sizing->most / 2 ? sizing->most : 2 * sizing->limit;
	}
}

void sizing_observe_kafka(struct sizing *sizing, int64_t us)
{
	sizing->kafka_us = us;
}

/* A command waits for the end of Kafka's transaction and for its own batch's two: 1.5 times P + K on average, P and K being
 * what PostgreSQL and Kafka take. With batches begun while Kafka is at work it is 2.5 times the longer of the two, as the next
 * one can only be begun when this one ends: worse, unless P is two thirds of K, or the commands are so many that what counts
 * is to be through with them. And a producer that asks for another transaction at once is told every now and then that the
 * last one is not over (CONCURRENT_TRANSACTIONS), after which librdkafka waits for 20 ms: 3 of the milliseconds saved are lost
 * again on average. */
bool sizing_overlaps(const struct sizing *sizing, size_t n)
{
	int64_t postgres_us = (int64_t)n * COMMAND_US;

	return postgres_us >= OVERLAP_US && (n >= sizing->limit || postgres_us >= sizing->kafka_us * 2 / 3);
}
