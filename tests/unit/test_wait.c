#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/base/clock.h"
#include "worker/wait.h"

struct consumer_double { /* what is kept alive */
	int polls, polls_until_change;
	uint64_t serial;
	int64_t waited_ms;
	bool broken;
};

static int poll_double(void *arg, int64_t waited_ms, struct fault *fault)
{
	struct consumer_double *consumer = arg;

	consumer->polls++;
	consumer->waited_ms = waited_ms;
	if (consumer->polls == consumer->polls_until_change)
		consumer->serial++;
	return consumer->broken ? fault_set(fault, FAULT_REBUILD, "broken") : 0;
}

static uint64_t serial_of_double(void *arg)
{
	return ((struct consumer_double *)arg)->serial;
}

static struct wait make_wait(const atomic_bool *stop, struct consumer_double *consumer)
{
	const struct keep_alive keep_alive = { poll_double, serial_of_double, consumer };
	struct wait wait;

	wait_init(&wait, stop, 3, &keep_alive);
	return wait;
}

static void test_a_stop_ends_only_what_may_be_abandoned(void **state)
{
	struct consumer_double consumer = { 0 };
	atomic_bool stop = false;
	struct wait wait = make_wait(&stop, &consumer);

	(void)state;
	wait_begin(&wait, true, 1000);
	assert_false(wait_is_over(&wait, 1000000));
	atomic_store(&stop, true);
	assert_true(wait_is_over(&wait, 1000));
	wait_begin(&wait, false, 1000);
	assert_false(wait_is_over(&wait, 1000000));
}

static void test_a_deadline_is_kept_whatever_is_asked_for(void **state)
{
	struct consumer_double consumer = { 0 };
	atomic_bool stop = true;
	struct wait wait = make_wait(&stop, &consumer);

	(void)state;
	wait_begin_until(&wait, 1000, 1500);
	assert_false(wait_is_over(&wait, 1499));
	assert_true(wait_is_over(&wait, 1500));
	wait_begin(&wait, false, 2000);
	assert_false(wait_is_over(&wait, 2000)); /* the next one has none */
}

static void test_a_long_wait_is_complained_of_every_five_seconds(void **state)
{
	struct consumer_double consumer = { 0 };
	atomic_bool stop = false;
	struct wait wait = make_wait(&stop, &consumer);

	(void)state;
	wait_begin(&wait, false, 10000);
	assert_int_equal(wait_complaint(&wait, 14999), 0);
	assert_int_equal(wait_complaint(&wait, 15000), 5);
	assert_int_equal(wait_complaint(&wait, 19999), 0);
	assert_int_equal(wait_complaint(&wait, 22500), 12);
	wait_begin(&wait, false, 30000);
	assert_int_equal(wait_complaint(&wait, 34999), 0);
}

static void test_a_pause_polls_and_ends_when_the_assignment_changes(void **state)
{
	struct consumer_double consumer = { .polls_until_change = 1 };
	atomic_bool stop = false;
	struct wait wait = make_wait(&stop, &consumer);

	(void)state;
	wait_pause(&wait, 3600 * 1000);
	assert_int_equal(consumer.polls, 1);
}

static void test_a_pause_ends_when_a_stop_is_asked_for(void **state)
{
	struct consumer_double consumer = { 0 };
	atomic_bool stop = true;
	struct wait wait = make_wait(&stop, &consumer);

	(void)state;
	wait_pause(&wait, 3600 * 1000);
	assert_int_equal(consumer.polls, 0);
}

static void test_what_was_polled_just_now_is_not_polled_again(void **state)
{
	struct consumer_double consumer = { 0 };
	atomic_bool stop = false;
	struct wait wait = make_wait(&stop, &consumer);

	(void)state;
	wait_begin(&wait, false, clock_monotonic_ms());
	wait_polled(&wait, clock_monotonic_ms() + 3600 * 1000);
	assert_int_equal(wait_for_socket(&wait, -1, 0, 1), 0);
	assert_int_equal(consumer.polls, 0);
	wait_polled(&wait, clock_monotonic_ms() - WAIT_POLL_MS);
	assert_int_equal(wait_for_socket(&wait, -1, 0, 1), 0);
	assert_int_equal(consumer.polls, 1);
}

static void test_the_fault_of_a_broken_consumer_is_kept_and_it_is_left_alone(void **state)
{
	struct consumer_double consumer = { .broken = true };
	atomic_bool stop = false;
	struct wait wait = make_wait(&stop, &consumer);

	(void)state;
	wait_begin(&wait, false, clock_monotonic_ms());
	assert_int_equal(wait_for_socket(&wait, -1, 0, 1), 0);
	assert_int_equal(wait.fault.kind, FAULT_REBUILD);
	wait_polled(&wait, 0);
	assert_int_equal(wait_for_socket(&wait, -1, 0, 1), 0);
	assert_int_equal(consumer.polls, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_stop_ends_only_what_may_be_abandoned),
		cmocka_unit_test(test_a_deadline_is_kept_whatever_is_asked_for),
		cmocka_unit_test(test_a_long_wait_is_complained_of_every_five_seconds),
		cmocka_unit_test(test_a_pause_polls_and_ends_when_the_assignment_changes),
		cmocka_unit_test(test_a_pause_ends_when_a_stop_is_asked_for),
		cmocka_unit_test(test_what_was_polled_just_now_is_not_polled_again),
		cmocka_unit_test(test_the_fault_of_a_broken_consumer_is_kept_and_it_is_left_alone),
	};

	return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
