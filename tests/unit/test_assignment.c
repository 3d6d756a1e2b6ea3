#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "worker/assignment.h"

#define NOW INT64_C(1000000)

static struct assignment *take(struct assignment *assignment, const int32_t *ids, size_t n)
{
	assignment_init(assignment, "commands", "group");
	assignment_take(assignment, 7, ids, n);
	return assignment;
}

/* Two that run and one that is halted. */
static void start_some(struct assignment *assignment)
{
	static const int32_t ids[] = { 5, 1, 3 };

	take(assignment, ids, 3);
	assignment_set_state(assignment, assignment_find(assignment, 1), PARTITION_POSITIONED);
	assignment_set_state(assignment, assignment_find(assignment, 5), PARTITION_POSITIONED);
	assignment_halt(assignment, assignment_find(assignment, 3), "for the test");
	assignment_started(assignment, NOW);
}

static void test_partitions_are_ascending_and_assigned(void **state)
{
	static const int32_t ids[] = { 5, 1, 3 };
	struct assignment assignment;

	(void)state;
	take(&assignment, ids, 3);
	assert_int_equal(assignment.count, 3);
	assert_int_equal(assignment.partitions[0].id, 1);
	assert_int_equal(assignment.partitions[2].id, 5);
	assert_int_equal(assignment_collect(&assignment, PARTITION_ASSIGNED, NULL), 3);
	assert_int_equal(assignment.serial, 7);
	assert_null(assignment_find(&assignment, 2));
	assert_null(assignment_find(&assignment, 0));
	assignment_advance(&assignment, 2, 42);
	assignment_clear(&assignment);
	assert_int_equal(assignment.serial, 0);
	assert_int_equal(assignment.count, 0);
	assignment_clear(&assignment);
	take(&assignment, ids, 3);
	assignment_drop(&assignment);
	assert_int_equal(assignment.serial, 0);
	assert_int_equal(assignment.count, 3);
	assignment_halt(&assignment, &assignment.partitions[0], "for the test");
	assignment_take(&assignment, 8, ids, 3);
	assert_int_equal(assignment.halted_count, 0);
	assignment_clear(&assignment);
}

static void test_only_positioned_ones_run(void **state)
{
	struct fence_partition fences[3];
	struct assignment assignment;
	struct start starts[3];

	(void)state;
	start_some(&assignment);
	assert_int_equal(assignment_collect(&assignment, PARTITION_RUNNING, starts), 2);
	assert_int_equal(assignment_collect(&assignment, PARTITION_ASSIGNED, NULL), 0);
	assert_int_equal(starts[0].partition, 1);
	assert_int_equal(starts[1].partition, 5);
	assert_int_equal(assignment.halted_count, 1);
	assignment_find(&assignment, 5)->epoch = 9;
	assignment_advance(&assignment, 5, 42);
	assert_int_equal(assignment_fences(&assignment, fences), 2);
	assert_int_equal(fences[1].partition, 5);
	assert_int_equal(fences[1].epoch, 9);
	assert_int_equal(fences[1].start_offset, 42);
	assignment_clear(&assignment);
}

static void test_what_is_due_when(void **state)
{
	struct assignment assignment;

	(void)state;
	start_some(&assignment);
	assert_false(assignment_settle_is_due(&assignment, NOW + 999));
	assert_true(assignment_settle_is_due(&assignment, NOW + 1000));
	assert_false(assignment_is_due(&assignment, NOW + 1999));
	assert_true(assignment_orders_are_due(&assignment, NOW + 2000));
	assignment_orders_checked(&assignment, NOW + 2000);
	assert_false(assignment_is_due(&assignment, NOW + 3999));
	assert_false(assignment_recommit_is_due(&assignment, NOW + 3599999));
	assert_false(assignment_recommit_is_due(&assignment, NOW + 3600000)); /* before PostgreSQL knows it, an offset is a stranger's */
	assignment.unconfirmed = false;
	assert_true(assignment_recommit_is_due(&assignment, NOW + 3600000));
	assignment_recommitted(&assignment, NOW + 3600000);
	assert_false(assignment_recommit_is_due(&assignment, NOW + 3600001));
	assert_false(assignment_retry_is_due(&assignment, NOW + 3600000));
	assignment_orders_checked(&assignment, NOW + 7200000);
	assert_true(assignment_is_due(&assignment, NOW + 7200000)); /* the hourly commit alone */
	assignment_take(&assignment, 8, NULL, 0);
	assert_false(assignment_orders_are_due(&assignment, NOW + 9000000));
	assignment_clear(&assignment);
}

/* Progress puts nothing off, and there is at most one confirmation a second. */
static void test_settled_each_second(void **state)
{
	struct assignment assignment;

	(void)state;
	start_some(&assignment);
	assert_true(assignment.unconfirmed);
	assignment.uncommitted = true;
	assignment_started(&assignment, NOW); /* the takeover has committed every start */
	assert_false(assignment.uncommitted);
	assignment_advance(&assignment, 1, 10);
	assert_true(assignment_settle_is_due(&assignment, NOW + 1000));
	assignment.unconfirmed = false;
	assignment_settled(&assignment, NOW + 1000);
	assignment_advance(&assignment, 1, 11);
	assert_true(assignment.unconfirmed);
	assert_false(assignment.uncommitted); /* the batch has committed it */
	assert_false(assignment_settle_is_due(&assignment, NOW + 1999));
	assert_true(assignment_settle_is_due(&assignment, NOW + 2000));
	assignment_clear(&assignment);
}

static void test_an_end_is_confirmed_and_committed(void **state)
{
	struct fence_partition fences[3];
	struct assignment assignment;

	(void)state;
	start_some(&assignment);
	assignment.unconfirmed = false;
	assignment_reach_end(&assignment, assignment_find(&assignment, 5), 44);
	assert_true(assignment.unconfirmed && assignment.uncommitted);
	assert_int_equal(assignment_fences(&assignment, fences), 2);
	assert_int_equal(fences[1].start_offset, 44);
	assignment_recommitted(&assignment, NOW);
	assert_false(assignment.uncommitted);
	assignment_clear(&assignment);
}

static void test_nothing_but_orders_is_due_where_all_are_halted(void **state)
{
	static const int32_t ids[] = { 0 };
	struct assignment assignment;

	(void)state;
	take(&assignment, ids, 1);
	assignment_halt(&assignment, assignment_find(&assignment, 0), "for the test");
	assignment_started(&assignment, NOW);
	assert_false(assignment_settle_is_due(&assignment, NOW + 10000000));
	assert_false(assignment_recommit_is_due(&assignment, NOW + 10000000));
	assert_true(assignment_orders_are_due(&assignment, NOW + 2000));
	assignment_clear(&assignment);
}

/* One without a leader stays claimed, and is tried again ever more rarely, until none is left. */
static void test_the_pause_of_leaderless_partitions_doubles(void **state)
{
	static const int64_t pauses_ms[] = { 5000, 10000, 20000, 40000, 60000, 60000 };
	static const int32_t ids[] = { 0, 1 };
	struct assignment assignment;

	(void)state;
	take(&assignment, ids, 2);
	for (size_t i = 0; i < sizeof pauses_ms / sizeof pauses_ms[0]; i++) {
		assignment_take(&assignment, 8 + i, ids, 2);
		assignment_set_state(&assignment, &assignment.partitions[0], PARTITION_POSITIONED);
		assignment_set_state(&assignment, &assignment.partitions[1], PARTITION_CLAIMED);
		assignment_started(&assignment, NOW);
		assert_false(assignment_retry_is_due(&assignment, NOW + pauses_ms[i] - 1));
		assert_true(assignment_retry_is_due(&assignment, NOW + pauses_ms[i]));
		assert_true(assignment_is_due(&assignment, NOW + pauses_ms[i]));
	}
	assignment_take(&assignment, 20, ids, 2); /* until it is begun, nothing of the last one is due */
	assert_false(assignment_retry_is_due(&assignment, NOW + 10000000));
	assignment_set_state(&assignment, &assignment.partitions[1], PARTITION_POSITIONED);
	assignment_started(&assignment, NOW);
	assert_false(assignment_retry_is_due(&assignment, NOW + 10000000));
	assignment_set_state(&assignment, &assignment.partitions[1], PARTITION_CLAIMED);
	assignment_started(&assignment, NOW); /* as soon as the first time */
	assert_false(assignment_retry_is_due(&assignment, NOW + 4999));
	assert_true(assignment_retry_is_due(&assignment, NOW + 5000));
	assignment_clear(&assignment);
}

static void test_predecessors_are_others_and_each_once(void **state)
{
	struct assignment assignment;

	(void)state;
	take(&assignment, NULL, 0);
	assignment_add_predecessor(&assignment, "", "g.me.0");
	assignment_add_predecessor(&assignment, "g.me.0", "g.me.0");
	assignment_add_predecessor(&assignment, "g.other.0", "g.me.0");
	assignment_add_predecessor(&assignment, "g.other.0", "g.me.0");
	assert_int_equal(assignment.predecessor_count, 1);
	assert_string_equal(assignment.predecessors[0], "g.other.0");
	assignment_add_predecessor(&assignment, "g.third.0", "g.me.0");
	assignment_add_predecessor(&assignment, "g.third.0", "g.me.0");
	assert_int_equal(assignment.predecessor_count, 2);
	assignment.predecessor_count = 0; /* they are ended */
	assignment_add_predecessor(&assignment, "g.other.0", "g.me.0");
	assert_int_equal(assignment.predecessor_count, 1);
	for (int i = 0; i < 2 * PREDECESSORS_MAX; i++) {
		char id[16] = "g.x.";

		id[4] = (char)('A' + i);
		assignment_add_predecessor(&assignment, id, "g.me.0");
	}
	assert_int_equal(assignment.predecessor_count, PREDECESSORS_MAX);
	assignment_clear(&assignment);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_partitions_are_ascending_and_assigned),
		cmocka_unit_test(test_only_positioned_ones_run),
		cmocka_unit_test(test_what_is_due_when),
		cmocka_unit_test(test_settled_each_second),
		cmocka_unit_test(test_an_end_is_confirmed_and_committed),
		cmocka_unit_test(test_nothing_but_orders_is_due_where_all_are_halted),
		cmocka_unit_test(test_the_pause_of_leaderless_partitions_doubles),
		cmocka_unit_test(test_predecessors_are_others_and_each_once),
	};

	return cmocka_run_group_tests_name("assignment", tests, NULL, NULL);
}
