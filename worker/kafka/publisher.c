#include "worker/kafka/publisher.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/failpoint.h"
#include "worker/kafka/kafka.h"
#include "worker/kafka/mark.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "worker/kafka/inflight.h"
#include "worker/kafka/message.h"
#include "worker/kafka/refusals.h"

#define CALL_MS 10000        /* a transactional call without an answer for that long is given up */
#define RETRY_PAUSE_MS 100
#define FIND_MS 1000
/* librdkafka registers a transaction's partitions 1 ms after its first record, by a thread that sleeps whole milliseconds
 * unless it is woken: 2 ms mostly, of the 4 that a small transaction takes. */
#define REGISTER_US 1020

struct target { /* one of the two topics */
	char *name;
	size_t waiting_bytes; /* produced, and may be in a batch with what comes next */
	size_t sent_bytes;    /* the most that waited since the transaction began */
	rd_kafka_resp_err_t refusal; /* the first of a record since the transaction began */
};

struct publisher {
	rd_kafka_t *rk;
	char *group;
	struct target targets[LIMITS];
	struct lessons *lessons;
	struct limits limits;
	size_t dead_letter_bytes; /* of key and value, whatever the topic takes */
	bool record_open;         /* a record failed that a broker may have taken, or may take yet */
	bool initialised, spent, fenced;
	struct inflight inflight;
};

/* A record that failed because others did says nothing. */
static bool is_cause(rd_kafka_resp_err_t err)
{
	return err && err != RD_KAFKA_RESP_ERR__PURGE_QUEUE && err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT &&
	       err != RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD;
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	struct publisher *publisher = opaque;
	const char *topic = rd_kafka_topic_name(message->rkt);

	(void)rk;
	if (message->err && rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED)
		publisher->record_open = true;
	if (!is_cause(message->err))
		return;
	log_warn("produce_failed", rd_kafka_err2str(message->err), "topic", topic);
	for (struct target *target = publisher->targets; target < publisher->targets + LIMITS; target++)
		if (target->refusal == RD_KAFKA_RESP_ERR_NO_ERROR && strcmp(target->name, topic) == 0)
			target->refusal = message->err;
}

static int make_producer(struct publisher *publisher, const struct config *config, const char *transactional_id, struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_TRANSACTIONAL_PRODUCER, fault);

	if (conf == NULL)
		return -1;
	if (kafka_conf_set(conf, "transactional.id", transactional_id, fault) < 0 ||
	    kafka_conf_set(conf, "client.id", transactional_id, fault) < 0 || inflight_install(conf, &publisher->inflight, fault) < 0) {
		rd_kafka_conf_destroy(conf);
		return -1;
	}
	rd_kafka_conf_set_opaque(conf, publisher);
	/* No error callback: nobody polls between transactions, so its events would pile up; without one they are logged. */
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	publisher->rk = kafka_new_take(conf, KAFKA_TRANSACTIONAL_PRODUCER, fault);
	return publisher->rk ? 0 : -1;
}

struct publisher *publisher_new(const struct config *config, const char *transactional_id, struct lessons *lessons,
				struct fault *fault)
{
	struct publisher *publisher = must(calloc(1, sizeof *publisher));

	publisher->targets[LIMIT_RESULTS].name = must(strdup(config->results));
	publisher->targets[LIMIT_DEAD_LETTERS].name = must(strdup(config->dead_letters));
	publisher->group = must(strdup(config->group));
	publisher->dead_letter_bytes = (size_t)config->dead_letter_bytes;
	publisher->lessons = lessons;
	if (make_producer(publisher, config, transactional_id, fault) < 0) {
		publisher_free(publisher);
		return NULL;
	}
	limits_init(&publisher->limits, publisher->rk, lessons->limits, publisher->targets[LIMIT_RESULTS].name,
		    publisher->targets[LIMIT_DEAD_LETTERS].name);
	return publisher;
}

void publisher_free(struct publisher *publisher)
{
	if (publisher == NULL)
		return;
	limits_destroy(&publisher->limits);
	if (publisher->rk) {
		rd_kafka_purge(publisher->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
		rd_kafka_destroy(publisher->rk);
	}
	for (int i = 0; i < LIMITS; i++)
		free(publisher->targets[i].name);
	free(publisher->group);
	free(publisher);
}

static bool is_fencing(int code)
{
	return code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
	       code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

/* The order matters: a fatal error may carry the other flags too, and a fenced producer is finished although librdkafka
 * calls it abortable where AddOffsetsToTxn said so. None of them: the outcome is open. */
enum fault_kind publisher_classify(bool fatal, bool requires_abort, bool retriable, int code)
{
	if (fatal || is_fencing(code))
		return FAULT_REBUILD;
	if (requires_abort)
		return code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION || code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID ||
		       code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID || code == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS ?
		       FAULT_FENCED : FAULT_ABORT;
	if (code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT)
		return FAULT_REBUILD;
	return retriable ? FAULT_RETRY : FAULT_REBUILD;
}

static int take_error(struct publisher *publisher, rd_kafka_error_t *error, const char *call, struct fault *fault)
{
	int code = rd_kafka_error_code(error);
	enum fault_kind kind = publisher_classify(rd_kafka_error_is_fatal(error), rd_kafka_error_txn_requires_abort(error),
					       rd_kafka_error_is_retriable(error), code);

	publisher->fenced |= is_fencing(code);
	fault_set(fault, kind, "%s: %s: %s", call, rd_kafka_error_name(error), rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return -1;
}

/* A call that may be made again after a pause is, until CALL_MS are over: then its outcome is not known, which only a new
 * producer ends. */
#define CALL(publisher, fault, call, expression) do { \
		int64_t deadline_ = clock_monotonic_ms() + CALL_MS; \
		rd_kafka_error_t *error_; \
		while ((error_ = (expression)) != NULL) { \
			take_error((publisher), error_, (call), (fault)); \
			if ((fault)->kind != FAULT_RETRY) \
				return -1; \
			if (clock_monotonic_ms() >= deadline_) { \
				(fault)->kind = FAULT_REBUILD; \
				return -1; \
			} \
			clock_sleep_ms(RETRY_PAUSE_MS); \
		} \
	} while (0)

static int get_epoch(struct publisher *publisher, int timeout_ms, struct fault *fault)
{
	rd_kafka_error_t *error = rd_kafka_init_transactions(publisher->rk, timeout_ms);
	const char *refusal = refusal_of(rd_kafka_error_code(error));
	bool again;

	if (error == NULL)
		return 0;
	again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error);
	take_error(publisher, error, "init_transactions", fault);
	if (again)
		fault->kind = FAULT_RETRY;
	if (refusal)
		fault_set(fault, FAULT_FATAL, "init_transactions: %s", refusal);
	return -1;
}

/* A topic that is missing would else show only as a transaction that is not committed in time. Also, the first transaction on
 * a topic that librdkafka has not looked up yet takes most of a second. No answer in time is no fault: nothing is known. */
static int find_topic(struct publisher *publisher, const char *name, struct fault *fault)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(publisher->rk, name, NULL);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
	const struct rd_kafka_metadata *metadata;

	if (topic == NULL)
		return fault_set(fault, FAULT_WAIT, "topic %s: %s", name, rd_kafka_err2str(rd_kafka_last_error()));
	if (rd_kafka_metadata(publisher->rk, 0, topic, &metadata, FIND_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
		if (metadata->topic_cnt == 1)
			err = metadata->topics[0].err;
		rd_kafka_metadata_destroy(metadata);
	}
	rd_kafka_topic_destroy(topic);
	switch (err) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
	case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		return 0;
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		return fault_set(fault, FAULT_WAIT, "topic %s does not exist: `campaign-worker topics` creates it", name);
	default:
		return fault_set(fault, FAULT_WAIT, "topic %s: %s", name, rd_kafka_err2str(err));
	}
}

int publisher_init(struct publisher *publisher, int timeout_ms, struct fault *fault)
{
	if (!publisher->initialised && get_epoch(publisher, timeout_ms, fault) < 0)
		return -1;
	publisher->initialised = true;
	for (int i = 0; i < LIMITS; i++)
		if (find_topic(publisher, publisher->targets[i].name, fault) < 0)
			return -1;
	limits_ask(&publisher->limits, FIND_MS);
	return 0;
}

void publisher_renew_limits(struct publisher *publisher)
{
	if (publisher->initialised)
		limits_renew(&publisher->limits, clock_monotonic_ms());
}

void publisher_bound_results(const struct publisher *publisher, struct codec *codec, struct job *jobs, size_t n, struct arena *arena)
{
	size_t limit = publisher->limits.topics[LIMIT_RESULTS].bytes;

	for (struct job *job = jobs; job < jobs + n; job++)
		if (job->executable || job->copy_of) /* a copy may come to be executed itself */
			job->text_bytes_max = message_text_bytes_max(job, codec, limit, arena);
}

/* ---- results and dead letters ---- */

static rd_kafka_headers_t *copy_headers(const struct message *message)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(message->header_count);

	for (size_t i = 0; i < message->header_count; i++)
		rd_kafka_header_add(headers, message->headers[i].name, -1, message->headers[i].value, (ssize_t)message->headers[i].size);
	return headers;
}

/* A batch must not be larger than what the topic takes, although each of its records is not. */
static void separate_batches(struct publisher *publisher, int topic, size_t bytes)
{
	size_t limit = publisher->limits.topics[topic].bytes;

	if (limit < publisher->limits.batch_max && publisher->targets[topic].waiting_bytes + bytes > limit) {
		(void)rd_kafka_flush(publisher->rk, CALL_MS); /* what fails is reported, and fails the commit */
		for (int i = 0; i < LIMITS; i++)
			publisher->targets[i].waiting_bytes = 0;
	}
	publisher->targets[topic].waiting_bytes += bytes;
	if (publisher->targets[topic].sent_bytes < publisher->targets[topic].waiting_bytes)
		publisher->targets[topic].sent_bytes = publisher->targets[topic].waiting_bytes;
}

static int produce(struct publisher *publisher, int topic, const struct message *message, const struct job *job, struct fault *fault)
{
	struct target *target = &publisher->targets[topic];
	rd_kafka_headers_t *headers = copy_headers(message);
	bool command_time = publisher->lessons->command_times[topic] && job->record.timestamp_ms > 0;
	rd_kafka_vu_t arguments[] = {
		{ .vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = target->name },
		{ .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { .ptr = (void *)message->key, .size = message->key_size } },
		{ .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { .ptr = (void *)message->value, .size = message->value_size } },
		{ .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
		{ .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
		{ .vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = command_time ? job->record.timestamp_ms : 0 },
	};
	rd_kafka_error_t *error = rd_kafka_produceva(publisher->rk, arguments, sizeof arguments / sizeof arguments[0]);

	if (error == NULL)
		return 0;
	rd_kafka_headers_destroy(headers);
	fault_set(fault, rd_kafka_error_is_fatal(error) ? FAULT_REBUILD : FAULT_ABORT, "produce to %s: %s", target->name,
		  rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return -1;
}

static int produce_fitting(struct publisher *publisher, int topic, const struct message *message, const struct job *job,
			   struct fault *fault)
{
	size_t bytes = message_bytes(message), limit = publisher->limits.topics[topic].bytes;

	if (bytes > limit)
		return fault_set(fault, FAULT_WAIT, "topic %s takes records of %zu bytes, and the smallest %s for partition %" PRId32
				 ", offset %" PRId64 " needs %zu: raise the topic's max.message.bytes (and message.max.bytes, if it is set here)",
				 publisher->targets[topic].name, limit, topic == LIMIT_RESULTS ? "result" : "dead letter",
				 job->record.partition, job->record.offset, bytes);
	separate_batches(publisher, topic, bytes);
	return produce(publisher, topic, message, job, fault);
}

static int produce_result(struct publisher *publisher, struct codec *codec, const struct job *job, struct arena *arena,
			  struct fault *fault)
{
	struct message message;

	if (message_of_result(job, codec, publisher->limits.topics[LIMIT_RESULTS].bytes, arena, &message, fault) < 0) {
		fault->kind = FAULT_WAIT;
		return -1;
	}
	return produce_fitting(publisher, LIMIT_RESULTS, &message, job, fault);
}

static int produce_dead_letter(struct publisher *publisher, const struct job *job, struct arena *arena, struct fault *fault)
{
	struct message message;

	message_of_dead_letter(job, publisher->group, publisher->dead_letter_bytes, publisher->limits.topics[LIMIT_DEAD_LETTERS].bytes,
			       arena, &message);
	return produce_fitting(publisher, LIMIT_DEAD_LETTERS, &message, job, fault);
}

/* ---- the transaction ---- */

static int send_offsets(struct publisher *publisher, const struct publication *publication, struct fault *fault)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)publication->offset_count);
	int64_t deadline = clock_monotonic_ms() + CALL_MS;
	rd_kafka_error_t *error;

	for (size_t i = 0; i < publication->offset_count; i++) {
		rd_kafka_topic_partition_t *offset =
			rd_kafka_topic_partition_list_add(list, publication->jobs[0].record.topic, publication->offsets[i].partition);

		offset->offset = publication->offsets[i].next;
		mark_set(offset);
	}
	while ((error = rd_kafka_send_offsets_to_transaction(publisher->rk, list, publication->metadata, CALL_MS)) != NULL) {
		take_error(publisher, error, "send_offsets_to_transaction", fault);
		if (fault->kind != FAULT_RETRY || clock_monotonic_ms() >= deadline)
			break;
		clock_sleep_ms(RETRY_PAUSE_MS);
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (error && fault->kind == FAULT_RETRY)
		fault->kind = FAULT_REBUILD;
	return error ? -1 : 0;
}

static int run_transaction(struct publisher *publisher, struct codec *codec, const struct publication *publication,
			   struct arena *arena, struct fault *fault)
{
	int64_t first_us = 0;

	failpoint("ktx-begin");
	CALL(publisher, fault, "begin_transaction", rd_kafka_begin_transaction(publisher->rk));
	for (size_t i = 0; i < publication->count; i++) {
		struct job *job = &publication->jobs[i];

		if (job->answerable && produce_result(publisher, codec, job, arena, fault) < 0)
			return -1;
		if (job->dead_letter && produce_dead_letter(publisher, job, arena, fault) < 0)
			return -1;
		if (i == 0)
			first_us = clock_monotonic_us();
		failpoint("produce");
	}
	failpoint("offsets-before");
	if (send_offsets(publisher, publication, fault) < 0)
		return -1;
	failpoint("offsets-after");
	failpoint("endtxn-before");
	clock_sleep_us(first_us + REGISTER_US - clock_monotonic_us()); /* the next call wakes that thread */
	CALL(publisher, fault, "commit_transaction", rd_kafka_commit_transaction(publisher->rk, CALL_MS));
	failpoint("endtxn-after");
	return 0;
}

static int abort_transaction(struct publisher *publisher, struct fault *fault)
{
	CALL(publisher, fault, "abort_transaction", rd_kafka_abort_transaction(publisher->rk, CALL_MS));
	return 0;
}

/* Records get another time next time: their commands', which brokers wrote, or again that of our clock. Where several records
 * of a batch are invalid, librdkafka has one code for all causes (and the broker's text only in memory that it has freed). */
static void change_times(struct publisher *publisher, int topic, struct fault *fault)
{
	const struct target *target = &publisher->targets[topic];
	struct lessons *lessons = publisher->lessons;
	const char *or_key = target->refusal == RD_KAFKA_RESP_ERR_INVALID_RECORD ?
			     " (or a null key, if its cleanup.policy is not delete)" : "";

	lessons->command_times[topic] = !lessons->command_times[topic];
	if (lessons->time_refusals[topic]++ > 0)
		fault->kind = FAULT_WAIT;
	fault_set(fault, fault->kind, "topic %s refuses records by their time, which is %s%s: set its message.timestamp.type=LogAppendTime, "
		  "or this machine's clock, or the topic's message.timestamp.before.max.ms and message.timestamp.after.max.ms",
		  target->name, lessons->command_times[topic] ? "this machine's" : "their command's", or_key);
}

/* What the refused topic wants, so that the next try is taken. */
static void learn(struct publisher *publisher, int topic, struct fault *fault)
{
	struct target *target = &publisher->targets[topic];

	switch (target->refusal) {
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
	case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
	case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
		limits_learn(&publisher->limits, topic, target->sent_bytes, FIND_MS);
		fault_set(fault, fault->kind, "topic %s refuses records by their size: they are made to fit %zu bytes", target->name,
			  publisher->limits.topics[topic].bytes);
		return;
	case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
	case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		change_times(publisher, topic, fault);
		return;
	default:
		fault_set(fault, fault->kind, "topic %s refuses records: %s", target->name, rd_kafka_err2str(target->refusal));
	}
}

/* The fault tells of one topic; of another one before it, the log does. */
static void learn_all(struct publisher *publisher, struct fault *fault)
{
	const char *told = NULL;

	for (int i = LIMITS; i-- > 0;) {
		if (publisher->targets[i].refusal == RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		if (told)
			log_warn("produce_failed", fault->msg, "topic", told);
		learn(publisher, i, fault);
		told = publisher->targets[i].name;
	}
}

static void begin_targets(struct publisher *publisher)
{
	for (int i = 0; i < LIMITS; i++) {
		publisher->targets[i].refusal = RD_KAFKA_RESP_ERR_NO_ERROR;
		publisher->targets[i].waiting_bytes = publisher->targets[i].sent_bytes = 0;
	}
}

static bool is_refused(const struct publisher *publisher)
{
	for (int i = 0; i < LIMITS; i++)
		if (publisher->targets[i].refusal)
			return true;
	return false;
}

static bool is_doubtful(const struct publisher *publisher)
{
	static const int apis[] = { API_ADD_PARTITIONS_TO_TXN, API_ADD_OFFSETS_TO_TXN, API_TXN_OFFSET_COMMIT, API_END_TXN };

	for (size_t i = 0; i < sizeof apis / sizeof apis[0]; i++)
		if (inflight_is_doubtful(&publisher->inflight, apis[i]))
			return true;
	return publisher->record_open;
}

int publisher_publish(struct publisher *publisher, struct codec *codec, const struct publication *publication, struct arena *arena,
		   struct fault *fault)
{
	struct fault abort_fault;

	begin_targets(publisher);
	if (run_transaction(publisher, codec, publication, arena, fault) == 0) {
		publisher->spent = is_doubtful(publisher);
		memset(publisher->lessons->time_refusals, 0, sizeof publisher->lessons->time_refusals);
		return 0;
	}
	if (fault->kind == FAULT_REBUILD)
		return -1;
	if (fault->kind != FAULT_FENCED && fault->kind != FAULT_WAIT)
		fault->kind = FAULT_ABORT;
	if (abort_transaction(publisher, &abort_fault) < 0) {
		*fault = abort_fault;
		fault->kind = FAULT_REBUILD;
		return -1;
	}
	publisher->spent = is_doubtful(publisher) || is_refused(publisher);
	if (fault->kind != FAULT_FENCED)
		learn_all(publisher, fault);
	return -1;
}

bool publisher_is_spent(const struct publisher *publisher)
{
	return publisher->spent;
}

bool publisher_was_fenced(const struct publisher *publisher)
{
	return publisher->fenced;
}

int publisher_end_transaction(const struct config *config, const char *transactional_id, int timeout_ms, struct fault *fault)
{
	struct lessons none = { 0 };
	struct publisher *publisher = publisher_new(config, transactional_id, &none, fault);
	int ended;

	if (publisher == NULL)
		return -1;
	ended = get_epoch(publisher, timeout_ms, fault);
	publisher_free(publisher);
	return ended;
}
