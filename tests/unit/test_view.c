#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/view.h"

static const int32_t ids[] = { 0, 1, 2, 3, 4, 5, 6, 7 };

static void test_a_copy_and_how_many_there_are(void **state)
{
	struct view_partition partitions[8];
	struct assignment assignment;
	struct view view;

	(void)state;
	view_init(&view);
	assert_int_equal(view_copy(&view, partitions, 8), 0);
	assignment_init(&assignment, "commands", "group");
	assignment_take(&assignment, 1, ids, 3);
	assignment_advance(&assignment, 1, 42);
	view_renew(&view, &assignment);
	assert_int_equal(view_copy(&view, partitions, 2), 3);
	assert_int_equal(partitions[1].id, 1);
	assert_int_equal(partitions[1].start, 42);
	assert_int_equal(partitions[1].state, PARTITION_ASSIGNED);
	assignment_take(&assignment, 2, ids, 0);
	view_renew(&view, &assignment);
	assert_int_equal(view_copy(&view, partitions, 8), 0);
	assignment_clear(&assignment);
	view_destroy(&view);
}

struct reading {
	struct view view;
	atomic_bool ending;
	int torn;
};

/* Each renewal gives all partitions one offset: a reader never sees two of them. */
static void *read_on(void *arg)
{
	struct view_partition partitions[8];
	struct reading *reading = arg;

	while (!atomic_load(&reading->ending)) {
		size_t n = view_copy(&reading->view, partitions, 8);

		for (size_t i = 1; i < n; i++)
			reading->torn += partitions[i].start != partitions[0].start;
	}
	return NULL;
}

static void test_another_thread_never_sees_half_of_a_renewal(void **state)
{
	static struct reading reading;
	struct assignment assignment;
	pthread_t thread;

	(void)state;
	view_init(&reading.view);
	assignment_init(&assignment, "commands", "group");
	assert_int_equal(pthread_create(&thread, NULL, read_on, &reading), 0);
	for (int round = 0; round < 20000; round++) {
		if (round % 100 == 0)
			assignment_take(&assignment, 1, ids, (size_t)(round / 100 % 9));
		for (size_t i = 0; i < assignment.count; i++)
			assignment_advance(&assignment, ids[i], round);
		view_renew(&reading.view, &assignment);
	}
	atomic_store(&reading.ending, true);
	pthread_join(thread, NULL);
	assert_int_equal(reading.torn, 0);
	assignment_clear(&assignment);
	view_destroy(&reading.view);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_copy_and_how_many_there_are),
		cmocka_unit_test(test_another_thread_never_sees_half_of_a_renewal),
	};

	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
