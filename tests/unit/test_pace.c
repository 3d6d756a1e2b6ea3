#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../worker/pace.h"

static void test_usual_work_is_not_bounded(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 500, 250);
	assert_int_equal(pace.limit, 500);
	for (int i = 0; i < 100; i++) {
		pace_note(&pace, 500, 65);
		assert_int_equal(pace.limit, 500);
	}
}

static void test_slow_work_makes_small_batches(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 500, 250);
	pace_note(&pace, 500, 25000);
	assert_int_equal(pace.limit, 5);
	pace_note(&pace, 5, 250);
	assert_int_equal(pace.limit, 5);
	pace_note(&pace, 5, 1000);
	assert_int_equal(pace.limit, 1);
	pace_note(&pace, 1, 60000);
	assert_int_equal(pace.limit, 1);
}

static void test_grows_back(void **state)
{
	size_t limits[] = { 2, 4, 8, 10, 10 };
	struct pace pace;

	(void)state;
	pace_init(&pace, 10, 250);
	pace_note(&pace, 10, 5000);
	assert_int_equal(pace.limit, 1);
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		pace_note(&pace, pace.limit, 20);
		assert_int_equal(pace.limit, limits[i]);
	}
}

/* A batch that was small for want of commands says nothing of larger ones; one near the budget is large enough. */
static void test_rests(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 500, 250);
	pace_note(&pace, 500, 1000);
	assert_int_equal(pace.limit, 125);
	pace_note(&pace, 3, 1);
	assert_int_equal(pace.limit, 125);
	pace_note(&pace, 125, 126);
	assert_int_equal(pace.limit, 125);
	pace_note(&pace, 125, 250);
	assert_int_equal(pace.limit, 125);
	pace_note(&pace, 125, 125);
	assert_int_equal(pace.limit, 250);
}

/* Behind a short transaction of Kafka's, behind a long one, and in a backlog, when the batch is full. */
static void test_begins_a_batch_ahead_where_it_pays(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 500, 250);
	pace_note_kafka(&pace, 6000);
	assert_false(pace_overlaps(&pace, 0));
	assert_false(pace_overlaps(&pace, 39));
	assert_true(pace_overlaps(&pace, 40));
	pace_note_kafka(&pace, 60000);
	assert_false(pace_overlaps(&pace, 399));
	assert_true(pace_overlaps(&pace, 400));
	pace_note_kafka(&pace, 600000);
	assert_false(pace_overlaps(&pace, 499));
	assert_true(pace_overlaps(&pace, 500));
}

/* So few commands, although no more are taken: PostgreSQL is through with them sooner than it pays. */
static void test_begins_no_small_batch_ahead(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 20, 250);
	pace_note_kafka(&pace, 1000);
	assert_false(pace_overlaps(&pace, 20));
	pace_init(&pace, 40, 250);
	assert_true(pace_overlaps(&pace, 40));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usual_work_is_not_bounded),
		cmocka_unit_test(test_slow_work_makes_small_batches),
		cmocka_unit_test(test_grows_back),
		cmocka_unit_test(test_rests),
		cmocka_unit_test(test_begins_a_batch_ahead_where_it_pays),
		cmocka_unit_test(test_begins_no_small_batch_ahead),
	};

	return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
