#include "worker/kafka/consumer.h"

#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/failpoint.h"
#include "worker/kafka/kafka.h"
#include "worker/base/log.h"
#include "worker/kafka/inflight.h"

#define ALONE_MS 300 /* for one partition, after the look at all of them has failed */
#define SPARE 16 /* records that come along while there is no room and only the group is served */

struct running {
	int32_t partition;
	int64_t next; /* offset after the last record that entered the queue */
	char unreadable[256]; /* why what follows cannot be read; empty: it can */
};

struct consumer {
	rd_kafka_t *rk;
	char *topic, *group;
	int room;           /* records the queue may hold */
	size_t room_bytes;
	struct inflight inflight;
	char *cluster_id;
	rd_kafka_consumer_group_metadata_t *metadata;

	uint64_t serial;
	int32_t *assigned;
	size_t assigned_count;
	struct running *running;
	size_t running_count;
	bool paused;
	bool fetching;      /* librdkafka has partitions to fetch */
	int partition_count;

	rd_kafka_message_t **queue; /* fetched, [0, taken) handed out, [taken, count) waiting */
	size_t taken, count, bytes;
	int beyond;                 /* came without room, and wait */
	struct fault fatal; /* recorded by callbacks */
	bool finished;
};

static void queue_drop_waiting(struct consumer *consumer)
{
	while (consumer->count > consumer->taken)
		rd_kafka_message_destroy(consumer->queue[--consumer->count]);
	consumer->bytes = 0;
}

static void forget_running(struct consumer *consumer)
{
	queue_drop_waiting(consumer);
	consumer->running_count = 0;
	consumer->paused = false;
}

static void forget_metadata(struct consumer *consumer)
{
	if (consumer->metadata)
		rd_kafka_consumer_group_metadata_destroy(consumer->metadata);
	consumer->metadata = NULL;
}

static int finish(struct consumer *consumer, struct fault *fault, const char *fmt, ...) PRINTF(3, 4);

/* This consumer is given up, and says why. */
static int finish(struct consumer *consumer, struct fault *fault, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	consumer->finished = true;
	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	return fault_set(fault, FAULT_REBUILD, "%s", why);
}

/* The list may be empty; NULL would answer a revoke. */
static int replace(struct consumer *consumer, const struct running *running, size_t n, struct fault *fault)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_resp_err_t err;

	for (size_t i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, consumer->topic, running[i].partition)->offset = running[i].next;
	err = rd_kafka_assign(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (err)
		return finish(consumer, fault, "cannot assign %zu partitions of %s: %s", n, consumer->topic, rd_kafka_err2str(err));
	consumer->fetching = n > 0;
	return 0;
}

/* Replaces what librdkafka fetches, by way of nothing: it aborts the process when a partition is taken away a second time
 * before the first stop was reported back to its main thread (assertion on rktp_started, 2.0.2 and later). A call that only
 * adds, in between, lets that report come first. */
static int assign(struct consumer *consumer, const struct running *running, size_t n, struct fault *fault)
{
	if (consumer->fetching && n > 0 && replace(consumer, NULL, 0, fault) < 0)
		return -1;
	return replace(consumer, running, n, fault);
}

static void on_assign(struct consumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
	free(consumer->assigned);
	consumer->assigned = calloc((size_t)list->cnt + 1, sizeof *consumer->assigned);
	free(consumer->running);
	consumer->running = calloc((size_t)list->cnt + 1, sizeof *consumer->running);
	if (consumer->assigned == NULL || consumer->running == NULL)
		abort();
	for (int i = 0; i < list->cnt; i++)
		consumer->assigned[i] = list->elems[i].partition;
	consumer->assigned_count = (size_t)list->cnt;
	if (assign(consumer, NULL, 0, &consumer->fatal) == 0)
		log_info("assigned", "partitions assigned by the group", "topic", consumer->topic, "partitions",
			 LOG_INT(list->cnt));
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct consumer *consumer = opaque;

	consumer->serial++;
	consumer->fetching = false;
	forget_running(consumer);
	forget_metadata(consumer);
	if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
		on_assign(consumer, list);
		return;
	}
	failpoint("revoke");
	if (consumer->assigned_count > 0)
		log_info("revoked", rd_kafka_assignment_lost(rk) ? "partitions lost to the group" : "partitions revoked by the group",
			 "topic", consumer->topic, "partitions", LOG_INT((int64_t)consumer->assigned_count));
	consumer->assigned_count = 0;
	rd_kafka_assign(rk, NULL);
}

/* Errors of the consumer come in place of records, the client's own to on_error; a fatal one in either way. */
static void note_error(struct consumer *consumer, rd_kafka_resp_err_t err, const char *reason, int32_t partition)
{
	char text[256];

	if (err == RD_KAFKA_RESP_ERR__FATAL) {
		rd_kafka_fatal_error(consumer->rk, text, sizeof text);
		fault_set(&consumer->fatal, FAULT_REBUILD, "consumer failed: %s", text);
		return;
	}
	log_warn("consumer_error", reason, "error", rd_kafka_err2name(err), "topic", consumer->topic, "partition",
		 partition >= 0 ? LOG_INT(partition) : NULL);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	(void)rk;
	note_error(opaque, (rd_kafka_resp_err_t)err, reason, RD_KAFKA_PARTITION_UA);
}

static int make_consumer(struct consumer *consumer, const struct config *config, int lane, struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_CONSUMER, fault);
	rd_kafka_topic_partition_list_t *topics;
	rd_kafka_resp_err_t err;
	char client_id[128];

	if (conf == NULL)
		return -1;
	snprintf(client_id, sizeof client_id, "%.100s.%d", config->instance, lane);
	if (kafka_conf_set(conf, "client.id", client_id, fault) < 0 || kafka_conf_set(conf, "group.id", config->group, fault) < 0 ||
	    inflight_install(conf, &consumer->inflight, fault) < 0) {
		rd_kafka_conf_destroy(conf);
		return -1;
	}
	rd_kafka_conf_set_opaque(conf, consumer);
	rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
	rd_kafka_conf_set_error_cb(conf, on_error);
	consumer->rk = kafka_new_take(conf, KAFKA_CONSUMER, fault);
	if (consumer->rk == NULL)
		return -1;
	rd_kafka_poll_set_consumer(consumer->rk);
	topics = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(topics, config->commands, RD_KAFKA_PARTITION_UA);
	err = rd_kafka_subscribe(consumer->rk, topics);
	rd_kafka_topic_partition_list_destroy(topics);
	if (err)
		return fault_set(fault, FAULT_FATAL, "cannot subscribe to %s: %s", config->commands, rd_kafka_err2str(err));
	return 0;
}

struct consumer *consumer_new(const struct config *config, int lane, struct fault *fault)
{
	struct consumer *consumer = calloc(1, sizeof *consumer);

	if (consumer == NULL)
		abort();
	consumer->topic = strdup(config->commands);
	consumer->group = strdup(config->group);
	consumer->room = config->batch;
	consumer->room_bytes = (size_t)config->batch_bytes;
	consumer->queue = calloc((size_t)config->batch * 3 + SPARE, /* two batches in hand, one waiting */
			       sizeof *consumer->queue);
	if (consumer->topic == NULL || consumer->group == NULL || consumer->queue == NULL)
		abort();
	if (make_consumer(consumer, config, lane, fault) < 0) {
		consumer_free(consumer, 0);
		return NULL;
	}
	return consumer;
}

/* Leaves the group, serving the revoke on the way, for at most leave_ms: closing can hang while a coordinator is away. */
static bool leave(struct consumer *consumer, int leave_ms)
{
	int64_t deadline = clock_monotonic_ms() + leave_ms;
	rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer->rk);
	rd_kafka_error_t *error = rd_kafka_consumer_close_queue(consumer->rk, queue);

	failpoint("close");
	if (error) {
		rd_kafka_error_destroy(error);
	} else {
		while (!rd_kafka_consumer_closed(consumer->rk) && clock_monotonic_ms() < deadline) {
			rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, 50);

			if (message)
				rd_kafka_message_destroy(message);
		}
	}
	rd_kafka_queue_destroy(queue);
	return rd_kafka_consumer_closed(consumer->rk);
}

void consumer_free(struct consumer *consumer, int leave_ms)
{
	if (consumer == NULL)
		return;
	queue_drop_waiting(consumer);
	consumer_release_all(consumer);
	forget_metadata(consumer);
	if (consumer->rk) {
		bool left = leave_ms > 0 && leave(consumer, leave_ms);

		rd_kafka_destroy_flags(consumer->rk, left ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	}
	free(consumer->cluster_id);
	free(consumer->queue);
	free(consumer->running);
	free(consumer->assigned);
	free(consumer->topic);
	free(consumer->group);
	free(consumer);
}

const char *consumer_cluster_id(struct consumer *consumer, int timeout_ms, struct fault *fault)
{
	char *id;

	if (consumer->cluster_id == NULL && (id = rd_kafka_clusterid(consumer->rk, timeout_ms)) != NULL) {
		consumer->cluster_id = strdup(id);
		rd_kafka_mem_free(consumer->rk, id);
	}
	if (consumer->cluster_id == NULL)
		fault_set(fault, FAULT_WAIT, "no Kafka broker answers");
	return consumer->cluster_id;
}

static struct running *find_running(struct consumer *consumer, int32_t partition)
{
	for (size_t i = 0; i < consumer->running_count; i++)
		if (consumer->running[i].partition == partition)
			return &consumer->running[i];
	return NULL;
}

/* Errors behind which the partition's records stand and cannot be had: a batch that does not decompress, or to more than
 * librdkafka takes (receive.message.max.bytes), a checksum that is wrong, a format of the future. librdkafka asks for the
 * same again for ever, or goes on behind it. */
static bool is_unreadable(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__BAD_COMPRESSION || err == RD_KAFKA_RESP_ERR__BAD_MSG ||
	       err == RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED || err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
}

/* Those of a partition make everything start over, where its offsets are looked at again and it is halted, alone, if they
 * are unusable. */
static void take_error(struct consumer *consumer, const rd_kafka_message_t *message)
{
	struct running *running = find_running(consumer, message->partition);

	if (running && running->unreadable[0])
		return;
	note_error(consumer, message->err, rd_kafka_message_errstr(message), message->partition);
	if (running && message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
		consumer->serial++;
	if (running && is_unreadable(message->err))
		snprintf(running->unreadable, sizeof running->unreadable, "%s", rd_kafka_message_errstr(message));
}

static void take_message(struct consumer *consumer, rd_kafka_message_t *message)
{
	struct running *running;

	if (message->err) {
		take_error(consumer, message);
		rd_kafka_message_destroy(message);
		return;
	}
	running = find_running(consumer, message->partition);
	if (running == NULL || message->offset < running->next || running->unreadable[0]) { /* or fetched before the last start */
		rd_kafka_message_destroy(message);
		return;
	}
	running->next = message->offset + 1;
	consumer->bytes += message->len;
	consumer->queue[consumer->count++] = message;
}

size_t consumer_waiting(const struct consumer *consumer)
{
	return consumer->count - consumer->taken;
}

bool consumer_has_room(const struct consumer *consumer)
{
	return consumer_waiting(consumer) < (size_t)consumer->room && consumer->count < (size_t)consumer->room * 3 &&
	       consumer->bytes < consumer->room_bytes;
}

/* Polls once also without room: a rebalance has to be served, and a member that does not poll is put out of the group. What
 * comes along with that is kept, a few times; then the fetching is stopped. */
int consumer_poll(struct consumer *consumer, int timeout_ms, struct fault *fault)
{
	bool room = consumer_has_room(consumer);

	if (room)
		consumer->beyond = 0;
	else if (consumer->beyond == SPARE)
		consumer_pause(consumer);
	if (consumer_waiting(consumer) > 0)
		timeout_ms = 0;
	while (consumer->fatal.kind == FAULT_NONE) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, timeout_ms);

		if (message == NULL)
			return 0;
		take_message(consumer, message);
		consumer->beyond += !room;
		if (!consumer_has_room(consumer))
			break;
		timeout_ms = 0;
	}
	if (consumer->fatal.kind == FAULT_NONE)
		return 0;
	*fault = consumer->fatal;
	return -1;
}

static bool is_queued(const struct consumer *consumer, int32_t partition)
{
	for (size_t i = 0; i < consumer->count; i++)
		if (consumer->queue[i]->partition == partition)
			return true;
	return false;
}

const char *consumer_find_unreadable(const struct consumer *consumer, int32_t *partition)
{
	for (size_t i = 0; i < consumer->running_count; i++) {
		const struct running *running = &consumer->running[i];

		if (running->unreadable[0] && !is_queued(consumer, running->partition)) {
			*partition = running->partition;
			return running->unreadable;
		}
	}
	return NULL;
}

bool consumer_is_finished(const struct consumer *consumer)
{
	return consumer->finished || consumer->fatal.kind != FAULT_NONE;
}

uint64_t consumer_serial(const struct consumer *consumer)
{
	return consumer->serial;
}

size_t consumer_partitions(const struct consumer *consumer, const int32_t **partitions)
{
	*partitions = consumer->assigned;
	return consumer->assigned_count;
}

static int fetch_committed(struct consumer *consumer, struct position *positions, size_t n, int timeout_ms, struct fault *fault)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_resp_err_t err;

	for (size_t i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, consumer->topic, positions[i].partition);
	err = rd_kafka_committed(consumer->rk, list, timeout_ms);
	for (size_t i = 0; i < n && !err; i++) {
		/* An offset of a transaction that is still pending comes as an error of the partition alone. */
		err = list->elems[i].err;
		positions[i].committed = list->elems[i].offset >= 0 ? list->elems[i].offset : OFFSET_NONE;
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (err)
		return fault_set(fault, FAULT_RETRY, "committed offsets of %s: %s", consumer->topic, rd_kafka_err2str(err));
	return 0;
}

static void fetch_partition_count(struct consumer *consumer, int timeout_ms)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(consumer->rk, consumer->topic, NULL);
	const struct rd_kafka_metadata *metadata;

	if (topic == NULL)
		return;
	if (rd_kafka_metadata(consumer->rk, 0, topic, &metadata, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR) {
		if (metadata->topic_cnt == 1)
			consumer->partition_count = metadata->topics[0].partition_cnt;
		rd_kafka_metadata_destroy(metadata);
	}
	rd_kafka_topic_destroy(topic);
}

/* First and last stable offsets of partitions, asked for in one go; what is not answered is unknown. Not by
 * rd_kafka_query_watermark_offsets: it overlooks its time-out when a leader hangs (2.0.2). The error of the whole, if any. */
static rd_kafka_resp_err_t find_ends(rd_kafka_t *rk, const char *topic, struct position *positions, size_t n, int timeout_ms)
{
	static const int64_t wanted[] = { RD_KAFKA_OFFSET_BEGINNING, RD_KAFKA_OFFSET_END };
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

	for (size_t i = 0; i < n; i++) {
		rd_kafka_topic_partition_list_add(list, topic, positions[i].partition);
		positions[i].unknown = false;
	}
	for (int end = 0; end < 2 && !err; end++) {
		for (size_t i = 0; i < n; i++)
			list->elems[i].offset = wanted[end];
		err = rd_kafka_offsets_for_times(rk, list, timeout_ms);
		for (size_t i = 0; i < n; i++) {
			positions[i].unknown |= err || list->elems[i].err || list->elems[i].offset < 0;
			*(end ? &positions[i].high : &positions[i].low) = list->elems[i].offset;
		}
	}
	rd_kafka_topic_partition_list_destroy(list);
	return err;
}

int consumer_positions(struct consumer *consumer, struct position *positions, size_t n, int timeout_ms, struct fault *fault)
{
	if (fetch_committed(consumer, positions, n, timeout_ms, fault) < 0)
		return -1;
	if (find_ends(consumer->rk, consumer->topic, positions, n, timeout_ms)) /* one that hangs spoils it for all */
		for (size_t i = 0; i < n; i++)
			(void)find_ends(consumer->rk, consumer->topic, &positions[i], 1, ALONE_MS);
	for (size_t i = 0; i < n; i++)
		if (positions[i].unknown)
			log_warn("leader_unknown", "the partition's leader does not answer: it is tried again", "topic", consumer->topic,
				 "partition", LOG_INT(positions[i].partition));
	fetch_partition_count(consumer, timeout_ms);
	return 0;
}

/* Not the Admin API's DescribeConsumerGroups: when a coordinator is lost in the midst of it, librdkafka aborts the process
 * (assertion in rd_kafka_enq_once_del_source_return; librdkafka issues 3663 and 4605, open). This asks every broker. */
int consumer_find_member(struct consumer *consumer, const char *client_id, bool *found, int timeout_ms, struct fault *fault)
{
	const struct rd_kafka_group_list *list = NULL;
	rd_kafka_resp_err_t err = rd_kafka_list_groups(consumer->rk, consumer->group, &list, timeout_ms);

	if (list && list->group_cnt == 1) { /* also when another broker did not answer: only the coordinator has it */
		const struct rd_kafka_group_info *group = &list->groups[0];

		err = group->err;
		*found = false;
		for (int i = 0; i < group->member_cnt; i++)
			*found |= strcmp(group->members[i].client_id, client_id) == 0;
	} else if (!err) {
		err = RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
	}
	if (list)
		rd_kafka_group_list_destroy(list);
	if (err)
		return fault_set(fault, FAULT_RETRY, "members of group %s: %s", consumer->group, rd_kafka_err2str(err));
	return 0;
}

struct commit {
	bool done;
	rd_kafka_resp_err_t err;
};

static void on_commit(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct commit *commit = opaque;

	(void)rk;
	commit->done = true;
	commit->err = err;
	for (int i = 0; list && i < list->cnt && !commit->err; i++)
		commit->err = list->elems[i].err;
}

/* Commits without the endless wait that rd_kafka_commit has. */
static void commit_offsets(struct consumer *consumer, const struct start *starts, size_t n, int timeout_ms, struct commit *commit)
{
	int64_t deadline = clock_monotonic_ms() + timeout_ms;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer->rk);

	for (size_t i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, consumer->topic, starts[i].partition)->offset = starts[i].offset;
	commit->err = rd_kafka_commit_queue(consumer->rk, list, queue, on_commit, commit);
	commit->done = commit->err != RD_KAFKA_RESP_ERR_NO_ERROR;
	while (!commit->done && clock_monotonic_ms() < deadline)
		rd_kafka_queue_poll_callback(queue, 50);
	rd_kafka_queue_destroy(queue);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Asked anew, as what was noted may be over. Once a membership is over no other one begins before its revoke was served. */
static int check_membership(struct consumer *consumer, struct fault *fault)
{
	forget_metadata(consumer);
	return consumer_metadata(consumer, fault) ? 0 : -1;
}

int consumer_check(struct consumer *consumer, const struct start *starts, size_t n, int timeout_ms, struct fault *fault)
{
	struct commit commit = { 0 };

	failpoint("check-before");
	/* Without a generation the commit would be taken unchecked as soon as the group has no member, hence before it... */
	if (check_membership(consumer, fault) < 0)
		return -1;
	commit_offsets(consumer, starts, n, timeout_ms, &commit);
	if (!commit.done || inflight_is_doubtful(&consumer->inflight, API_OFFSET_COMMIT))
		return finish(consumer, fault, "the group coordinator gave no single answer to an offset commit: joining anew");
	/* ... and behind it: librdkafka sends the generation that holds when it sends. */
	if (commit.err == RD_KAFKA_RESP_ERR_NO_ERROR && check_membership(consumer, fault) < 0)
		return -1;
	failpoint("check-after");
	switch (commit.err) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
		return 0;
	case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
	case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
	case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
	case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
	case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
		return fault_set(fault, FAULT_FENCED, "the group has moved on: %s", rd_kafka_err2str(commit.err));
	case RD_KAFKA_RESP_ERR__TIMED_OUT:
	case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
	case RD_KAFKA_RESP_ERR__TRANSPORT:
		return finish(consumer, fault, "offset commit: %s: joining anew", rd_kafka_err2str(commit.err));
	default:
		return fault_set(fault, FAULT_WAIT, "offset commit of group on %s: %s", consumer->topic, rd_kafka_err2str(commit.err));
	}
}

int consumer_start(struct consumer *consumer, const struct start *starts, size_t n, struct fault *fault)
{
	forget_running(consumer);
	for (size_t i = 0; i < n && i < consumer->assigned_count; i++)
		consumer->running[consumer->running_count++] = (struct running){ .partition = starts[i].partition, .next = starts[i].offset };
	return assign(consumer, consumer->running, consumer->running_count, fault);
}

void consumer_stop(struct consumer *consumer)
{
	if (consumer->running_count > 0 && !consumer->paused)
		(void)!assign(consumer, NULL, 0, &consumer->fatal); /* the next poll says so */
	forget_running(consumer);
}

void consumer_pause(struct consumer *consumer)
{
	if (consumer->paused || consumer->running_count == 0)
		return;
	consumer->paused = assign(consumer, NULL, 0, &consumer->fatal) == 0;
}

int consumer_resume(struct consumer *consumer, struct fault *fault)
{
	if (!consumer->paused)
		return 0;
	consumer->paused = false;
	return assign(consumer, consumer->running, consumer->running_count, fault);
}

static const struct header *copy_headers(rd_kafka_message_t *message, struct arena *arena, size_t *count)
{
	rd_kafka_headers_t *headers;
	struct header *copy;

	*count = 0;
	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	*count = rd_kafka_header_cnt(headers);
	copy = arena_array(arena, *count, sizeof *copy);
	for (size_t i = 0; i < *count; i++)
		if (rd_kafka_header_get_all(headers, i, &copy[i].name, &copy[i].value, &copy[i].size))
			*count = i;
	return copy;
}

bool consumer_peek(struct consumer *consumer, struct arena *arena, struct record *record)
{
	rd_kafka_timestamp_type_t type;
	rd_kafka_message_t *message;

	if (consumer->taken == consumer->count)
		return false;
	message = consumer->queue[consumer->taken];
	*record = (struct record){
		.topic = consumer->topic,
		.partition = message->partition,
		.offset = message->offset,
		.timestamp_ms = rd_kafka_message_timestamp(message, &type),
		.key = message->key,
		.key_size = message->key_len,
		.value = message->payload,
		.value_size = message->len,
	};
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
		record->timestamp_ms = -1;
	record->headers = copy_headers(message, arena, &record->header_count);
	return true;
}

void consumer_take(struct consumer *consumer)
{
	consumer->bytes -= consumer->bytes < consumer->queue[consumer->taken]->len ? consumer->bytes : consumer->queue[consumer->taken]->len;
	consumer->taken++;
	if (consumer->beyond > 0)
		consumer->beyond--;
}

void consumer_release(struct consumer *consumer, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rd_kafka_message_destroy(consumer->queue[i]);
	consumer->taken -= n;
	consumer->count -= n;
	memmove(consumer->queue, consumer->queue + n, consumer->count * sizeof *consumer->queue);
}

void consumer_release_all(struct consumer *consumer)
{
	consumer_release(consumer, consumer->taken);
}

#if RD_KAFKA_VERSION >= 0x020800ff
static bool is_member(const rd_kafka_consumer_group_metadata_t *metadata)
{
	const char *id = rd_kafka_consumer_group_metadata_member_id(metadata);

	return id && *id && rd_kafka_consumer_group_metadata_generation_id(metadata) >= 0;
}
#else
/* Before 2.8.0 there is no getter: the serialised form is "CGMDv2:", the generation (host-endian int32), the group id, the
 * member id (each ending in NUL). */
static bool is_member(const rd_kafka_consumer_group_metadata_t *metadata)
{
	static const char magic[] = "CGMDv2:";
	size_t size, head = sizeof magic - 1;
	rd_kafka_error_t *error;
	const char *group_end;
	int32_t generation;
	void *buffer;
	bool is;

	error = rd_kafka_consumer_group_metadata_write(metadata, &buffer, &size);
	if (error) {
		rd_kafka_error_destroy(error);
		return false;
	}
	is = size > head + sizeof generation && memcmp(buffer, magic, head) == 0;
	if (is) {
		memcpy(&generation, (char *)buffer + head, sizeof generation);
		head += sizeof generation;
		group_end = memchr((char *)buffer + head, '\0', size - head);
		is = generation >= 0 && group_end && (size_t)(group_end + 1 - (char *)buffer) < size && group_end[1] != '\0';
	}
	rd_kafka_mem_free(NULL, buffer);
	return is;
}
#endif

const struct rd_kafka_consumer_group_metadata_s *consumer_metadata(struct consumer *consumer, struct fault *fault)
{
	if (consumer->metadata == NULL && consumer->assigned_count > 0)
		consumer->metadata = rd_kafka_consumer_group_metadata(consumer->rk);
	if (consumer->metadata && is_member(consumer->metadata))
		return consumer->metadata;
	forget_metadata(consumer);
	fault_set(fault, FAULT_FENCED, "not a member of the consumer group at this moment");
	return NULL;
}

int consumer_partition_count(const struct consumer *consumer)
{
	return consumer->partition_count;
}

int consumer_look(const struct config *config, char *cluster_id, size_t size, struct position *position, int timeout_ms,
		struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_ADMIN, fault);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TRANSPORT;
	rd_kafka_t *rk;
	char *id;

	if (conf == NULL || (rk = kafka_new_take(conf, KAFKA_ADMIN, fault)) == NULL)
		return -1;
	id = rd_kafka_clusterid(rk, timeout_ms);
	if (id) {
		snprintf(cluster_id, size, "%s", id);
		rd_kafka_mem_free(rk, id);
		err = find_ends(rk, config->commands, position, 1, timeout_ms);
		if (!err && position->unknown)
			err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	}
	rd_kafka_destroy(rk);
	if (err)
		return fault_set(fault, FAULT_WAIT, "%s [%d]: %s", config->commands, position->partition, rd_kafka_err2str(err));
	return 0;
}
