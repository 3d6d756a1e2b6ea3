/* The control of an experiment: a copy of its own of a command that was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/duplicate.h"
#include "worker/control.h"

static void keep(struct control *control, const char *campaign, int64_t now_ms)
{
	struct arena *arena = arena_new(0);
	const char *leads[] = { arena_strndup(arena, "lead_1", 6), arena_strndup(arena, "lead_2", 6) };
	struct duplicate_command command = {
		.head = { .trace_id = "trace", .account_group_id = arena_strndup(arena, "group", 5), .has_key = true, .key_digest = "key",
			  .has_expiry = true, .expires_at_ms = 5, .digest = "digest" },
		.campaign_id = arena_strndup(arena, campaign, strlen(campaign)), .audience_id = "audience", .lead_ids = leads, .lead_count = 2,
	};
	struct job job = { .command = &command.head, .reason = NULL };

	control_keep(control, &job, now_ms);
	memset((char *)leads[0], 'x', 6);
	arena_free(arena);
}

static void test_a_copy_of_its_own(void **state)
{
	const struct duplicate_command *command;
	struct control control;
	char trace[NEW_ID_CHARS + 1];
	struct job *job;

	(void)state;
	control_init(&control, &duplicate_contract);
	assert_null(control_job(&control));
	keep(&control, "campaign", 1000);
	job = control_job(&control);
	assert_non_null(job);
	command = (const struct duplicate_command *)(const void *)job->command;
	assert_true(job->executable);
	assert_int_equal(job->record.timestamp_ms, -1);
	assert_string_equal(command->head.account_group_id, "group");
	assert_string_equal(command->campaign_id, "campaign");
	assert_string_equal(command->audience_id, "audience");
	assert_null(command->name);
	assert_int_equal(command->lead_count, 2);
	assert_string_equal(command->lead_ids[0], "lead_1");
	assert_string_equal(command->lead_ids[1], "lead_2");
	assert_true(command->head.has_key && !command->head.has_expiry);
	assert_memory_equal(command->head.digest, "digest", 7);
	strcpy(trace, command->head.trace_id);
	assert_string_not_equal(trace, "trace");
	job->reason = &reason_database_error; /* as the last experiment left it */
	assert_null(control_job(&control)->reason);
	assert_string_not_equal(control_job(&control)->command->trace_id, trace); /* it never finds a draft */
	control_destroy(&control);
}

static void test_renewed_once_a_second(void **state)
{
	struct control control;
	size_t used;

	(void)state;
	control_init(&control, &duplicate_contract);
	keep(&control, "first", 500); /* the first one at once, also right behind the machine's start */
	used = arena_used(control.arena);
	keep(&control, "second", 1499);
	assert_string_equal(((struct duplicate_command *)(void *)control_job(&control)->command)->campaign_id, "first");
	keep(&control, "third", 1500);
	assert_string_equal(((struct duplicate_command *)(void *)control_job(&control)->command)->campaign_id, "third");
	assert_int_equal(arena_used(control.arena), used); /* nothing is left of the first */
	control_destroy(&control);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_copy_of_its_own),
		cmocka_unit_test(test_renewed_once_a_second),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
