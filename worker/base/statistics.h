/* What a lane counts. One table: a new figure is a line in it, and a line where it is counted. Each lane has a set of its own,
 * which only its thread writes; any thread may read it at any time without stopping the lane. */
#ifndef STATISTICS_H
#define STATISTICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Counters: X(constant, name as Prometheus has it, help) */
#define STATISTICS_COUNTERS(X) \
	X(COUNT_COMMANDS, "commands_total", "Records of the commands topic whose results are published") \
	X(COUNT_ACCEPTED, "accepted_total", "Commands whose draft was written, or was there") \
	X(COUNT_REFUSED, "refused_total", "Commands that were answered with an error") \
	X(COUNT_DEAD_LETTERS, "dead_letters_total", "Records that went to the dead-letter topic") \
	X(COUNT_BATCHES, "batches_total", "Batches published") \
	X(COUNT_BATCHES_DROPPED, "batches_dropped_total", "Times that what was in hand was dropped, and everything started over") \
	X(COUNT_SPLITS, "batch_splits_total", "Batches, or parts of one, that were split because PostgreSQL refused them") \
	X(COUNT_BREAKER_OPENED, "breaker_opened_total", "Times that the breaker opened") \
	X(COUNT_TAKEOVERS, "takeovers_total", "Assignments that were taken over") \
	X(COUNT_CONSUMERS, "consumers_total", "Consumers that were made") \
	X(COUNT_PRODUCERS, "producers_total", "Transactional producers that were made") \
	X(COUNT_FENCINGS, "producer_fencings_total", "Times that another producer took the transactional.id") \
	X(COUNT_CONNECTIONS, "database_connections_total", "Connections to PostgreSQL that were made")

/* Histograms: X(constant, name, help, bounds). A bound is the largest value of its bucket; what is larger counts in all. */
#define MICROSECONDS 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 5000000, 30000000
#define STATISTICS_HISTOGRAMS(X) \
	X(HISTOGRAM_BATCH, "batch_commands", "Commands of a batch", 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000) \
	X(HISTOGRAM_EXECUTE, "execute_microseconds", "From a batch's sending to PostgreSQL to its results", MICROSECONDS) \
	X(HISTOGRAM_PUBLISH, "publish_microseconds", "Kafka's transaction of a batch", MICROSECONDS) \
	X(HISTOGRAM_LATENCY, "latency_microseconds", "From a record's timestamp to its published result, by this clock", MICROSECONDS)

#define STATISTICS_BOUNDS_MAX 12

#define STATISTICS_NAME(constant, ...) constant,
enum counter { STATISTICS_COUNTERS(STATISTICS_NAME) COUNTERS };
enum histogram { STATISTICS_HISTOGRAMS(STATISTICS_NAME) HISTOGRAMS };
#undef STATISTICS_NAME

struct statistics {
	_Atomic uint64_t counters[COUNTERS];
	struct {
		_Atomic uint64_t buckets[STATISTICS_BOUNDS_MAX + 1], sum; /* not cumulative; the last: beyond all bounds */
	} histograms[HISTOGRAMS];
};

/* By the one thread that writes. */
void statistics_add(struct statistics *statistics, enum counter counter, uint64_t n);
void statistics_observe(struct statistics *statistics, enum histogram histogram, int64_t value);

/* By any thread; figures of one moment may differ by what is being counted. */
uint64_t statistics_count(const struct statistics *statistics, enum counter counter);
/* How many values a histogram holds, and their sum. */
uint64_t statistics_observations(const struct statistics *statistics, enum histogram histogram, uint64_t *sum);

/* Writes what is not 0 as one line of the log, level debug; a histogram as "number x mean". */
void statistics_log(const struct statistics *statistics, int lane);

#endif
