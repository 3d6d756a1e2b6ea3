/* Where an assigned partition is read from (protocol.txt, rules 6 to 8 of the fence), as a table. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "worker/start.h"
#include "worker/db/session.h"

#define HALTS (-100)
#define NONE OFFSET_NONE
#define UNKNOWN EXECUTED_UNKNOWN

struct row {
	const char *what;
	int64_t committed, low, high, confirmed, executed, resume_from;
	int64_t start;      /* HALTS: a person has to decide */
	const char *says;   /* part of the note or of the reason; NULL: silent */
};

static const struct row rows[] = {
	/* The usual life of a partition. */
	{ "never claimed, empty topic", NONE, 0, 0, NONE, UNKNOWN, RESUME_NONE, 0, "never claimed" },
	{ "never claimed, records wait", NONE, 0, 50, NONE, UNKNOWN, RESUME_NONE, 0, "never claimed" },
	{ "never claimed, first records expired", NONE, 20, 50, NONE, UNKNOWN, RESUME_NONE, 20, "never claimed" },
	{ "committed by us, claimed again", 40, 0, 50, 35, UNKNOWN, RESUME_NONE, 40, NULL },
	{ "committed at the end", 50, 0, 50, 50, UNKNOWN, RESUME_NONE, 50, NULL },
	{ "committed at the first offset kept", 20, 20, 50, 20, UNKNOWN, RESUME_NONE, 20, NULL },
	{ "committed, no batch was ever begun", 0, 0, 50, NONE, UNKNOWN, RESUME_NONE, 0, NULL },
	{ "all records expired, all were read", 50, 50, 50, 50, UNKNOWN, RESUME_NONE, 50, NULL },
	/* An operator's --reset-offsets. */
	{ "set back: goes on behind what is answered", 10, 0, 50, 30, UNKNOWN, RESUME_NONE, 30, "set back" },
	{ "set to the beginning", 0, 0, 50, 30, UNKNOWN, RESUME_NONE, 30, "set back" },
	{ "set forward within the topic: as told", 45, 0, 50, 30, UNKNOWN, RESUME_NONE, 45, NULL },
	{ "set back below what is kept, confirmed is kept", 0, 10, 50, 30, UNKNOWN, RESUME_NONE, 30, "set back" },
	{ "set back, confirmed expired", 0, 40, 50, 30, UNKNOWN, RESUME_NONE, HALTS, "deleted" },
	/* What must not be guessed. */
	{ "offsets of the group expired or deleted", NONE, 0, 50, 30, UNKNOWN, RESUME_NONE, HALTS, "committed offset is lost" },
	{ "the same, everything read", NONE, 0, 50, 50, UNKNOWN, RESUME_NONE, HALTS, "committed offset is lost" },
	{ "the same, confirmed 0", NONE, 0, 50, 0, UNKNOWN, RESUME_NONE, HALTS, "committed offset is lost" },
	{ "topic created again: ends below what is published", 30, 0, 5, 30, UNKNOWN, RESUME_NONE, HALTS, "created again" },
	{ "the same, nothing committed", NONE, 0, 5, 30, UNKNOWN, RESUME_NONE, HALTS, "created again" },
	{ "committed beyond the end", 60, 0, 50, 30, UNKNOWN, RESUME_NONE, HALTS, "beyond" },
	{ "committed beyond the end, never claimed here", 60, 0, 50, NONE, UNKNOWN, RESUME_NONE, HALTS, "beyond" },
	{ "one beyond the end", 51, 0, 50, 50, UNKNOWN, RESUME_NONE, HALTS, "beyond" },
	{ "retention overtook the group", 10, 20, 50, 10, UNKNOWN, RESUME_NONE, HALTS, "deleted" },
	{ "retention overtook by one", 19, 20, 50, 19, UNKNOWN, RESUME_NONE, HALTS, "deleted" },
	/* What this database has executed, beside it. */
	{ "all is published", 40, 0, 50, 35, 40, RESUME_NONE, 40, NULL },
	{ "executed and not published", 40, 0, 50, 35, 50, RESUME_NONE, 40, NULL },
	{ "started, and nothing more", 0, 0, 50, NONE, 0, RESUME_NONE, 0, NULL },
	{ "died between its record and the group's first offset", NONE, 0, 50, NONE, 0, RESUME_NONE, 0, "never claimed" },
	{ "the same, and the first records have expired since", NONE, 7, 50, NONE, 0, RESUME_NONE, 7, "never claimed" },
	{ "set back below what is executed", 10, 0, 50, 30, 35, RESUME_NONE, 30, "set back" },
	{ "another consumer committed", 40, 0, 50, 30, 35, RESUME_NONE, HALTS, "--partition 3 --from 30" },
	{ "another consumer committed, all is confirmed", 40, 0, 50, 35, 35, RESUME_NONE, HALTS, "safe to go back: campaign-worker resume "
		"--partition 3 --from 35" },
	{ "another consumer committed one record", 36, 0, 50, 30, 35, RESUME_NONE, HALTS, "committed offset 36" },
	{ "the same, says what is executed", 36, 0, 50, 30, 35, RESUME_NONE, HALTS, "up to 35" },
	{ "another consumer committed before the first batch", 1, 0, 50, NONE, 0, RESUME_NONE, HALTS, "--from 0" },
	{ "another consumer committed, what is executed is deleted", 45, 40, 50, 30, 35, RESUME_NONE, HALTS, "does not hold" },
	{ "going back to the first offset kept", 45, 35, 50, 30, 35, RESUME_NONE, HALTS, "--from 35" },
	{ "set beyond the end, all is executed", 60, 0, 50, 30, 50, RESUME_NONE, HALTS, "--from 30" },
	{ "confirmed further than executed", 60, 0, 50, 35, 30, RESUME_NONE, HALTS, "--from 30" },
	{ "set beyond the end", 60, 0, 50, 30, 35, RESUME_NONE, HALTS, "committed offset 60" },
	{ "both beyond the end", 60, 0, 50, 30, 55, RESUME_NONE, HALTS, "does not hold" },
	{ "a database that knows nothing of the partition", 40, 0, 50, NONE, NONE, RESUME_NONE, HALTS, "executed nothing" },
	{ "the same, nothing read yet", 0, 0, 50, NONE, NONE, RESUME_NONE, HALTS, "executed nothing" },
	{ "a fresh installation", NONE, 0, 50, NONE, NONE, RESUME_NONE, 0, "never claimed" },
	{ "a person's order overrules it", 40, 0, 50, 30, 35, 35, 35, NULL },
	{ "an order to go on where another consumer committed", 40, 0, 50, NONE, NONE, 40, 40, NULL },
	/* A person's order. */
	{ "resume at an offset", NONE, 0, 50, 30, UNKNOWN, 20, 20, NULL },
	{ "resume at the end", NONE, 0, 50, 30, UNKNOWN, 50, 50, NULL },
	{ "resume at the beginning", NONE, 7, 50, 30, UNKNOWN, RESUME_EARLIEST, 7, NULL },
	{ "resume a topic created again", 30, 0, 5, 30, UNKNOWN, RESUME_EARLIEST, 0, NULL },
	{ "resume overrules a good committed offset", 40, 0, 50, 40, UNKNOWN, 45, 45, NULL },
	{ "resume beyond the end", NONE, 0, 50, 30, UNKNOWN, 51, HALTS, "outside" },
	{ "resume at what expired", NONE, 20, 50, 30, UNKNOWN, 19, HALTS, "outside" },
};

static void test_every_row(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct row *row = &rows[i];
		struct position position = { .partition = 3, .committed = row->committed, .low = row->low, .high = row->high };
		const char *note = "untouched", *said;
		int64_t start = -77;
		char why[512] = "";
		struct owned owned = { row->confirmed, row->executed, row->resume_from, "", "" };
		int status = partition_start(&position, &owned, &start, &note, why, sizeof why);

		if (status != (row->start == HALTS ? -1 : 0))
			fail_msg("%s: %s (%s)", row->what, status < 0 ? "halted" : "started", why);
		if (status == 0 && start != row->start)
			fail_msg("%s: started at %" PRId64, row->what, start);
		said = status < 0 ? why : note;
		if (row->says ? said == NULL || strstr(said, row->says) == NULL : said != NULL)
			fail_msg("%s: said: %s", row->what, said ? said : "nothing");
	}
}

static void check_start(int64_t committed, int64_t low, int64_t high, int64_t confirmed, int64_t executed)
{
	struct position position = { .committed = committed, .low = low, .high = high };
	struct owned owned = { confirmed, executed, RESUME_NONE, "", "" };
	const char *note;
	char why[256];
	int64_t start;

	if (partition_start(&position, &owned, &start, &note, why, sizeof why) < 0)
		return;
	assert_in_range(start, low, high);
	assert_true(start >= confirmed);
	if (committed == NONE)
		assert_true(confirmed == NONE && start == low);
	else
		assert_true(start == committed || start == confirmed);
	if (executed != UNKNOWN)
		assert_true(committed <= executed);
}

/* Wherever it starts without a person's order, nothing unanswered is skipped and nothing answered is read again. */
static void test_never_skips(void **state)
{
	(void)state;
	for (int64_t committed = NONE; committed < 6; committed++)
		for (int64_t low = 0; low < 6; low++)
			for (int64_t high = low; high < 6; high++)
				for (int64_t confirmed = NONE; confirmed < 6; confirmed++)
					for (int64_t executed = UNKNOWN; executed < 7; executed++)
						check_start(committed, low, high, confirmed, executed);
}

/* Results of the last batch, 30 to 35, may not be published: an offset in there is ours only if a worker committed it. */
static void test_an_offset_without_our_mark(void **state)
{
	static const struct {
		int64_t committed;
		bool foreign, halts;
	} cases[] = { { 35, true, true }, { 31, true, true }, { 35, false, false }, { 30, true, false }, { 20, true, false } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct position position = { .partition = 3, .committed = cases[i].committed, .foreign = cases[i].foreign, .high = 50 };
		struct owned owned = { 30, 35, RESUME_NONE, "", "" }, unknown = { 30, UNKNOWN, RESUME_NONE, "", "" };
		const char *note;
		char why[768] = "";
		int64_t start;

		assert_int_equal(partition_start(&position, &owned, &start, &note, why, sizeof why), cases[i].halts ? -1 : 0);
		if (cases[i].halts)
			assert_true(strstr(why, "which no worker committed") && strstr(why, "--partition 3 --from 30"));
		assert_int_equal(partition_start(&position, &unknown, &start, &note, why, sizeof why), 0);
	}
}

/* An offset that is committed next must never look like a stranger's, whatever becomes of the worker. */
static void test_new_starts_are_recorded(void **state)
{
	struct owned unknown = { .confirmed = 3, .executed = UNKNOWN }, fresh = { .confirmed = NONE, .executed = NONE };
	struct owned known = { .confirmed = 3, .executed = 5 };

	(void)state;
	assert_true(partition_start_is_new(&fresh, 0) && partition_start_is_new(&unknown, 0));
	assert_true(partition_start_is_new(&known, 6));
	assert_false(partition_start_is_new(&known, 5) || partition_start_is_new(&known, 3));
}

static void test_refusals_name_both_sides(void **state)
{
	struct owned other = { .other_group = "their-group" }, moved = { .moved_from = "old-cluster" };
	char why[512];

	(void)state;
	partition_describe_refusal(&other, "new-cluster", why, sizeof why);
	assert_non_null(strstr(why, "their-group"));
	snprintf(other.other_group, sizeof other.other_group, "g");
	partition_describe_refusal(&other, "new-cluster", why, sizeof why);
	assert_non_null(strstr(why, "consumer group g "));
	partition_describe_refusal(&moved, "new-cluster", why, sizeof why);
	assert_true(strstr(why, "old-cluster") && strstr(why, "new-cluster"));
}

static void test_short_buffer(void **state)
{
	struct position position = { .committed = NONE, .high = 5 };
	struct owned owned = { 30, UNKNOWN, RESUME_NONE, "", "" };
	const char *note;
	int64_t start;
	char why[8] = "";

	(void)state;
	assert_int_equal(partition_start(&position, &owned, &start, &note, why, sizeof why), -1);
	assert_int_equal(strlen(why), sizeof why - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row),
		cmocka_unit_test(test_never_skips),
		cmocka_unit_test(test_an_offset_without_our_mark),
		cmocka_unit_test(test_new_starts_are_recorded),
		cmocka_unit_test(test_refusals_name_both_sides),
		cmocka_unit_test(test_short_buffer),
	};

	return cmocka_run_group_tests_name("start", tests, NULL, NULL);
}
