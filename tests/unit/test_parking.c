/* Which partitions wait for locked rows, whose turn it is, and how long a command may wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/parking.h"

#define PATIENCE_MS 9000

static struct parking parking;

static int set_up(void **state)
{
	(void)state;
	parking_init(&parking, PATIENCE_MS);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	parking_clear(&parking);
	return 0;
}

static struct parked *doubt(int32_t partition, size_t limit, int64_t now_ms)
{
	struct parked *parked;

	parking_doubt(&parking, partition, limit, now_ms);
	parked = parking_find(&parking, partition);
	assert_non_null(parked);
	return parked;
}

static void test_in_doubt_it_is_tried_at_once(void **state)
{
	struct parked *parked;

	(void)state;
	assert_null(parking_find(&parking, 0));
	assert_null(parking_due(&parking, INT64_MAX));
	parked = doubt(4, 500, 1000);
	assert_int_equal(parked->limit, 500);
	assert_false(parked->held);
	assert_null(parking_find(&parking, 3));
	assert_null(parking_due(&parking, 999));
	assert_ptr_equal(parking_due(&parking, 1000), parked);
}

/* What is known of it is kept. */
static void test_in_doubt_again(void **state)
{
	struct parked *parked = doubt(4, 500, 1000);

	(void)state;
	parking_locked(parked, 1, 1000);
	parked = doubt(4, 300, 1001);
	assert_int_equal(parking.count, 1);
	assert_int_equal(parked->limit, 1);
	assert_int_equal(parked->retry_at_ms, 1100);
	assert_int_equal(parked->alone_at_ms, 1000);
}

static void test_turns(void **state)
{
	(void)state;
	doubt(1, 8, 1002);
	doubt(2, 8, 1000);
	doubt(3, 8, 1000);
	doubt(4, 8, 1001);
	assert_int_equal(parking_due(&parking, 5000)->partition, 2); /* the longest due; of equals, the first that came */
	parking_locked(parking_find(&parking, 2), 8, 5000);
	assert_int_equal(parking_due(&parking, 5000)->partition, 3);
	parking_locked(parking_find(&parking, 3), 8, 5000);
	assert_int_equal(parking_due(&parking, 5000)->partition, 4);
	parking_passed(parking_find(&parking, 4), 5000); /* due at once, behind who waits longer */
	assert_int_equal(parking_due(&parking, 5000)->partition, 1);
	parking_locked(parking_find(&parking, 1), 8, 5000);
	assert_int_equal(parking_due(&parking, 5000)->partition, 4);
	parking_locked(parking_find(&parking, 4), 8, 5001);
	assert_null(parking_due(&parking, 5099));
	assert_int_equal(parking_due(&parking, 5100)->partition, 1);
}

static void test_removed(void **state)
{
	(void)state;
	for (int32_t partition = 0; partition < 3; partition++)
		doubt(partition, 10 + (size_t)partition, 1000);
	parking_remove(&parking, parking_find(&parking, 0));
	assert_int_equal(parking.count, 2);
	assert_null(parking_find(&parking, 0));
	assert_int_equal(parking_find(&parking, 1)->limit, 11);
	assert_int_equal(parking_find(&parking, 2)->limit, 12);
	parking_remove(&parking, parking_find(&parking, 2));
	assert_null(parking_find(&parking, 2));
	parking_remove(&parking, parking_find(&parking, 1));
	assert_int_equal(parking.count, 0);
	assert_null(parking_due(&parking, INT64_MAX));
	doubt(2, 7, 1000);
	parking_clear(&parking);
	assert_null(parking_find(&parking, 2));
	assert_int_equal(parking.patience_ms, PATIENCE_MS);
}

/* Each try has an eighth, and one at least. */
static void test_narrows_to_one(void **state)
{
	static const size_t tries[][2] = { { 500, 63 }, { 63, 8 }, { 9, 2 }, { 8, 1 }, { 7, 1 }, { 2, 1 }, { 1, 1 } };
	struct parked *parked = doubt(0, 500, 0);

	(void)state;
	for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
		parking_locked(parked, tries[i][0], 1000);
		assert_int_equal(parked->limit, tries[i][1]);
		assert_int_equal(parked->alone_at_ms, tries[i][0] == 1 ? 1000 : 0);
	}
}

/* While there is something to narrow the next try comes soon; then at growing intervals. */
static void test_intervals(void **state)
{
	static const int64_t pauses_ms[] = { 100, 200, 400, 800, 1000, 1000 };
	struct parked *parked = doubt(0, 500, 0);
	int64_t now_ms = 10000;

	(void)state;
	for (int i = 0; i < 3; i++) {
		parking_locked(parked, 20, now_ms);
		assert_int_equal(parked->retry_at_ms, now_ms + 100);
	}
	parking_passed(parked, now_ms);
	for (size_t i = 0; i < sizeof pauses_ms / sizeof pauses_ms[0]; i++) {
		parking_locked(parked, 1, now_ms);
		assert_int_equal(parked->retry_at_ms, now_ms + pauses_ms[i]);
		assert_null(parking_due(&parking, parked->retry_at_ms - 1));
		assert_ptr_equal(parking_due(&parking, parked->retry_at_ms), parked);
		now_ms = parked->retry_at_ms;
	}
	parking_locked(parked, 2, now_ms); /* more than one again: soon */
	assert_int_equal(parked->retry_at_ms, now_ms + 100);
	parking_locked(parked, 1, now_ms); /* the pauses grow from try to try, whatever their sizes */
	assert_int_equal(parked->retry_at_ms, now_ms + 200);
}

/* The next command has all of its patience before it. */
static void test_passed(void **state)
{
	struct parked *parked = doubt(0, 500, 0);

	(void)state;
	parking_locked(parked, 16, 1000);
	parking_locked(parked, 1, 1100);
	parking_locked(parked, 1, 1300);
	assert_true(parking_tells(parked, 1300));
	parking_passed(parked, 2000);
	assert_int_equal(parked->limit, 8);
	assert_int_equal(parked->retry_at_ms, 2000);
	assert_false(parking_is_over(&parking, parked, 2000 + 10 * PATIENCE_MS));
	assert_false(parking_tells(parked, 2000 + 10 * PATIENCE_MS));
	parking_passed(parked, 2100);
	assert_int_equal(parked->limit, 64);
	parking_locked(parked, 1, 3000);
	assert_int_equal(parked->retry_at_ms, 3100);
	assert_true(parking_tells(parked, 3000));
	assert_false(parking_is_over(&parking, parked, 3000 + PATIENCE_MS - 1));
	assert_true(parking_is_over(&parking, parked, 3000 + PATIENCE_MS));
}

/* However many of its batches hold one command (by their bytes, or by their traces): it never has none. */
static void test_its_limit_has_an_end(void **state)
{
	struct parked *parked = doubt(0, 500, 0);

	(void)state;
	for (int i = 0; i < 100; i++) {
		parking_passed(parked, i);
		assert_true(parked->limit >= 500);
	}
}

/* Counted from when it met the lock alone for the first time. */
static void test_patience(void **state)
{
	struct parked *parked = doubt(0, 500, 0);

	(void)state;
	parking_locked(parked, 8, 500);
	assert_false(parking_is_over(&parking, parked, 500 + 2 * PATIENCE_MS)); /* nobody knows which one it is */
	parking_locked(parked, 1, 1000);
	parking_locked(parked, 1, 4000);
	parking_locked(parked, 1, 8000);
	assert_false(parking_is_over(&parking, parked, 1000 + PATIENCE_MS - 1));
	assert_true(parking_is_over(&parking, parked, 1000 + PATIENCE_MS));
	assert_true(parking_is_over(&parking, parked, 1000 + PATIENCE_MS + 1));
}

static void test_tells_every_three_seconds(void **state)
{
	struct parked *parked = doubt(0, 500, 0);

	(void)state;
	parking_locked(parked, 8, 500);
	assert_false(parking_tells(parked, 500));
	parking_locked(parked, 1, 1000);
	assert_true(parking_tells(parked, 1000));
	assert_false(parking_tells(parked, 1000));
	assert_false(parking_tells(parked, 3999));
	assert_true(parking_tells(parked, 4000));
	assert_false(parking_tells(parked, 6999));
	assert_true(parking_tells(parked, 7500));
	assert_false(parking_tells(parked, 10499));
	assert_true(parking_tells(parked, 10500));
}

#define PARKING_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PARKING_TEST(test_in_doubt_it_is_tried_at_once),
		PARKING_TEST(test_in_doubt_again),
		PARKING_TEST(test_turns),
		PARKING_TEST(test_removed),
		PARKING_TEST(test_narrows_to_one),
		PARKING_TEST(test_intervals),
		PARKING_TEST(test_passed),
		PARKING_TEST(test_its_limit_has_an_end),
		PARKING_TEST(test_patience),
		PARKING_TEST(test_tells_every_three_seconds),
	};

	return cmocka_run_group_tests_name("parking", tests, NULL, NULL);
}
