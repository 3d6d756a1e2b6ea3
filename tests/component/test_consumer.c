/* The consumer against a cluster that rebalances, hangs, cuts and refuses. Joining a mock group takes three seconds, so every
 * test's consumer joins at once, each in a group of its own. For
 * that they share one program, which is longer than 600 lines. */
#include "component.h"

#include <pthread.h>
#include <stdatomic.h>

#include "tests/fault_kind.h"
#include "worker/kafka/consumer.h"
#include "worker/kafka/positions.h"
#include "worker/db/session.h"

#define HANG_MS 20000 /* of a broker; whatever does not wait for it takes much less than half of that, also on a busy machine */
#define LEAVE_MS 10000

enum { LEADER = 1, COORDINATOR = 2, HANGING = 3, GOING_DOWN = 4 };
enum { OFFSET_COMMIT = 8, OFFSET_FETCH = 9, HEARTBEAT = 12 };

#define ERR(name) RD_KAFKA_RESP_ERR_##name
#define PARTITIONS 4
#define RECORDS 2000 /* in each partition before the tests begin */
#define BATCH 50
#define SPARE 16 /* records that may come beyond that */

enum { FETCHING, CHECKING, OUTDATED, UNKNOWN, STATIC, LOSING, HUNG, CUT, ENDING, PAIR, LEAVING, STRANDED, MEMBERS };

static const struct membership {
	const char *group;
	int coordinator;
} members[MEMBERS] = {
	[FETCHING] = { "fetching", COORDINATOR }, [CHECKING] = { "checking", COORDINATOR }, [OUTDATED] = { "outdated", COORDINATOR },
	[UNKNOWN] = { "unknown", COORDINATOR },	  [STATIC] = { "static", COORDINATOR },	    [LOSING] = { "losing", LEADER },
	[HUNG] = { "hung", HANGING },		  [CUT] = { "cut", COORDINATOR },	    [ENDING] = { "ending", COORDINATOR },
	[PAIR] = { "pair", COORDINATOR },	  [LEAVING] = { "leaving", COORDINATOR },   [STRANDED] = { "stranded", GOING_DOWN },
};

static struct cluster cluster;
static struct config configs[MEMBERS];
static struct consumer *consumers[MEMBERS];
static struct arena *arena;
static unsigned seed = 1;

/* ---- producing ---- */

static void produce(int32_t partition, const void *key, size_t key_size, const void *value, size_t size,
		    rd_kafka_headers_t *headers)
{
	assert_int_equal(rd_kafka_producev(cluster.rk, RD_KAFKA_V_TOPIC(COMMANDS), RD_KAFKA_V_PARTITION(partition),
					   RD_KAFKA_V_KEY(key, key_size), RD_KAFKA_V_VALUE((void *)value, size),
					   RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END), 0);
}

static atomic_bool load_stop;
static pthread_t load_thread;

static void *run_load(void *arg)
{
	(void)arg;
	for (int32_t i = 0; !atomic_load(&load_stop); i++) {
		rd_kafka_producev(cluster.rk, RD_KAFKA_V_TOPIC(COMMANDS), RD_KAFKA_V_PARTITION(i % PARTITIONS),
				  RD_KAFKA_V_VALUE("load", 4), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
		rd_kafka_poll(cluster.rk, 0);
		if (i % 10 == 0)
			clock_sleep_ms(1);
	}
	return NULL;
}

static void begin_load(void)
{
	atomic_store(&load_stop, false);
	assert_int_equal(pthread_create(&load_thread, NULL, run_load, NULL), 0);
}

static void end_load(void)
{
	atomic_store(&load_stop, true);
	pthread_join(load_thread, NULL);
	assert_int_equal(rd_kafka_flush(cluster.rk, 5000), 0);
}

/* ---- consuming ---- */

static void poll_once(struct consumer *consumer, int timeout_ms)
{
	struct fault fault;

	if (consumer_poll(consumer, timeout_ms, &fault) < 0)
		fail_msg("%s", fault.msg);
}

static void poll_for(struct consumer *consumer, int64_t ms)
{
	int64_t until = clock_monotonic_ms() + ms;

	while (clock_monotonic_ms() < until)
		poll_once(consumer, 5);
}

static size_t assigned(const struct consumer *consumer)
{
	const int32_t *partitions;

	return consumer_partitions(consumer, &partitions);
}

static void poll_until_assigned(struct consumer *consumer, size_t count, int64_t ms)
{
	int64_t until = clock_monotonic_ms() + ms;

	while (assigned(consumer) != count && clock_monotonic_ms() < until)
		poll_once(consumer, 10);
	assert_int_equal(assigned(consumer), count);
}

static void poll_until_serial_moves(struct consumer *consumer, uint64_t serial, int64_t ms)
{
	int64_t until = clock_monotonic_ms() + ms;

	while (consumer_serial(consumer) == serial && clock_monotonic_ms() < until)
		poll_once(consumer, 5);
	assert_int_not_equal(consumer_serial(consumer), serial);
}

static void begin(struct consumer *consumer, const struct start *starts, size_t n)
{
	struct fault fault;

	if (consumer_start(consumer, starts, n, &fault) < 0)
		fail_msg("%s", fault.msg);
}

/* Takes what is ready, up to most; each record must be its partition's next. next: -1, not to be seen at all. */
static size_t take_in_order(struct consumer *consumer, int64_t *next, size_t most)
{
	struct record record;
	size_t n = 0;

	for (; n < most && consumer_peek(consumer, arena, &record); n++) {
		assert_in_range(record.partition, 0, PARTITIONS - 1);
		if (record.offset != next[record.partition])
			fail_msg("partition %d: offset %" PRId64 " instead of %" PRId64, record.partition, record.offset,
				 next[record.partition]);
		next[record.partition]++;
		consumer_take(consumer);
	}
	return n;
}

static void end_batch(struct consumer *consumer)
{
	consumer_release_all(consumer);
	arena_reset(arena);
}

static void take_total(struct consumer *consumer, int64_t *next, size_t total)
{
	int64_t until = clock_monotonic_ms() + 5000;
	size_t n = 0;

	while (n < total && clock_monotonic_ms() < until) {
		poll_once(consumer, 10);
		n += take_in_order(consumer, next, total - n);
		end_batch(consumer);
	}
	assert_int_equal(n, total);
}

/* ---- tests ---- */

static void test_nothing_is_fetched_before_the_start(void **state)
{
	struct consumer *consumer = consumers[FETCHING];
	const int32_t *partitions;
	struct record record;
	struct fault fault;

	(void)state;
	assert_true(consumer_serial(consumer) > 0);
	assert_int_equal(consumer_partitions(consumer, &partitions), PARTITIONS);
	poll_for(consumer, 200);
	assert_false(consumer_peek(consumer, arena, &record));
	assert_non_null(consumer_metadata(consumer, &fault));
	assert_non_null(consumer_cluster_id(consumer, 1000, &fault));
	assert_int_equal(strncmp(consumer_cluster_id(consumer, 0, &fault), "mockCluster", 11), 0);
}

static void test_fetches_what_was_started_from_there(void **state)
{
	const struct start starts[] = { { 0, 10 }, { 3, 0 } };
	int64_t next[PARTITIONS] = { 10, -1, -1, 0 };

	(void)state;
	begin(consumers[FETCHING], starts, 2);
	take_total(consumers[FETCHING], next, 2 * RECORDS - 10);
	poll_for(consumers[FETCHING], 50);
	assert_int_equal(take_in_order(consumers[FETCHING], next, 1), 0);
	assert_int_equal(next[0], RECORDS);
	assert_int_equal(next[3], RECORDS);
	consumer_stop(consumers[FETCHING]);
}

static void test_peek_take_release(void **state)
{
	const struct start start = { 1, 100 };
	struct consumer *consumer = consumers[FETCHING];
	struct record first, second;
	char text[32];

	(void)state;
	begin(consumer, &start, 1);
	while (!consumer_peek(consumer, arena, &first))
		poll_once(consumer, 10);
	assert_true(consumer_peek(consumer, arena, &second)); /* not taken: the same one */
	assert_int_equal(second.offset, 100);
	consumer_take(consumer);
	while (!consumer_peek(consumer, arena, &second))
		poll_once(consumer, 10);
	assert_int_equal(second.offset, 101);
	consumer_take(consumer);
	poll_for(consumer, 50);
	/* Taken records stay as they are until they are released. */
	assert_string_equal(first.topic, COMMANDS);
	snprintf(text, sizeof text, "%d-%d", 1, 100);
	assert_int_equal(first.value_size, strlen(text));
	assert_memory_equal(first.value, text, strlen(text));
	assert_true(first.timestamp_ms > 1600000000000);
	end_batch(consumer);
	assert_true(consumer_peek(consumer, arena, &second));
	assert_int_equal(second.offset, 102);
	consumer_stop(consumer);
	assert_false(consumer_peek(consumer, arena, &second));
	end_batch(consumer);
}

/* Nobody takes: a batch waits and at most a few more, and as many beside each of two batches in hand. */
static void test_never_more_than_the_room(void **state)
{
	const struct start starts[] = { { 0, 0 }, { 1, 0 }, { 2, 0 }, { 3, 0 } };
	struct consumer *consumer = consumers[FETCHING];
	int64_t next[PARTITIONS] = { 0 };
	struct fault fault;
	size_t n = 0;

	(void)state;
	begin(consumer, starts, PARTITIONS);
	for (int i = 0; i < 5 || n < 5 * BATCH; i++) {
		size_t in_hand = 0;

		assert_in_range(i, 0, 100);
		for (int j = 0; j < 3; j++) {
			poll_for(consumer, 50);
			in_hand += take_in_order(consumer, next, SIZE_MAX);
			assert_in_range(in_hand, 0, j == 0 ? BATCH + SPARE : 3 * BATCH + SPARE);
			assert_int_equal(consumer_resume(consumer, &fault), 0);
		}
		end_batch(consumer);
		n += in_hand;
	}
	consumer_stop(consumer);
}

/* Who takes as much as comes without room is never out of records: fetching anew costs more than they do. */
static void test_fetching_goes_on_while_they_are_taken(void **state)
{
	const struct start starts[] = { { 0, 0 }, { 1, 0 }, { 2, 0 }, { 3, 0 } };
	struct consumer *consumer = consumers[FETCHING];
	int64_t next[PARTITIONS] = { 0 };

	(void)state;
	begin(consumer, starts, PARTITIONS);
	while (consumer_has_room(consumer))
		poll_once(consumer, 100);
	for (int i = 0; i < 4 * SPARE; i++) {
		size_t waiting = consumer_waiting(consumer);

		assert_false(consumer_has_room(consumer));
		for (int64_t until = clock_monotonic_ms() + 5000; consumer_waiting(consumer) == waiting && clock_monotonic_ms() < until;)
			poll_once(consumer, 1);
		assert_int_equal(consumer_waiting(consumer), waiting + 1);
		assert_int_equal(take_in_order(consumer, next, 1), 1);
		consumer_release(consumer, 1);
	}
	consumer_stop(consumer);
}

static void test_pause_keeps_and_resume_goes_on(void **state)
{
	const struct start starts[] = { { 0, 0 }, { 1, 500 }, { 2, 1000 }, { 3, 1500 } };
	int64_t next[PARTITIONS] = { 0, 500, 1000, 1500 }, before;
	struct consumer *consumer = consumers[FETCHING];
	struct fault fault;

	(void)state;
	begin_load();
	begin(consumer, starts, PARTITIONS);
	for (int i = 0; i < 60; i++) {
		poll_for(consumer, rand_r(&seed) % 8);
		take_in_order(consumer, next, (size_t)(rand_r(&seed) % 70));
		consumer_pause(consumer);
		consumer_pause(consumer); /* again: nothing changes */
		poll_for(consumer, rand_r(&seed) % 8);
		take_in_order(consumer, next, (size_t)(rand_r(&seed) % 30)); /* what was fetched is still there */
		assert_int_equal(consumer_resume(consumer, &fault), 0);
		assert_int_equal(consumer_resume(consumer, &fault), 0);
		end_batch(consumer);
	}
	end_load();
	before = next[0] + next[1] + next[2] + next[3];
	take_total(consumer, next, 1000);
	assert_int_equal(next[0] + next[1] + next[2] + next[3] - before, 1000);
	consumer_pause(consumer);
	consumer_stop(consumer); /* from a pause as well */
	assert_int_equal(take_in_order(consumer, next, 1), 0);
}

/* The way back from everything: whatever was under way, exactly the new offsets come, and all of them. */
static void test_start_elsewhere_again_and_again(void **state)
{
	struct consumer *consumer = consumers[FETCHING];
	struct start starts[PARTITIONS];

	(void)state;
	begin_load();
	for (int i = 0; i < 250; i++) {
		int64_t next[PARTITIONS] = { -1, -1, -1, -1 };
		size_t n = 0;

		for (int32_t partition = 0; partition < PARTITIONS; partition++)
			if (rand_r(&seed) % 3 || (partition == PARTITIONS - 1 && n == 0))
				starts[n++] = (struct start){ partition, next[partition] = rand_r(&seed) % RECORDS };
		if (rand_r(&seed) % 2)
			consumer_stop(consumer);
		if (rand_r(&seed) % 4 == 0)
			poll_for(consumer, rand_r(&seed) % 4);
		begin(consumer, starts, n);
		if (rand_r(&seed) % 4 == 0)
			continue; /* before anything came */
		take_total(consumer, next, (size_t)(1 + rand_r(&seed) % 120));
		poll_for(consumer, rand_r(&seed) % 3);
		take_in_order(consumer, next, (size_t)(rand_r(&seed) % 20));
		if (rand_r(&seed) % 2)
			end_batch(consumer); /* or the records in hand outlive the start */
	}
	end_load();
	end_batch(consumer);
	consumer_stop(consumer);
}

static void test_offset_out_of_range_starts_over(void **state)
{
	const struct start starts[] = { { 0, 100000000 }, { 1, 0 } };
	struct consumer *consumer = consumers[FETCHING];
	int64_t next[PARTITIONS] = { -1, 0, -1, -1 }, until = clock_monotonic_ms() + 3000;
	uint64_t serial = consumer_serial(consumer);

	(void)state;
	begin(consumer, starts, 2);
	while (consumer_serial(consumer) == serial && clock_monotonic_ms() < until) {
		poll_once(consumer, 5);
		take_in_order(consumer, next, SIZE_MAX);
		end_batch(consumer);
	}
	assert_int_not_equal(consumer_serial(consumer), serial);
	assert_int_equal(assigned(consumer), PARTITIONS);
	consumer_stop(consumer);
}

static void test_record_as_it_was_sent(void **state)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(3);
	struct consumer *consumer = consumers[FETCHING];
	struct position position = { .partition = 2 };
	struct record record;
	struct fault fault;

	(void)state;
	assert_int_equal(consumer_positions(consumer, &position, 1, 5000, &fault), 0);
	rd_kafka_header_add(headers, "traceId", -1, "abc", 3);
	rd_kafka_header_add(headers, "null", -1, NULL, 0);
	rd_kafka_header_add(headers, "empty", -1, "", 0);
	produce(2, NULL, 0, NULL, 0, headers);
	produce(2, "", 0, "", 0, NULL);
	assert_int_equal(rd_kafka_flush(cluster.rk, 5000), 0);
	begin(consumer, &(struct start){ 2, position.high }, 1);
	while (!consumer_peek(consumer, arena, &record))
		poll_once(consumer, 10);
	assert_null(record.key);
	assert_null(record.value);
	assert_int_equal(record.header_count, 3);
	assert_string_equal(record.headers[0].name, "traceId");
	assert_memory_equal(record.headers[0].value, "abc", 3);
	assert_null(record.headers[1].value);
	assert_non_null(record.headers[2].value);
	assert_int_equal(record.headers[2].size, 0);
	consumer_take(consumer);
	while (!consumer_peek(consumer, arena, &record))
		poll_once(consumer, 10);
	assert_non_null(record.key);
	assert_int_equal(record.key_size, 0);
	assert_non_null(record.value);
	assert_int_equal(record.value_size, 0);
	assert_int_equal(record.header_count, 0);
	consumer_stop(consumer);
	end_batch(consumer);
}

/* Runs last on its consumer: large records fill the bytes' room long before the records'. */
static void test_never_more_than_the_bytes(void **state)
{
	static char large[600000];
	struct consumer *consumer = consumers[FETCHING];
	struct position position = { .partition = 1 };
	struct record record;
	struct fault fault;
	int n = 0;

	(void)state;
	assert_int_equal(consumer_positions(consumer, &position, 1, 5000, &fault), 0);
	for (int i = 0; i < 7; i++)
		produce(1, "k", 1, large, sizeof large, NULL);
	assert_int_equal(rd_kafka_flush(cluster.rk, 5000), 0);
	begin(consumer, &(struct start){ 1, position.high }, 1);
	while (!consumer_peek(consumer, arena, &record))
		poll_once(consumer, 10);
	clock_sleep_ms(100); /* the rest is fetched */
	for (int i = 0; i < 4; i++)
		poll_once(consumer, 0);
	for (; consumer_peek(consumer, arena, &record); n++)
		consumer_take(consumer);
	assert_in_range(n, 2, 2 + 4); /* the memory is for 1 MiB, and one may come along with each poll */
	for (int tries = 0; n < 7 && tries < 100; tries++) {
		end_batch(consumer);
		poll_once(consumer, 20);
		for (; consumer_peek(consumer, arena, &record); n++)
			consumer_take(consumer);
	}
	assert_int_equal(n, 7);
	consumer_stop(consumer);
	end_batch(consumer);
}

/* ---- the group ---- */

static void test_positions_and_check(void **state)
{
	struct position positions[] = { { .partition = 0 }, { .partition = 3 } };
	const struct start starts[] = { { 0, 0 }, { 3, 77 } };
	struct consumer *consumer = consumers[CHECKING];
	uint64_t serial = consumer_serial(consumer);
	struct fault fault;

	(void)state;
	assert_int_equal(consumer_positions(consumer, positions, 2, 5000, &fault), 0);
	assert_int_equal(positions[0].committed, OFFSET_NONE);
	assert_int_equal(positions[1].committed, OFFSET_NONE);
	assert_int_equal(positions[0].low, 0);
	assert_true(positions[0].high >= RECORDS);
	assert_int_equal(consumer_partition_count(consumer), PARTITIONS);
	assert_int_equal(consumer_check(consumer, starts, 2, 2000, &fault), 0);
	assert_int_equal(consumer_positions(consumer, positions, 2, 5000, &fault), 0);
	assert_int_equal(positions[0].committed, 0);
	assert_int_equal(positions[1].committed, 77);
	/* Not stable: a transaction is pending. */
	rd_kafka_mock_push_request_errors(cluster.mock, OFFSET_FETCH, 3, ERR(UNSTABLE_OFFSET_COMMIT), ERR(UNSTABLE_OFFSET_COMMIT),
					  ERR(UNSTABLE_OFFSET_COMMIT));
	if (consumer_positions(consumer, positions, 2, 150, &fault) < 0)
		assert_int_equal(fault.kind, FAULT_RETRY);
	rd_kafka_mock_clear_request_errors(cluster.mock, OFFSET_FETCH);
	assert_int_equal(consumer_positions(consumer, positions, 2, 5000, &fault), 0);
	assert_int_equal(positions[1].committed, 77);
	/* An unknown partition: no end. */
	positions[0].partition = 99;
	assert_int_equal(consumer_positions(consumer, positions, 1, 200, &fault), -1);
	assert_int_equal(fault.kind, FAULT_RETRY);
	assert_int_equal(consumer_serial(consumer), serial);
}

static void test_check_refused(void **state)
{
	static const struct {
		rd_kafka_resp_err_t err;
		int member;
		enum fault_kind kind;
		bool lost; /* out of the group */
	} rows[] = {
		{ ERR(GROUP_AUTHORIZATION_FAILED), CHECKING, FAULT_WAIT, false },
		{ ERR(TOPIC_AUTHORIZATION_FAILED), CHECKING, FAULT_WAIT, false },
		{ ERR(INVALID_COMMIT_OFFSET_SIZE), CHECKING, FAULT_WAIT, false },
		{ ERR(NOT_COORDINATOR), CHECKING, FAULT_WAIT, false },
		{ ERR(REBALANCE_IN_PROGRESS), CHECKING, FAULT_FENCED, false },
		{ ERR(ILLEGAL_GENERATION), OUTDATED, FAULT_FENCED, true },
		{ ERR(UNKNOWN_MEMBER_ID), UNKNOWN, FAULT_FENCED, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct consumer *consumer = consumers[rows[i].member];
		struct fault fault = { FAULT_NONE, "", "" };
		uint64_t serial = consumer_serial(consumer);

		rd_kafka_mock_push_request_errors(cluster.mock, OFFSET_COMMIT, 1, rows[i].err);
		if (consumer_check(consumer, &(struct start){ 0, 5 }, 1, 3000, &fault) == 0)
			fault.kind = FAULT_NONE;
		if (fault.kind != rows[i].kind)
			fail_msg("%s: %s: %s", rd_kafka_err2name(rows[i].err), fault_kind_name(fault.kind), fault.msg);
		if (!rows[i].lost)
			continue;
		/* Nothing more is sent in its name, not even before the revoke is served. */
		assert_int_equal(consumer_check(consumer, &(struct start){ 0, 6 }, 1, 3000, &fault), -1);
		assert_int_equal(fault.kind, FAULT_FENCED);
		poll_until_serial_moves(consumer, serial, 2000);
		assert_int_equal(assigned(consumer), 0);
	}
}

/* A fatal error: this consumer would never fetch again. */
static void test_fatal_error_ends_the_consumer(void **state)
{
	int64_t until = clock_monotonic_ms() + 3000;
	struct fault fault = { FAULT_NONE, "", "" };

	(void)state;
	rd_kafka_mock_push_request_errors(cluster.mock, OFFSET_COMMIT, 1, ERR(FENCED_INSTANCE_ID));
	assert_int_equal(consumer_check(consumers[STATIC], &(struct start){ 0, 5 }, 1, 3000, &fault), -1);
	assert_int_equal(fault.kind, FAULT_FENCED);
	while (consumer_poll(consumers[STATIC], 10, &fault) == 0 && clock_monotonic_ms() < until)
		;
	assert_int_equal(fault.kind, FAULT_REBUILD);
	assert_int_equal(consumer_poll(consumers[STATIC], 0, &fault), -1);
}

static void test_check_without_answer(void **state)
{
	int64_t began = clock_monotonic_ms();
	struct fault fault;

	(void)state;
	rd_kafka_mock_broker_push_request_error_rtts(cluster.mock, HANGING, OFFSET_COMMIT, 1, ERR(NO_ERROR), HANG_MS);
	assert_int_equal(consumer_check(consumers[HUNG], &(struct start){ 0, 5 }, 1, 400, &fault), -1);
	assert_int_equal(fault.kind, FAULT_REBUILD);
	assert_in_range(clock_monotonic_ms() - began, 350, HANG_MS / 2);
	consumer_free(consumers[HUNG], 0); /* its answer never comes: librdkafka waits for that until socket.timeout.ms */
	consumers[HUNG] = NULL;
}

/* The connection is cut when the commit was read, and librdkafka sends it again. */
static void test_check_sent_twice(void **state)
{
	struct fault fault;

	(void)state;
	rd_kafka_mock_push_request_errors(cluster.mock, OFFSET_COMMIT, 1, ERR(_TRANSPORT));
	assert_int_equal(consumer_check(consumers[CUT], &(struct start){ 0, 5 }, 1, 3000, &fault), -1);
	assert_int_equal(fault.kind, FAULT_REBUILD);
	assert_int_equal(consumer_check(consumers[CUT], &(struct start){ 0, 5 }, 1, 3000, &fault), -1);
	assert_int_equal(fault.kind, FAULT_REBUILD); /* this consumer is never trusted again */
}

/* Put out of the group with its queue full and a batch in hand, as while PostgreSQL is slow: noticed all the same. */
static void test_membership_lost(void **state)
{
	struct consumer *consumer = consumers[LOSING];
	uint64_t serial = consumer_serial(consumer);
	int64_t next[PARTITIONS] = { 0 };
	struct record record;
	struct fault fault;

	(void)state;
	assert_non_null(consumer_metadata(consumer, &fault));
	begin(consumer, &(struct start){ 0, 0 }, 1);
	poll_for(consumer, 100);
	assert_in_range(take_in_order(consumer, next, BATCH), BATCH, BATCH);
	poll_for(consumer, 100);
	rd_kafka_mock_broker_push_request_error_rtts(cluster.mock, LEADER, HEARTBEAT, 1, ERR(UNKNOWN_MEMBER_ID), 0);
	poll_until_serial_moves(consumer, serial, 3000);
	assert_int_equal(assigned(consumer), 0);
	assert_false(consumer_peek(consumer, arena, &record));
	end_batch(consumer);
	assert_null(consumer_metadata(consumer, &fault));
	assert_int_equal(fault.kind, FAULT_FENCED);
	assert_int_equal(consumer_check(consumer, &(struct start){ 0, 5 }, 1, 1000, &fault), -1);
	assert_int_equal(fault.kind, FAULT_FENCED);
}

static void test_no_metadata_before_the_first_assignment(void **state)
{
	struct fault fault;
	struct consumer *consumer = consumer_new(&configs[ENDING], 1, &fault);

	(void)state;
	assert_non_null(consumer);
	assert_int_equal(consumer_serial(consumer), 0);
	assert_null(consumer_metadata(consumer, &fault));
	assert_int_equal(fault.kind, FAULT_FENCED);
	assert_int_equal(consumer_check(consumer, &(struct start){ 0, 5 }, 1, 1000, &fault), -1);
	assert_int_equal(fault.kind, FAULT_FENCED);
	consumer_free(consumer, 0);
}

static void test_second_member_takes_its_share(void **state)
{
	const struct start starts[] = { { 0, 0 }, { 1, 0 }, { 2, 0 }, { 3, 0 } };
	struct consumer *first = consumers[PAIR], *second;
	uint64_t serial = consumer_serial(first);
	int64_t next[PARTITIONS] = { 0 }, until = clock_monotonic_ms() + 10000;
	const int32_t *mine, *others;
	struct record record;
	struct fault fault;

	(void)state;
	begin(first, starts, PARTITIONS);
	take_total(first, next, 100);
	second = consumer_new(&configs[PAIR], 1, &fault);
	assert_non_null(second);
	while (consumer_serial(first) == serial && clock_monotonic_ms() < until) {
		poll_once(first, 10);
		poll_once(second, 0);
		take_in_order(first, next, 7); /* a batch in hand when the revoke comes */
		end_batch(first);
	}
	assert_int_not_equal(consumer_serial(first), serial);
	assert_false(consumer_peek(first, arena, &record));
	while ((assigned(first) != 2 || assigned(second) != 2) && clock_monotonic_ms() < until) {
		poll_once(first, 10);
		poll_once(second, 10);
	}
	assert_int_equal(consumer_partitions(first, &mine), 2);
	assert_int_equal(consumer_partitions(second, &others), 2);
	for (int i = 0; i < 4; i++)
		assert_int_not_equal(mine[i / 2], others[i % 2]);
	poll_for(first, 50);
	assert_false(consumer_peek(first, arena, &record)); /* nothing is fetched that was not started anew */
	assert_non_null(consumer_metadata(first, &fault));
	consumer_free(second, 2000);
	poll_until_assigned(first, PARTITIONS, 8000);
}

static void test_leaves_at_once(void **state)
{
	int64_t began;

	(void)state;
	begin(consumers[LEAVING], &(struct start){ 0, 0 }, 1);
	poll_for(consumers[LEAVING], 50);
	began = clock_monotonic_ms();
	consumer_free(consumers[LEAVING], LEAVE_MS);
	consumers[LEAVING] = NULL;
	assert_true(clock_monotonic_ms() - began < LEAVE_MS); /* it did not use up its time */
}

/* Nobody can be told: gone within the bound all the same. */
static void test_leaves_without_coordinator(void **state)
{
	int64_t began;

	(void)state;
	begin(consumers[STRANDED], &(struct start){ 0, 0 }, 1);
	poll_for(consumers[STRANDED], 50);
	rd_kafka_mock_broker_set_down(cluster.mock, GOING_DOWN);
	poll_for(consumers[STRANDED], 50);
	began = clock_monotonic_ms();
	consumer_free(consumers[STRANDED], 500);
	consumers[STRANDED] = NULL;
	assert_true(clock_monotonic_ms() - began < HANG_MS / 2);
	rd_kafka_mock_broker_set_up(cluster.mock, GOING_DOWN);
}

static void test_looks_from_outside(void **state)
{
	struct position position = { .partition = 1 };
	struct fault fault;
	char id[128];

	(void)state;
	assert_int_equal(positions_query(&configs[FETCHING], id, sizeof id, &position, 3000, &fault), 0);
	assert_int_equal(strncmp(id, "mockCluster", 11), 0);
	assert_int_equal(position.low, 0);
	assert_true(position.high >= RECORDS);
	position.partition = 99;
	assert_int_equal(positions_query(&configs[FETCHING], id, sizeof id, &position, 300, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
}

/* rd_kafka_query_watermark_offsets would wait for ever. */
static void test_leader_that_hangs(void **state)
{
	struct position positions[] = { { .partition = 0 }, { .partition = 3 } }, position = { .partition = 3 };
	int64_t began = clock_monotonic_ms();
	struct fault fault;
	char id[128];

	(void)state;
	rd_kafka_mock_partition_set_leader(cluster.mock, COMMANDS, 3, HANGING);
	rd_kafka_mock_broker_set_rtt(cluster.mock, HANGING, 60000);
	for (int i = 0; i < 2; i++) { /* asked of the old leader first */
		assert_int_equal(consumer_positions(consumers[FETCHING], positions, 2, 500, &fault), 0);
		assert_false(positions[0].unknown);
		assert_true(positions[0].high >= RECORDS);
		assert_true(positions[1].unknown);
	}
	assert_int_equal(positions_query(&configs[FETCHING], id, sizeof id, &position, 500, &fault), -1);
	assert_int_equal(fault.kind, FAULT_WAIT);
	assert_true(clock_monotonic_ms() - began < 60000 / 2);
	rd_kafka_mock_broker_set_rtt(cluster.mock, HANGING, -1);
	rd_kafka_mock_partition_set_leader(cluster.mock, COMMANDS, 3, LEADER);
}

/* ---- */

static void fill(void)
{
	char value[32];

	for (int32_t partition = 0; partition < PARTITIONS; partition++)
		for (int i = 0; i < RECORDS; i++)
			produce(partition, "ag_1", 4, value, (size_t)snprintf(value, sizeof value, "%d-%d", partition, i), NULL);
	assert_int_equal(rd_kafka_flush(cluster.rk, 10000), 0);
}

static bool all_assigned(void)
{
	for (int i = 0; i < MEMBERS; i++)
		if (assigned(consumers[i]) != PARTITIONS)
			return false;
	return true;
}

static int set_up(void **state)
{
	static const char *const more[] = { "-X", "session.timeout.ms=3000", "-X", "heartbeat.interval.ms=300", "-X",
					    "socket.timeout.ms=1500", "--batch", "50",
					    "--memory", "16MiB", NULL };
	int64_t until = clock_monotonic_ms() + 15000;
	struct fault fault;

	(void)state;
	cluster = cluster_new();
	arena = arena_new(65536);
	cluster_topic(&cluster, COMMANDS, PARTITIONS, LEADER);
	for (int i = 0; i < MEMBERS; i++) {
		rd_kafka_mock_coordinator_set(cluster.mock, "group", members[i].group, members[i].coordinator);
		configure(&configs[i], &cluster, members[i].group, more);
		consumers[i] = consumer_new(&configs[i], 0, &fault);
		assert_non_null(consumers[i]);
	}
	fill();
	while (!all_assigned() && clock_monotonic_ms() < until)
		for (int i = 0; i < MEMBERS; i++)
			poll_once(consumers[i], 2);
	return all_assigned() ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < MEMBERS; i++) {
		consumer_free(consumers[i], 0);
		config_free(&configs[i]);
	}
	arena_free(arena);
	cluster_free(&cluster);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_fetched_before_the_start),
		cmocka_unit_test(test_fetches_what_was_started_from_there),
		cmocka_unit_test(test_peek_take_release),
		cmocka_unit_test(test_never_more_than_the_room),
		cmocka_unit_test(test_fetching_goes_on_while_they_are_taken),
		cmocka_unit_test(test_pause_keeps_and_resume_goes_on),
		cmocka_unit_test(test_start_elsewhere_again_and_again),
		cmocka_unit_test(test_offset_out_of_range_starts_over),
		cmocka_unit_test(test_record_as_it_was_sent),
		cmocka_unit_test(test_never_more_than_the_bytes),
		cmocka_unit_test(test_positions_and_check),
		cmocka_unit_test(test_check_refused),
		cmocka_unit_test(test_fatal_error_ends_the_consumer),
		cmocka_unit_test(test_check_without_answer),
		cmocka_unit_test(test_check_sent_twice),
		cmocka_unit_test(test_no_metadata_before_the_first_assignment),
		cmocka_unit_test(test_leaves_at_once),
		cmocka_unit_test(test_leaves_without_coordinator),
		cmocka_unit_test(test_looks_from_outside),
		cmocka_unit_test(test_leader_that_hangs),
		cmocka_unit_test(test_second_member_takes_its_share),
		cmocka_unit_test(test_membership_lost),
	};

	log_quietly();
	return cmocka_run_group_tests_name("consumer", tests, set_up, tear_down);
}
