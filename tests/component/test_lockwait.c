/* Which records a batch is filled from while partitions wait for locked rows: the lane's calls, without PostgreSQL. */
#include "component.h"

#include "schemas/command.h"
#include "schemas/duplicate.h"
#include "worker/lockwait.h"

#define PARTITIONS 2
#define RECORDS 3 /* of each partition */

static struct cluster cluster;
static struct config config;
static struct consumer *consumer;
static struct arena *arena;
static struct codec *codec;
static struct lockwait lockwait;
static struct wait lane_wait;
static struct batch batch;
static const struct fault locked = { .kind = FAULT_RETRY, .sqlstate = "55P03", .msg = "a row is locked" };

static void produce(int32_t partition, int number)
{
	struct duplicate_command command = { .head = { .trace_id = arena_printf(arena, "t-%d-%d", (int)partition, number),
						       .account_group_id = "group" }, .campaign_id = "c", .audience_id = "a" };
	struct fault fault;
	const void *value;
	size_t size;

	assert_int_equal(codec_encode_command(codec, &command.head, arena, &value, &size, &fault), 0);
	assert_int_equal(rd_kafka_producev(cluster.rk, RD_KAFKA_V_TOPIC(COMMANDS), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_KEY("group", 5),
					   RD_KAFKA_V_VALUE((void *)value, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END), 0);
}

static void start_consumer(void)
{
	const struct start starts[] = { { 0, 0 }, { 1, 0 } };
	int64_t deadline = clock_monotonic_ms() + 20000;
	struct fault fault;

	assert_int_equal(consumer_start(consumer, starts, PARTITIONS, &fault), 0);
	while (consumer_waiting(consumer) < PARTITIONS * RECORDS && clock_monotonic_ms() < deadline)
		assert_int_equal(consumer_poll(consumer, 10, &fault), 0);
	assert_int_equal(consumer_waiting(consumer), PARTITIONS * RECORDS);
}

/* What the lane does before it sends a batch; returns the number that the batch may have. */
static size_t fill(size_t limit)
{
	static const struct fence_partition running[] = { { .partition = 0, .epoch = 1 }, { .partition = 1, .epoch = 1 } };
	const struct batch_source source = { .consumer = consumer, .codec = codec, .contract = &duplicate_contract, .partitions = running,
					     .partition_count = PARTITIONS,
					     .count_max = lockwait_choose(&lockwait, consumer, &batch, limit), .bytes_max = 100000 };

	batch_fill(&batch, &source);
	lockwait_filled(&lockwait, consumer, &batch);
	return source.count_max;
}

static void meet_lock(size_t limit)
{
	lockwait_met(&lockwait, consumer, &batch, limit, &locked);
	batch_clear(&batch);
}

static void pass(void)
{
	lockwait_passed(&lockwait, consumer, &batch);
	consumer_release(consumer, batch.count);
	batch_clear(&batch);
}

static void assert_filled(int32_t only, size_t count, int64_t first)
{
	assert_int_equal(batch.only, only);
	assert_int_equal(batch.count, count);
	assert_int_equal(batch.jobs[0].record.offset, first);
	for (size_t i = 0; only != CONSUMER_ALL && i < count; i++)
		assert_int_equal(batch.jobs[i].record.partition, only);
}

/* Of several partitions nobody knows which one met it: each is tried alone, and the one that passes is read as before. */
static void test_partitions_are_tried_one_by_one(void **state)
{
	(void)state;
	assert_int_equal(fill(100), 100);
	assert_filled(CONSUMER_ALL, PARTITIONS * RECORDS, 0);
	meet_lock(100);
	assert_int_equal(lockwait.parking.count, 2);
	assert_false(parking_find(&lockwait.parking, 0)->held || parking_find(&lockwait.parking, 1)->held);
	assert_false(lockwait.others_first);

	fill(100);
	assert_filled(0, RECORDS, 0);
	pass();
	assert_null(parking_find(&lockwait.parking, 0));
	assert_int_equal(lockwait.parking.count, 1);

	fill(100);
	assert_filled(1, RECORDS, 0);
	meet_lock(100);
	assert_true(parking_find(&lockwait.parking, 1)->held);
	assert_int_equal(parking_find(&lockwait.parking, 1)->limit, 1);
	assert_true(lockwait.others_first);
	fill(100);
	assert_int_equal(batch.count, 0); /* its pause */
}

/* The partition of the first record met the lock alone. */
static struct parked *hold_one(int32_t *partition)
{
	struct parked *parked;

	assert_int_equal(fill(1), 1);
	*partition = batch.jobs[0].record.partition;
	meet_lock(8);
	parked = parking_find(&lockwait.parking, *partition);
	assert_non_null(parked);
	assert_true(parked->held && consumer_holds(consumer, *partition));
	parked->retry_at_ms = 0;
	return parked;
}

/* The fence of a batch has the partitions of its records, in their order, wherever they came from first. */
static void test_offsets_and_fences_go_together(void **state)
{
	static const struct fence_partition running[] = { { .partition = 0, .epoch = 5 }, { .partition = 1, .epoch = 7 } };
	struct batch_source source = { .consumer = consumer, .codec = codec, .contract = &duplicate_contract, .partitions = running,
				       .partition_count = PARTITIONS, .count_max = 1, .bytes_max = 100000 };

	(void)state;
	consumer_select(consumer, 1);
	batch_fill(&batch, &source);
	consumer_select(consumer, CONSUMER_ALL);
	source.count_max = 100;
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, PARTITIONS * RECORDS);
	assert_int_equal(batch.offset_count, PARTITIONS);
	for (int i = 0; i < PARTITIONS; i++) {
		assert_int_equal(batch.offsets[i].partition, i);
		assert_int_equal(batch.offsets[i].next, RECORDS);
		assert_int_equal(batch.fences[i].partition, i);
		assert_int_equal(batch.fences[i].epoch, running[i].epoch);
		assert_int_equal(batch.fences[i].end_offset, RECORDS);
	}
}

/* Who waits alone is tried with fewer commands, and behind the others. */
static void test_others_come_between_two_tries(void **state)
{
	int32_t one;
	struct parked *parked = hold_one(&one);

	(void)state;
	fill(100);
	assert_filled(CONSUMER_ALL, RECORDS, 0); /* the other partition's, although this one is due */
	assert_int_equal(batch.jobs[0].record.partition, 1 - one);
	assert_false(lockwait.others_first);
	assert_int_equal(fill(100), 0); /* what the batch holds is executed first */
	pass();
	assert_int_equal(fill(100), 1);
	assert_filled(one, 1, 0);
	meet_lock(100);
	parked->retry_at_ms = 0;
	assert_int_equal(fill(100), 1); /* no others wait */
	assert_filled(one, 1, 0);
	pass();
	assert_int_equal(parked->limit, 8);
	assert_int_equal(fill(5), 5);
	assert_filled(one, RECORDS - 1, 1);
	pass();
	fill(100); /* nothing is left of it: it is fetched again */
	assert_int_equal(lockwait.parking.count, 0);
	assert_false(consumer_has_aside(consumer));
}

/* One command that has waited long enough is answered; more of them are not. */
static void test_a_wait_is_over(void **state)
{
	int32_t one;

	(void)state;
	hold_one(&one);
	assert_int_equal(lockwait.parking.patience_ms, 3 * config.lock_timeout_ms);
	lockwait.others_first = false;
	fill(100);
	assert_filled(one, 1, 0);
	assert_false(lockwait_is_over(&lockwait, &batch));
	lockwait.parking.patience_ms = 0;
	assert_true(lockwait_is_over(&lockwait, &batch));
	batch.count = 2;
	assert_false(lockwait_is_over(&lockwait, &batch));
	batch.count = 1;
	batch.only = CONSUMER_ALL;
	assert_false(lockwait_is_over(&lockwait, &batch));
}

/* What was started anew has nothing aside. */
static void test_a_new_start_forgets(void **state)
{
	(void)state;
	fill(1);
	meet_lock(8);
	start_consumer();
	fill(100);
	assert_int_equal(lockwait.parking.count, 0);
	assert_int_equal(batch.count, PARTITIONS * RECORDS);
}

static void test_time_outs(void **state)
{
	static const int cases[][3] = { /* lock, statement, wanted */
		{ 3000, 30000, 150 }, { 151, 30000, 150 }, { 150, 30000, 150 }, { 149, 30000, 149 }, { 30000, 30000, 30000 },
		{ 29999, 30000, 150 }, { 40000, 30000, 40000 }, { 100, 50, 100 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct config of = { .lock_timeout_ms = cases[i][0], .statement_timeout_ms = cases[i][1] };

		assert_int_equal(lockwait_timeout_ms(&of), cases[i][2]);
	}
}

/* ---- */

static int begin(void **state)
{
	(void)state;
	lockwait_init(&lockwait, &config, NULL, &lane_wait);
	batch_init(&batch, 100);
	batch_resize(&batch, PARTITIONS);
	start_consumer();
	return 0;
}

static int end(void **state)
{
	(void)state;
	consumer_release_all(consumer);
	consumer_stop(consumer);
	batch_destroy(&batch);
	lockwait_destroy(&lockwait);
	return 0;
}

static int set_up(void **state)
{
	int64_t deadline = clock_monotonic_ms() + 20000;
	const int32_t *partitions;
	struct fault fault;

	(void)state;
	log_quietly();
	arena = arena_new(0);
	cluster = cluster_new();
	cluster_topic(&cluster, COMMANDS, PARTITIONS, 1);
	configure(&config, &cluster, "lockwait", NULL);
	codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	consumer = consumer_new(&config, 0, &fault);
	if (codec == NULL || consumer == NULL)
		return -1;
	for (int32_t partition = 0; partition < PARTITIONS; partition++)
		for (int i = 0; i < RECORDS; i++)
			produce(partition, i);
	while (consumer_partitions(consumer, &partitions) == 0 && clock_monotonic_ms() < deadline)
		assert_int_equal(consumer_poll(consumer, 10, &fault), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	consumer_free(consumer, 0);
	codec_free(codec);
	config_free(&config);
	cluster_free(&cluster);
	arena_free(arena);
	return 0;
}

#define LOCKWAIT_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOCKWAIT_TEST(test_partitions_are_tried_one_by_one),
		LOCKWAIT_TEST(test_offsets_and_fences_go_together),
		LOCKWAIT_TEST(test_others_come_between_two_tries),
		LOCKWAIT_TEST(test_a_wait_is_over),
		LOCKWAIT_TEST(test_a_new_start_forgets),
		cmocka_unit_test(test_time_outs),
	};

	return cmocka_run_group_tests_name("lockwait", tests, set_up, tear_down);
}
