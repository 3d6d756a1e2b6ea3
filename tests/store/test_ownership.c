/* Partitions in PostgreSQL: the fence, claims, orders to resume. */
#include "store_fixture.h"

/* ---- the fence ---- */

static void test_stale_epoch_writes_nothing(void **state)
{
	struct job *job = COMMAND(.trace = "stale");
	struct session *other = open_session("group", NULL);
	struct claim claim;

	(void)state;
	claim_partition(other, 0, &claim);
	assert_true(claim.epoch == fx.claim.epoch + 1);
	assert_fails(job, FAULT_FENCED, "CD001");
	assert_true(session_connected(fx.session));
	assert_not_written(job);
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE partition = 0"), "-1");
	session_free(other);
	claim_again();
	assert_created(execute_one(job));
}

static void test_every_partition_of_a_batch_is_fenced(void **state)
{
	struct claim claims[3] = { { .partition = 7 }, { .partition = 5 }, { .partition = 6 } };
	struct fence_partition partitions[3];
	struct fence fence = { "cluster", "commands", partitions, 3, false };
	struct job *job = COMMAND(.trace = "several");
	struct fault fault;

	(void)state;
	assert_int_equal(ownership_claim(fx.session, "cluster", "commands", claims, 3, &fault), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_true(claims[i].epoch == 1 && claims[i].owned.confirmed == OFFSET_NONE && claims[i].owned.resume_from == RESUME_NONE);
		assert_false(claims[i].refused);
		partitions[i] = (struct fence_partition){ 5 + (int)i, 1, 10 * (int)i, 10 * (int)i };
	}
	assert_int_equal(execute(fx.session, &fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), 0);
	assert_string_equal(ask("SELECT string_agg(confirmed_offset::text, ' ' ORDER BY partition) FROM partition_owner "
				"WHERE partition BETWEEN 5 AND 7"), "0 10 20");
	partitions[2].epoch = 2;
	partitions[0].start_offset = 1000;
	job = COMMAND(.trace = "several-2");
	assert_int_equal(execute(fx.session, &fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "CD001");
	assert_not_written(job);
	partitions[2] = (struct fence_partition){ 8, 1, 0, 0 }; /* never claimed */
	assert_int_equal(execute(fx.session, &fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "CD001");
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE partition = 5"), "0");
}

static void test_claims_say_what_they_found(void **state)
{
	struct session_settings settings = settings_of("group");
	struct waiter polling = { wait_with_poll, NULL };
	struct session *second;
	struct claim claim = { .partition = 0 };
	struct fault fault;

	(void)state;
	execute_one(COMMAND());
	settings.transactional_id = "group.instance.1";
	second = session_new(&settings, &polling);
	assert_int_equal(session_connect(second, &fault), 0);
	assert_int_equal(ownership_claim(second, "cluster", "commands", &claim, 1, &fault), 0);
	assert_int_equal(claim.owned.confirmed, 100);
	assert_string_equal(claim.previous_transactional_id, "group.instance.0");
	claim = (struct claim){ .partition = 0 };
	assert_int_equal(ownership_claim(second, "cluster", "other-topic", &claim, 1, &fault), 0);
	assert_true(claim.epoch == 1 && claim.previous_transactional_id[0] == '\0');
	session_free(second);
	claim_again();
}

static void test_another_consumer_group_is_refused(void **state)
{
	struct session *other = open_session("other-group", NULL);
	struct claim claims[2] = { { .partition = 0 }, { .partition = 40 } };
	struct fault fault;

	(void)state;
	assert_int_equal(ownership_claim(other, "cluster", "commands", claims, 2, &fault), 0);
	assert_true(claims[0].refused && !claims[1].refused);
	assert_string_equal(claims[0].owned.other_group, "group");
	assert_created(execute_one(COMMAND())); /* our epoch still holds */
	session_free(other);
}

/* A claim waits for the batch in flight: it returns after the batch has ended, and the batch is not disturbed. */
static void test_claim_waits_for_the_batch(void **state)
{
	PGconn *batch = connect_to(fx.super);
	struct session *other = open_session("group", NULL);
	struct claim claim = { .partition = 0 };
	struct fault fault;
	char sql[256];

	(void)state;
	run_on(batch, "BEGIN");
	snprintf(sql, sizeof sql, "SELECT partition_fence('cluster', 'commands', 'group', '{0}', '{%lld}', '{100}')",
		 (long long)fx.claim.epoch);
	run_on(batch, sql);
	assert_int_equal(ownership_claim(other, "cluster", "commands", &claim, 1, &fault), -1);
	assert_fault(&fault, FAULT_RETRY, "55P03");
	assert_true(session_connected(other));
	run_on(batch, "COMMIT");
	assert_int_equal(ownership_claim(other, "cluster", "commands", &claim, 1, &fault), 0);
	assert_true(claim.epoch == fx.claim.epoch + 1);
	PQfinish(batch);
	session_free(other);
	claim_again();
}

/* A worker that was stopped while it was sending its batch: no time-out of the server's ends its transaction. */
static void test_claim_ends_a_stuck_pipeline(void **state)
{
	PGconn *stuck = connect_to(fx.worker);
	struct session *other = open_session("group", NULL);
	struct claim claim = { .partition = 0 };
	struct fault fault;
	char sql[256];

	(void)state;
	snprintf(sql, sizeof sql, "SELECT partition_fence('cluster', 'commands', 'group', '{0}', '{%lld}', '{100}')",
		 (long long)fx.claim.epoch);
	assert_true(PQenterPipelineMode(stuck) && PQsendQueryParams(stuck, "BEGIN", 0, NULL, NULL, NULL, NULL, 0) &&
		    PQsendQueryParams(stuck, sql, 0, NULL, NULL, NULL, NULL, 0) && PQsendFlushRequest(stuck) && PQflush(stuck) == 0);
	clock_sleep_ms(200);
	assert_int_equal(ownership_claim(other, "cluster", "commands", &claim, 1, &fault), -1);
	assert_int_equal(fault.kind, FAULT_RETRY);
	assert_int_equal(ownership_claim(other, "cluster", "commands", &claim, 1, &fault), 0);
	assert_true(claim.epoch == fx.claim.epoch + 1);
	PQfinish(stuck);
	session_free(other);
	claim_again();
}

static void test_confirming_outside_of_a_batch(void **state)
{
	struct session *other = open_session("group", NULL);
	struct claim claim;
	struct fault fault;

	(void)state;
	fx.partition.start_offset = 321;
	assert_int_equal(ownership_confirm(fx.session, &fx.fence, &fault), 0);
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE topic = 'commands' AND partition = 0"), "321");
	claim_partition(other, 0, &claim);
	fx.partition.start_offset = 322;
	assert_int_equal(ownership_confirm(fx.session, &fx.fence, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "CD001");
	assert_true(session_connected(fx.session)); /* the takeover that comes next needs it */
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE topic = 'commands' AND partition = 0"), "321");
	session_free(other);
	claim_again();
}

static void test_a_claim_in_flight_stops_the_batch(void **state)
{
	PGconn *claimant = connect_to(fx.super);
	struct job *job = COMMAND();

	(void)state;
	run_on(claimant, "BEGIN");
	run_on(claimant, "UPDATE partition_owner SET epoch = epoch + 1 WHERE topic = 'commands' AND partition = 0");
	assert_fails(job, FAULT_RETRY, "55P03"); /* the partition waits, and its command is not refused */
	assert_true(session_connected(fx.session));
	run_on(claimant, "COMMIT");
	assert_fails(job, FAULT_FENCED, "CD001");
	PQfinish(claimant);
	assert_not_written(job);
	reconnect();
}

static int64_t count_orders(const struct fence_partition *partitions, size_t n)
{
	struct fault fault;
	int64_t orders;

	if (ownership_count_orders(fx.session, "cluster", "commands", partitions, n, &orders, &fault) < 0)
		fail_msg("%s", fault.msg);
	return orders;
}

static void test_orders_to_resume(void **state)
{
	struct session *other = open_session("other-group", NULL);
	struct fence_partition partitions[] = { { .partition = 0 }, { .partition = 20 }, { .partition = 21 } };
	struct claim claim = { .partition = 20 }, taken;
	struct fault fault;

	(void)state;
	assert_int_equal(count_orders(partitions, 3), 0);
	assert_int_equal(ownership_order_resume(fx.session, "cluster", "commands", 20, RESUME_EARLIEST, "ann@desk", &fault), 0);
	assert_int_equal(count_orders(partitions, 3), 1);
	assert_int_equal(ownership_claim(fx.session, "cluster", "commands", &claim, 1, &fault), 0);
	assert_int_equal(claim.owned.resume_from, RESUME_EARLIEST);
	partitions[1].epoch = claim.epoch;
	assert_int_equal(count_orders(partitions, 3), 0); /* whoever claimed it knows of it */
	partitions[1].epoch = 0;
	assert_int_equal(ownership_resumed(fx.session, "cluster", "commands", &claim, 17, &fault), 0);
	assert_int_equal(count_orders(partitions, 3), 0);
	assert_string_equal(ask("SELECT confirmed_offset FROM partition_owner WHERE partition = 20"), "17");
	/* It passes to whoever ordered, fences the owner at once, and is recorded. */
	assert_int_equal(ownership_order_resume(other, "cluster", "commands", 20, 4711, "bob", &fault), 0);
	assert_int_equal(ownership_resumed(fx.session, "cluster", "commands", &claim, 18, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "");
	assert_int_equal(ownership_claim(fx.session, "cluster", "commands", &claim, 1, &fault), 0);
	assert_true(claim.refused);
	claim_partition(other, 20, &taken);
	assert_int_equal(taken.owned.resume_from, 4711);
	assert_string_equal(ask("SELECT string_agg(concat_ws(' ', group_id, previous_group_id, previous_confirmed_offset, resume_from, "
				"ordered_by), '; ' ORDER BY id) FROM partition_resumes WHERE partition = 20"),
			    "group -2 ann@desk; other-group group 17 4711 bob");
	session_free(other);
}

/* ---- what is executed ---- */

static const char *executed(int partition)
{
	return ask("SELECT coalesce(executed_offset::text, 'null') FROM partition_owner WHERE topic = 'commands' AND partition = %d", partition);
}

/* As if partition 0 had never been claimed. */
static void claim_afresh(void)
{
	run_sql("DELETE FROM partition_owner WHERE topic = 'commands' AND partition = 0");
	claim_again();
}

static void test_batches_say_what_is_executed(void **state)
{
	struct job *jobs[] = { COMMAND(.trace = "first"), COMMAND(.trace = "second") };
	struct fault fault;

	(void)state;
	claim_afresh();
	fx.partition.start_offset = 10;
	fx.partition.end_offset = 12;
	fx.fence.partial = true; /* the first one's transaction of two */
	assert_int_equal(execute(fx.session, &fx.fence, jobs, 1, EXECUTION_COMMIT, fx.arena, &fault), 0);
	assert_string_equal(executed(0), "-1");
	fx.fence.partial = false;
	assert_int_equal(execute(fx.session, &fx.fence, jobs + 1, 1, EXECUTION_ROLLBACK, fx.arena, &fault), 0);
	assert_string_equal(executed(0), "-1");
	assert_int_equal(execute(fx.session, &fx.fence, jobs + 1, 1, EXECUTION_COMMIT, fx.arena, &fault), 0);
	assert_string_equal(executed(0), "12");
	claim_again();
	assert_true(fx.claim.owned.confirmed == 10 && fx.claim.owned.executed == 12);
}

/* A start is recorded before anything is published: nothing is confirmed by it. */
static void test_a_recorded_start_confirms_nothing(void **state)
{
	struct fault fault;

	(void)state;
	claim_afresh();
	fx.partition.start_offset = OFFSET_NONE;
	fx.partition.end_offset = 7;
	assert_int_equal(ownership_confirm(fx.session, &fx.fence, &fault), 0);
	claim_again();
	assert_true(fx.claim.owned.confirmed == OFFSET_NONE && fx.claim.owned.executed == 7);
}

/* A worker of an earlier version has the partition for a while: what it executes is not known. */
static void test_earlier_versions_fence(void **state)
{
	(void)state;
	claim_afresh();
	assert_int_equal(fx.claim.owned.executed, OFFSET_NONE);
	run_sql("SELECT partition_fence('cluster', 'commands', 'group', '{0}', '{%lld}', '{100}')", (long long)fx.claim.epoch);
	assert_string_equal(executed(0), "null");
	claim_again();
	assert_true(fx.claim.owned.confirmed == 100 && fx.claim.owned.executed == EXECUTED_UNKNOWN);
	assert_created(execute_one(COMMAND()));
	assert_string_equal(executed(0), "100");
}

static void look_at(const char *cluster, struct claim *claims, size_t n)
{
	struct fault fault;

	if (ownership_look(fx.session, cluster, "commands", claims, n, &fault) < 0)
		fail_msg("%s", fault.msg);
}

static void test_looking_claims_nothing(void **state)
{
	struct claim claims[2] = { { .partition = 0 }, { .partition = 30 } };

	(void)state;
	execute_one(COMMAND());
	look_at("cluster", claims, 2);
	assert_true(claims[0].owned.confirmed == 100 && !claims[0].refused && !claims[1].refused);
	assert_string_equal(claims[0].transactional_id, "group.instance.0");
	assert_true(claims[1].owned.confirmed == OFFSET_NONE && claims[1].owned.executed == OFFSET_NONE &&
		    claims[1].owned.resume_from == RESUME_NONE && claims[1].transactional_id[0] == '\0');
	assert_string_equal(ask("SELECT count(*) FROM partition_owner WHERE partition = 30"), "0");
	assert_created(execute_one(COMMAND(.trace = "still-ours")));
}

/* ---- the topic on another cluster ---- */

static void claim_on(const char *cluster, const char *topic, struct claim *claims, size_t n)
{
	struct fault fault;

	if (ownership_claim(fx.session, cluster, topic, claims, n, &fault) < 0)
		fail_msg("%s", fault.msg);
}

static void test_a_moved_topic_is_refused(void **state)
{
	struct claim old[2] = { { .partition = 0 }, { .partition = 1 } };
	struct claim claims[3] = { { .partition = 0 }, { .partition = 1 }, { .partition = 2 } };
	struct session *other = open_session("other-group", NULL);
	struct fault fault;

	(void)state;
	claim_on("old", "moved", old, 2);
	assert_int_equal(ownership_claim(other, "new", "moved", claims, 1, &fault), 0); /* its own affair */
	assert_false(claims[0].refused);
	run_sql("DELETE FROM partition_owner WHERE cluster_id = 'new'");
	claim_on("new", "moved", claims, 3);
	for (int i = 0; i < 3; i++) { /* the third as well: the old cluster may have had it and never claimed it */
		assert_true(claims[i].refused);
		assert_string_equal(claims[i].owned.moved_from, "old");
	}
	assert_string_equal(ask("SELECT count(*) FROM partition_owner WHERE cluster_id = 'new'"), "0");
	run_sql("INSERT INTO partition_owner (cluster_id, topic, partition, group_id, epoch) "
		"VALUES ('old', 'another', 0, 'group', 1), ('older', 'moved', 0, 'other-group', 1)");
	run_sql("UPDATE partition_owner SET executed_offset = 17 WHERE cluster_id IN ('old', 'older')");
	/* One of them is resumed: it is ours, partitions that were never on the old cluster are new, the others wait. */
	assert_int_equal(ownership_order_resume(fx.session, "new", "moved", 0, 5, "ann@desk", &fault), 0);
	claim_on("new", "moved", claims, 3);
	assert_true(!claims[0].refused && claims[1].refused && !claims[2].refused);
	assert_int_equal(claims[0].owned.resume_from, 5);
	/* The old row is history from then on; those of other partitions, groups and topics are not. */
	assert_string_equal(ask("SELECT string_agg(executed_offset::text, ' ' ORDER BY topic, partition, group_id) FROM partition_owner "
				"WHERE cluster_id IN ('old', 'older')"), "17 -1 17 17");
	claim_on("old", "moved", old, 2);
	assert_true(!old[0].refused && old[0].owned.executed == OFFSET_NONE);
	run_sql("DELETE FROM partition_owner WHERE cluster_id IN ('old', 'older')");
	session_free(other);
}

/* ---- an order that cannot be carried out ---- */

static void test_an_order_is_refused_once(void **state)
{
	struct claim claim = { .partition = 21 }, stale;
	struct fence_partition partition = { .partition = 21 };
	struct fault fault;
	char who[128] = "";

	(void)state;
	assert_int_equal(ownership_order_resume(fx.session, "cluster", "commands", 21, 3, "ann@desk", &fault), 0);
	assert_int_equal(ownership_order_resume(fx.session, "cluster", "commands", 21, 4, "bob@desk", &fault), 0);
	assert_int_equal(ownership_order_resume(fx.session, "cluster", "commands", 22, 5, "eve@desk", &fault), 0); /* others, and later */
	assert_int_equal(ownership_order_resume(fx.session, "cluster", "others", 21, 5, "eve@desk", &fault), 0);
	assert_int_equal(ownership_order_resume(fx.session, "elsewhere", "commands", 21, 5, "eve@desk", &fault), 0);
	claim_partition(fx.session, 21, &claim);
	stale = claim;
	stale.epoch--;
	assert_int_equal(ownership_refuse_order(fx.session, "cluster", "commands", &stale, "gone", who, sizeof who, &fault), -1);
	assert_fault(&fault, FAULT_FENCED, "");
	assert_string_equal(ask("SELECT count(*) FROM partition_resumes WHERE refused_at IS NOT NULL"), "0");
	assert_int_equal(ownership_refuse_order(fx.session, "cluster", "commands", &claim, "gone", who, sizeof who, &fault), 0);
	assert_int_equal(strncmp(who, "bob@desk at 20", 14), 0);
	assert_int_equal(count_orders(&partition, 1), 0);
	assert_string_equal(ask("SELECT string_agg(concat_ws(' ', resume_from, refused_because, refused_at IS NOT NULL), '; ' ORDER BY id) "
				"FROM partition_resumes WHERE partition >= 21"), "3 f; 4 gone t; 5 f; 5 f; 5 f");
	claim_partition(fx.session, 21, &claim);
	assert_int_equal(claim.owned.resume_from, RESUME_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_stale_epoch_writes_nothing),
		STORE_TEST(test_every_partition_of_a_batch_is_fenced),
		STORE_TEST(test_claims_say_what_they_found),
		STORE_TEST(test_another_consumer_group_is_refused),
		STORE_TEST(test_claim_waits_for_the_batch),
		STORE_TEST(test_claim_ends_a_stuck_pipeline),
		STORE_TEST(test_confirming_outside_of_a_batch),
		STORE_TEST(test_a_claim_in_flight_stops_the_batch),
		STORE_TEST(test_orders_to_resume),
		STORE_TEST(test_batches_say_what_is_executed),
		STORE_TEST(test_a_recorded_start_confirms_nothing),
		STORE_TEST(test_earlier_versions_fence),
		STORE_TEST(test_looking_claims_nothing),
		STORE_TEST(test_a_moved_topic_is_refused),
		STORE_TEST(test_an_order_is_refused_once),
	};

	return run_store_tests("ownership", tests, COUNT(tests));
}
