/* Who is suspected of ending PostgreSQL's processes, and when it is convicted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/suspect.h"

static void test_sought_after_three_batches_in_a_row(void **state)
{
	struct suspect suspect = { 0 };

	(void)state;
	suspect_lost_batch(&suspect);
	suspect_lost_batch(&suspect);
	assert_false(suspect_is_sought(&suspect));
	suspect_clear(&suspect);
	suspect_lost_batch(&suspect);
	suspect_lost_batch(&suspect);
	assert_false(suspect_is_sought(&suspect));
	suspect_lost_batch(&suspect);
	assert_true(suspect_is_sought(&suspect));
}

static void test_convicted_after_three_losses_beside_others(void **state)
{
	const struct record record = { .partition = 1, .offset = 7 }, behind = { .partition = 1, .offset = 8 };
	const struct record beside = { .partition = 2, .offset = 7 };
	struct suspect suspect = { 0 };

	(void)state;
	assert_false(suspect_is(&suspect, &(struct record){ 0 }));
	suspect_lost_alone(&suspect, &record, false);
	for (int i = 0; i < 2; i++) {
		suspect_lost_alone(&suspect, &record, true);
		assert_true(suspect_is(&suspect, &record));
		assert_false(suspect_is(&suspect, &behind) || suspect_is(&suspect, &beside));
		assert_false(suspect_is_convicted(&suspect, true) || suspect_is_convicted(&suspect, false));
	}
	suspect_lost_alone(&suspect, &behind, true); /* another one: all begins anew */
	assert_false(suspect_is_convicted(&suspect, true));
	for (int i = 0; i < 2; i++)
		suspect_lost_alone(&suspect, &behind, true);
	assert_true(suspect_is_convicted(&suspect, true));
	assert_false(suspect_is_convicted(&suspect, false));
	suspect_clear(&suspect);
	assert_false(suspect_is_convicted(&suspect, true) || suspect_is(&suspect, &behind));
}

/* Then it waits for another one, which it is compared with from the start. */
static void test_three_losses_without_company(void **state)
{
	const struct record record = { .partition = 1, .offset = 7 };
	struct suspect suspect = { 0 };

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_false(suspect_is_convicted(&suspect, false));
		suspect_lost_alone(&suspect, &record, false);
		assert_true(suspect_is(&suspect, &record));
	}
	assert_true(suspect_is_convicted(&suspect, false));
	assert_false(suspect_is_convicted(&suspect, true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sought_after_three_batches_in_a_row),
		cmocka_unit_test(test_convicted_after_three_losses_beside_others),
		cmocka_unit_test(test_three_losses_without_company),
	};

	return cmocka_run_group_tests_name("suspect", tests, NULL, NULL);
}
