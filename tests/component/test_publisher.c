/* The transactional producer against a cluster in which every request fails in every class.
 * Longer than 600 lines: one table of requests and errors, and one publisher with its observers, serve all tests. */
#include "component.h"

#include <endian.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdatomic.h>

#include "schemas/codec.h"
#include "schemas/duplicate.h"
#include "schemas/result.h"
#include "tests/fault_kind.h"
#include "worker/kafka/kafka.h"
#include "worker/kafka/publisher.h"
#include "worker/db/session.h"

#define HANG_MS 60000 /* of a broker; whatever does not wait for it takes much less than half of that, also on a busy machine */

/* Each has a broker of its own, so that one can be made to hang alone. */
enum { LEADER = 1, TRANSACTION_COORDINATOR = 2, GROUP_COORDINATOR = 3, SPARE = 4 };
enum {
	PRODUCE = 0, API_VERSIONS = 18, INIT_PRODUCER_ID = 22, ADD_PARTITIONS = 24, ADD_OFFSETS = 25, END_TXN = 26,
	TXN_OFFSET_COMMIT = 28, GET_TELEMETRY_SUBSCRIPTIONS = 71, PUSH_TELEMETRY = 72,
};

#define GROUP "publisher"
#define TRANSACTIONAL_ID "publisher.one.0"
#define ERR(name) RD_KAFKA_RESP_ERR_##name

struct rig {
	struct cluster cluster;
	struct config config;
	struct codec *codec;
	struct arena *arena;
	rd_kafka_consumer_group_metadata_t *metadata;
	struct lessons lessons;
	struct publisher *publisher;
};

static struct rig rig; /* its publisher is initialised, and used by test after test as long as it may be */

static int initialise(struct publisher *publisher, struct fault *fault)
{
	int64_t deadline = clock_monotonic_ms() + 10000;

	while (publisher_init(publisher, 500, fault) < 0)
		if (fault->kind != FAULT_RETRY || clock_monotonic_ms() > deadline)
			return -1;
	return 0;
}

static int renew(struct rig *r)
{
	struct fault fault;

	publisher_free(r->publisher);
	r->publisher = publisher_new(&r->config, TRANSACTIONAL_ID, &r->lessons, &fault);
	return r->publisher ? initialise(r->publisher, &fault) : -1;
}

static int open_rig(struct rig *r)
{
	static const char *const more[] = { "-X", "transaction.timeout.ms=3000", "--dead-letter-bytes", "4096", NULL };
	struct fault fault;

	r->cluster = cluster_new();
	cluster_topic(&r->cluster, COMMANDS, 4, LEADER);
	cluster_topic(&r->cluster, RESULTS, 1, LEADER);
	cluster_topic(&r->cluster, DEAD_LETTERS, 1, LEADER);
	rd_kafka_mock_coordinator_set(r->cluster.mock, "transaction", TRANSACTIONAL_ID, TRANSACTION_COORDINATOR);
	rd_kafka_mock_coordinator_set(r->cluster.mock, "group", GROUP, GROUP_COORDINATOR);
	configure(&r->config, &r->cluster, GROUP, more);
	r->codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	r->arena = arena_new(65536);
	r->metadata = rd_kafka_consumer_group_metadata_new_with_genid(GROUP, 1, "member", NULL);
	return r->codec ? renew(r) : -1;
}

static void close_rig(struct rig *r)
{
	publisher_free(r->publisher);
	rd_kafka_consumer_group_metadata_destroy(r->metadata);
	arena_free(r->arena);
	codec_free(r->codec);
	config_free(&r->config);
	cluster_free(&r->cluster);
}

/* ---- what is published ---- */

static const char payload[] = "the bytes as received";

static struct job accepted(void)
{
	static const struct campaign campaign = {
		.id = "0123456789abcdef01234567", .name = "Spring", .status = "draft", .created_at_ms = 1000, .updated_at_ms = 1000,
	};
	struct job job = {
		.record = { .topic = COMMANDS, .partition = 2, .offset = 41, .timestamp_ms = 1700000000123, .key = "ag_1", .key_size = 4,
			    .value = payload, .value_size = sizeof payload - 1 },
		.answerable = true,
		.result = { .trace_id = "trace-1", .account_group_id = "ag_1", .source_campaign_id = "c1", .audience_id = "a1",
			    .command_topic = COMMANDS, .command_partition = 2, .command_offset = 41,
			    .command_timestamp_ms = 1700000000123, .processed_at_ms = 1700000000200 },
	};

	result_accept(&job.result, &duplicate_contract, &campaign, false);
	return job;
}

static struct job refused(const struct reason *reason)
{
	struct job job = accepted();

	job.reason = reason;
	result_refuse(&job.result, reason, "for a test");
	job.dead_letter = reason->dead_letter;
	job.cause = job.dead_letter ? "it is broken" : NULL;
	return job;
}

static int publish_by(struct rig *r, struct job *jobs, size_t n, struct fault *fault)
{
	const struct batch_offset offsets[] = { { 0, 7 }, { 2, 42 } };
	struct publication publication = { jobs, n, offsets, 2, r->metadata };
	int status = publisher_publish(r->publisher, r->codec, &publication, r->arena, fault);

	arena_reset(r->arena);
	return status;
}

static int publish(struct job *jobs, size_t n, struct fault *fault)
{
	return publish_by(&rig, jobs, n, fault);
}

/* What the lane does before each batch. */
static void renew_if_spent(void)
{
	if (publisher_is_spent(rig.publisher))
		assert_int_equal(renew(&rig), 0);
}

/* A refused topic is only looked at again after a moment, hence the tries. */
static void assert_works(const char *what)
{
	int64_t deadline = clock_monotonic_ms() + 2000;
	struct job job = accepted();
	struct fault fault;

	renew_if_spent();
	while (publish(&job, 1, &fault) < 0) {
		if (fault.kind != FAULT_ABORT || clock_monotonic_ms() > deadline)
			fail_msg("%s: does not publish any more: %s: %s", what, fault_kind_name(fault.kind), fault.msg);
		clock_sleep_ms(20);
	}
	renew_if_spent();
}

/* ---- faults ---- */

enum producer { KEPT, SPENT, EITHER };

struct row {
	int16_t api;
	rd_kafka_resp_err_t err;
	size_t times;         /* how often it is answered */
	enum fault_kind kind; /* FAULT_NONE: published all the same */
	bool fenced;          /* somebody else has our transactional.id */
	enum producer producer; /* SPENT: must be renewed although it works */
};

static const struct row rows[] = {
	/* Tried again inside, after an answer: nothing is doubtful. (Where the coordinator is looked for anew, its connection
	 * may be given up with the next request on it.) */
	{ ADD_PARTITIONS, ERR(CONCURRENT_TRANSACTIONS), 3, FAULT_NONE, false, KEPT },
	{ ADD_PARTITIONS, ERR(COORDINATOR_LOAD_IN_PROGRESS), 2, FAULT_NONE, false, KEPT },
	{ ADD_PARTITIONS, ERR(NOT_COORDINATOR), 1, FAULT_NONE, false, EITHER },
	{ ADD_PARTITIONS, ERR(COORDINATOR_NOT_AVAILABLE), 1, FAULT_NONE, false, EITHER },
	{ ADD_OFFSETS, ERR(CONCURRENT_TRANSACTIONS), 3, FAULT_NONE, false, KEPT },
	{ ADD_OFFSETS, ERR(COORDINATOR_LOAD_IN_PROGRESS), 2, FAULT_NONE, false, KEPT },
	{ ADD_OFFSETS, ERR(NOT_COORDINATOR), 1, FAULT_NONE, false, EITHER },
	{ TXN_OFFSET_COMMIT, ERR(COORDINATOR_LOAD_IN_PROGRESS), 2, FAULT_NONE, false, KEPT },
	{ TXN_OFFSET_COMMIT, ERR(NOT_COORDINATOR), 1, FAULT_NONE, false, EITHER },
	{ TXN_OFFSET_COMMIT, ERR(UNKNOWN_TOPIC_OR_PART), 1, FAULT_NONE, false, KEPT },
	{ END_TXN, ERR(CONCURRENT_TRANSACTIONS), 3, FAULT_NONE, false, KEPT },
	{ END_TXN, ERR(COORDINATOR_LOAD_IN_PROGRESS), 2, FAULT_NONE, false, KEPT },
	{ END_TXN, ERR(NOT_COORDINATOR), 1, FAULT_NONE, false, EITHER },
	{ PRODUCE, ERR(NOT_LEADER_FOR_PARTITION), 1, FAULT_NONE, false, KEPT },
	{ PRODUCE, ERR(NOT_ENOUGH_REPLICAS), 1, FAULT_NONE, false, KEPT },
	{ PRODUCE, ERR(REQUEST_TIMED_OUT), 1, FAULT_NONE, false, KEPT },
	/* The connection is cut behind a request that was read: its late effect is possible. */
	{ ADD_PARTITIONS, ERR(_TRANSPORT), 1, FAULT_NONE, false, SPENT },
	{ ADD_OFFSETS, ERR(_TRANSPORT), 1, FAULT_NONE, false, SPENT },
	{ TXN_OFFSET_COMMIT, ERR(_TRANSPORT), 1, FAULT_NONE, false, SPENT },
	{ END_TXN, ERR(_TRANSPORT), 1, FAULT_NONE, false, SPENT },
	{ PRODUCE, ERR(_TRANSPORT), 1, FAULT_NONE, false, KEPT }, /* told apart by its sequence number */
	/* The group has moved on. */
	{ TXN_OFFSET_COMMIT, ERR(ILLEGAL_GENERATION), 1, FAULT_FENCED, false, KEPT },
	{ TXN_OFFSET_COMMIT, ERR(UNKNOWN_MEMBER_ID), 1, FAULT_FENCED, false, KEPT },
	{ TXN_OFFSET_COMMIT, ERR(FENCED_INSTANCE_ID), 1, FAULT_FENCED, false, KEPT },
	/* Aborted: the same producer goes on, unless it skips a sequence number. */
	{ ADD_PARTITIONS, ERR(TOPIC_AUTHORIZATION_FAILED), 1, FAULT_ABORT, false, KEPT },
	{ ADD_OFFSETS, ERR(GROUP_AUTHORIZATION_FAILED), 1, FAULT_ABORT, false, KEPT },
	{ TXN_OFFSET_COMMIT, ERR(GROUP_AUTHORIZATION_FAILED), 1, FAULT_ABORT, false, KEPT },
	{ PRODUCE, ERR(TOPIC_AUTHORIZATION_FAILED), 1, FAULT_ABORT, false, SPENT },
	{ PRODUCE, ERR(MSG_SIZE_TOO_LARGE), 1, FAULT_ABORT, false, SPENT },
	{ PRODUCE, ERR(INVALID_REQUIRED_ACKS), 1, FAULT_ABORT, false, SPENT },
	{ PRODUCE, ERR(UNKNOWN_PRODUCER_ID), 1, FAULT_ABORT, false, SPENT },
	/* The producer is finished. */
	{ ADD_PARTITIONS, ERR(TRANSACTIONAL_ID_AUTHORIZATION_FAILED), 1, FAULT_REBUILD, false, KEPT },
	{ ADD_PARTITIONS, ERR(INVALID_TXN_STATE), 1, FAULT_REBUILD, false, KEPT },
	{ ADD_PARTITIONS, ERR(PRODUCER_FENCED), 1, FAULT_REBUILD, true, KEPT },
	{ ADD_PARTITIONS, ERR(INVALID_PRODUCER_EPOCH), 1, FAULT_REBUILD, true, KEPT },
	{ ADD_OFFSETS, ERR(TRANSACTIONAL_ID_AUTHORIZATION_FAILED), 1, FAULT_REBUILD, false, KEPT },
	{ ADD_OFFSETS, ERR(INVALID_TXN_STATE), 1, FAULT_REBUILD, false, KEPT },
	{ ADD_OFFSETS, ERR(PRODUCER_FENCED), 1, FAULT_REBUILD, true, KEPT },
	{ ADD_OFFSETS, ERR(INVALID_PRODUCER_EPOCH), 1, FAULT_REBUILD, true, KEPT },
	{ TXN_OFFSET_COMMIT, ERR(TRANSACTIONAL_ID_AUTHORIZATION_FAILED), 1, FAULT_REBUILD, false, KEPT },
	{ TXN_OFFSET_COMMIT, ERR(INVALID_PRODUCER_EPOCH), 1, FAULT_REBUILD, true, KEPT },
	{ END_TXN, ERR(TRANSACTIONAL_ID_AUTHORIZATION_FAILED), 1, FAULT_REBUILD, false, KEPT },
	{ END_TXN, ERR(INVALID_TXN_STATE), 1, FAULT_REBUILD, false, KEPT },
	{ END_TXN, ERR(PRODUCER_FENCED), 1, FAULT_REBUILD, true, KEPT },
	{ END_TXN, ERR(INVALID_PRODUCER_EPOCH), 1, FAULT_REBUILD, true, KEPT },
	{ PRODUCE, ERR(INVALID_PRODUCER_EPOCH), 1, FAULT_REBUILD, true, KEPT },
	{ PRODUCE, ERR(OUT_OF_ORDER_SEQUENCE_NUMBER), 1, FAULT_REBUILD, false, KEPT },
};

static void test_every_request_in_every_class(void **state)
{
	rd_kafka_resp_err_t errs[8];
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct row *row = &rows[i];
		struct fault fault = { FAULT_NONE, "", "" };
		struct job job = accepted();
		int64_t began = clock_monotonic_ms(), took;
		bool fenced, spent;
		char what[128];

		snprintf(what, sizeof what, "request %d, %s", row->api, rd_kafka_err2name(row->err));
		for (size_t j = 0; j < row->times; j++)
			errs[j] = row->err;
		rd_kafka_mock_push_request_errors_array(rig.cluster.mock, row->api, row->times, errs);
		leaks_do_not_matter();
		if (publish(&job, 1, &fault) == 0)
			fault.kind = FAULT_NONE;
		leaks_matter();
		took = clock_monotonic_ms() - began;
		rd_kafka_mock_clear_request_errors(rig.cluster.mock, row->api);
		fenced = publisher_was_fenced(rig.publisher);
		spent = publisher_is_spent(rig.publisher);
		if (fault.kind != row->kind || fenced != row->fenced || took > 6000 ||
		    (row->producer != EITHER && spent != (row->producer == SPENT))) {
			print_error("%s: %s, fenced %d, spent %d, %" PRId64 " ms: %s\n", what, fault_kind_name(fault.kind), fenced, spent,
				    took, fault.kind ? fault.msg : "");
			wrong++;
		}
		if (fault.kind == FAULT_REBUILD)
			assert_int_equal(renew(&rig), 0);
		assert_works(what);
		if (getenv("VERBOSE"))
			print_message("%s: %d ms, then %d ms\n", what, (int)took, (int)(clock_monotonic_ms() - began - took));
	}
	assert_int_equal(wrong, 0);
}

/* ---- initialising ---- */

struct init_row {
	rd_kafka_resp_err_t err;
	size_t times;
	enum fault_kind kind; /* at last; FAULT_NONE: initialised */
};

static const struct init_row init_rows[] = {
	{ ERR(COORDINATOR_LOAD_IN_PROGRESS), 2, FAULT_NONE },
	{ ERR(COORDINATOR_NOT_AVAILABLE), 1, FAULT_NONE },
	{ ERR(NOT_COORDINATOR), 1, FAULT_NONE },
	{ ERR(CONCURRENT_TRANSACTIONS), 2, FAULT_NONE }, /* a predecessor's transaction is being ended */
	{ ERR(_TRANSPORT), 1, FAULT_NONE },
	{ ERR(TRANSACTIONAL_ID_AUTHORIZATION_FAILED), 1, FAULT_REBUILD },
	{ ERR(CLUSTER_AUTHORIZATION_FAILED), 1, FAULT_REBUILD },
	{ ERR(INVALID_TRANSACTION_TIMEOUT), 1, FAULT_FATAL }, /* a setting has to change */
	{ ERR(PRODUCER_FENCED), 1, FAULT_REBUILD },
};

static void test_init_in_every_class(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof init_rows / sizeof init_rows[0]; i++) {
		const struct init_row *row = &init_rows[i];
		rd_kafka_resp_err_t errs[4] = { row->err, row->err, row->err, row->err };
		struct fault fault = { FAULT_NONE, "", "" };

		rd_kafka_mock_push_request_errors_array(rig.cluster.mock, INIT_PRODUCER_ID, row->times, errs);
		publisher_free(rig.publisher);
		rig.publisher = publisher_new(&rig.config, TRANSACTIONAL_ID, &rig.lessons, &fault);
		assert_non_null(rig.publisher);
		if (initialise(rig.publisher, &fault) == 0)
			fault.kind = FAULT_NONE;
		if (fault.kind != row->kind)
			fail_msg("%s: %s: %s", rd_kafka_err2name(row->err), fault_kind_name(fault.kind), fault.msg);
		rd_kafka_mock_clear_request_errors(rig.cluster.mock, INIT_PRODUCER_ID);
		if (fault.kind != FAULT_NONE)
			assert_int_equal(renew(&rig), 0);
		assert_works(rd_kafka_err2name(row->err));
	}
}

static void test_init_without_coordinator_returns_in_time(void **state)
{
	int64_t began = clock_monotonic_ms();
	struct fault fault;

	(void)state;
	rd_kafka_mock_coordinator_set(rig.cluster.mock, "transaction", "another.worker.0", SPARE);
	rd_kafka_mock_broker_set_down(rig.cluster.mock, TRANSACTION_COORDINATOR);
	publisher_free(rig.publisher);
	rig.publisher = publisher_new(&rig.config, TRANSACTIONAL_ID, &rig.lessons, &fault);
	assert_int_equal(publisher_init(rig.publisher, 300, &fault), -1);
	assert_int_equal(fault.kind, FAULT_RETRY);
	assert_int_equal(publisher_end_transaction(&rig.config, "another.worker.0", 2000, &fault), 0);
	rd_kafka_mock_coordinator_set(rig.cluster.mock, "transaction", "gone.worker.0", TRANSACTION_COORDINATOR);
	assert_int_equal(publisher_end_transaction(&rig.config, "gone.worker.0", 300, &fault), -1);
	assert_true(clock_monotonic_ms() - began < HANG_MS / 2);
	rd_kafka_mock_broker_set_up(rig.cluster.mock, TRANSACTION_COORDINATOR);
	assert_int_equal(initialise(rig.publisher, &fault), 0);
	assert_works("coordinator back");
	assert_int_equal(publisher_end_transaction(&rig.config, "gone.worker.0", 2000, &fault), 0);
}

static size_t requests_of(const int *keys, size_t n)
{
	size_t count, found = 0;
	rd_kafka_mock_request_t **requests = rd_kafka_mock_get_requests(rig.cluster.mock, &count);

	for (size_t i = 0; i < count * n; i++)
		found += rd_kafka_mock_request_api_key(requests[i / n]) == keys[i % n];
	rd_kafka_mock_request_destroy_array(requests, count);
	return found;
}

/* Else closing it takes a second now and then, and with it a drain and a takeover. */
static void test_no_client_pushes_metrics(void **state)
{
	static const enum kafka_client clients[] = { KAFKA_CONSUMER, KAFKA_TRANSACTIONAL_PRODUCER, KAFKA_PRODUCER, KAFKA_ADMIN };
	const struct rd_kafka_metadata *metadata;
	struct fault fault;

	(void)state;
	rd_kafka_mock_start_request_tracking(rig.cluster.mock);
	for (size_t i = 0; i < sizeof clients / sizeof clients[0]; i++) {
		struct rd_kafka_conf_s *conf = kafka_conf_new(&rig.config, clients[i], &fault);
		rd_kafka_t *rk;

		assert_non_null(conf);
		if (clients[i] == KAFKA_TRANSACTIONAL_PRODUCER)
			assert_int_equal(kafka_conf_set(conf, "transactional.id", "publisher.pushes.0", &fault), 0);
		if (clients[i] == KAFKA_CONSUMER)
			assert_int_equal(kafka_conf_set(conf, "group.id", "pushes", &fault), 0);
		rk = kafka_new_take(conf, clients[i], &fault);
		assert_non_null(rk);
		assert_int_equal(rd_kafka_metadata(rk, 0, NULL, &metadata, 5000), RD_KAFKA_RESP_ERR_NO_ERROR);
		rd_kafka_metadata_destroy(metadata);
		clock_sleep_ms(100);
		rd_kafka_destroy(rk);
	}
	assert_true(requests_of((const int[]){ API_VERSIONS }, 1) >= 4);
	assert_int_equal(requests_of((const int[]){ GET_TELEMETRY_SUBSCRIPTIONS, PUSH_TELEMETRY }, 2), 0);
	rd_kafka_mock_stop_request_tracking(rig.cluster.mock);
}

static void assert_waits(const char *topic, rd_kafka_resp_err_t err, const char *said)
{
	int64_t began = clock_monotonic_ms();
	struct fault fault;

	rd_kafka_mock_topic_set_error(rig.cluster.mock, topic, err);
	assert_int_equal(renew(&rig), -1);
	for (int tries = 0; tries < 2; tries++) { /* also when it is called again */
		assert_int_equal(publisher_init(rig.publisher, 500, &fault), -1);
		assert_int_equal(fault.kind, FAULT_WAIT);
		assert_non_null(strstr(fault.msg, topic));
		assert_non_null(strstr(fault.msg, said));
	}
	assert_int_equal(publisher_end_transaction(&rig.config, "gone.worker.0", 2000, &fault), 0); /* needs no topic */
	assert_true(clock_monotonic_ms() - began < HANG_MS / 2);
	rd_kafka_mock_topic_set_error(rig.cluster.mock, topic, ERR(NO_ERROR));
	assert_int_equal(publisher_init(rig.publisher, 500, &fault), 0);
	assert_works(topic);
}

/* A topic that is not there, or that we may not see, is named; the same producer goes on when it is. (The mock makes every
 * topic that it is asked for, hence an error.) */
static void test_missing_topic_is_named(void **state)
{
	(void)state;
	assert_waits(RESULTS, ERR(UNKNOWN_TOPIC_OR_PART), "does not exist: `campaign-worker topics` creates it");
	assert_waits(DEAD_LETTERS, ERR(UNKNOWN_TOPIC_OR_PART), "does not exist: `campaign-worker topics` creates it");
	assert_waits(RESULTS, ERR(TOPIC_AUTHORIZATION_FAILED), "Topic authorization failed");
}

/* ---- no answer at all ---- */

/* Each on a cluster of its own and all at once, beside the other tests: they wait for time-outs. */
struct hang {
	const char *what;
	int16_t api;
	int broker;
	pthread_t thread;
	int status;
	struct fault fault;
	bool spent;
	int64_t publish_ms, renew_ms;
	int renewed, published;
};

static struct hang hangs[] = {
	{ .what = "AddPartitionsToTxn", .api = ADD_PARTITIONS, .broker = TRANSACTION_COORDINATOR },
	{ .what = "AddOffsetsToTxn", .api = ADD_OFFSETS, .broker = TRANSACTION_COORDINATOR },
	{ .what = "TxnOffsetCommit", .api = TXN_OFFSET_COMMIT, .broker = GROUP_COORDINATOR },
	{ .what = "EndTxn", .api = END_TXN, .broker = TRANSACTION_COORDINATOR },
	{ .what = "Produce", .api = PRODUCE, .broker = LEADER },
};
#define HANGS (sizeof hangs / sizeof hangs[0])

/* A broker that gave no answers still has them in store: another one takes its place. */
static void fail_over(struct rig *r)
{
	rd_kafka_mock_coordinator_set(r->cluster.mock, "transaction", TRANSACTIONAL_ID, SPARE);
	rd_kafka_mock_coordinator_set(r->cluster.mock, "group", GROUP, SPARE);
	rd_kafka_mock_partition_set_leader(r->cluster.mock, RESULTS, 0, SPARE);
}

static void *run_hang(void *arg)
{
	struct hang *hang = arg;
	struct rig r = { 0 };
	struct job job = accepted();
	int64_t began;

	if (open_rig(&r) == 0 && publish_by(&r, &job, 1, &hang->fault) == 0) {
		rd_kafka_mock_broker_push_request_error_rtts(r.cluster.mock, hang->broker, hang->api, 6, ERR(NO_ERROR), HANG_MS,
							     ERR(NO_ERROR), HANG_MS, ERR(NO_ERROR), HANG_MS, ERR(NO_ERROR), HANG_MS,
							     ERR(NO_ERROR), HANG_MS, ERR(NO_ERROR), HANG_MS);
		began = clock_monotonic_ms();
		leaks_do_not_matter();
		hang->status = publish_by(&r, &job, 1, &hang->fault);
		leaks_matter();
		hang->publish_ms = clock_monotonic_ms() - began;
		hang->spent = publisher_is_spent(r.publisher);
		fail_over(&r);
		began = clock_monotonic_ms();
		hang->renewed = renew(&r);
		hang->renew_ms = clock_monotonic_ms() - began;
		hang->published = publish_by(&r, &job, 1, &(struct fault){ 0 });
	} else {
		hang->published = -2;
	}
	close_rig(&r);
	return NULL;
}

static void test_no_answer_ends_in_time(void **state)
{
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < HANGS; i++) {
		struct hang *hang = &hangs[i];

		pthread_join(hang->thread, NULL);
		if (hang->status == 0 || !(hang->fault.kind == FAULT_REBUILD || (hang->fault.kind == FAULT_ABORT && hang->spent)) ||
		    hang->renewed < 0 || hang->published < 0 || hang->publish_ms > HANG_MS / 2 || hang->renew_ms > HANG_MS / 2) {
			print_error("%s: status %d, %s: %s; spent %d, %" PRId64 " ms, renewed %d in %" PRId64 " ms, published %d\n", hang->what,
				    hang->status, fault_kind_name(hang->fault.kind), hang->fault.msg, hang->spent, hang->publish_ms,
				    hang->renewed, hang->renew_ms, hang->published);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

static void *run_move(void *arg)
{
	clock_sleep_ms(1000);
	rd_kafka_mock_coordinator_set(rig.cluster.mock, "group", GROUP, SPARE);
	return arg;
}

/* librdkafka holds send_offsets_to_transaction for as long as the group has no coordinator, whatever its time-out. */
static void test_group_coordinator_moves(void **state)
{
	struct job job = accepted();
	struct fault fault;
	pthread_t thread;

	(void)state;
	rd_kafka_mock_broker_set_down(rig.cluster.mock, GROUP_COORDINATOR);
	assert_int_equal(pthread_create(&thread, NULL, run_move, NULL), 0);
	if (publish(&job, 1, &fault) < 0)
		fail_msg("%s: %s", fault_kind_name(fault.kind), fault.msg);
	pthread_join(thread, NULL);
	rd_kafka_mock_broker_set_up(rig.cluster.mock, GROUP_COORDINATOR);
	assert_works("the group's coordinator moved");
}

/* ---- what results and dead letters look like ---- */

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define HEADER(text_name, text) { .name = text_name, .value = text, .size = sizeof text - 1 }

static void publish_one(struct job *job, struct reading *results, struct reading *dead_letters)
{
	int64_t result_end = topic_end(&rig.cluster, RESULTS), dead_letter_end = topic_end(&rig.cluster, DEAD_LETTERS);
	struct fault fault;

	if (publish(job, 1, &fault) < 0)
		fail_msg("%s", fault.msg);
	topic_read(results, &rig.cluster, RESULTS, result_end);
	topic_read(dead_letters, &rig.cluster, DEAD_LETTERS, dead_letter_end);
}

static void free_both(struct reading *results, struct reading *dead_letters)
{
	reading_free(results);
	reading_free(dead_letters);
}

static void test_result_of_an_accepted_command(void **state)
{
	static const struct header headers[] = { HEADER("other", "x"), HEADER("tracestate", "old=1"), HEADER("traceparent", PARENT),
						 HEADER("tracestate", "vendor=1,other=2") };
	struct reading results, dead_letters;
	struct job job = accepted();
	struct command_result result;
	struct fault fault;

	(void)state;
	job.record.headers = headers;
	job.record.header_count = 4;
	publish_one(&job, &results, &dead_letters);
	assert_int_equal(results.count, 1);
	assert_int_equal(dead_letters.count, 0);
	assert_int_equal(results.messages[0]->key_len, strlen("trace-1"));
	assert_memory_equal(results.messages[0]->key, "trace-1", strlen("trace-1"));
	assert_header(results.messages[0], "httpStatus", "201");
	assert_header(results.messages[0], "code", NULL);
	assert_header(results.messages[0], "accountGroupId", "ag_1");
	assert_header(results.messages[0], "traceparent", PARENT);
	assert_header(results.messages[0], "tracestate", "vendor=1,other=2");
	assert_header(results.messages[0], "other", NULL);
	assert_int_equal(codec_decode_result(rig.codec, results.messages[0]->payload, results.messages[0]->len, rig.arena, &result,
					     &fault), 0);
	assert_string_equal(result.trace_id, "trace-1");
	assert_true(result.success);
	assert_string_equal(result.campaign->id, "0123456789abcdef01234567");
	assert_int_equal(result.command_partition, 2);
	assert_int_equal(result.command_offset, 41);
	free_both(&results, &dead_letters);
}

static void test_result_of_a_refused_command(void **state)
{
	struct job job = refused(contract_find_reason(&duplicate_contract, "audience_not_found"));
	struct reading results, dead_letters;

	(void)state;
	publish_one(&job, &results, &dead_letters);
	assert_int_equal(results.count, 1);
	assert_int_equal(dead_letters.count, 0);
	assert_header(results.messages[0], "httpStatus", "404");
	assert_header(results.messages[0], "code", "NOT_FOUND");
	assert_header(results.messages[0], "traceparent", NULL);
	free_both(&results, &dead_letters);
}

/* W3C Trace Context: what is not well-formed is not passed on, and tracestate not without traceparent. */
static void test_trace_context_is_checked(void **state)
{
	static const char *const bad_parents[] = {
		"", "00", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
	};
	static const char long_state[] = { [0 ... 599] = 'a' };
	struct reading results, dead_letters;
	struct job job;

	(void)state;
	for (size_t i = 0; i < sizeof bad_parents / sizeof bad_parents[0]; i++) {
		struct header headers[] = { { "traceparent", bad_parents[i], strlen(bad_parents[i]) }, HEADER("tracestate", "a=1") };

		job = accepted();
		job.record.headers = headers;
		job.record.header_count = 2;
		publish_one(&job, &results, &dead_letters);
		assert_header(results.messages[0], "traceparent", NULL);
		assert_header(results.messages[0], "tracestate", NULL);
		free_both(&results, &dead_letters);
	}
	for (int i = 0; i < 4; i++) {
		struct header headers[] = { HEADER("traceparent", PARENT),
					    { "tracestate", (const void *[]){ NULL, "", "a=\n", long_state }[i], (size_t[]){ 0, 0, 3, 600 }[i] } };

		job = accepted();
		job.record.headers = headers;
		job.record.header_count = 2;
		publish_one(&job, &results, &dead_letters);
		assert_header(results.messages[0], "traceparent", PARENT);
		assert_header(results.messages[0], "tracestate", NULL);
		free_both(&results, &dead_letters);
	}
}

static void assert_number(const rd_kafka_message_t *message, const char *name, uint64_t expected, size_t expected_size)
{
	unsigned char bytes[8];
	size_t size;
	const void *value = header_value(message, name, &size);

	for (size_t i = 0; i < expected_size; i++)
		bytes[i] = (unsigned char)(expected >> 8 * (expected_size - 1 - i));
	assert_non_null(value);
	assert_int_equal(size, expected_size);
	assert_memory_equal(value, bytes, size);
}

static void test_dead_letter(void **state)
{
	static const struct header headers[] = { HEADER("mine", "1"), { "null", NULL, 0 }, { "empty", "", 0 }, HEADER("traceparent", PARENT),
						 HEADER("campaign-dlt-reason", "of an earlier life"), HEADER("reason", "the publisher's"),
						 HEADER("campaign-dlt-original-size", "1"), HEADER("kafka_dlt-original-offset", "12345678"),
						 HEADER("mine", "2") };
	struct job job = refused(&reason_undecodable);
	struct reading results, dead_letters;
	const rd_kafka_message_t *message;
	rd_kafka_headers_t *copied;
	const void *value;
	size_t size;

	(void)state;
	job.record.headers = headers;
	job.record.header_count = sizeof headers / sizeof headers[0];
	publish_one(&job, &results, &dead_letters);
	assert_int_equal(results.count, 1);
	assert_int_equal(dead_letters.count, 1);
	message = dead_letters.messages[0];
	assert_int_equal(message->key_len, 4);
	assert_memory_equal(message->key, "ag_1", 4);
	assert_int_equal(message->len, sizeof payload - 1);
	assert_memory_equal(message->payload, payload, sizeof payload - 1);
	assert_header(message, "kafka_dlt-original-topic", COMMANDS);
	assert_number(message, "kafka_dlt-original-partition", 2, 4);
	assert_number(message, "kafka_dlt-original-offset", 41, 8);
	assert_number(message, "kafka_dlt-original-timestamp", 1700000000123, 8);
	assert_header(message, "kafka_dlt-original-consumer-group", GROUP);
	assert_header(message, "kafka_dlt-exception-message", "it is broken");
	assert_header(message, "campaign-dlt-reason", "undecodable");
	assert_header(message, "reason", "the publisher's");
	assert_header(message, "campaign-dlt-answered", "VALIDATION_ERROR");
	assert_header(message, "traceparent", PARENT);
	assert_header(message, "campaign-dlt-original-size", NULL);
	assert_int_equal(rd_kafka_message_headers(message, &copied), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(rd_kafka_header_get(copied, i, "mine", &value, &size), 0);
		assert_memory_equal(value, i ? "2" : "1", 1);
	}
	assert_int_equal(rd_kafka_header_get(copied, 0, "null", &value, &size), 0);
	assert_null(value);
	assert_int_equal(rd_kafka_header_get(copied, 0, "empty", &value, &size), 0);
	assert_non_null(value);
	assert_int_equal(size, 0);
	free_both(&results, &dead_letters);
}

/* A tombstone without a key: both stay null, nothing is answered. */
static void test_dead_letter_of_nulls(void **state)
{
	struct job job = refused(&reason_tombstone);
	struct reading results, dead_letters;

	(void)state;
	job.answerable = false;
	job.result.trace_id = NULL;
	job.record.key = job.record.value = NULL;
	job.record.key_size = job.record.value_size = 0;
	job.record.timestamp_ms = -1;
	publish_one(&job, &results, &dead_letters);
	assert_int_equal(results.count, 0);
	assert_int_equal(dead_letters.count, 1);
	assert_null(dead_letters.messages[0]->key);
	assert_null(dead_letters.messages[0]->payload);
	assert_header(dead_letters.messages[0], "campaign-dlt-answered", NULL);
	assert_header(dead_letters.messages[0], "campaign-dlt-reason", "tombstone");
	assert_number(dead_letters.messages[0], "kafka_dlt-original-timestamp", UINT64_MAX, 8);
	free_both(&results, &dead_letters);
}

static void test_headers_are_capped(void **state)
{
	static char big[20000];
	struct header headers[200];
	struct job job = refused(&reason_undecodable);
	struct reading results, dead_letters;
	rd_kafka_headers_t *copied;
	const void *value;
	size_t size;

	(void)state;
	for (size_t i = 0; i < 200; i++)
		headers[i] = (struct header){ "many", "v", 1 };
	job.record.headers = headers;
	job.record.header_count = 200;
	publish_one(&job, &results, &dead_letters);
	assert_int_equal(rd_kafka_message_headers(dead_letters.messages[0], &copied), 0);
	assert_int_equal(rd_kafka_header_cnt(copied), 208);
	assert_header(dead_letters.messages[0], "campaign-dlt-headers-left-out", NULL);
	assert_header(dead_letters.messages[0], "campaign-dlt-reason", "undecodable");
	free_both(&results, &dead_letters);

	memset(big, 'b', sizeof big);
	headers[0] = (struct header){ "big", big, sizeof big };
	headers[1] = (struct header){ "first", "kept", 4 };
	job.record.header_count = 2;
	publish_one(&job, &results, &dead_letters);
	assert_int_equal(rd_kafka_message_headers(dead_letters.messages[0], &copied), 0);
	assert_int_equal(rd_kafka_header_get(copied, 0, "first", &value, &size), 0);
	assert_int_equal(rd_kafka_header_get(copied, 0, "big", &value, &size), ERR(_NOENT));
	assert_header(dead_letters.messages[0], "campaign-dlt-headers-left-out", "1");
	assert_header(dead_letters.messages[0], "campaign-dlt-reason", "undecodable");
	free_both(&results, &dead_letters);
}

/* The next try after a refusal is taken. */
static void publish_soon(struct job *job)
{
	struct fault fault;

	renew_if_spent();
	if (publish(job, 1, &fault) < 0)
		fail_msg("%s: %s", fault_kind_name(fault.kind), fault.msg);
}

static void assert_truncated(struct job *job, size_t kept)
{
	int64_t end = topic_end(&rig.cluster, DEAD_LETTERS);
	uint8_t digest[SHA256_DIGEST_LENGTH];
	const rd_kafka_message_t *message;
	struct reading dead_letters;
	char text[65];

	publish_soon(job);
	topic_read(&dead_letters, &rig.cluster, DEAD_LETTERS, end);
	assert_int_equal(dead_letters.count, 1);
	message = dead_letters.messages[dead_letters.count - 1];
	assert_int_equal(message->len, kept);
	assert_memory_equal(message->payload, job->record.value, kept);
	SHA256(job->record.value, job->record.value_size, digest);
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	assert_header(message, "campaign-dlt-original-sha256", text);
	snprintf(text, sizeof text, "%zu", job->record.value_size);
	assert_header(message, "campaign-dlt-original-size", text);
	reading_free(&dead_letters);
}

/* The leaders of the two topics are different brokers: a broker's error is a topic's. */
static void part_topics(int32_t dead_letters_leader)
{
	int64_t deadline = clock_monotonic_ms() + 10000, low, high;

	assert_int_equal(rd_kafka_mock_partition_set_leader(rig.cluster.mock, DEAD_LETTERS, 0, dead_letters_leader), 0);
	while (rd_kafka_query_watermark_offsets(rig.cluster.rk, DEAD_LETTERS, 0, &low, &high, 1000) && clock_monotonic_ms() < deadline)
		clock_sleep_ms(20); /* the client that looks on asks the old leader first */
	rig.lessons = (struct lessons){ 0 };
	assert_int_equal(renew(&rig), 0);
}

static void refuse(int32_t leader, rd_kafka_resp_err_t err, enum fault_kind kind, const char *said, struct job *job)
{
	struct fault fault;

	renew_if_spent();
	rd_kafka_mock_broker_push_request_error_rtts(rig.cluster.mock, leader, PRODUCE, 1, err, 0);
	assert_int_equal(publish(job, 1, &fault), -1);
	if (fault.kind != kind || strstr(fault.msg, said) == NULL)
		fail_msg("%s: %s, wanted: %s", fault_kind_name(fault.kind), fault.msg, said);
	assert_true(publisher_is_spent(rig.publisher));
}

static void assert_dead_letter_size(struct job *job, size_t least, size_t most)
{
	int64_t end = topic_end(&rig.cluster, DEAD_LETTERS);
	struct reading dead_letters;
	size_t size;

	publish_soon(job);
	topic_read(&dead_letters, &rig.cluster, DEAD_LETTERS, end);
	size = dead_letters.messages[dead_letters.count - 1]->len;
	reading_free(&dead_letters);
	assert_in_range(size, least, most);
}

/* Longer than dead-letter-bytes: cut. Refused by the broker all the same: cut shorter each time, until it fits. What the
 * results topic refuses is no reason to cut them. */
static void test_large_dead_letters_shrink(void **state)
{
	struct job job = refused(&reason_too_large);
	static char large[10000];

	(void)state;
	for (size_t i = 0; i < sizeof large; i++)
		large[i] = (char)(i * 7);
	job.record.value = large;
	job.record.value_size = sizeof large;
	part_topics(SPARE);
	assert_truncated(&job, 4096 - 4); /* the key counts as well */
	refuse(LEADER, ERR(MSG_SIZE_TOO_LARGE), FAULT_ABORT, "topic " RESULTS " refuses records by their size", &job);
	assert_truncated(&job, 4096 - 4);
	refuse(SPARE, ERR(MSG_SIZE_TOO_LARGE), FAULT_ABORT, "topic " DEAD_LETTERS " refuses records by their size", &job);
	assert_dead_letter_size(&job, 1000, 2000);
	refuse(SPARE, ERR(RECORD_LIST_TOO_LARGE), FAULT_ABORT, "they are made to fit", &job);
	assert_dead_letter_size(&job, 100, 900);
	part_topics(LEADER);
}

/* A topic that refuses records by their time gets the other time, and then somebody is asked. */
static void test_refused_times_change(void **state)
{
	static const struct {
		int32_t leader;
		const char *topic;
	} cases[] = { { LEADER, RESULTS }, { SPARE, DEAD_LETTERS } };

	(void)state;
	part_topics(SPARE);
	for (size_t i = 0; i < 2; i++) {
		struct job job = refused(&reason_undecodable);
		int64_t end = topic_end(&rig.cluster, cases[i].topic);
		rd_kafka_timestamp_type_t type;
		struct reading reading;
		char said[128];

		snprintf(said, sizeof said, "topic %s refuses records by their time, which is this machine's", cases[i].topic);
		refuse(cases[i].leader, ERR(INVALID_TIMESTAMP), FAULT_ABORT, said, &job);
		publish_soon(&job);
		topic_read(&reading, &rig.cluster, cases[i].topic, end);
		assert_int_equal(rd_kafka_message_timestamp(reading.messages[reading.count - 1], &type), 1700000000123);
		reading_free(&reading);
		refuse(cases[i].leader, ERR(INVALID_TIMESTAMP), FAULT_ABORT, "by their time, which is their command's", &job);
		refuse(cases[i].leader, ERR(INVALID_TIMESTAMP), FAULT_WAIT, cases[i].topic, &job);
		publish_soon(&job);
	}
	part_topics(LEADER);
}

static void test_other_refusals_name_the_topic(void **state)
{
	struct job job = refused(&reason_undecodable);

	(void)state;
	part_topics(SPARE);
	refuse(LEADER, ERR(INVALID_REQUIRED_ACKS), FAULT_ABORT, "topic " RESULTS " refuses records: Broker: Invalid required acks value", &job);
	publish_soon(&job);
	refuse(SPARE, ERR(INVALID_RECORD), FAULT_ABORT, "which is this machine's (or a null key, if its cleanup.policy is not delete)", &job);
	publish_soon(&job);
	part_topics(LEADER);
}

/* Where a topic's settings cannot be read (the mock does not tell them), a guess is given up after a minute. */
static void test_guesses_are_halved_and_given_up(void **state)
{
	struct limit topics[LIMITS] = { 0 };
	const struct limit *results = &topics[LIMIT_RESULTS];
	struct limits limits;

	(void)state;
	limits_init(&limits, rig.cluster.rk, topics, RESULTS, DEAD_LETTERS);
	assert_int_equal(results->bytes, 1000000);
	limits_learn(&limits, LIMIT_RESULTS, 100000, 500);
	assert_int_equal(results->bytes, 50000);
	limits_learn(&limits, LIMIT_RESULTS, 60000, 500); /* it was not sent, then */
	assert_int_equal(results->bytes, 25000);
	limits_learn(&limits, LIMIT_RESULTS, 100, 500);
	assert_int_equal(results->bytes, 1024);
	assert_int_equal(topics[LIMIT_DEAD_LETTERS].bytes, 1000000);
	limits_destroy(&limits);
	limits_init(&limits, rig.cluster.rk, topics, RESULTS, DEAD_LETTERS); /* the next producer's */
	assert_int_equal(results->bytes, 1024);
	limits_renew(&limits, clock_monotonic_ms() + 59000);
	assert_int_equal(results->bytes, 1024);
	limits_renew(&limits, clock_monotonic_ms() + 61000);
	assert_int_equal(results->bytes, 1000000);
	limits_destroy(&limits);
}

/* A key that leaves no room for the value is cut as well. */
static void test_large_key_is_cut(void **state)
{
	int64_t end = topic_end(&rig.cluster, DEAD_LETTERS);
	struct job job = refused(&reason_key_mismatch);
	static char large[3000000];
	struct reading dead_letters;
	struct fault fault;

	(void)state;
	job.record.key = job.record.value = large;
	job.record.key_size = job.record.value_size = sizeof large;
	assert_int_equal(renew(&rig), 0);
	assert_int_equal(publish(&job, 1, &fault), 0);
	topic_read(&dead_letters, &rig.cluster, DEAD_LETTERS, end);
	assert_int_equal(dead_letters.messages[0]->key_len, 4096);
	assert_non_null(dead_letters.messages[0]->payload);
	assert_int_equal(dead_letters.messages[0]->len, 0);
	assert_header(dead_letters.messages[0], "campaign-dlt-original-size", "3000000");
	reading_free(&dead_letters);
}

/* ---- batches ---- */

static void test_full_batch_is_committed(void **state)
{
	int64_t result_end = topic_end(&rig.cluster, RESULTS);
	struct job *jobs = calloc(500, sizeof *jobs);
	struct fault fault;

	(void)state;
	for (size_t i = 0; i < 500; i++)
		jobs[i] = i % 2 ? accepted() : refused(contract_find_reason(&duplicate_contract, "lead_active"));
	assert_int_equal(publish(jobs, 500, &fault), 0);
	assert_false(publisher_is_spent(rig.publisher));
	assert_int_equal(topic_end(&rig.cluster, RESULTS) - result_end, 500);
	free(jobs);
}

/* A batch of dead letters that nobody can be answered for, and one that has nothing to say: the offsets are committed. */
static void test_offsets_alone(void **state)
{
	struct job job = accepted();
	struct fault fault;

	(void)state;
	job.answerable = false;
	assert_int_equal(publish(&job, 1, &fault), 0);
}

/* A copy of a command that was refused by its own time is executed after all. */
static void test_copies_are_bounded_too(void **state)
{
	struct job jobs[] = { accepted(), accepted(), accepted() };

	(void)state;
	jobs[0].executable = true;
	jobs[1].copy_of = &jobs[0];
	publisher_bound_results(rig.publisher, rig.codec, jobs, 3, rig.arena);
	assert_true(jobs[0].text_bytes_max > 0);
	assert_int_equal(jobs[1].text_bytes_max, jobs[0].text_bytes_max);
	assert_int_equal(jobs[2].text_bytes_max, 0);
}

static int set_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < HANGS; i++)
		if (pthread_create(&hangs[i].thread, NULL, run_hang, &hangs[i]) != 0)
			abort();
	return open_rig(&rig);
}

static int tear_down(void **state)
{
	(void)state;
	close_rig(&rig);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_request_in_every_class),
		cmocka_unit_test(test_copies_are_bounded_too),
		cmocka_unit_test(test_init_in_every_class),
		cmocka_unit_test(test_init_without_coordinator_returns_in_time),
		cmocka_unit_test(test_no_client_pushes_metrics),
		cmocka_unit_test(test_missing_topic_is_named),
		cmocka_unit_test(test_result_of_an_accepted_command),
		cmocka_unit_test(test_result_of_a_refused_command),
		cmocka_unit_test(test_trace_context_is_checked),
		cmocka_unit_test(test_dead_letter),
		cmocka_unit_test(test_dead_letter_of_nulls),
		cmocka_unit_test(test_headers_are_capped),
		cmocka_unit_test(test_large_dead_letters_shrink),
		cmocka_unit_test(test_refused_times_change),
		cmocka_unit_test(test_other_refusals_name_the_topic),
		cmocka_unit_test(test_guesses_are_halved_and_given_up),
		cmocka_unit_test(test_large_key_is_cut),
		cmocka_unit_test(test_full_batch_is_committed),
		cmocka_unit_test(test_offsets_alone),
		cmocka_unit_test(test_group_coordinator_moves),
		cmocka_unit_test(test_no_answer_ends_in_time),
	};

	log_quietly();
	return cmocka_run_group_tests_name("publisher", tests, set_up, tear_down);
}
