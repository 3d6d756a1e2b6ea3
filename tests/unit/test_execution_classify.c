/* Which kind of fault an SQLSTATE is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/fault_kind.h"
#include "worker/db/execution.h"

static void assert_all(const char *const *states, size_t n, enum fault_kind kind)
{
	for (size_t i = 0; i < n; i++)
		if (execution_classify(states[i]) != kind)
			fail_msg("%s is %s, not %s", states[i], fault_kind_name(execution_classify(states[i])), fault_kind_name(kind));
}

#define ASSERT_ALL(kind, ...)                                                              \
	do {                                                                               \
		static const char *const states[] = { __VA_ARGS__ };                       \
		assert_all(states, sizeof states / sizeof states[0], kind);                \
	} while (0)

/* Whatever a statement raises: its data, the schema, somebody's trigger and its own code, what is damaged. */
static void test_an_experiment_tells(void **state)
{
	(void)state;
	ASSERT_ALL(FAULT_REJECT, "22000", "22001", "22021", "22P02", "23000", "23505", "23514", "23P01", "54000", "54001", "P0001",
		   "P0000", "P0002", "P0004", "21000", "44000", "42501", "42703", "42883", "42P01", "0A000", "26000", "55000", "55006",
		   "58030", "XX000", "XX001", "XX002", "38000", "39000", "08001", "25001", "25P02", "3D000", "53400", "01000",
		   "ABCDE", "CD004", "CD999");
}

static void test_retried(void **state)
{
	(void)state;
	ASSERT_ALL(FAULT_RETRY, "40001", "40P01", "40000", "40002", "55P03", "57014", "CD002", "CD003");
}

static void test_fenced(void **state)
{
	(void)state;
	ASSERT_ALL(FAULT_FENCED, "CD001");
}

/* Read-only, an outcome that is not known, disk full, memory, connections, shutting down; and what is no SQLSTATE. */
static void test_systems(void **state)
{
	(void)state;
	ASSERT_ALL(FAULT_WAIT, "25006", "40003", "53000", "53100", "53200", "53300", "57P01", "57P02", "57P03", "57P05", "", "garbage");
	assert_int_equal(execution_classify(NULL), FAULT_WAIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_experiment_tells),
		cmocka_unit_test(test_retried),
		cmocka_unit_test(test_fenced),
		cmocka_unit_test(test_systems),
	};

	return cmocka_run_group_tests_name("execution_classify", tests, NULL, NULL);
}
