/* Which copies take an outcome, and which are executed themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schemas/reason.h"
#include "worker/copies.h"

#define COUNT 5

static struct job jobs[COUNT], *order[COUNT];

/* The first, and four copies of it; their timestamps. */
static void set(const int64_t stamps[COUNT])
{
	for (size_t i = 0; i < COUNT; i++) {
		jobs[i] = (struct job){ .record.timestamp_ms = stamps[i], .executable = i == 0, .copy_of = i ? &jobs[0] : NULL };
		jobs[i].result.command_offset = (int64_t)i;
		order[i] = &jobs[i];
	}
}

static void answer(struct job *job, const struct reason *reason, bool retry_after)
{
	job->reason = reason;
	job->result.success = reason == NULL;
	job->result.http_status = reason ? reason->http_status : 201;
	job->result.has_retry_after = retry_after;
	job->result.retry_after_s = retry_after ? 7 : 0;
	job->result.processed_at_ms = 99;
}

static void test_a_success_is_there_already(void **state)
{
	(void)state;
	set((const int64_t[]){ 1, 2, 3, 4, 5 });
	copies_prepare(order, COUNT, 0, COUNT);
	assert_true(jobs[0].shared);
	answer(&jobs[0], NULL, false);
	copies_settle(order, 0, COUNT);
	assert_false(jobs[0].result.draft_existed);
	for (size_t i = 1; i < COUNT; i++) {
		assert_true(jobs[i].result.success && jobs[i].result.draft_existed);
		assert_false(jobs[i].executable || jobs[i].shared);
		assert_int_equal(jobs[i].result.processed_at_ms, 99);
		assert_int_equal(jobs[i].result.command_offset, i); /* its own */
	}
}

static void test_a_refusal_is_shared(void **state)
{
	(void)state;
	set((const int64_t[]){ 1, 2, 3, 4, 5 });
	copies_prepare(order, COUNT, 0, COUNT);
	assert_true(jobs[0].shared);
	copies_prepare(order, COUNT, 0, 1);
	assert_false(jobs[0].shared); /* no copy is in that part */
	answer(&jobs[0], &reason_database_error, false);
	jobs[0].dead_letter = true;
	jobs[0].cause = "cause";
	jobs[0].key_public_id = "key";
	copies_settle(order, 0, 1);
	copies_prepare(order, COUNT, 1, 4);
	copies_settle(order, 1, 4);
	for (size_t i = 1; i < COUNT; i++) {
		assert_ptr_equal(jobs[i].reason, &reason_database_error);
		assert_true(jobs[i].dead_letter);
		assert_string_equal(jobs[i].cause, "cause");
		assert_string_equal(jobs[i].key_public_id, "key");
		assert_false(jobs[i].result.draft_existed || jobs[i].executable);
	}
}

/* Of one timestamp nothing is asked of the statement; those of another are executed, the first of them for those behind it. */
static void test_a_limit_is_judged_at_each_ones_own_time(void **state)
{
	static const struct reason limited = { .word = "rate_limited", .http_status = 429 };

	(void)state;
	set((const int64_t[]){ 1, 1, 2, 2, 2 });
	copies_prepare(order, COUNT, 0, 2);
	assert_false(jobs[0].shared);
	answer(&jobs[0], &limited, true);
	copies_settle(order, 0, 2);
	assert_ptr_equal(jobs[1].reason, &limited);
	assert_int_equal(jobs[1].result.retry_after_s, 7);
	copies_prepare(order, COUNT, 2, 3);
	assert_true(jobs[2].executable && jobs[2].copy_of == NULL && !jobs[2].shared);
	assert_ptr_equal(jobs[3].copy_of, &jobs[2]);
	assert_ptr_equal(jobs[4].copy_of, &jobs[2]);
	assert_ptr_equal(jobs[1].copy_of, &jobs[0]);
	answer(&jobs[2], NULL, false);
	copies_settle(order, 2, 3);
	assert_true(jobs[4].result.success && jobs[4].result.draft_existed && !jobs[2].result.draft_existed);
	copies_prepare(order, COUNT, 2, 3); /* the part is executed again */
	assert_true(jobs[2].executable && !jobs[3].executable);
	answer(&jobs[2], &limited, true); /* it was rolled back: what it answered counts for nothing */
	jobs[3].record.timestamp_ms = 3;
	copies_prepare(order, COUNT, 2, 3);
	assert_true(jobs[2].shared && !jobs[3].executable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_success_is_there_already),
		cmocka_unit_test(test_a_refusal_is_shared),
		cmocka_unit_test(test_a_limit_is_judged_at_each_ones_own_time),
	};

	return cmocka_run_group_tests_name("copies", tests, NULL, NULL);
}
