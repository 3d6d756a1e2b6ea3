/* Rule 7 (worker/protocol.txt): the rate limit of a key and account group. */
#include "store_fixture.h"

static void set_rate(int64_t interval_us, int burst, int64_t tat_us)
{
	run_sql("UPDATE api_key_account_groups SET rate_interval_us = %lld, rate_burst = %d, rate_tat_us = %lld, rate_at_us = 0 "
		"WHERE key_digest = sha256('demo-key-slow')", (long long)interval_us, burst, (long long)tat_us);
}

static int64_t tat_us(void)
{
	return atoll(ask("SELECT rate_tat_us FROM api_key_account_groups WHERE key_digest = sha256('demo-key-slow')"));
}

static void test_rate_limit_within_a_batch(void **state)
{
	struct job *jobs[5];

	(void)state;
	set_rate(60000000, 2, 0);
	for (size_t i = 0; i < COUNT(jobs); i++)
		jobs[i] = COMMAND(.key = "demo-key-slow");
	execute_all(jobs, COUNT(jobs));
	assert_created(jobs[0]);
	assert_created(jobs[1]);
	/* Every refused one waits for the same first free slot: refusals do not add up. */
	for (size_t i = 2; i < COUNT(jobs); i++) {
		assert_refused(jobs[i], "rate_limited", "rate limit of 1 per minute, burst 2; retry after 60 s");
		assert_true(jobs[i]->result.has_retry_after && jobs[i]->result.retry_after_s == 60 && jobs[i]->result.retryable);
	}
	assert_int_equal(tat_us(), jobs[0]->result.processed_at_ms * 1000 + 120000000);
}

/* The outcome of one that copies of other timestamps take, too: a refusal by the limit is raised, and nothing stands. */
static void test_a_refusal_is_not_shared(void **state)
{
	struct job *good = COMMAND(.key = "demo-key-slow"), *late = COMMAND(.key = "demo-key-slow"), *jobs[] = { good, late };
	struct fault fault;
	int64_t before;

	(void)state;
	set_rate(60000000, 1, 0);
	before = tat_us();
	good->shared = late->shared = true;
	assert_int_equal(try_execute(jobs, 2, &fault), -1);
	assert_fault(&fault, FAULT_RETRY, "CD003");
	assert_not_written(good);
	assert_int_equal(tat_us(), before);
	late->shared = false;
	execute_all(jobs, 2);
	assert_created(good);
	assert_refused(late, "rate_limited", NULL);
	good->shared = true; /* its draft is there: no limit asks */
	assert_true(execute_one(good)->result.draft_existed);
}

static void test_rate_limit_over_batches(void **state)
{
	struct job *job;
	int64_t before;

	(void)state;
	set_rate(60000000, 2, 0);
	assert_created(execute_one(COMMAND(.key = "demo-key-slow")));
	assert_created(execute_one(COMMAND(.key = "demo-key-slow")));
	before = tat_us();
	job = execute_one(COMMAND(.key = "demo-key-slow", .campaign = "none"));
	assert_refused(job, "rate_limited", NULL); /* before 404 */
	assert_true(job->result.retry_after_s >= 59 && job->result.retry_after_s <= 60);
	assert_int_equal(tat_us(), before);
	set_rate(1000000, 2, before); /* a limit that was raised since */
	assert_string_equal(execute_one(COMMAND(.key = "demo-key-slow"))->result.error_details,
			    "rate limit of 1 per second, burst 2; retry after 1 s");
}

static void test_a_404_is_charged_and_a_401_is_not(void **state)
{
	(void)state;
	set_rate(1000000, 5, 0);
	assert_refused(execute_one(COMMAND(.key = "demo-key-slow", .campaign = "none")), "campaign_not_found", NULL);
	assert_true(tat_us() > 0);
	set_rate(1000000, 5, 0);
	run_sql("UPDATE api_keys SET revoked_at = now() WHERE public_id = 'key_slow'");
	assert_refused(execute_one(COMMAND(.key = "demo-key-slow")), "key_revoked", NULL);
	run_sql("UPDATE api_keys SET revoked_at = NULL WHERE public_id = 'key_slow'");
	assert_int_equal(tat_us(), 0);
}

/* An outage of ours makes no 429s: commands that arrived slowly enough are admitted, however late they are looked at. */
static void test_rate_limit_at_the_record_timestamp(void **state)
{
	int64_t hour_ago = clock_wall_ms() - 3600000, at_ms[] = { 0, 0, 0, 999, 1000, 2000, 2001, 500000 };
	bool admitted[] = { true, true, false, false, true, true, false, true };
	struct job *jobs[COUNT(at_ms)];

	(void)state;
	set_rate(1000000, 2, 0);
	for (size_t i = 0; i < COUNT(jobs); i++)
		jobs[i] = COMMAND(.key = "demo-key-slow", .stamp_ms = hour_ago + at_ms[i]);
	execute_all(jobs, COUNT(jobs));
	for (size_t i = 0; i < COUNT(jobs); i++) {
		assert_int_equal(jobs[i]->result.success, admitted[i]);
		if (!admitted[i])
			assert_int_equal(jobs[i]->result.retry_after_s, 1); /* counted from now, not from then */
	}
	assert_int_equal(tat_us(), (hour_ago + 501000) * 1000);
}

static void test_timestamps_of_the_future_are_now(void **state)
{
	struct job *job = COMMAND(.key = "demo-key-slow", .stamp_ms = clock_wall_ms() + 86400000);

	(void)state;
	set_rate(1000000, 1, 0);
	execute_one(job);
	assert_int_equal(tat_us(), job->result.processed_at_ms * 1000 + 1000000);
}

/* From another partition, or delivered again: older than what was charged is not early. */
static void test_rate_limit_of_older_commands(void **state)
{
	int64_t now_ms = clock_wall_ms() - 1000;
	struct job *jobs[2];

	(void)state;
	set_rate(1000000, 3, 0);
	jobs[0] = COMMAND(.key = "demo-key-slow", .stamp_ms = now_ms);
	jobs[1] = COMMAND(.key = "demo-key-slow", .stamp_ms = now_ms - 60000);
	execute_all(jobs, 2);
	assert_created(jobs[0]);
	assert_created(jobs[1]);
	jobs[0] = COMMAND(.key = "demo-key-slow", .stamp_ms = now_ms - 30000);
	jobs[1] = COMMAND(.key = "demo-key-slow", .stamp_ms = now_ms);
	execute_all(jobs, 2);
	assert_created(jobs[0]);
	assert_refused(jobs[1], "rate_limited", NULL);
}

/* PostgreSQL's clock was set back: what is stored lies in the future. */
static void test_state_of_the_future_is_no_more_than_a_burst(void **state)
{
	struct job *job;
	int64_t now_us;

	(void)state;
	for (int hours = 1; hours <= 100000; hours *= 10) {
		set_rate(1000000, 5, (clock_wall_ms() + hours * INT64_C(3600000) + 3000) * 1000);
		run_sql("UPDATE api_key_account_groups SET rate_at_us = rate_tat_us - 3000000 WHERE key_digest = sha256('demo-key-slow')");
		job = execute_one(COMMAND(.key = "demo-key-slow"));
		assert_refused(job, "rate_limited", NULL);
		assert_int_equal(job->result.retry_after_s, 1);
		now_us = job->result.processed_at_ms * 1000;
		assert_int_equal(tat_us(), now_us + 5000000); /* refused, and kept: the next one is not refused for an hour */
		assert_int_equal(atoll(ask("SELECT rate_at_us FROM api_key_account_groups WHERE key_digest = sha256('demo-key-slow')")), now_us);
		clock_sleep_ms(1001);
		assert_created(execute_one(COMMAND(.key = "demo-key-slow")));
	}
}

/* A command admitted by a clock that was set back is not judged at a time before that clock's, nor is one refused for it. */
static void test_a_future_arrival_alone_is_now(void **state)
{
	struct job *job;

	(void)state;
	set_rate(1000000, 5, 0);
	run_sql("UPDATE api_key_account_groups SET rate_at_us = %lld WHERE key_digest = sha256('demo-key-slow')",
		(long long)(clock_wall_ms() + 3600000) * 1000);
	job = execute_one(COMMAND(.key = "demo-key-slow"));
	assert_created(job);
	assert_int_equal(tat_us(), job->result.processed_at_ms * 1000 + 1000000);
}

/* A CreateTime stamp is the publisher's word: idle time of the past is not to be spent by it. */
static void test_a_publishers_stamp_is_now(void **state)
{
	int64_t hour_ago = clock_wall_ms() - 3600000;
	struct job *jobs[8];

	(void)state;
	set_rate(1000000, 2, 0);
	for (size_t i = 0; i < COUNT(jobs); i++)
		jobs[i] = COMMAND(.key = "demo-key-slow", .stamp_ms = hour_ago + (int64_t)i * 1000, .publishers_stamp = true);
	execute_all(jobs, COUNT(jobs));
	for (size_t i = 0; i < COUNT(jobs); i++)
		assert_int_equal(jobs[i]->result.success, i < 2);
	assert_int_equal(tat_us(), jobs[0]->result.processed_at_ms * 1000 + 2000000);
}

/* Random arrivals in random batches against GCRA one command at a time. */
static void test_rate_limit_is_exact(void **state)
{
	int64_t start_ms = clock_wall_ms() - 7200000, at_ms = start_ms, tat = 0, at_us, interval_us, tolerance_us;

	(void)state;
	srand(7);
	for (int round = 0; round < 40; round++) {
		struct job *jobs[50];
		size_t n = 1 + (size_t)rand() % COUNT(jobs);
		int burst = 1 + rand() % 5;

		interval_us = 1 + rand() % 3000000;
		tolerance_us = interval_us * (burst - 1);
		set_rate(interval_us, burst, tat);
		at_us = 0;
		for (size_t i = 0; i < n; i++) {
			at_ms += rand() % 3 ? rand() % 1500 : -(rand() % 200);
			jobs[i] = rand() % 4 ? COMMAND(.key = "demo-key-slow", .stamp_ms = at_ms, .audience = "aud_empty") :
					       COMMAND(.audience = "aud_empty");
		}
		execute_all(jobs, n);
		for (size_t i = 0; i < n; i++) {
			bool admitted;

			if (strcmp(jobs[i]->key_public_id, "key_full") == 0) {
				assert_created(jobs[i]);
				continue;
			}
			/* none arrives before one that came before it */
			if (at_us < jobs[i]->record.timestamp_ms * 1000)
				at_us = jobs[i]->record.timestamp_ms * 1000;
			admitted = tat - at_us <= tolerance_us;
			assert_int_equal(jobs[i]->result.success, admitted);
			if (admitted)
				tat = (tat > at_us ? tat : at_us) + interval_us;
		}
		assert_int_equal(tat_us(), tat);
		arena_reset(fx.arena);
	}
}

static void test_rate_limits_are_per_account_group(void **state)
{
	struct job *acme[2], *beta;

	(void)state;
	set_rate(60000000, 1, 0);
	run_sql("INSERT INTO api_key_account_groups VALUES ('" BETA "', sha256('demo-key-slow'), 60000000, 1)");
	acme[0] = COMMAND(.key = "demo-key-slow");
	acme[1] = COMMAND(.key = "demo-key-slow");
	beta = COMMAND(.key = "demo-key-slow", .group = BETA, .campaign = "65b000000000000000000001", .audience = "aud_beta");
	EXECUTE(acme[0], acme[1], beta);
	assert_created(acme[0]);
	assert_refused(acme[1], "rate_limited", NULL);
	assert_created(beta);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_rate_limit_within_a_batch),
		STORE_TEST(test_a_refusal_is_not_shared),
		STORE_TEST(test_rate_limit_over_batches),
		STORE_TEST(test_a_404_is_charged_and_a_401_is_not),
		STORE_TEST(test_rate_limit_at_the_record_timestamp),
		STORE_TEST(test_timestamps_of_the_future_are_now),
		STORE_TEST(test_rate_limit_of_older_commands),
		STORE_TEST(test_state_of_the_future_is_no_more_than_a_burst),
		STORE_TEST(test_a_future_arrival_alone_is_now),
		STORE_TEST(test_a_publishers_stamp_is_now),
		STORE_TEST(test_rate_limit_is_exact),
		STORE_TEST(test_rate_limits_are_per_account_group),
	};

	return run_store_tests("rate_limit", tests, COUNT(tests));
}
