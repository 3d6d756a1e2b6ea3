/* What ends a batch: a record whose schema cannot be told now, another command of a trace, its limits. What does not: a copy. */
#include "component.h"

#include "schemas/command.h"
#include "schemas/duplicate.h"
#include "worker/batch.h"

#define HEADER 10 /* of single-object encoding */

static struct cluster cluster;
static struct config config;
static struct consumer *consumer;
static struct arena *arena;

static void produce(const void *value, size_t size)
{
	assert_int_equal(rd_kafka_producev(cluster.rk, RD_KAFKA_V_TOPIC(COMMANDS), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_KEY("group", 5),
					   RD_KAFKA_V_VALUE((void *)value, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END), 0);
}

/* framed: under schema id 7 of a registry. */
static void produce_command(struct codec *codec, const char *trace, bool framed)
{
	struct duplicate_command command = { .head = { .trace_id = trace, .account_group_id = "group" }, .campaign_id = "c",
					     .audience_id = "a" };
	struct fault fault;
	const void *value;
	size_t size;

	if (codec_encode_command(codec, &command.head, arena, &value, &size, &fault) < 0)
		fail_msg("%s", fault.msg);
	if (framed) {
		value = (const char *)value + HEADER - 5;
		size -= HEADER - 5;
		memcpy((void *)value, "\0\0\0\0\7", 5);
	}
	produce(value, size);
}

static bool away;

static int find_schema(void *arg, uint32_t id, char **json, struct fault *fault)
{
	(void)arg;
	assert_int_equal(id, 7);
	if (away)
		return fault_set(fault, FAULT_WAIT, "the registry is away");
	*json = strdup(schema_duplicate_campaign_command);
	return 0;
}

static void poll_until_waiting(size_t count)
{
	int64_t deadline = clock_monotonic_ms() + 10000;
	struct fault fault;

	while (consumer_waiting(consumer) < count && clock_monotonic_ms() < deadline)
		if (consumer_poll(consumer, 10, &fault) < 0)
			fail_msg("%s", fault.msg);
	assert_int_equal(consumer_waiting(consumer), count);
}

static void start_consumer(void)
{
	int64_t deadline = clock_monotonic_ms() + 20000;
	const struct start start = { 0, 0 };
	const int32_t *partitions;
	struct fault fault;

	while (consumer_partitions(consumer, &partitions) == 0 && clock_monotonic_ms() < deadline)
		if (consumer_poll(consumer, 10, &fault) < 0)
			fail_msg("%s", fault.msg);
	if (consumer_start(consumer, &start, 1, &fault) < 0)
		fail_msg("%s", fault.msg);
}

/* No dead letter comes of it: the batch ends before it, an empty one says why, and it is decoded once that is possible. */
static void test_ends_before_what_cannot_be_decoded_now(void **state)
{
	const struct schema_source registry = { find_schema, NULL };
	struct fault fault;
	struct codec *codec = codec_new(&duplicate_contract, NULL, &registry, &fault);
	struct fence_partition running = { .partition = 0, .epoch = 1 };
	const struct batch_source source = { .consumer = consumer, .codec = codec, .contract = &duplicate_contract,
					     .partitions = &running, .partition_count = 1, .count_max = 10, .bytes_max = 100000 };
	struct batch batch;

	(void)state;
	assert_non_null(codec);
	batch_init(&batch, 10);
	batch_resize(&batch, 1);
	produce_command(codec, "first", false);
	produce_command(codec, "second", true);
	produce("no command", 10);
	poll_until_waiting(3);
	away = true;
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, 1);
	assert_int_equal(batch.fault.kind, FAULT_WAIT);
	assert_true(batch.jobs[0].executable);
	assert_int_equal(batch.offsets[0].next, 1);

	batch_clear(&batch);
	assert_int_equal(batch.fault.kind, FAULT_NONE);
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, 0);
	assert_int_equal(batch.fault.kind, FAULT_WAIT);
	assert_string_equal(batch.fault.msg, "the registry is away");

	away = false;
	batch_fill(&batch, &source);
	assert_int_equal(batch.fault.kind, FAULT_NONE);
	assert_int_equal(batch.count, 2);
	assert_true(batch.jobs[0].executable && !batch.jobs[0].dead_letter);
	assert_string_equal(batch.jobs[0].command->trace_id, "second");
	assert_true(batch.jobs[1].dead_letter);
	assert_ptr_equal(batch.jobs[1].reason, &reason_undecodable);
	consumer_release_all(consumer);
	batch_destroy(&batch);
	codec_free(codec);
}

static void produce_named(struct codec *codec, const char *trace, const char *name, int64_t expires_at_ms)
{
	struct duplicate_command command = { .head = { .trace_id = trace, .account_group_id = "group", .has_expiry = expires_at_ms > 0,
						       .expires_at_ms = expires_at_ms },
					     .campaign_id = "c", .audience_id = "a", .name = name };
	struct fault fault;
	const void *value;
	size_t size;

	if (codec_encode_command(codec, &command.head, arena, &value, &size, &fault) < 0)
		fail_msg("%s", fault.msg);
	produce(value, size);
}

static void test_copies_do_not_end_it(void **state)
{
	struct fault fault;
	struct codec *codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	struct fence_partition running = { .partition = 0, .epoch = 1 };
	const struct batch_source source = { .consumer = consumer, .codec = codec, .contract = &duplicate_contract,
					     .partitions = &running, .partition_count = 1, .count_max = 10, .bytes_max = 100000 };
	struct batch batch;

	(void)state;
	batch_init(&batch, 10);
	batch_resize(&batch, 1);
	produce_named(codec, "one", NULL, 0);
	produce_named(codec, "two", NULL, 0);
	produce_named(codec, "one", NULL, 0);
	produce_named(codec, "one", NULL, 0);
	produce_named(codec, "one", NULL, 9); /* another deadline */
	produce_named(codec, "one", NULL, 9);
	produce_named(codec, "one", "named", 9); /* another digest */
	poll_until_waiting(7);
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, 4);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(batch.jobs[i].executable, i < 2);
		assert_ptr_equal(batch.jobs[i].copy_of, i < 2 ? NULL : &batch.jobs[0]);
		assert_true(batch.jobs[i].answerable);
	}
	batch_clear(&batch);
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, 2);
	assert_true(batch.jobs[0].executable);
	assert_ptr_equal(batch.jobs[1].copy_of, &batch.jobs[0]);
	batch_clear(&batch);
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, 1);
	assert_true(batch.jobs[0].executable);
	consumer_release_all(consumer);
	batch_destroy(&batch);
	codec_free(codec);
}

/* Bytes that do not decode, with one header. */
static void produce_headed(const char *name, const char *value, ssize_t size)
{
	assert_int_equal(rd_kafka_producev(cluster.rk, RD_KAFKA_V_TOPIC(COMMANDS), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_KEY("group", 5),
					   RD_KAFKA_V_VALUE("no command", 10), RD_KAFKA_V_HEADER(name, value, size),
					   RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END), 0);
}

static void test_only_the_header_of_that_name_answers(void **state)
{
	static const char *const others[] = { "traceIc", "traceIe", "traceI", "traceIdd", "traceid", "a", "z", "" };
	struct fault fault;
	struct codec *codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	struct fence_partition running = { .partition = 0, .epoch = 1 };
	const struct batch_source source = { .consumer = consumer, .codec = codec, .contract = &duplicate_contract,
					     .partitions = &running, .partition_count = 1, .count_max = 10, .bytes_max = 100000 };
	size_t n = sizeof others / sizeof others[0];
	struct batch batch;

	(void)state;
	batch_init(&batch, 10);
	batch_resize(&batch, 1);
	for (size_t i = 0; i < n; i++)
		produce_headed(others[i], "trace", -1);
	produce_headed("traceId", "trace", -1);
	poll_until_waiting(n + 1);
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, n + 1);
	for (size_t i = 0; i < n; i++) {
		assert_true(batch.jobs[i].dead_letter && !batch.jobs[i].answerable);
		assert_null(batch.jobs[i].result.trace_id);
	}
	assert_true(batch.jobs[n].dead_letter && batch.jobs[n].answerable);
	assert_string_equal(batch.jobs[n].result.trace_id, "trace");
	consumer_release_all(consumer);
	batch_destroy(&batch);
	codec_free(codec);
}

/* What is no well-formed id answers nothing, and what is one does: the longest, too. */
static void test_a_header_that_is_no_id(void **state)
{
	static char longest[CAMPAIGN_ID_MAX + 2];
	static const struct {
		const char *value;
		ssize_t size;
		bool answers;
	} cases[] = { { NULL, 0, false }, { "", 0, false }, { "a\0b", 3, false }, { "a b", 3, false }, { "a", 1, true },
		      { longest, CAMPAIGN_ID_MAX, true }, { longest, CAMPAIGN_ID_MAX + 1, false } };
	struct fault fault;
	struct codec *codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	struct fence_partition running = { .partition = 0, .epoch = 1 };
	const struct batch_source source = { .consumer = consumer, .codec = codec, .contract = &duplicate_contract,
					     .partitions = &running, .partition_count = 1, .count_max = 10, .bytes_max = 100000 };
	size_t n = sizeof cases / sizeof cases[0];
	struct batch batch;

	(void)state;
	memset(longest, 'x', sizeof longest - 1);
	batch_init(&batch, 10);
	batch_resize(&batch, 1);
	for (size_t i = 0; i < n; i++)
		produce_headed("traceId", cases[i].value, cases[i].size);
	poll_until_waiting(n);
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, n);
	for (size_t i = 0; i < n; i++) {
		assert_true(batch.jobs[i].dead_letter);
		assert_int_equal(batch.jobs[i].answerable, cases[i].answers);
	}
	consumer_release_all(consumer);
	batch_destroy(&batch);
	codec_free(codec);
}

/* How many commands fit. */
static size_t fill_anew(struct batch *batch, struct batch_source *source, size_t count_max, size_t bytes_max)
{
	consumer_put_back(consumer);
	batch_clear(batch);
	source->count_max = count_max;
	source->bytes_max = bytes_max;
	batch_fill(batch, source);
	return batch->count;
}

/* Their values and what is decoded of them count, but for what the last one is decoded to; one always fits. */
static void test_limits(void **state)
{
	struct fault fault;
	struct codec *codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	struct fence_partition running = { .partition = 0, .epoch = 1 };
	struct batch_source source = { .consumer = consumer, .codec = codec, .contract = &duplicate_contract, .partitions = &running,
				       .partition_count = 1 };
	size_t value_size, limit;
	struct batch batch;

	(void)state;
	batch_init(&batch, 10);
	batch_resize(&batch, 1);
	for (char trace[] = "a"; trace[0] < 'e'; trace[0]++)
		produce_command(codec, trace, false);
	poll_until_waiting(4);
	assert_int_equal(fill_anew(&batch, &source, 0, 100000), 0);
	for (size_t n = 1; n <= 4; n++)
		assert_int_equal(fill_anew(&batch, &source, n, 100000), n);
	source.count_max = 3;
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, 4);

	assert_int_equal(fill_anew(&batch, &source, 1, 100000), 1);
	value_size = batch.jobs[0].record.value_size;
	assert_int_equal(batch.bytes, value_size);
	limit = 2 * value_size + arena_used(batch.arena);
	assert_int_equal(fill_anew(&batch, &source, 10, limit), 2);
	assert_int_equal(fill_anew(&batch, &source, 10, limit - 1), 1);
	assert_int_equal(fill_anew(&batch, &source, 10, 0), 1);

	assert_int_equal(fill_anew(&batch, &source, 3, 100000), 3);
	limit = 4 * value_size + arena_used(batch.arena);
	assert_int_equal(fill_anew(&batch, &source, 10, limit - 1), 3);
	assert_int_equal(fill_anew(&batch, &source, 10, limit), 4);
	consumer_release_all(consumer);
	batch_destroy(&batch);
	codec_free(codec);
}

#define TRACES 128

/* As many traces as its table is made for, some of which meet in one slot: each copy finds its own command. */
static void test_traces_that_meet_in_one_slot(void **state)
{
	struct fault fault;
	struct codec *codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	struct fence_partition running = { .partition = 0, .epoch = 1 };
	const struct batch_source source = { .consumer = consumer, .codec = codec, .contract = &duplicate_contract, .partitions = &running,
					     .partition_count = 1, .count_max = 2 * TRACES, .bytes_max = 10000000 };
	struct batch batch;

	(void)state;
	batch_init(&batch, 2 * TRACES);
	batch_resize(&batch, 1);
	for (int i = 0; i < 2 * TRACES; i++)
		produce_command(codec, arena_printf(arena, "trace-%d", i % TRACES), false);
	poll_until_waiting(2 * TRACES);
	batch_fill(&batch, &source);
	assert_int_equal(batch.count, 2 * TRACES);
	for (size_t i = 0; i < TRACES; i++) {
		assert_true(batch.jobs[i].executable);
		assert_ptr_equal(batch.jobs[TRACES + i].copy_of, &batch.jobs[i]);
	}
	consumer_release_all(consumer);
	batch_destroy(&batch);
	codec_free(codec);
}

static int set_up(void **state)
{
	struct fault fault;

	(void)state;
	log_quietly();
	arena = arena_new(0);
	cluster = cluster_new();
	cluster_topic(&cluster, COMMANDS, 1, 1);
	configure(&config, &cluster, "batches", NULL);
	consumer = consumer_new(&config, 0, &fault);
	if (consumer == NULL)
		return -1;
	start_consumer();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	consumer_free(consumer, 0);
	config_free(&config);
	cluster_free(&cluster);
	arena_free(arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_before_what_cannot_be_decoded_now),
		cmocka_unit_test(test_copies_do_not_end_it),
		cmocka_unit_test(test_only_the_header_of_that_name_answers),
		cmocka_unit_test(test_a_header_that_is_no_id),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_traces_that_meet_in_one_slot),
	};

	return cmocka_run_group_tests_name("batch", tests, set_up, tear_down);
}
