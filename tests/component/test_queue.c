/* The queue of fetched records: what is given out in which order, what counts as waiting, and when there is room. */
#include "component.h"

#include "worker/kafka/queue.h"

#define TOPIC "queue"
#define PARTITIONS 3
#define EACH 15
#define MANY 1000000

static struct cluster cluster;
static rd_kafka_t *reader;
static rd_kafka_message_t *messages[PARTITIONS][EACH]; /* those that the test has not added to its queue */
static struct arena *arena;
static struct queue queue;

/* No two of the same size. */
static size_t size_of(int32_t partition, int64_t offset)
{
	return 100 * ((size_t)partition + 1) + (size_t)offset;
}

static void add(int32_t partition, int64_t offset)
{
	rd_kafka_message_t **message = &messages[partition][offset];

	assert_non_null(*message);
	assert_int_equal((*message)->len, size_of(partition, offset));
	queue_add_take(&queue, *message);
	*message = NULL;
}

static void assert_next(int32_t partition, int64_t offset)
{
	struct record record;

	assert_true(queue_peek(&queue, TOPIC, arena, &record));
	if (record.partition != partition || record.offset != offset)
		fail_msg("%d/%d instead of %d/%d", record.partition, (int)record.offset, partition, (int)offset);
	assert_int_equal(record.value_size, size_of(partition, offset));
}

static void take(int32_t partition, int64_t offset)
{
	assert_next(partition, offset);
	queue_take(&queue);
}

static void assert_no_next(void)
{
	struct record record;

	assert_false(queue_peek(&queue, TOPIC, arena, &record));
}

static void test_given_out_in_order(void **state)
{
	(void)state;
	queue_init(&queue, 10, MANY);
	assert_no_next();
	add(1, 0);
	add(0, 0);
	add(0, 1);
	add(2, 0);
	assert_int_equal(queue_waiting(&queue), 4);
	assert_int_equal(queue.bytes, size_of(1, 0) + size_of(0, 0) + size_of(0, 1) + size_of(2, 0));
	assert_next(1, 0);
	take(1, 0); /* to look is not to take */
	take(0, 0);
	assert_int_equal(queue_waiting(&queue), 2);
	assert_int_equal(queue.bytes, size_of(0, 1) + size_of(2, 0));
	queue_release(&queue, 1);
	assert_false(queue_holds(&queue, 1));
	assert_true(queue_holds(&queue, 0) && queue_holds(&queue, 2));
	take(0, 1);
	queue_release(&queue, 2);
	assert_false(queue_holds(&queue, 0));
	take(2, 0);
	assert_no_next();
	assert_true(queue_holds(&queue, 2)); /* taken */
	assert_int_equal(queue.bytes, 0);
}

static void test_one_partition_alone(void **state)
{
	(void)state;
	queue_init(&queue, 10, MANY);
	add(0, 0);
	add(1, 0);
	add(0, 1);
	add(1, 1);
	add(2, 0);
	queue_set_aside(&queue, 1, true);
	queue.only = 1; /* set aside or not */
	take(1, 0);
	take(1, 1);
	assert_no_next();
	assert_int_equal(queue.aside_waiting, 0);
	assert_int_equal(queue.aside_bytes, 0);
	assert_int_equal(queue.bytes, size_of(0, 0) + size_of(0, 1) + size_of(2, 0));
	queue.only = QUEUE_ALL; /* the others have kept their order */
	take(0, 0);
	take(0, 1);
	take(2, 0);
	assert_no_next();
}

/* Behind what is released, before what waits. */
static void test_put_back(void **state)
{
	(void)state;
	queue_init(&queue, 10, MANY);
	add(0, 0);
	add(1, 0);
	add(0, 1);
	add(1, 1);
	queue.only = 1;
	take(1, 0);
	queue.only = QUEUE_ALL;
	take(0, 0);
	take(0, 1);
	queue_release(&queue, 1);
	queue_set_aside(&queue, 0, true);
	assert_int_equal(queue.aside_waiting, 0);
	queue_put_back(&queue);
	assert_int_equal(queue.aside_waiting, 2);
	assert_int_equal(queue.aside_bytes, size_of(0, 0) + size_of(0, 1));
	assert_int_equal(queue.bytes, queue.aside_bytes + size_of(1, 1));
	assert_int_equal(queue_waiting(&queue), 1);
	queue_set_aside(&queue, 0, false);
	assert_int_equal(queue_waiting(&queue), 3);
	take(0, 0);
	take(0, 1);
	take(1, 1);
	assert_no_next();
}

static void test_set_aside(void **state)
{
	(void)state;
	queue_init(&queue, 10, MANY);
	add(0, 0);
	add(1, 0);
	queue_set_aside(&queue, 0, true);
	queue_set_aside(&queue, 2, true);
	queue_set_aside(&queue, 0, true); /* once is enough */
	assert_int_equal(queue.aside_count, 2);
	add(0, 1);
	add(2, 0);
	assert_int_equal(queue_waiting(&queue), 1);
	assert_int_equal(queue.aside_bytes, size_of(0, 0) + size_of(0, 1) + size_of(2, 0));
	assert_int_equal(queue.bytes, queue.aside_bytes + size_of(1, 0));
	assert_true(queue_holds(&queue, 0) && queue_holds(&queue, 2));
	take(1, 0);
	assert_no_next();
	queue_set_aside(&queue, 1, false); /* it was not */
	queue_set_aside(&queue, 0, false);
	assert_int_equal(queue.aside_count, 1);
	assert_int_equal(queue_waiting(&queue), 2);
	assert_int_equal(queue.aside_bytes, size_of(2, 0));
	take(0, 0);
	take(0, 1);
	assert_no_next();
	queue_set_aside(&queue, 2, false);
	take(2, 0);
}

static void test_cut(void **state)
{
	(void)state;
	queue_init(&queue, 10, MANY);
	for (int i = 0; i < 4; i++) {
		add(0, i);
		add(1, i);
	}
	take(0, 0);
	queue_set_aside(&queue, 0, true);
	assert_int_equal(queue_cut(&queue, 2, 0), -1);
	assert_int_equal(queue_cut(&queue, 0, 3), -1); /* as many as wait: what is taken does not count */
	assert_int_equal(queue_cut(&queue, 0, 1), 2);
	assert_int_equal(queue.aside_waiting, 1);
	assert_int_equal(queue.aside_bytes, size_of(0, 1));
	assert_int_equal(queue_waiting(&queue), 4);
	assert_int_equal(queue.bytes, size_of(0, 1) + size_of(1, 0) + size_of(1, 1) + size_of(1, 2) + size_of(1, 3));
	queue_set_aside(&queue, 0, false);
	take(1, 0);
	take(0, 1);
	assert_int_equal(queue_cut(&queue, 1, 0), 1);
	assert_no_next();
	queue_put_back(&queue);
	take(0, 0);
	take(1, 0);
	take(0, 1);
	assert_no_next();
}

static void test_room_by_records(void **state)
{
	(void)state;
	queue_init(&queue, 2, MANY);
	assert_true(queue_has_room(&queue));
	add(0, 0);
	assert_true(queue_has_room(&queue));
	add(0, 1);
	assert_false(queue_has_room(&queue));
	queue_set_aside(&queue, 1, true);
	add(1, 0); /* takes no room */
	take(0, 0);
	take(0, 1);
	add(0, 2);
	assert_true(queue_has_room(&queue));
	take(0, 2);
	add(0, 3);
	take(0, 3);
	add(0, 4);
	assert_true(queue_has_room(&queue)); /* four in hand and one waiting */
	take(0, 4);
	assert_true(queue_has_room(&queue));
	add(0, 5);
	assert_false(queue_has_room(&queue)); /* three times the room is all, taken or not */
	queue_release(&queue, 1);
	assert_true(queue_has_room(&queue));
	queue_set_aside(&queue, 1, false);
	assert_false(queue_has_room(&queue));
}

static void test_room_by_bytes(void **state)
{
	(void)state;
	queue_init(&queue, 10, size_of(0, 0) + size_of(0, 1));
	add(0, 0);
	assert_true(queue_has_room(&queue));
	add(0, 1);
	assert_false(queue_has_room(&queue)); /* as many as it may have */
	take(0, 0);
	assert_true(queue_has_room(&queue));
	queue_put_back(&queue);
	assert_false(queue_has_room(&queue));
	assert_int_equal(queue_cut(&queue, 0, 1), 1);
	assert_true(queue_has_room(&queue));
	add(1, 0);
	assert_false(queue_has_room(&queue));
	queue_set_aside(&queue, 1, true);
	assert_true(queue_has_room(&queue));
	queue_set_aside(&queue, 1, false);
	assert_false(queue_has_room(&queue));
}

/* What is set aside may be more than it was made for. */
static void test_grows(void **state)
{
	(void)state;
	queue_init(&queue, 1, MANY);
	assert_true(queue.capacity < PARTITIONS * EACH);
	for (int i = 0; i < EACH; i++)
		for (int32_t partition = 0; partition < PARTITIONS; partition++)
			add(partition, i);
	assert_int_equal(queue_waiting(&queue), PARTITIONS * EACH);
	for (int i = 0; i < EACH; i++)
		for (int32_t partition = 0; partition < PARTITIONS; partition++)
			take(partition, i);
	assert_no_next();
	queue_release(&queue, PARTITIONS * EACH);
	assert_int_equal(queue.count, 0);
}

/* What is taken is still a batch's; that partitions were set aside is forgotten. */
static void test_drop_waiting(void **state)
{
	(void)state;
	queue_init(&queue, 10, MANY);
	add(0, 0);
	add(1, 0);
	add(0, 1);
	take(0, 0);
	queue_set_aside(&queue, 0, true);
	queue.only = 1;
	queue_drop_waiting(&queue);
	assert_int_equal(queue_waiting(&queue), 0);
	assert_int_equal(queue.bytes + queue.aside_bytes + queue.aside_waiting, 0);
	assert_true(queue_holds(&queue, 0));
	assert_false(queue_holds(&queue, 1));
	add(0, 2);
	take(0, 2);
	queue_put_back(&queue);
	take(0, 0);
	take(0, 2);
}

static void produce(int32_t partition, int64_t offset)
{
	static const char bytes[1000];

	assert_int_equal(rd_kafka_producev(cluster.rk, RD_KAFKA_V_TOPIC(TOPIC), RD_KAFKA_V_PARTITION(partition),
					   RD_KAFKA_V_VALUE((void *)bytes, size_of(partition, offset)),
					   RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END), 0);
}

static int set_up(void **state)
{
	(void)state;
	log_quietly();
	cluster = cluster_new();
	cluster_topic(&cluster, TOPIC, PARTITIONS, 1);
	for (int i = 0; i < EACH; i++)
		for (int32_t partition = 0; partition < PARTITIONS; partition++)
			produce(partition, i);
	assert_int_equal(rd_kafka_flush(cluster.rk, 10000), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cluster_free(&cluster);
	return 0;
}

static void fetch(void)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);
	int64_t deadline = clock_monotonic_ms() + 10000;
	int missing = PARTITIONS * EACH;

	for (int32_t partition = 0; partition < PARTITIONS; partition++)
		rd_kafka_topic_partition_list_add(list, TOPIC, partition)->offset = 0;
	assert_int_equal(rd_kafka_assign(reader, list), 0);
	rd_kafka_topic_partition_list_destroy(list);
	while (missing > 0 && clock_monotonic_ms() < deadline) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(reader, 100);

		if (message == NULL)
			continue;
		assert_int_equal(message->err, 0);
		messages[message->partition][message->offset] = message;
		missing--;
	}
	assert_int_equal(missing, 0);
}

static int fetch_all(void **state)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[256];

	(void)state;
	rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster.mock), why, sizeof why);
	rd_kafka_conf_set(conf, "group.id", "reader", why, sizeof why);
	rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", why, sizeof why);
	reader = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
	assert_non_null(reader);
	fetch();
	arena = arena_new(0);
	return 0;
}

static int free_all(void **state)
{
	(void)state;
	queue_free(&queue);
	for (int32_t partition = 0; partition < PARTITIONS; partition++)
		for (int i = 0; i < EACH; i++)
			if (messages[partition][i])
				rd_kafka_message_destroy(messages[partition][i]);
	memset(messages, 0, sizeof messages);
	arena_free(arena);
	rd_kafka_destroy_flags(reader, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return 0;
}

#define QUEUE_TEST(f) cmocka_unit_test_setup_teardown(f, fetch_all, free_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(test_given_out_in_order),
		QUEUE_TEST(test_one_partition_alone),
		QUEUE_TEST(test_put_back),
		QUEUE_TEST(test_set_aside),
		QUEUE_TEST(test_cut),
		QUEUE_TEST(test_room_by_records),
		QUEUE_TEST(test_room_by_bytes),
		QUEUE_TEST(test_grows),
		QUEUE_TEST(test_drop_waiting),
	};

	return cmocka_run_group_tests_name("queue", tests, set_up, tear_down);
}
