#include "worker/sizing.h"

#define COMMAND_US 100   /* PostgreSQL's time for a command, about (tests/bench/README.md) */
#define OVERLAP_US 4000

void sizing_init(struct sizing *sizing, size_t most, int budget_ms)
{
	sizing->most = sizing->limit = most;
	sizing->budget_ms = budget_ms;
	sizing->kafka_us = 0;
}

/* The limit falls at once. It doubles when a full batch took at most half of the budget; between half and all of it the limit
 * rests. */
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

/* P and K are the times that PostgreSQL and Kafka take for a batch. A command waits for the end of Kafka's transaction and
 * for the two transactions of its own batch: 1.5 (P + K) on average. Where batches overlap it waits 2.5 times the longer of
 * the two, as the next batch can only begin when this one ends. That is worse, unless P is at least two thirds of K, or
 * so many commands are ready that only throughput counts. Overlap also costs: a producer that begins another transaction at
 * once is sometimes refused, as the last one is not over (CONCURRENT_TRANSACTIONS). librdkafka then waits for 20 ms, which
 * loses 3 ms again on average. */
bool sizing_overlaps(const struct sizing *sizing, size_t n)
{
	int64_t postgres_us = (int64_t)n * COMMAND_US;

	return postgres_us >= OVERLAP_US && (n >= sizing->limit || postgres_us >= sizing->kafka_us * 2 / 3);
}
