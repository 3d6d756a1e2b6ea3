#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/base/statistics.h"

static void test_counters_and_histograms(void **state)
{
	static struct statistics statistics;
	uint64_t sum;

	(void)state;
	statistics_add(&statistics, COUNT_COMMANDS, 3);
	statistics_add(&statistics, COUNT_COMMANDS, 4);
	assert_int_equal(statistics_count(&statistics, COUNT_COMMANDS), 7);
	assert_int_equal(statistics_count(&statistics, COUNT_ACCEPTED), 0);
	statistics_observe(&statistics, HISTOGRAM_BATCH, 1);
	statistics_observe(&statistics, HISTOGRAM_BATCH, 2);
	statistics_observe(&statistics, HISTOGRAM_BATCH, 3);
	statistics_observe(&statistics, HISTOGRAM_BATCH, 1000000);
	statistics_observe(&statistics, HISTOGRAM_BATCH, -5); /* two clocks may differ: 0 */
	assert_int_equal(statistics_observations(&statistics, HISTOGRAM_BATCH, &sum), 5);
	assert_int_equal(sum, 1000006);
	assert_int_equal(statistics.histograms[HISTOGRAM_BATCH].buckets[0], 2);  /* up to 1 */
	assert_int_equal(statistics.histograms[HISTOGRAM_BATCH].buckets[1], 1);  /* up to 2 */
	assert_int_equal(statistics.histograms[HISTOGRAM_BATCH].buckets[2], 1);  /* up to 5 */
	assert_int_equal(statistics.histograms[HISTOGRAM_BATCH].buckets[STATISTICS_BOUNDS_MAX], 1);
}

#define ADDITIONS 1000000

static void *write_all(void *arg)
{
	for (int i = 0; i < ADDITIONS; i++)
		statistics_add(arg, COUNT_BATCHES, 1);
	return NULL;
}

/* Another thread reads while the lane's writes: it never sees a figure go back, and in the end all of it. */
static void test_read_by_another_thread(void **state)
{
	static struct statistics statistics;
	uint64_t before = 0, now = 0;
	pthread_t writer;

	(void)state;
	assert_int_equal(pthread_create(&writer, NULL, write_all, &statistics), 0);
	while (now < ADDITIONS) {
		now = statistics_count(&statistics, COUNT_BATCHES);
		assert_true(now >= before);
		before = now;
	}
	pthread_join(writer, NULL);
	assert_int_equal(statistics_count(&statistics, COUNT_BATCHES), ADDITIONS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_and_histograms),
		cmocka_unit_test(test_read_by_another_thread),
	};

	return cmocka_run_group_tests_name("statistics", tests, NULL, NULL);
}
