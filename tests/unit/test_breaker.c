/* The breaker: a row of failures for one cause stops the answering, a passed probe starts it again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/breaker.h"

static void test_opens_at_the_limit(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 3);
	assert_false(breaker_failed(&breaker, "23514"));
	assert_false(breaker_failed(&breaker, "23514"));
	assert_false(breaker.open);
	assert_true(breaker_failed(&breaker, "23514"));
	assert_true(breaker.open);
	assert_string_equal(breaker.cause, "23514");
	assert_int_equal(breaker.run, 3);
}

static void test_limit_of_one(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 1);
	assert_true(breaker_failed(&breaker, "P0001"));
}

static void test_another_cause_counts_anew(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 3);
	assert_false(breaker_failed(&breaker, "23514"));
	assert_false(breaker_failed(&breaker, "23514"));
	assert_false(breaker_failed(&breaker, "22003"));
	assert_false(breaker_failed(&breaker, "23514"));
	assert_false(breaker_failed(&breaker, "23514"));
	assert_true(breaker_failed(&breaker, "23514"));
}

static void test_a_success_in_between_keeps_it_closed(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 2);
	for (int i = 0; i < 100; i++) {
		assert_false(breaker_failed(&breaker, "22003"));
		breaker_succeeded(&breaker);
	}
	assert_int_equal(breaker.run, 0);
	assert_string_equal(breaker.cause, "");
}

/* A row of failures is counted over batches, and a batch that comes again does not count twice. */
static void test_counts_over_batches(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 4);
	assert_false(breaker_failed(&breaker, "23514"));
	assert_false(breaker_failed(&breaker, "23514"));
	breaker_published(&breaker);
	for (int i = 0; i < 20; i++) {
		assert_false(breaker_failed(&breaker, "23514"));
		breaker_dropped(&breaker); /* the Kafka transaction failed: the same command comes again */
		assert_int_equal(breaker.run, 2);
	}
	assert_false(breaker_failed(&breaker, "23514"));
	assert_true(breaker_failed(&breaker, "23514"));
}

/* A batch that opened it is dropped, and it stays open. */
static void test_stays_open_over_a_drop(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 2);
	assert_false(breaker_failed(&breaker, "23514"));
	assert_true(breaker_failed(&breaker, "23514"));
	breaker_dropped(&breaker);
	assert_true(breaker.open);
	assert_string_equal(breaker.cause, "23514");
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(breaker.probe, i); /* another command each time */
		breaker_probed(&breaker, false);
		breaker_dropped(&breaker);
		assert_true(breaker.open);
	}
}

/* What fails although a probe has passed is the commands' own fault, until the batch is through; then it counts again. */
static void test_a_passed_probe_lets_the_batch_through(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 2);
	assert_false(breaker_failed(&breaker, "23514"));
	assert_true(breaker_failed(&breaker, "23514"));
	breaker_dropped(&breaker);
	breaker_probed(&breaker, false);
	breaker_probed(&breaker, true);
	assert_false(breaker.open);
	for (int i = 0; i < 10; i++)
		assert_false(breaker_failed(&breaker, "23514"));
	breaker_dropped(&breaker); /* not published: it will come again, and must get through then */
	for (int i = 0; i < 10; i++)
		assert_false(breaker_failed(&breaker, "23514"));
	breaker_published(&breaker);
	assert_false(breaker_failed(&breaker, "23514"));
	assert_true(breaker_failed(&breaker, "23514"));
	assert_int_equal(breaker.probe, 0);
}

/* A draft that is written while it is open (the others of its batch were refused by the rules) shows that it may close. */
static void test_a_written_draft_closes_it(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 2);
	assert_false(breaker_succeeded(&breaker));
	assert_false(breaker_failed(&breaker, "23514"));
	assert_true(breaker_failed(&breaker, "23514"));
	assert_true(breaker_failed(&breaker, "22003")); /* whatever fails while it is open */
	assert_string_equal(breaker.cause, "23514");
	assert_true(breaker_succeeded(&breaker));
	assert_false(breaker.open);
	assert_false(breaker_failed(&breaker, "23514"));
}

/* The row that a dropped batch broke off is taken up again. */
static void test_a_drop_restores_the_row(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 3);
	assert_false(breaker_failed(&breaker, "23514"));
	assert_false(breaker_failed(&breaker, "23514"));
	breaker_published(&breaker);
	assert_false(breaker_failed(&breaker, "22003"));
	breaker_dropped(&breaker);
	assert_string_equal(breaker.cause, "23514");
	assert_true(breaker_failed(&breaker, "23514"));
}

static void test_trips_at_once(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 5);
	assert_false(breaker_failed(&breaker, "22003"));
	breaker_trip(&breaker, "42501");
	assert_true(breaker.open);
	assert_string_equal(breaker.cause, "42501");
	breaker_dropped(&breaker);
	assert_true(breaker.open);
	breaker_probed(&breaker, true);
	breaker_trip(&breaker, "42501"); /* a probe had passed, and now others fail */
	assert_true(breaker.open);
	assert_true(breaker_failed(&breaker, "42501"));
}

/* A probe had passed when it tripped: it counts again once it is closed. */
static void test_counts_again_behind_a_trip(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 2);
	breaker_trip(&breaker, "42501");
	breaker_probed(&breaker, true);
	breaker_trip(&breaker, "42501");
	assert_true(breaker_succeeded(&breaker));
	assert_false(breaker_failed(&breaker, "23514"));
	assert_true(breaker_failed(&breaker, "23514"));
}

/* Nobody to compare it with: it waits, over all the drops that this takes, and is answered in the end; a schema's fault waits
 * longer. */
static void test_alone(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 5);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 1000), 20000);
	breaker_dropped(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 11000), 10000);
	breaker_dropped(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "42501", 11000), 290000);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 20999), 1);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 21000), 0);
	assert_false(breaker.open);
	assert_int_equal(breaker.run, 1);
	breaker_dropped(&breaker); /* not published: it comes again, and has waited already */
	assert_int_equal(breaker.run, 0);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 22000), 0);
	assert_false(breaker.open);
	breaker_published(&breaker);
	assert_int_equal(breaker.run, 1);
}

static void test_a_second_one_alone_opens_it(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 5);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 1), 20000);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 20001), 0);
	breaker_published(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "22003", 30000), 20000); /* another cause */
	breaker_dropped(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 30000), 0);
	assert_true(breaker.open);
}

/* What passed in between, or was compared, ends the row of those alone; so does a published batch without a failure. */
static void test_others_end_being_alone(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 5);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 1), 20000);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 20001), 0);
	breaker_published(&breaker);
	breaker_succeeded(&breaker);
	breaker_published(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 30000), 20000);
	assert_false(breaker_failed(&breaker, "XX000"));
	breaker_published(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 60000), 20000);
	breaker_published(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 90000), 20000);
}

/* Whoever is compared, or written, ends the wait: the next one alone has all of it before it. */
static void test_the_wait_begins_anew(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 5);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 1000), 20000);
	breaker_succeeded(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 5000), 20000);
	assert_false(breaker_failed(&breaker, "XX000"));
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 9000), 20000);
	breaker_trip(&breaker, "XX000");
	assert_int_equal(breaker_failed_unproven(&breaker, "22003", 13000), 20000);
}

/* One that was compared stands between two alone. */
static void test_compared_in_between(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 5);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 1), 20000);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 20001), 0);
	assert_false(breaker_failed(&breaker, "XX000"));
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 30000), 20000);
}

/* One that was answered alone, and not published, comes again: it is not a second one. */
static void test_the_same_one_again_is_no_second_one(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 5);
	assert_false(breaker_failed(&breaker, "XX000"));
	breaker_published(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 1), 20000);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 20001), 0);
	breaker_dropped(&breaker);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 20002), 0);
	assert_false(breaker.open);
}

/* A limit of 1 never lets a failure pass that is not compared; a probe that has passed is the comparison. */
static void test_alone_with_a_limit_of_one(void **state)
{
	struct breaker breaker;

	(void)state;
	breaker_init(&breaker, 1);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 1), 0);
	assert_true(breaker.open);
	breaker_probed(&breaker, true);
	assert_int_equal(breaker_failed_unproven(&breaker, "XX000", 2), 0);
	assert_false(breaker.open);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opens_at_the_limit),
		cmocka_unit_test(test_limit_of_one),
		cmocka_unit_test(test_another_cause_counts_anew),
		cmocka_unit_test(test_a_success_in_between_keeps_it_closed),
		cmocka_unit_test(test_counts_over_batches),
		cmocka_unit_test(test_stays_open_over_a_drop),
		cmocka_unit_test(test_a_passed_probe_lets_the_batch_through),
		cmocka_unit_test(test_a_written_draft_closes_it),
		cmocka_unit_test(test_a_drop_restores_the_row),
		cmocka_unit_test(test_trips_at_once),
		cmocka_unit_test(test_counts_again_behind_a_trip),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_a_second_one_alone_opens_it),
		cmocka_unit_test(test_others_end_being_alone),
		cmocka_unit_test(test_the_wait_begins_anew),
		cmocka_unit_test(test_compared_in_between),
		cmocka_unit_test(test_the_same_one_again_is_no_second_one),
		cmocka_unit_test(test_alone_with_a_limit_of_one),
	};

	return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
