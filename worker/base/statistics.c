#include "worker/base/statistics.h"

#include <inttypes.h>
#include <stdio.h>

#include "worker/base/log.h"

struct statistic { /* a line of the table */
	const char *name, *help;
	const int64_t *bounds; /* of a histogram, ascending; NULL: a counter */
	size_t bound_count;
};

#define BOUNDS(constant, name, help, ...) static const int64_t bounds_of_##constant[] = { __VA_ARGS__ }; \
	_Static_assert(sizeof bounds_of_##constant / sizeof(int64_t) <= STATISTICS_BOUNDS_MAX, "STATISTICS_BOUNDS_MAX");
STATISTICS_HISTOGRAMS(BOUNDS)

#define COUNTER(constant, name, help) [constant] = { name, help, NULL, 0 },
static const struct statistic counters[COUNTERS] = { STATISTICS_COUNTERS(COUNTER) };

#define HISTOGRAM(constant, name, help, ...) \
	[constant] = { name, help, bounds_of_##constant, sizeof bounds_of_##constant / sizeof(int64_t) },
static const struct statistic histograms[HISTOGRAMS] = { STATISTICS_HISTOGRAMS(HISTOGRAM) };

/* One writer: a load and a store are enough, and cheaper than an atomic addition. */
static void add(_Atomic uint64_t *figure, uint64_t n)
{
	atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + n, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *figure)
{
	return atomic_load_explicit(figure, memory_order_relaxed);
}

void statistics_add(struct statistics *statistics, enum counter counter, uint64_t n)
{
	add(&statistics->counters[counter], n);
}

void statistics_observe(struct statistics *statistics, enum histogram histogram, int64_t value)
{
	const struct statistic *line = &histograms[histogram];
	size_t bucket = 0;

	if (value < 0) /* of two clocks */
		value = 0;
	while (bucket < line->bound_count && value > line->bounds[bucket])
		bucket++;
	add(&statistics->histograms[histogram].buckets[bucket == line->bound_count ? STATISTICS_BOUNDS_MAX : bucket], 1);
	add(&statistics->histograms[histogram].sum, (uint64_t)value);
}

uint64_t statistics_count(const struct statistics *statistics, enum counter counter)
{
	return get(&statistics->counters[counter]);
}

uint64_t statistics_observations(const struct statistics *statistics, enum histogram histogram, uint64_t *sum)
{
	uint64_t n = 0;

	*sum = get(&statistics->histograms[histogram].sum);
	for (size_t i = 0; i <= STATISTICS_BOUNDS_MAX; i++)
		n += get(&statistics->histograms[histogram].buckets[i]);
	return n;
}

void statistics_log(const struct statistics *statistics, int lane)
{
	char text[1024] = "";
	size_t len = 0;

	for (enum counter i = 0; i < COUNTERS; i++) {
		uint64_t n = statistics_count(statistics, i);

		if (n > 0 && len < sizeof text)
			len += (size_t)snprintf(text + len, sizeof text - len, "%s %" PRIu64 " ", counters[i].name, n);
	}
	for (enum histogram i = 0; i < HISTOGRAMS; i++) {
		uint64_t sum, n = statistics_observations(statistics, i, &sum);

		if (n > 0 && len < sizeof text)
			len += (size_t)snprintf(text + len, sizeof text - len, "%s %" PRIu64 " x %" PRIu64 " ", histograms[i].name, n, sum / n);
	}
	log_debug("statistics", text, "lane", LOG_INT(lane));
}
