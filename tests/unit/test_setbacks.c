#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "worker/setbacks.h"

static void test_pauses_grow_up_to_two_seconds(void **state)
{
	struct setbacks setbacks = { 0 };

	(void)state;
	for (int64_t most = 50; most <= 25600; most *= 2) {
		int64_t bound = most < 2000 ? most : 2000;

		setbacks_add(&setbacks, FAULT_RETRY);
		for (int i = 0; i < 100; i++)
			assert_in_range(setbacks_pause_ms(&setbacks, FAULT_RETRY), bound / 2, bound);
	}
	setbacks_published(&setbacks);
	setbacks_add(&setbacks, FAULT_WAIT);
	assert_in_range(setbacks_pause_ms(&setbacks, FAULT_WAIT), 25, 50);
	assert_int_equal(setbacks_pause_ms(&setbacks, FAULT_FENCED), 500);
}

/* From half of it to all of it: two lanes that failed together do not come back together. */
static void test_pauses_differ(void **state)
{
	struct setbacks setbacks = { .failures = 1 };
	int64_t least = 1000, most = 0;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		int64_t ms = setbacks_pause_ms(&setbacks, FAULT_RETRY);

		least = ms < least ? ms : least;
		most = ms > most ? ms : most;
	}
	assert_int_equal(least, 25);
	assert_int_equal(most, 50);
}

static void test_joins_anew_when_refused_without_a_revoke(void **state)
{
	struct setbacks setbacks = { 0 };

	(void)state;
	for (int i = 1; i <= 16; i++)
		assert_int_equal(setbacks_add(&setbacks, FAULT_FENCED), i % 8 == 0);
	for (int i = 1; i <= 7; i++)
		assert_false(setbacks_add(&setbacks, FAULT_FENCED));
	assert_false(setbacks_add(&setbacks, FAULT_RETRY));
	setbacks_taken_over(&setbacks);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(setbacks_add(&setbacks, FAULT_FENCED), i == 8);
}

static void test_ten_fencings_in_five_minutes_are_another_process(void **state)
{
	struct setbacks setbacks = { 0 };
	const int64_t begun_ms = 1000000, window_ms = 5 * 60 * 1000;

	(void)state;
	assert_false(setbacks_are_fencings(&setbacks, begun_ms));
	for (int i = 0; i < 9; i++)
		setbacks_fenced(&setbacks);
	assert_false(setbacks_are_fencings(&setbacks, begun_ms + window_ms));
	setbacks_fenced(&setbacks);
	assert_true(setbacks_are_fencings(&setbacks, begun_ms + window_ms));
	assert_false(setbacks_are_fencings(&setbacks, begun_ms + window_ms + 1));
	for (int i = 0; i < 9; i++)
		setbacks_fenced(&setbacks);
	assert_false(setbacks_are_fencings(&setbacks, begun_ms + window_ms + 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pauses_grow_up_to_two_seconds),
		cmocka_unit_test(test_pauses_differ),
		cmocka_unit_test(test_joins_anew_when_refused_without_a_revoke),
		cmocka_unit_test(test_ten_fencings_in_five_minutes_are_another_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
