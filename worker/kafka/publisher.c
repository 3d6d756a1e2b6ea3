#include "worker/kafka/publisher.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"
#include "schemas/dead_letter.h"
#include "worker/base/clock.h"
#include "worker/base/failpoint.h"
#include "worker/kafka/kafka.h"
#include "worker/kafka/mark.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "worker/kafka/inflight.h"

#define CALL_MS 10000        /* a transactional call without an answer for that long is given up */
#define RETRY_PAUSE_MS 100
#define FIND_MS 1000
/* librdkafka registers a transaction's partitions 1 ms after its first record, by a thread that sleeps whole milliseconds
 * unless it is woken: 2 ms mostly, of the 4 that a small transaction takes. */
#define REGISTER_US 1020
#define DEAD_LETTER_BYTES_MIN 1024
#define TRACESTATE_MAX 512   /* W3C Trace Context, 3.3.1.5 */

struct publisher {
	rd_kafka_t *rk;
	char *results, *dead_letters, *group;
	size_t dead_letter_bytes; /* shrinks when a broker refuses a dead letter's size */
	bool size_refused;        /* since the transaction began */
	bool record_open;         /* a record failed that a broker may have taken, or may take yet */
	bool initialised, spent, fenced;
	struct inflight inflight;
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	struct publisher *publisher = opaque;

	(void)rk;
	if (message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		publisher->size_refused = true;
	if (message->err && rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED)
		publisher->record_open = true;
	if (message->err && message->err != RD_KAFKA_RESP_ERR__PURGE_QUEUE && message->err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
		log_warn("produce_failed", rd_kafka_err2str(message->err), "topic", rd_kafka_topic_name(message->rkt));
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

struct publisher *publisher_new(const struct config *config, const char *transactional_id, struct fault *fault)
{
	struct publisher *publisher = must(calloc(1, sizeof *publisher));

	publisher->results = must(strdup(config->results));
	publisher->dead_letters = must(strdup(config->dead_letters));
	publisher->group = must(strdup(config->group));
	publisher->dead_letter_bytes = (size_t)config->dead_letter_bytes;
	if (make_producer(publisher, config, transactional_id, fault) < 0) {
		publisher_free(publisher);
		return NULL;
	}
	return publisher;
}

void publisher_free(struct publisher *publisher)
{
	if (publisher == NULL)
		return;
	if (publisher->rk) {
		rd_kafka_purge(publisher->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
		rd_kafka_destroy(publisher->rk);
	}
	free(publisher->results);
	free(publisher->dead_letters);
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
	bool again;

	if (error == NULL)
		return 0;
	again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error);
	take_error(publisher, error, "init_transactions", fault);
	if (again)
		fault->kind = FAULT_RETRY;
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
	if (find_topic(publisher, publisher->results, fault) < 0)
		return -1;
	return find_topic(publisher, publisher->dead_letters, fault);
}

/* ---- headers ---- */

static void add_header(rd_kafka_headers_t *headers, const char *name, const void *value, size_t size)
{
	rd_kafka_header_add(headers, name, -1, value, (ssize_t)size);
}

static void add_text_header(rd_kafka_headers_t *headers, const char *name, const char *text)
{
	add_header(headers, name, text, strlen(text));
}

static const struct header *find_header(const struct record *record, const char *name)
{
	for (size_t i = record->header_count; i-- > 0;)
		if (strcmp(record->headers[i].name, name) == 0)
			return &record->headers[i];
	return NULL;
}

static bool is_lower_hex(const char *s, size_t n)
{
	return strspn(s, "0123456789abcdef") >= n;
}

/* version "-" trace-id "-" parent-id "-" trace-flags; neither id is all zeros (W3C Trace Context, 3.2). */
static bool is_traceparent(const struct header *header)
{
	char s[56];

	if (header == NULL || header->size != 55)
		return false;
	memcpy(s, header->value, 55);
	s[55] = '\0';
	return is_lower_hex(s, 2) && s[2] == '-' && is_lower_hex(s + 3, 32) && s[35] == '-' && is_lower_hex(s + 36, 16) &&
	       s[52] == '-' && is_lower_hex(s + 53, 2) && memcmp(s, "ff", 2) != 0 && strspn(s + 3, "0") < 32 &&
	       strspn(s + 36, "0") < 16;
}

static bool is_tracestate(const struct header *header)
{
	if (header == NULL || header->size == 0 || header->size > TRACESTATE_MAX)
		return false;
	for (size_t i = 0; i < header->size; i++) {
		unsigned char c = ((const unsigned char *)header->value)[i];

		if ((c < 0x20 && c != '\t') || c > 0x7e)
			return false;
	}
	return true;
}

static void add_trace_context(rd_kafka_headers_t *headers, const struct record *record)
{
	const struct header *parent = find_header(record, "traceparent"), *state = find_header(record, "tracestate");

	if (!is_traceparent(parent))
		return;
	add_header(headers, "traceparent", parent->value, parent->size);
	if (is_tracestate(state))
		add_header(headers, "tracestate", state->value, state->size);
}

/* ---- results and dead letters ---- */

static int produce_take_headers(struct publisher *publisher, const char *topic, const void *key, size_t key_size, const void *value,
				size_t size, rd_kafka_headers_t *headers, struct fault *fault)
{
	rd_kafka_vu_t arguments[] = {
		{ .vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic },
		{ .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { .ptr = (void *)key, .size = key_size } },
		{ .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { .ptr = (void *)value, .size = size } },
		{ .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
		{ .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
	};
	rd_kafka_error_t *error = rd_kafka_produceva(publisher->rk, arguments, sizeof arguments / sizeof arguments[0]);

	if (error == NULL)
		return 0;
	rd_kafka_headers_destroy(headers);
	if (rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		publisher->size_refused = true;
	fault_set(fault, rd_kafka_error_is_fatal(error) ? FAULT_REBUILD : FAULT_ABORT, "produce to %s: %s", topic,
		  rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return -1;
}

static int produce_result(struct publisher *publisher, struct codec *codec, const struct job *job, struct arena *arena,
			  struct fault *fault)
{
	const struct command_result *result = &job->result;
	rd_kafka_headers_t *headers;
	const void *value;
	char status[16];
	size_t size;

	if (codec_encode_result(codec, result, arena, &value, &size, fault) < 0)
		return -1;
	headers = rd_kafka_headers_new(5);
	add_trace_context(headers, &job->record);
	snprintf(status, sizeof status, "%d", result->http_status);
	add_text_header(headers, "httpStatus", status);
	if (result->error_code)
		add_text_header(headers, "code", result->error_code);
	if (result->account_group_id)
		add_text_header(headers, "accountGroupId", result->account_group_id);
	return produce_take_headers(publisher, publisher->results, result->trace_id, strlen(result->trace_id), value, size, headers, fault);
}

static int produce_dead_letter(struct publisher *publisher, const struct job *job, struct arena *arena, struct fault *fault)
{
	const struct record *record = &job->record;
	size_t size = record->value_size, key_size = record->key_size, count;
	struct dead_letter letter = {
		.topic = record->topic, .partition = record->partition, .offset = record->offset, .timestamp_ms = record->timestamp_ms,
		.group = publisher->group, .message = job->cause ? job->cause : "", .reason = job->reason->word,
		.answered = job->answerable ? job->result.error_code : NULL,
	};
	const struct header *headers;
	rd_kafka_headers_t *copies;

	if (key_size > publisher->dead_letter_bytes)
		key_size = publisher->dead_letter_bytes;
	if (size > publisher->dead_letter_bytes - key_size) { /* together they have to fit */
		dead_letter_cut(&letter, record->value, size, arena);
		size = publisher->dead_letter_bytes - key_size;
	}
	count = dead_letter_write(&letter, record, arena, &headers);
	copies = rd_kafka_headers_new(count);
	for (size_t i = 0; i < count; i++)
		add_header(copies, headers[i].name, headers[i].value, headers[i].size);
	return produce_take_headers(publisher, publisher->dead_letters, record->key, key_size, record->value, size, copies, fault);
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

/* A record larger than a broker takes would abort every transaction it is in: dead letters get shorter until they fit. */
static void shrink_dead_letters(struct publisher *publisher)
{
	if (!publisher->size_refused || publisher->dead_letter_bytes <= DEAD_LETTER_BYTES_MIN)
		return;
	publisher->dead_letter_bytes /= 2;
	log_warn("dead_letter_too_large", "the broker refused a record's size: dead letters are cut shorter from now on",
		 "dead_letter_bytes", LOG_INT((int64_t)publisher->dead_letter_bytes));
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

	publisher->size_refused = false;
	if (run_transaction(publisher, codec, publication, arena, fault) == 0) {
		publisher->spent = is_doubtful(publisher);
		return 0;
	}
	if (fault->kind == FAULT_REBUILD)
		return -1;
	if (fault->kind != FAULT_FENCED)
		fault->kind = FAULT_ABORT;
	if (abort_transaction(publisher, &abort_fault) < 0) {
		*fault = abort_fault;
		fault->kind = FAULT_REBUILD;
		return -1;
	}
	publisher->spent = is_doubtful(publisher);
	shrink_dead_letters(publisher);
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
	struct publisher *publisher = publisher_new(config, transactional_id, fault);
	int ended;

	if (publisher == NULL)
		return -1;
	ended = get_epoch(publisher, timeout_ms, fault);
	publisher_free(publisher);
	return ended;
}
