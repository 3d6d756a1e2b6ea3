/* The rules that read the database, in their order (worker/protocol.txt), and what a batch writes. Rule 7 is in
 * test_rate_limit.c. */
#include "store_fixture.h"

/* ---- rule 12: what is written ---- */

static void test_draft_takes_after_its_source(void **state)
{
	struct job *job = execute_one(COMMAND(.trace = "copy"));
	const struct campaign *data = job->result.data;

	(void)state;
	assert_created(job);
	assert_string_equal(data->name, "Spring outreach");
	assert_string_equal(data->description, "First contact, then two reminders");
	assert_int_equal(data->selected_lead_count, 10);
	assert_true(data->include_conversation_history && data->auto_cancel_on_message_received);
	assert_string_equal(data->outreach_language, "en");
	assert_false(data->has_started_at || data->has_rate_limited_until);
	assert_int_equal(data->created_at_ms, job->result.processed_at_ms);
	assert_int_equal(data->updated_at_ms, data->created_at_ms);
	assert_string_equal(job->key_public_id, "key_full");
	assert_string_equal(leads_of(job), "lead_01 lead_02 lead_03 lead_04 lead_05 lead_06 lead_07 lead_08 lead_09 lead_10");
	assert_string_equal(ask("SELECT d.workflow = s.workflow AND d.source_campaign_id = s.id AND d.created_by_key = 'key_full' "
				"FROM campaigns d, campaigns s WHERE d.trace_id = 'copy' AND s.id = '" RUNNING "'"), "t");
}

static void test_name_and_leads_given(void **state)
{
	static const char name[] = "O'Brien \"best\" \\ {a,b} \\N NULL, 🍂 %s $1 \xC2\xA0 ,";
	struct job *job = execute_one(COMMAND(.name = name, .leads = "lead_07 lead_03 lead_03", .campaign = PLAIN));

	(void)state;
	assert_created(job);
	assert_string_equal(job->result.campaign->name, name);
	assert_null(job->result.campaign->description);
	assert_null(job->result.campaign->outreach_language);
	assert_int_equal(job->result.campaign->selected_lead_count, 2);
	assert_string_equal(leads_of(job), "lead_03 lead_07");
	job = execute_one(COMMAND(.campaign = PLAIN));
	assert_string_equal(job->result.campaign->name, "Événement d'automne \"été\" 🍂");
}

static void test_folder_is_the_union_of_its_lists(void **state)
{
	struct job *all = COMMAND(.audience = "aud_folder"), *some = COMMAND(.audience = "aud_folder", .leads = "lead_15 lead_09 lead_01");

	(void)state;
	EXECUTE(all, some);
	assert_created(all);
	assert_int_equal(all->result.campaign->selected_lead_count, 15);
	assert_string_equal(leads_of(all), "lead_01 lead_02 lead_03 lead_04 lead_05 lead_06 lead_07 lead_08 lead_09 lead_10 lead_11 "
					   "lead_12 lead_13 lead_14 lead_15");
	assert_created(some);
	assert_string_equal(leads_of(some), "lead_01 lead_09 lead_15");
}

static void test_empty_audiences_are_allowed(void **state)
{
	struct job *list = COMMAND(.audience = "aud_empty"), *folder = COMMAND(.audience = "aud_empty_folder"),
		   *wanted = COMMAND(.audience = "aud_empty_folder", .leads = "lead_01");

	(void)state;
	EXECUTE(list, folder, wanted);
	assert_created(list);
	assert_int_equal(list->result.campaign->selected_lead_count, 0);
	assert_created(folder);
	assert_int_equal(folder->result.campaign->selected_lead_count, 0);
	assert_refused(wanted, "lead_not_in_audience", "leadIds not in audience aud_empty_folder: lead_01");
}

static void test_source_of_any_status(void **state)
{
	static const char *const statuses[] = { "draft", "running", "paused", "completed", "cancelled" };

	(void)state;
	for (size_t i = 0; i < COUNT(statuses); i++) {
		run_sql("INSERT INTO campaigns (account_group_id, id, name, status) VALUES ('" AG "', 'src_%s', 'n', '%s')",
			statuses[i], statuses[i]);
		assert_created(execute_one(COMMAND(.campaign = arena_printf(fx.arena, "src_%s", statuses[i]))));
	}
}

static void test_batch_keeps_its_order_and_isolates_its_commands(void **state)
{
	struct job *jobs[40];

	(void)state;
	for (size_t i = 0; i < COUNT(jobs); i++)
		jobs[i] = i % 4 == 0 ? COMMAND(.group = BETA, .campaign = "65b000000000000000000001", .audience = "aud_beta") :
			  i % 4 == 1 ? COMMAND(.audience = "aud_second") :
			  i % 4 == 2 ? COMMAND(.audience = "aud_none") :
				       COMMAND(.no_key = true);
	jobs[5]->executable = jobs[7]->executable = false;
	execute_all(jobs, COUNT(jobs));
	for (size_t i = 0; i < COUNT(jobs); i++) {
		if (!jobs[i]->executable)
			assert_true(jobs[i]->result.processed_at_ms > 0 && !jobs[i]->result.success && !jobs[i]->result.error_code);
		else if (i % 4 == 0)
			assert_int_equal(jobs[i]->result.campaign->selected_lead_count, 5);
		else if (i % 4 == 1)
			assert_int_equal(jobs[i]->result.campaign->selected_lead_count, 7);
		else
			assert_refused(jobs[i], i % 4 == 2 ? "audience_not_found" : "key_missing", NULL);
	}
}

static void test_batch_without_anything_to_execute(void **state)
{
	struct job *job = COMMAND(.trace = "not-executable");

	(void)state;
	job->executable = false;
	execute_one(job);
	assert_true(llabs(job->result.processed_at_ms - clock_wall_ms()) < 5000);
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE partition = 0"), "100");
}

/* ---- rule 2: the state ---- */

static void test_same_command_finds_its_draft(void **state)
{
	struct job *first = execute_one(COMMAND(.trace = "again", .leads = "lead_02 lead_01")), *second;
	const char *tat = ask("SELECT sum(rate_tat_us) FROM api_key_account_groups");

	(void)state;
	assert_created(first);
	second = execute_one(COMMAND(.trace = "again", .leads = "lead_01 lead_02 lead_01"));
	assert_true(second->result.success && second->result.draft_existed);
	assert_string_equal(second->result.campaign->id, first->result.campaign->id);
	assert_string_equal(ask("SELECT sum(rate_tat_us) FROM api_key_account_groups"), tat);
	run_sql("UPDATE campaigns SET name = 'renamed', status = 'running', started_at = '2026-05-01T00:00:00.007Z', "
		"rate_limited_until = '2026-05-02T00:00:00.999Z', updated_at = '2026-05-01T00:00:00.007Z', selected_lead_count = 1, "
		"description = NULL, outreach_language = NULL, include_conversation_history = false WHERE trace_id = 'again'");
	second = execute_one(COMMAND(.trace = "again", .leads = "lead_01 lead_02"));
	assert_string_equal(second->result.campaign->name, "renamed");
	assert_string_equal(second->result.campaign->status, "running");
	assert_null(second->result.campaign->description);
	assert_true(second->result.campaign->started_at_ms == 1777593600007 && second->result.campaign->rate_limited_until_ms == 1777680000999);
	assert_string_equal(ask("SELECT count(*) FROM campaigns WHERE trace_id = 'again'"), "1");
}

static void test_state_comes_before_everything_else(void **state)
{
	struct job *job = execute_one(COMMAND(.trace = "stays", .key = "demo-key-other"));

	(void)state;
	run_sql("UPDATE api_keys SET revoked_at = now() WHERE public_id = 'key_other'");
	run_sql("UPDATE audiences SET ready = false WHERE id = 'aud_list'");
	job = execute_one(COMMAND(.trace = "stays", .key = "demo-key-other", .expires_ms = 1));
	assert_true(job->result.success && job->result.draft_existed);
	run_sql("UPDATE api_keys SET revoked_at = NULL WHERE public_id = 'key_other'");
	run_sql("UPDATE audiences SET ready = true WHERE id = 'aud_list'");
}

static void test_deleted_draft(void **state)
{
	(void)state;
	assert_created(execute_one(COMMAND(.trace = "gone")));
	run_sql("UPDATE campaigns SET deleted_at = now() WHERE trace_id = 'gone'");
	assert_refused(execute_one(COMMAND(.trace = "gone")), "draft_deleted", "the draft of traceId gone has been deleted");
	assert_refused(execute_one(COMMAND(.trace = "gone", .name = "other")), "trace_reused", NULL);
	assert_string_equal(ask("SELECT count(*) FROM campaigns WHERE trace_id = 'gone'"), "1");
}

static void test_reused_trace_shows_nothing(void **state)
{
	struct job *draft = execute_one(COMMAND(.trace = "taken", .name = "secret name")), *job;
	static const struct spec others[] = {
		{ .trace = "taken" },
		{ .trace = "taken", .name = "secret name", .audience = "aud_second" },
		{ .trace = "taken", .name = "secret name", .campaign = PLAIN },
		{ .trace = "taken", .name = "secret name", .leads = "lead_01" },
		{ .trace = "taken", .name = "secret name", .key = "demo-key-other" },
		{ .trace = "taken", .campaign = "none", .audience = "none" }, /* before 404 */
	};

	(void)state;
	assert_created(draft);
	for (size_t i = 0; i < COUNT(others); i++) {
		job = execute_one(make_command(others[i]));
		assert_refused(job, "trace_reused", "traceId taken belongs to another command");
		assert_false(job->result.draft_existed);
	}
}

static void test_who_may_not_write_learns_nothing_of_a_trace(void **state)
{
	(void)state;
	assert_created(execute_one(COMMAND(.trace = "private")));
	assert_refused(execute_one(COMMAND(.trace = "private", .key = "demo-key-revoked")), "key_revoked", NULL);
	assert_refused(execute_one(COMMAND(.trace = "private", .key = "unheard of")), "key_unknown", NULL);
	assert_refused(execute_one(COMMAND(.trace = "private", .no_key = true)), "key_missing", NULL);
	assert_refused(execute_one(COMMAND(.trace = "private", .key = "demo-key-readonly")), "permission_missing", NULL);
	assert_refused(execute_one(COMMAND(.trace = "private", .key = "demo-key-nogroup")), "account_group_denied", NULL);
	assert_refused(execute_one(COMMAND(.trace = "private", .name = "x", .expires_ms = 1)), "expired", NULL);
}

static void test_same_trace_in_two_account_groups(void **state)
{
	struct job *acme = COMMAND(.trace = "shared"),
		   *beta = COMMAND(.trace = "shared", .group = BETA, .campaign = "65b000000000000000000001", .audience = "aud_beta");

	(void)state;
	EXECUTE(acme, beta);
	assert_created(acme);
	assert_created(beta);
	assert_string_not_equal(acme->result.campaign->id, beta->result.campaign->id);
}

/* ---- rules 3 to 6 ---- */

static void test_expiry_by_the_server_clock(void **state)
{
	struct job *late = COMMAND(.expires_ms = clock_wall_ms() - 5000), *early = COMMAND(.expires_ms = clock_wall_ms() + 60000);
	char at[TIME_TEXT_SIZE];

	(void)state;
	EXECUTE(late, early);
	assert_refused(late, "expired",
		       arena_printf(fx.arena, "expiresAt %s had passed", clock_format(late->command->expires_at_ms, at)));
	assert_created(early);
}

/* PostgreSQL's clock stands still within that millisecond; 0: it goes on. */
static void stop_clock(int64_t ms)
{
	run_sql("SET allow_system_table_mods = on");
	if (ms > 0) {
		run_sql("ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO clock_that_goes");
		run_sql("CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
			"$$SELECT to_timestamp(%lld / 1000.0) + interval '0.9 ms'$$", (long long)ms);
	} else {
		run_sql("DROP FUNCTION pg_catalog.clock_timestamp()");
		run_sql("ALTER FUNCTION pg_catalog.clock_that_goes() RENAME TO clock_timestamp");
	}
	reconnect();
}

static void test_expired_at_the_very_millisecond(void **state)
{
	int64_t now_ms = clock_wall_ms();
	struct job *before = COMMAND(.expires_ms = now_ms - 1), *at = COMMAND(.expires_ms = now_ms), *after = COMMAND(.expires_ms = now_ms + 1);

	(void)state;
	stop_clock(now_ms);
	EXECUTE(before, at, after);
	stop_clock(0);
	assert_int_equal(after->result.processed_at_ms, now_ms);
	assert_refused(before, "expired", NULL);
	assert_refused(at, "expired", NULL);
	assert_created(after);
}

static void test_who_is_refused_and_why(void **state)
{
	(void)state;
	assert_refused(execute_one(COMMAND(.no_key = true)), "key_missing", "apiKeyDigest is missing");
	assert_refused(execute_one(COMMAND(.key = "unheard of")), "key_unknown", "no API key has this apiKeyDigest");
	assert_refused(execute_one(COMMAND(.key = "demo-key-revoked")), "key_revoked", "API key key_revoked has been revoked");
	assert_refused(execute_one(COMMAND(.key = "demo-key-readonly")), "permission_missing",
		       "API key key_readonly lacks campaigns:write");
	assert_refused(execute_one(COMMAND(.key = "demo-key-nogroup")), "account_group_denied",
		       "API key key_nogroup has no access to account group " AG);
	assert_refused(execute_one(COMMAND(.group = "ag_none")), "account_group_denied", NULL);
}

static void test_earlier_rules_win(void **state)
{
	(void)state;
	assert_refused(execute_one(COMMAND(.expires_ms = 1, .no_key = true)), "expired", NULL);
	run_sql("UPDATE api_keys SET permissions = '{}' WHERE public_id = 'key_revoked'");
	assert_refused(execute_one(COMMAND(.key = "demo-key-revoked", .group = BETA)), "key_revoked", NULL);
	assert_refused(execute_one(COMMAND(.key = "demo-key-readonly", .group = BETA)), "permission_missing", NULL);
	assert_refused(execute_one(COMMAND(.campaign = "none", .audience = "none")), "campaign_not_found", NULL);
	assert_refused(execute_one(COMMAND(.campaign = "none", .audience = "aud_populating")), "campaign_not_found", NULL);
	assert_refused(execute_one(COMMAND(.audience = "aud_populating", .leads = "lead_99")), "audience_populating", NULL);
	assert_refused(execute_one(COMMAND(.audience = "aud_busy", .leads = "lead_18 lead_99")), "lead_not_in_audience", NULL);
}

/* ---- rules 8 and 9 ---- */

static void test_not_found(void **state)
{
	(void)state;
	assert_refused(execute_one(COMMAND(.campaign = "none")), "campaign_not_found", "no campaign none in account group " AG);
	assert_refused(execute_one(COMMAND(.campaign = "65a000000000000000000004")), "campaign_not_found", NULL); /* deleted */
	assert_refused(execute_one(COMMAND(.audience = "none")), "audience_not_found", "no audience none in account group " AG);
}

static void test_another_group_looks_like_none(void **state)
{
	struct job *foreign, *none;
	static const struct {
		struct spec foreign, none;
	} pairs[] = {
		{ { .campaign = "65b000000000000000000001" }, { .campaign = "nothing" } },
		{ { .audience = "aud_beta" }, { .audience = "nothing" } },
		{ { .leads = "lead_b1" }, { .leads = "lead_99" } },
		{ { .group = BETA, .campaign = RUNNING, .audience = "aud_beta" }, { .group = BETA, .campaign = "no", .audience = "aud_beta" } },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(pairs); i++) {
		foreign = execute_one(make_command(pairs[i].foreign));
		none = execute_one(make_command(pairs[i].none));
		assert_int_equal(foreign->reason, none->reason);
		assert_false(foreign->result.success);
		assert_string_equal(foreign->result.error_message, none->result.error_message);
	}
	/* A lead of another group that bears the same id is somebody else, also when it is enrolled there. */
	run_sql("INSERT INTO leads (account_group_id, id) VALUES ('" BETA "', 'lead_01')");
	run_sql("INSERT INTO campaign_leads VALUES ('" BETA "', '65b000000000000000000001', 'lead_01', 'enrolled')");
	assert_created(execute_one(COMMAND(.leads = "lead_01")));
}

static void test_populating(void **state)
{
	(void)state;
	assert_refused(execute_one(COMMAND(.audience = "aud_populating")), "audience_populating",
		       "audience aud_populating is still being populated");
	assert_refused(execute_one(COMMAND(.audience = "aud_populating_folder", .leads = "lead_04")), "audience_populating",
		       "list aud_populating of audience aud_populating_folder is still being populated");
	assert_created(execute_one(COMMAND(.audience = "aud_imported")));
	run_sql("UPDATE audiences SET ready = false WHERE id = 'aud_empty_folder'");
	assert_refused(execute_one(COMMAND(.audience = "aud_empty_folder")), "audience_populating", NULL);
	run_sql("UPDATE audiences SET ready = true WHERE id = 'aud_empty_folder'");
}

/* ---- rule 10 ---- */

static void test_missing_leads_are_named(void **state)
{
	struct job *one = COMMAND(.leads = "lead_01 lead_77"), *two = COMMAND(.leads = "lead_77 lead_66 lead_01"),
		   *five = COMMAND(.leads = "m1 m2 m3 m4 m5"), *eight = COMMAND(.leads = "m8 m7 m6 m5 m4 m3 m2 m1 lead_02"),
		   *folder = COMMAND(.audience = "aud_folder", .leads = "lead_01 lead_16");

	(void)state;
	EXECUTE(one, two, five, eight, folder);
	assert_refused(one, "lead_not_in_audience", "leadIds not in audience aud_list: lead_77");
	assert_refused(two, "lead_not_in_audience", "leadIds not in audience aud_list: lead_66 and lead_77");
	assert_refused(five, "lead_not_in_audience", "leadIds not in audience aud_list: m1, m2, m3, m4 and m5");
	assert_refused(eight, "lead_not_in_audience", "leadIds not in audience aud_list: m1, m2, m3, m4, m5 and 3 more");
	assert_refused(folder, "lead_not_in_audience", "leadIds not in audience aud_folder: lead_16");
}

static void test_leads_with_the_looks_of_sql(void **state)
{
	struct job *job;

	(void)state;
	run_sql("INSERT INTO leads (account_group_id, id) VALUES ('" AG "', 'NULL'), ('" AG "', 'null'), ('" AG "', '-')");
	run_sql("INSERT INTO audiences (account_group_id, id, kind, name) VALUES ('" AG "', 'null', 'list', 'n')");
	run_sql("INSERT INTO audience_leads SELECT '" AG "', 'null', unnest('{\"NULL\",\"null\",-}'::text[])");
	job = execute_one(COMMAND(.audience = "null", .leads = "null NULL -"));
	assert_created(job);
	assert_int_equal(job->result.campaign->selected_lead_count, 3);
}

/* The hint only chooses the way: either way finds the same. */
static void test_wrong_lead_count_hints(void **state)
{
	static const int hints[] = { -1, 0, 1, 1000000, 2147483647 };
	struct job *far;

	(void)state;
	for (size_t i = 0; i < COUNT(hints); i++) {
		struct job *good = COMMAND(.leads = "lead_05 lead_01 lead_10"), *bad = COMMAND(.leads = "lead_05 lead_11 lead_10"),
			   *folder = COMMAND(.audience = "aud_folder", .leads = "lead_05 lead_11 lead_09");

		run_sql("UPDATE audiences SET lead_count = %d WHERE id IN ('aud_list', 'aud_second')", hints[i]);
		EXECUTE(good, bad, folder);
		assert_created(good);
		assert_string_equal(leads_of(good), "lead_01 lead_05 lead_10");
		assert_refused(bad, "lead_not_in_audience", "leadIds not in audience aud_list: lead_11");
		assert_created(folder);
		assert_string_equal(leads_of(folder), "lead_05 lead_09 lead_11");
	}
	run_sql("UPDATE audiences SET lead_count = 10 WHERE id IN ('aud_list', 'aud_second')");
	/* Far more members than the hint lets one scan. */
	run_sql("INSERT INTO leads (account_group_id, id) SELECT '" AG "', 'far_' || to_char(n, 'FM0000') FROM generate_series(1, 3000) n");
	run_sql("INSERT INTO audiences (account_group_id, id, kind, name, lead_count) VALUES ('" AG "', 'far', 'list', 'n', 5)");
	run_sql("INSERT INTO audience_leads SELECT '" AG "', 'far', 'far_' || to_char(n, 'FM0000') FROM generate_series(1, 3000) n");
	far = execute_one(COMMAND(.audience = "far", .leads = "far_0001 far_1500 far_3000"));
	assert_created(far);
	assert_string_equal(leads_of(far), "far_0001 far_1500 far_3000");
	assert_refused(execute_one(COMMAND(.audience = "far", .leads = "far_0001 far_3001")), "lead_not_in_audience",
		       "leadIds not in audience far: far_3001");
}

static void fill_list(const char *id, const char *parent, int first, int last, int hint)
{
	run_sql("INSERT INTO audiences (account_group_id, id, kind, parent_id, name, lead_count) "
		"VALUES ('" AG "', '%s', 'list', %s, 'n', %d)", id, parent, hint);
	run_sql("INSERT INTO audience_leads SELECT '" AG "', '%s', 'big_' || to_char(n, 'FM00000') FROM generate_series(%d, %d) n",
		id, first, last);
}

static const char *many_leads(int first, int last)
{
	char *text = arena_alloc(fx.arena, (size_t)(last - first + 1) * 10), *p = text;

	for (int i = first; i <= last; i++)
		p += sprintf(p, "%sbig_%05d", i == first ? "" : " ", i);
	return text;
}

static void test_huge_audiences(void **state)
{
	struct job *jobs[6];

	(void)state;
	run_sql("INSERT INTO leads (account_group_id, id) SELECT '" AG "', 'big_' || to_char(n, 'FM00000') FROM generate_series(1, 60000) n");
	run_sql("INSERT INTO audiences (account_group_id, id, kind, name) VALUES ('" AG "', 'big_folder', 'folder', 'n'), "
		"('" AG "', 'same_folder', 'folder', 'n')");
	fill_list("big", "NULL", 1, 60000, 60000);
	fill_list("cap", "NULL", 1, LEADS_CAP, 0);
	fill_list("over", "NULL", 1, LEADS_CAP + 1, 0);
	fill_list("half_1", "'big_folder'", 1, 30000, 30000);
	fill_list("half_2", "'big_folder'", 29001, 59000, 30000);
	fill_list("same_1", "'same_folder'", 1, 30000, 30000);
	fill_list("same_2", "'same_folder'", 1, 30000, 30000);
	jobs[0] = COMMAND(.audience = "big");
	jobs[1] = COMMAND(.audience = "cap");
	jobs[2] = COMMAND(.audience = "over");
	jobs[3] = COMMAND(.audience = "big_folder"); /* 59,000 different ones */
	jobs[4] = COMMAND(.audience = "same_folder"); /* 60,000 rows, 30,000 leads */
	jobs[5] = COMMAND(.audience = "big", .leads = many_leads(45001, 45010));
	execute_all(jobs, COUNT(jobs)); /* a quadratic plan runs into the fixture's statement_timeout */
	assert_refused(jobs[0], "audience_too_large", "audience big has more than 50000 leads; name the leads in leadIds");
	assert_created(jobs[1]);
	assert_int_equal(jobs[1]->result.campaign->selected_lead_count, LEADS_CAP);
	assert_refused(jobs[2], "audience_too_large", NULL);
	assert_refused(jobs[3], "audience_too_large", NULL);
	assert_created(jobs[4]);
	assert_int_equal(jobs[4]->result.campaign->selected_lead_count, 30000);
	assert_created(jobs[5]);
}

static void test_ten_thousand_lead_ids(void **state)
{
	struct job *good = COMMAND(.audience = "big", .leads = many_leads(50001, 60000)),
		   *folder = COMMAND(.audience = "big_folder", .leads = many_leads(25001, 35000)),
		   *bad = COMMAND(.audience = "half_1", .leads = many_leads(29996, 39995));

	(void)state;
	run_sql("ANALYZE"); /* plans change; a quadratic one runs into the fixture's statement_timeout */
	EXECUTE(good, folder, bad);
	assert_created(good);
	assert_int_equal(good->result.campaign->selected_lead_count, 10000);
	assert_created(folder);
	assert_refused(bad, "lead_not_in_audience", "leadIds not in audience half_1: big_30001, big_30002, big_30003, "
							 "big_30004, big_30005 and 9990 more");
}

/* ---- rule 11 ---- */

static void test_lead_active(void **state)
{
	static const char *const around[] = { "lead_16 lead_18", "lead_18 lead_20", "lead_17 lead_18 lead_20", "lead_18" };

	(void)state;
	assert_refused(execute_one(COMMAND(.audience = "aud_busy")), "lead_active",
		       "lead lead_18 is enrolled in campaign " RUNNING " (running)");
	for (size_t i = 0; i < COUNT(around); i++) /* also as the least, the greatest and the only one */
		assert_refused(execute_one(COMMAND(.audience = "aud_busy", .leads = around[i])), "lead_active",
			       "lead lead_18 is enrolled in campaign " RUNNING " (running)");
	assert_refused(execute_one(COMMAND(.audience = "aud_busy", .leads = "lead_19 lead_20")), "lead_active",
		       "lead lead_19 is enrolled in campaign 65a000000000000000000003 (paused)");
	assert_created(execute_one(COMMAND(.audience = "aud_busy", .leads = "lead_16 lead_17 lead_20"))); /* lead_17 has finished */
}

static void test_only_active_workflows_conflict(void **state)
{
	(void)state;
	run_sql("INSERT INTO campaigns (account_group_id, id, name, status, deleted_at) VALUES ('" AG "', 'w_done', 'n', 'completed', NULL), "
		"('" AG "', 'w_gone', 'n', 'running', now()), ('" AG "', 'w_b', 'n', 'paused', NULL), ('" AG "', 'w_a', 'n', 'running', NULL)");
	run_sql("INSERT INTO campaign_leads VALUES ('" AG "', 'w_done', 'lead_11', 'enrolled'), ('" AG "', 'w_gone', 'lead_11', 'enrolled')");
	assert_created(execute_one(COMMAND(.audience = "aud_second", .leads = "lead_11")));
	run_sql("INSERT INTO campaign_leads VALUES ('" AG "', 'w_b', 'lead_11', 'enrolled'), ('" AG "', 'w_a', 'lead_12', 'enrolled'), "
		"('" AG "', 'w_a', 'lead_11', 'enrolled'), ('" AG "', 'w_a', 'lead_10', 'removed')");
	assert_refused(execute_one(COMMAND(.audience = "aud_second")), "lead_active", "lead lead_11 is enrolled in campaign w_a (running)");
	run_sql("DELETE FROM campaign_leads WHERE campaign_id LIKE 'w_%%'");
}

/* ---- what the results topic takes ---- */

static struct job *bounded(struct job *job, int32_t text_bytes_max)
{
	job->text_bytes_max = text_bytes_max;
	return job;
}

/* Name, description and language count, in bytes; the name given, if one is. */
static void test_result_too_large(void **state)
{
	struct job *first, *fits = bounded(COMMAND(.campaign = "src_texts"), 17), *over = bounded(COMMAND(.campaign = "src_texts"), 16),
		   *named = bounded(COMMAND(.campaign = "src_texts", .name = "n"), 13), *again;

	(void)state;
	run_sql("INSERT INTO campaigns (account_group_id, id, name, status, description, outreach_language) "
		"VALUES ('" AG "', 'src_texts', '\u00e4\u20ac', 'draft', '1234567890', 'en')");
	EXECUTE(fits, over, named);
	assert_created(fits);
	assert_created(named);
	assert_refused(over, "result_too_large", "the texts of the result would have more than 16 bytes");
	assert_true(over->dead_letter);
	assert_string_equal(over->cause, over->result.error_details);
	assert_string_equal(ask("SELECT count(*) FROM campaigns WHERE trace_id = '%s'", over->command->trace_id), "0");
	assert_refused(execute_one(bounded(COMMAND(.campaign = "src_texts", .audience = "aud_busy"), 1)), "lead_active",
		       "lead lead_18 is enrolled in campaign " RUNNING " (running)");
	first = execute_one(COMMAND(.trace = "texts", .campaign = "src_texts"));
	assert_created(first);
	again = execute_one(bounded(COMMAND(.trace = "texts", .campaign = "src_texts"), 1)); /* a draft that is there is a success */
	assert_true(again->result.success && again->result.draft_existed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_draft_takes_after_its_source),
		STORE_TEST(test_name_and_leads_given),
		STORE_TEST(test_folder_is_the_union_of_its_lists),
		STORE_TEST(test_empty_audiences_are_allowed),
		STORE_TEST(test_source_of_any_status),
		STORE_TEST(test_batch_keeps_its_order_and_isolates_its_commands),
		STORE_TEST(test_batch_without_anything_to_execute),
		STORE_TEST(test_same_command_finds_its_draft),
		STORE_TEST(test_state_comes_before_everything_else),
		STORE_TEST(test_deleted_draft),
		STORE_TEST(test_reused_trace_shows_nothing),
		STORE_TEST(test_who_may_not_write_learns_nothing_of_a_trace),
		STORE_TEST(test_same_trace_in_two_account_groups),
		STORE_TEST(test_expiry_by_the_server_clock),
		STORE_TEST(test_expired_at_the_very_millisecond),
		STORE_TEST(test_who_is_refused_and_why),
		STORE_TEST(test_earlier_rules_win),
		STORE_TEST(test_not_found),
		STORE_TEST(test_another_group_looks_like_none),
		STORE_TEST(test_populating),
		STORE_TEST(test_missing_leads_are_named),
		STORE_TEST(test_leads_with_the_looks_of_sql),
		STORE_TEST(test_wrong_lead_count_hints),
		STORE_TEST(test_huge_audiences),
		STORE_TEST(test_ten_thousand_lead_ids),
		STORE_TEST(test_lead_active),
		STORE_TEST(test_only_active_workflows_conflict),
		STORE_TEST(test_result_too_large),
	};

	return run_store_tests("rules", tests, COUNT(tests));
}
