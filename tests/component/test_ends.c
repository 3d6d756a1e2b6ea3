/* The ends of partitions, and the commits that follow them: for the assignment that is current, and for no other. */
#include "component.h"

#include "worker/ends.h"
#include "worker/takeover.h"

#define PARTITIONS 2
#define RECORDS 20
#define ERR(name) RD_KAFKA_RESP_ERR_##name

enum { LEADER = 1, COORDINATOR = 2 };
enum { OFFSET_COMMIT = 8 };

static struct cluster cluster;
static struct config config;
static struct consumer *consumer;
static struct arena *arena;
static struct assignment assignment;
static atomic_bool stop;
static struct wait lane_wait;
static struct takeover takeover;

static void poll_once(struct consumer *polled)
{
	struct fault fault;

	if (consumer_poll(polled, 10, &fault) < 0)
		fail_msg("%s", fault.msg);
}

static void poll_until_assigned(size_t count)
{
	int64_t deadline = clock_monotonic_ms() + 20000;
	const int32_t *partitions;

	while (consumer_partitions(consumer, &partitions) != count && clock_monotonic_ms() < deadline)
		poll_once(consumer);
	assert_int_equal(consumer_partitions(consumer, &partitions), count);
}

/* All of the assignment runs, from these offsets. */
static void run_from(int64_t offset)
{
	struct start starts[PARTITIONS];
	const int32_t *ids;
	struct fault fault;
	size_t n = consumer_partitions(consumer, &ids);

	assignment_take(&assignment, consumer_serial(consumer), ids, n);
	for (size_t i = 0; i < n; i++) {
		assignment.partitions[i].start = offset;
		assignment_set_state(&assignment, &assignment.partitions[i], PARTITION_POSITIONED);
		starts[i] = (struct start){ assignment.partitions[i].id, offset };
	}
	assignment_started(&assignment, clock_monotonic_ms());
	assignment.unconfirmed = false;
	if (consumer_start(consumer, starts, n, &fault) < 0)
		fail_msg("%s", fault.msg);
}

static struct end await_end(int32_t partition, int64_t offset)
{
	int64_t deadline = clock_monotonic_ms() + 10000;
	struct end end = { .stable = OFFSET_NONE };

	while (end.stable != offset && clock_monotonic_ms() < deadline) {
		poll_once(consumer);
		assert_true(consumer_find_end(consumer, partition, &end));
	}
	assert_int_equal(end.stable, offset);
	return end;
}

static int64_t committed(int32_t partition)
{
	struct position position = { .partition = partition };
	struct fault fault;

	assert_int_equal(consumer_positions(consumer, &position, 1, 5000, &fault), 0);
	return position.committed;
}

/* Maintenance when ends are due and orders are not. */
static int maintain(struct fault *fault)
{
	return takeover_maintain(&takeover, assignment.settle_at_ms, fault);
}

/* ---- tests ---- */

static void test_the_end_is_known_behind_the_last_record(void **state)
{
	struct fault fault;
	struct end end;

	(void)state;
	run_from(0);
	assert_true(consumer_find_end(consumer, 0, &end));
	assert_true(end.stable == OFFSET_NONE && end.next == 0);
	end = await_end(0, RECORDS);
	assert_int_equal(end.next, RECORDS);
	assert_int_equal(end.high, RECORDS);
	assert_false(consumer_find_end(consumer, 7, &end));
	/* After a pause it is met anew. */
	consumer_pause(consumer);
	assert_int_equal(consumer_resume(consumer, &fault), 0);
	assert_true(consumer_find_end(consumer, 0, &end));
	assert_int_equal(end.stable, OFFSET_NONE);
	await_end(0, RECORDS);
	consumer_stop(consumer);
	assert_false(consumer_find_end(consumer, 0, &end));
}

/* A held partition keeps a few of its waiting records. The end that was met lies behind those that are cut, and must not move
 * the start beyond them. */
static void test_an_end_behind_what_was_cut_is_void(void **state)
{
	struct partition *partition;
	struct fault fault;
	struct end end;

	(void)state;
	run_from(0);
	await_end(0, RECORDS);
	consumer_set_aside(consumer, 0);
	assert_int_equal(consumer_hold(consumer, 0, &fault), 0);
	assert_true(consumer_find_end(consumer, 0, &end));
	assert_true(end.next < RECORDS);
	assert_int_equal(end.stable, OFFSET_NONE);
	partition = assignment_find(&assignment, 0);
	partition->start = end.next; /* all that is left of it is published */
	ends_look(&assignment, consumer, clock_monotonic_ms());
	assert_int_equal(partition->start, end.next);
	assert_int_equal(consumer_readmit(consumer, 0, &fault), 0);
	assert_int_equal(await_end(0, RECORDS).next, RECORDS);
}

/* Records that wait, are in hand, or were dropped before they were published: the start stays before them. */
static void test_no_start_moves_beyond_what_is_published(void **state)
{
	struct record record;

	(void)state;
	run_from(0);
	await_end(0, RECORDS);
	await_end(1, RECORDS);
	ends_look(&assignment, consumer, clock_monotonic_ms());
	while (consumer_peek(consumer, arena, &record))
		consumer_take(consumer);
	ends_look(&assignment, consumer, clock_monotonic_ms());
	consumer_release_all(consumer);
	ends_look(&assignment, consumer, clock_monotonic_ms());
	assignment_advance(&assignment, 0, RECORDS - 1);
	ends_look(&assignment, consumer, clock_monotonic_ms());
	assert_int_equal(assignment.partitions[0].start, RECORDS - 1);
	assert_int_equal(assignment.partitions[1].start, 0);
	assert_false(assignment.uncommitted);
	consumer_stop(consumer);
}

static void test_commits_what_moved_and_tries_again_when_refused(void **state)
{
	struct fault fault;

	(void)state;
	run_from(RECORDS);
	assert_int_equal(maintain(&fault), 0);
	assert_int_equal(committed(0), OFFSET_NONE); /* nothing moved */
	assignment_reach_end(&assignment, assignment_find(&assignment, 0), RECORDS + 1);
	assignment.unconfirmed = false; /* PostgreSQL is first: it has confirmed that */
	rd_kafka_mock_push_request_errors(cluster.mock, OFFSET_COMMIT, 1, ERR(REBALANCE_IN_PROGRESS));
	assert_int_equal(maintain(&fault), 0);
	assert_int_equal(committed(0), OFFSET_NONE);
	assert_true(assignment.uncommitted);
	assert_int_equal(maintain(&fault), 0);
	assert_int_equal(committed(0), RECORDS + 1);
	assert_false(assignment.uncommitted);
	consumer_stop(consumer);
}

/* The partition may be another member's by now, which has committed more. */
static void test_commits_nothing_for_an_assignment_that_is_gone(void **state)
{
	int64_t before = committed(0), deadline = clock_monotonic_ms() + 20000;
	struct consumer *second;
	struct fault fault;

	(void)state;
	run_from(RECORDS);
	assignment_reach_end(&assignment, assignment_find(&assignment, 0), RECORDS + 5);
	assignment_reach_end(&assignment, assignment_find(&assignment, 1), RECORDS + 5);
	second = consumer_new(&config, 1, &fault);
	assert_non_null(second);
	while (consumer_serial(consumer) == assignment.serial && clock_monotonic_ms() < deadline) {
		poll_once(consumer);
		poll_once(second);
	}
	assert_int_not_equal(consumer_serial(consumer), assignment.serial);
	for (int i = 0; i < 2; i++) { /* when it is revoked, and when the next one is there */
		assignment.unconfirmed = false;
		assert_int_equal(maintain(&fault), 0);
		assert_true(assignment.uncommitted);
		if (i == 0)
			while (consumer_metadata(consumer, &fault) == NULL && clock_monotonic_ms() < deadline) {
				poll_once(consumer);
				poll_once(second);
			}
	}
	assert_int_equal(committed(0), before);
	assert_int_equal(committed(1), RECORDS);
	consumer_free(second, 2000);
	poll_until_assigned(PARTITIONS);
}

/* ---- */

static uint64_t serial_of(void *arg)
{
	return consumer_serial(*(struct consumer **)arg);
}

static int set_up(void **state)
{
	static const char *const more[] = { "-X", "session.timeout.ms=3000", "-X", "heartbeat.interval.ms=300", NULL };
	const struct keep_alive keep_alive = { .serial = serial_of, .arg = &consumer };
	struct fault fault;

	(void)state;
	cluster = cluster_new();
	arena = arena_new(65536);
	cluster_topic(&cluster, COMMANDS, PARTITIONS, LEADER);
	rd_kafka_mock_coordinator_set(cluster.mock, "group", "ends", COORDINATOR);
	configure(&config, &cluster, "ends", more);
	consumer = consumer_new(&config, 0, &fault);
	assert_non_null(consumer);
	for (int i = 0; i < PARTITIONS * RECORDS; i++)
		assert_int_equal(rd_kafka_producev(cluster.rk, RD_KAFKA_V_TOPIC(COMMANDS), RD_KAFKA_V_PARTITION(i % PARTITIONS),
						   RD_KAFKA_V_VALUE("value", 5), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END), 0);
	assert_int_equal(rd_kafka_flush(cluster.rk, 10000), 0);
	poll_until_assigned(PARTITIONS);
	wait_init(&lane_wait, &stop, 0, &keep_alive);
	assignment_init(&assignment, COMMANDS, "ends");
	takeover = (struct takeover){ .config = &config, .transactional_id = "ends.one.0", .consumer = consumer, .wait = &lane_wait,
				      .assignment = &assignment, .arena = arena };
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assignment_clear(&assignment);
	consumer_free(consumer, 0);
	config_free(&config);
	arena_free(arena);
	cluster_free(&cluster);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_end_is_known_behind_the_last_record),
		cmocka_unit_test(test_an_end_behind_what_was_cut_is_void),
		cmocka_unit_test(test_no_start_moves_beyond_what_is_published),
		cmocka_unit_test(test_commits_what_moved_and_tries_again_when_refused),
		cmocka_unit_test(test_commits_nothing_for_an_assignment_that_is_gone),
	};

	log_quietly();
	return cmocka_run_group_tests_name("ends", tests, set_up, tear_down);
}
