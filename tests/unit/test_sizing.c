#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "worker/sizing.h"

static void test_usual_work_is_not_bounded(void **state)
{
	struct sizing sizing;

	(void)state;
	sizing_init(&sizing, 500, 250);
	assert_int_equal(sizing.limit, 500);
	for (int i = 0; i < 100; i++) {
		sizing_observe(&sizing, 500, 65);
		assert_int_equal(sizing.limit, 500);
	}
}

static void test_slow_work_makes_small_batches(void **state)
{
	struct sizing sizing;

	(void)state;
	sizing_init(&sizing, 500, 250);
	sizing_observe(&sizing, 500, 25000);
	assert_int_equal(sizing.limit, 5);
	sizing_observe(&sizing, 5, 250);
	assert_int_equal(sizing.limit, 5);
	sizing_observe(&sizing, 5, 1000);
	assert_int_equal(sizing.limit, 1);
	sizing_observe(&sizing, 1, 60000);
	assert_int_equal(sizing.limit, 1);
}

static void test_grows_back(void **state)
{
	size_t limits[] = { 2, 4, 8, 10, 10 };
	struct sizing sizing;

	(void)state;
	sizing_init(&sizing, 10, 250);
	sizing_observe(&sizing, 10, 5000);
	assert_int_equal(sizing.limit, 1);
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		sizing_observe(&sizing, sizing.limit, 20);
		assert_int_equal(sizing.limit, limits[i]);
	}
}

/* A batch that was small for want of commands says nothing of larger ones; one near the budget is large enough. */
static void test_rests(void **state)
{
	struct sizing sizing;

	(void)state;
	sizing_init(&sizing, 500, 250);
	sizing_observe(&sizing, 500, 1000);
	assert_int_equal(sizing.limit, 125);
	sizing_observe(&sizing, 3, 1);
	assert_int_equal(sizing.limit, 125);
	sizing_observe(&sizing, 3, 250);
	assert_int_equal(sizing.limit, 125);
	sizing_observe(&sizing, 125, 126);
	assert_int_equal(sizing.limit, 125);
	sizing_observe(&sizing, 125, 250);
	assert_int_equal(sizing.limit, 125);
	sizing_observe(&sizing, 125, 125);
	assert_int_equal(sizing.limit, 250);
}

/* Behind a short transaction of Kafka's, behind a long one, and in a backlog, when the batch is full. */
static void test_begins_a_batch_ahead_where_it_pays(void **state)
{
	struct sizing sizing;

	(void)state;
	sizing_init(&sizing, 500, 250);
	sizing_observe_kafka(&sizing, 6000);
	assert_false(sizing_overlaps(&sizing, 0));
	assert_false(sizing_overlaps(&sizing, 39));
	assert_true(sizing_overlaps(&sizing, 40));
	sizing_observe_kafka(&sizing, 60000);
	assert_false(sizing_overlaps(&sizing, 399));
	assert_true(sizing_overlaps(&sizing, 400));
	sizing_observe_kafka(&sizing, 600000);
	assert_false(sizing_overlaps(&sizing, 499));
	assert_true(sizing_overlaps(&sizing, 500));
}

/* So few commands, although no more are taken: PostgreSQL is through with them sooner than it pays. */
static void test_begins_no_small_batch_ahead(void **state)
{
	struct sizing sizing;

	(void)state;
	sizing_init(&sizing, 20, 250);
	sizing_observe_kafka(&sizing, 1000);
	assert_false(sizing_overlaps(&sizing, 20));
	sizing_observe_kafka(&sizing, 600000);
	sizing_init(&sizing, 80, 250); /* of this producer nothing is known yet */
	assert_false(sizing_overlaps(&sizing, 39));
	assert_true(sizing_overlaps(&sizing, 40));
	sizing_init(&sizing, 40, 250);
	assert_true(sizing_overlaps(&sizing, 40));
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

	return cmocka_run_group_tests_name("sizing", tests, NULL, NULL);
}
