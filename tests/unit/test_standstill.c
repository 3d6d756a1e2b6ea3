/* When a publisher's open transaction is named, and when its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/standstill.h"

#define NOW INT64_C(1000000)
#define UNKNOWN (-1)

/* Looked at each second, from NOW on; returns how many times it was named. */
static int observe_for(struct standstill *standstill, int64_t from_s, int64_t to_s, int64_t next, int64_t stable, int64_t high)
{
	int named = 0;

	for (int64_t s = from_s; s < to_s; s++) {
		enum standstill_event event = standstill_observe(standstill, next, stable, high, NOW + 1000 * s);

		assert_int_not_equal(event, STANDSTILL_OVER);
		named += event == STANDSTILL_LASTS;
	}
	return named;
}

static void test_named_after_half_a_minute_then_ever_more_rarely(void **state)
{
	static const int64_t named_s[] = { 30, 60, 120, 240, 480, 960, 1920, 3840, 7440, 11040 }; /* hourly in the end */
	struct standstill standstill = { 0 };
	int64_t s = 0;

	(void)state;
	for (size_t i = 0; i < sizeof named_s / sizeof named_s[0]; i++) {
		assert_int_equal(observe_for(&standstill, s, named_s[i], 5, 5, 9), 0);
		s = named_s[i] + 1;
		assert_int_equal(observe_for(&standstill, named_s[i], s, 5, 5, 9), 1);
		assert_int_equal(standstill.offset, 5);
		assert_int_equal(standstill.since_ms, NOW);
	}
	assert_int_equal(standstill_observe(&standstill, 5, 10, 10, NOW + 1000 * s), STANDSTILL_OVER);
	assert_int_equal(standstill.offset, 5);
	assert_int_equal(standstill_observe(&standstill, 5, 10, 10, NOW + 1000 * s + 1000), STANDSTILL_NOTHING);
}

/* Each of its transactions ends: the last stable offset moves. */
static void test_a_busy_publisher_is_not_named(void **state)
{
	struct standstill standstill = { 0 };

	(void)state;
	for (int64_t s = 0; s < 1000; s += 20)
		assert_int_equal(observe_for(&standstill, s, s + 20, s, s, s + 10), 0);
}

static void test_nothing_is_named_where_nothing_lies_behind_the_end(void **state)
{
	struct standstill standstill = { 0 };

	(void)state;
	assert_int_equal(observe_for(&standstill, 0, 1000, 5, 7, 7), 0);
	assert_int_equal(observe_for(&standstill, 1000, 2000, 5, UNKNOWN, 9), 0); /* its end is not known: a backlog */
	assert_int_equal(observe_for(&standstill, 2000, 3000, 5, 5, UNKNOWN), 0);
}

/* One that was never named ends without a word; the next one is another. */
static void test_the_next_transaction_counts_from_its_own_begin(void **state)
{
	struct standstill standstill = { 0 };

	(void)state;
	assert_int_equal(observe_for(&standstill, 0, 29, 5, 5, 9), 0);
	assert_int_equal(observe_for(&standstill, 29, 59, 10, 10, 12), 0);
	assert_int_equal(observe_for(&standstill, 59, 60, 10, 10, 12), 1);
	assert_int_equal(standstill_observe(&standstill, 13, UNKNOWN, 13, NOW + 60000), STANDSTILL_OVER); /* a record from behind it */
	assert_int_equal(standstill_observe(&standstill, 13, 13, 13, NOW + 61000), STANDSTILL_NOTHING);
}

/* Fetching was paused, and has not met the end again yet. */
static void test_an_end_that_is_not_known_for_a_while_changes_nothing(void **state)
{
	struct standstill standstill = { 0 };

	(void)state;
	assert_int_equal(observe_for(&standstill, 0, 20, 5, 7, 9), 0);
	assert_int_equal(observe_for(&standstill, 20, 21, 5, UNKNOWN, 9), 0);
	assert_int_equal(observe_for(&standstill, 21, 31, 5, 7, 9), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_named_after_half_a_minute_then_ever_more_rarely),
		cmocka_unit_test(test_a_busy_publisher_is_not_named),
		cmocka_unit_test(test_nothing_is_named_where_nothing_lies_behind_the_end),
		cmocka_unit_test(test_the_next_transaction_counts_from_its_own_begin),
		cmocka_unit_test(test_an_end_that_is_not_known_for_a_while_changes_nothing),
	};

	return cmocka_run_group_tests_name("standstill", tests, NULL, NULL);
}
