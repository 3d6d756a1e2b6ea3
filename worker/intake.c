#include "intake.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "failpoint.h"
#include "kafka.h"
#include "log.h"
#include "watch.h"

#define ALONE_MS 300 /* for one partition, after the look at all of them has failed */
#define SPARE 16 /* records that come along while there is no room and only the group is served */

struct running {
	int32_t partition;
	int64_t next; /* offset after the last record that entered the queue */
	char unreadable[256]; /* why what follows cannot be read; empty: it can */
};

struct intake {
	rd_kafka_t *rk;
	char *topic, *group;
	int room;           /* records the queue may hold */
	size_t room_bytes;
	struct watch watch;
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
};

static void queue_drop_waiting(struct intake *intake)
{
	while (intake->count > intake->taken)
		rd_kafka_message_destroy(intake->queue[--intake->count]);
	intake->bytes = 0;
}

static void forget_running(struct intake *intake)
{
	queue_drop_waiting(intake);
	intake->running_count = 0;
	intake->paused = false;
}

static void forget_metadata(struct intake *intake)
{
	if (intake->metadata)
		rd_kafka_consumer_group_metadata_destroy(intake->metadata);
	intake->metadata = NULL;
}

/* The list may be empty; NULL would answer a revoke. */
static int replace(struct intake *intake, const struct running *running, size_t n, struct fault *fault)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_resp_err_t err;

	for (size_t i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, intake->topic, running[i].partition)->offset = running[i].next;
	err = rd_kafka_assign(intake->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (err)
		return fault_set(fault, FAULT_REBUILD, "cannot assign %zu partitions of %s: %s", n, intake->topic,
				 rd_kafka_err2str(err));
	intake->fetching = n > 0;
	return 0;
}

/* Replaces what librdkafka fetches, by way of nothing: it aborts the process when a partition is taken away a second time
 * before the first stop was reported back to its main thread (assertion on rktp_started, 2.0.2 and later). A call that only
 * adds, in between, lets that report come first. */
static int assign(struct intake *intake, const struct running *running, size_t n, struct fault *fault)
{
	if (intake->fetching && n > 0 && replace(intake, NULL, 0, fault) < 0)
		return -1;
	return replace(intake, running, n, fault);
}

static void on_assign(struct intake *intake, const rd_kafka_topic_partition_list_t *list)
{
	free(intake->assigned);
	intake->assigned = calloc((size_t)list->cnt + 1, sizeof *intake->assigned);
	free(intake->running);
	intake->running = calloc((size_t)list->cnt + 1, sizeof *intake->running);
	if (intake->assigned == NULL || intake->running == NULL)
		abort();
	for (int i = 0; i < list->cnt; i++)
		intake->assigned[i] = list->elems[i].partition;
	intake->assigned_count = (size_t)list->cnt;
	if (assign(intake, NULL, 0, &intake->fatal) == 0)
		log_info("assigned", "partitions assigned by the group", "topic", intake->topic, "partitions",
			 LOG_INT(list->cnt));
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct intake *intake = opaque;

	intake->serial++;
	intake->fetching = false;
	forget_running(intake);
	forget_metadata(intake);
	if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
		on_assign(intake, list);
		return;
	}
	failpoint("revoke");
	if (intake->assigned_count > 0)
		log_info("revoked", rd_kafka_assignment_lost(rk) ? "partitions lost to the group" : "partitions revoked by the group",
			 "topic", intake->topic, "partitions", LOG_INT((int64_t)intake->assigned_count));
	intake->assigned_count = 0;
	rd_kafka_assign(rk, NULL);
}

/* Errors of the consumer come in place of records, the client's own to on_error; a fatal one in either way. */
static void note_error(struct intake *intake, rd_kafka_resp_err_t err, const char *reason, int32_t partition)
{
	char text[256];

	if (err == RD_KAFKA_RESP_ERR__FATAL) {
		rd_kafka_fatal_error(intake->rk, text, sizeof text);
		fault_set(&intake->fatal, FAULT_REBUILD, "consumer failed: %s", text);
		return;
	}
	log_warn("consumer_error", reason, "error", rd_kafka_err2name(err), "topic", intake->topic, "partition",
		 partition >= 0 ? LOG_INT(partition) : NULL);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	(void)rk;
	note_error(opaque, (rd_kafka_resp_err_t)err, reason, RD_KAFKA_PARTITION_UA);
}

static int make_consumer(struct intake *intake, const struct config *config, int lane, struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_CONSUMER, fault);
	rd_kafka_topic_partition_list_t *topics;
	rd_kafka_resp_err_t err;
	char client_id[128];

	if (conf == NULL)
		return -1;
	snprintf(client_id, sizeof client_id, "%.100s.%d", config->instance, lane);
	if (kafka_conf_set(conf, "client.id", client_id, fault) < 0 || kafka_conf_set(conf, "group.id", config->group, fault) < 0 ||
	    watch_install(conf, &intake->watch, fault) < 0) {
		rd_kafka_conf_destroy(conf);
		return -1;
	}
	rd_kafka_conf_set_opaque(conf, intake);
	rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
	rd_kafka_conf_set_error_cb(conf, on_error);
	intake->rk = kafka_new_take(conf, KAFKA_CONSUMER, fault);
	if (intake->rk == NULL)
		return -1;
	rd_kafka_poll_set_consumer(intake->rk);
	topics = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(topics, config->commands, RD_KAFKA_PARTITION_UA);
	err = rd_kafka_subscribe(intake->rk, topics);
	rd_kafka_topic_partition_list_destroy(topics);
	if (err)
		return fault_set(fault, FAULT_FATAL, "cannot subscribe to %s: %s", config->commands, rd_kafka_err2str(err));
	return 0;
}

struct intake *intake_new(const struct config *config, int lane, struct fault *fault)
{
	struct intake *intake = calloc(1, sizeof *intake);

	if (intake == NULL)
		abort();
	intake->topic = strdup(config->commands);
	intake->group = strdup(config->group);
	intake->room = config->batch;
	intake->room_bytes = (size_t)config->batch_bytes;
	intake->queue = calloc((size_t)config->batch * 3 + SPARE, /* two batches in hand, one waiting */
			       sizeof *intake->queue);
	if (intake->topic == NULL || intake->group == NULL || intake->queue == NULL)
		abort();
	if (make_consumer(intake, config, lane, fault) < 0) {
		intake_free(intake, 0);
		return NULL;
	}
	return intake;
}

/* Leaves the group, serving the revoke on the way, for at most leave_ms: closing can hang while a coordinator is away. */
static bool leave(struct intake *intake, int leave_ms)
{
	int64_t deadline = clock_monotonic_ms() + leave_ms;
	rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(intake->rk);
	rd_kafka_error_t *error = rd_kafka_consumer_close_queue(intake->rk, queue);

	failpoint("close");
	if (error) {
		rd_kafka_error_destroy(error);
	} else {
		while (!rd_kafka_consumer_closed(intake->rk) && clock_monotonic_ms() < deadline) {
			rd_kafka_message_t *message = rd_kafka_consumer_poll(intake->rk, 50);

			if (message)
				rd_kafka_message_destroy(message);
		}
	}
	rd_kafka_queue_destroy(queue);
	return rd_kafka_consumer_closed(intake->rk);
}

void intake_free(struct intake *intake, int leave_ms)
{
	if (intake == NULL)
		return;
	queue_drop_waiting(intake);
	intake_release_all(intake);
	forget_metadata(intake);
	if (intake->rk) {
		bool left = leave_ms > 0 && leave(intake, leave_ms);

		rd_kafka_destroy_flags(intake->rk, left ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	}
	free(intake->cluster_id);
	free(intake->queue);
	free(intake->running);
	free(intake->assigned);
	free(intake->topic);
	free(intake->group);
	free(intake);
}

const char *intake_cluster_id(struct intake *intake, int timeout_ms, struct fault *fault)
{
	char *id;

	if (intake->cluster_id == NULL && (id = rd_kafka_clusterid(intake->rk, timeout_ms)) != NULL) {
		intake->cluster_id = strdup(id);
		rd_kafka_mem_free(intake->rk, id);
	}
	if (intake->cluster_id == NULL)
		fault_set(fault, FAULT_WAIT, "no Kafka broker answers");
	return intake->cluster_id;
}

static struct running *find_running(struct intake *intake, int32_t partition)
{
	for (size_t i = 0; i < intake->running_count; i++)
		if (intake->running[i].partition == partition)
			return &intake->running[i];
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
static void take_error(struct intake *intake, const rd_kafka_message_t *message)
{
	struct running *running = find_running(intake, message->partition);

	if (running && running->unreadable[0])
		return;
	note_error(intake, message->err, rd_kafka_message_errstr(message), message->partition);
	if (running && message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
		intake->serial++;
	if (running && is_unreadable(message->err))
		snprintf(running->unreadable, sizeof running->unreadable, "%s", rd_kafka_message_errstr(message));
}

static void take_message(struct intake *intake, rd_kafka_message_t *message)
{
	struct running *running;

	if (message->err) {
		take_error(intake, message);
		rd_kafka_message_destroy(message);
		return;
	}
	running = find_running(intake, message->partition);
	if (running == NULL || message->offset < running->next || running->unreadable[0]) { /* or fetched before the last start */
		rd_kafka_message_destroy(message);
		return;
	}
	running->next = message->offset + 1;
	intake->bytes += message->len;
	intake->queue[intake->count++] = message;
}

size_t intake_waiting(const struct intake *intake)
{
	return intake->count - intake->taken;
}

bool intake_has_room(const struct intake *intake)
{
	return intake_waiting(intake) < (size_t)intake->room && intake->count < (size_t)intake->room * 3 &&
	       intake->bytes < intake->room_bytes;
}

/* Polls once also without room: a rebalance has to be served, and a member that does not poll is put out of the group. What
 * comes along with that is kept, a few times; then the fetching is stopped. */
int intake_poll(struct intake *intake, int timeout_ms, struct fault *fault)
{
	bool room = intake_has_room(intake);

	if (room)
		intake->beyond = 0;
	else if (intake->beyond == SPARE)
		intake_pause(intake);
	if (intake_waiting(intake) > 0)
		timeout_ms = 0;
	while (intake->fatal.kind == FAULT_NONE) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(intake->rk, timeout_ms);

		if (message == NULL)
			return 0;
		take_message(intake, message);
		intake->beyond += !room;
		if (!intake_has_room(intake))
			break;
		timeout_ms = 0;
	}
	if (intake->fatal.kind == FAULT_NONE)
		return 0;
	*fault = intake->fatal;
	return -1;
}

static bool is_queued(const struct intake *intake, int32_t partition)
{
	for (size_t i = 0; i < intake->count; i++)
		if (intake->queue[i]->partition == partition)
			return true;
	return false;
}

const char *intake_find_unreadable(const struct intake *intake, int32_t *partition)
{
	for (size_t i = 0; i < intake->running_count; i++) {
		const struct running *running = &intake->running[i];

		if (running->unreadable[0] && !is_queued(intake, running->partition)) {
			*partition = running->partition;
			return running->unreadable;
		}
	}
	return NULL;
}

uint64_t intake_serial(const struct intake *intake)
{
	return intake->serial;
}

size_t intake_partitions(const struct intake *intake, const int32_t **partitions)
{
	*partitions = intake->assigned;
	return intake->assigned_count;
}

static int fetch_committed(struct intake *intake, struct position *positions, size_t n, int timeout_ms, struct fault *fault)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_resp_err_t err;

	for (size_t i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, intake->topic, positions[i].partition);
	err = rd_kafka_committed(intake->rk, list, timeout_ms);
	for (size_t i = 0; i < n && !err; i++) {
		/* An offset of a transaction that is still pending comes as an error of the partition alone. */
		err = list->elems[i].err;
		positions[i].committed = list->elems[i].offset >= 0 ? list->elems[i].offset : OFFSET_NONE;
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (err)
		return fault_set(fault, FAULT_RETRY, "committed offsets of %s: %s", intake->topic, rd_kafka_err2str(err));
	return 0;
}

static void fetch_partition_count(struct intake *intake, int timeout_ms)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(intake->rk, intake->topic, NULL);
	const struct rd_kafka_metadata *metadata;

	if (topic == NULL)
		return;
	if (rd_kafka_metadata(intake->rk, 0, topic, &metadata, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR) {
		if (metadata->topic_cnt == 1)
			intake->partition_count = metadata->topics[0].partition_cnt;
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

int intake_positions(struct intake *intake, struct position *positions, size_t n, int timeout_ms, struct fault *fault)
{
	if (fetch_committed(intake, positions, n, timeout_ms, fault) < 0)
		return -1;
	if (find_ends(intake->rk, intake->topic, positions, n, timeout_ms)) /* one that hangs spoils it for all */
		for (size_t i = 0; i < n; i++)
			(void)find_ends(intake->rk, intake->topic, &positions[i], 1, ALONE_MS);
	for (size_t i = 0; i < n; i++)
		if (positions[i].unknown)
			log_warn("leader_unknown", "the partition's leader does not answer: it is tried again", "topic", intake->topic,
				 "partition", LOG_INT(positions[i].partition));
	fetch_partition_count(intake, timeout_ms);
	return 0;
}

/* Not the Admin API's DescribeConsumerGroups: when a coordinator is lost in the midst of it, librdkafka aborts the process
 * (assertion in rd_kafka_enq_once_del_source_return; librdkafka issues 3663 and 4605, open). This asks every broker. */
int intake_find_member(struct intake *intake, const char *client_id, bool *found, int timeout_ms, struct fault *fault)
{
	const struct rd_kafka_group_list *list = NULL;
	rd_kafka_resp_err_t err = rd_kafka_list_groups(intake->rk, intake->group, &list, timeout_ms);

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
		return fault_set(fault, FAULT_RETRY, "members of group %s: %s", intake->group, rd_kafka_err2str(err));
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
static void commit_offsets(struct intake *intake, const struct start *starts, size_t n, int timeout_ms, struct commit *commit)
{
	int64_t deadline = clock_monotonic_ms() + timeout_ms;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(intake->rk);

	for (size_t i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, intake->topic, starts[i].partition)->offset = starts[i].offset;
	commit->err = rd_kafka_commit_queue(intake->rk, list, queue, on_commit, commit);
	commit->done = commit->err != RD_KAFKA_RESP_ERR_NO_ERROR;
	while (!commit->done && clock_monotonic_ms() < deadline)
		rd_kafka_queue_poll_callback(queue, 50);
	rd_kafka_queue_destroy(queue);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Asked anew, as what was noted may be over. Once a membership is over no other one begins before its revoke was served. */
static int check_membership(struct intake *intake, struct fault *fault)
{
	forget_metadata(intake);
	return intake_metadata(intake, fault) ? 0 : -1;
}

int intake_check(struct intake *intake, const struct start *starts, size_t n, int timeout_ms, struct fault *fault)
{
	struct commit commit = { 0 };

	failpoint("check-before");
	/* Without a generation the commit would be taken unchecked as soon as the group has no member, hence before it... */
	if (check_membership(intake, fault) < 0)
		return -1;
	commit_offsets(intake, starts, n, timeout_ms, &commit);
	if (!commit.done || watch_is_doubtful(&intake->watch, API_OFFSET_COMMIT))
		return fault_set(fault, FAULT_REBUILD, "the group coordinator gave no single answer to an offset commit: joining anew");
	/* ... and behind it: librdkafka sends the generation that holds when it sends. */
	if (commit.err == RD_KAFKA_RESP_ERR_NO_ERROR && check_membership(intake, fault) < 0)
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
		return fault_set(fault, FAULT_REBUILD, "offset commit: %s: joining anew", rd_kafka_err2str(commit.err));
	default:
		return fault_set(fault, FAULT_WAIT, "offset commit of group on %s: %s", intake->topic, rd_kafka_err2str(commit.err));
	}
}

int intake_start(struct intake *intake, const struct start *starts, size_t n, struct fault *fault)
{
	forget_running(intake);
	for (size_t i = 0; i < n && i < intake->assigned_count; i++)
		intake->running[intake->running_count++] = (struct running){ .partition = starts[i].partition, .next = starts[i].offset };
	return assign(intake, intake->running, intake->running_count, fault);
}

void intake_stop(struct intake *intake)
{
	if (intake->running_count > 0 && !intake->paused)
		(void)!assign(intake, NULL, 0, &intake->fatal); /* the next poll says so */
	forget_running(intake);
}

void intake_pause(struct intake *intake)
{
	if (intake->paused || intake->running_count == 0)
		return;
	intake->paused = assign(intake, NULL, 0, &intake->fatal) == 0;
}

int intake_resume(struct intake *intake, struct fault *fault)
{
	if (!intake->paused)
		return 0;
	intake->paused = false;
	return assign(intake, intake->running, intake->running_count, fault);
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

bool intake_peek(struct intake *intake, struct arena *arena, struct record *record)
{
	rd_kafka_timestamp_type_t type;
	rd_kafka_message_t *message;

	if (intake->taken == intake->count)
		return false;
	message = intake->queue[intake->taken];
	*record = (struct record){
		.topic = intake->topic,
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

void intake_take(struct intake *intake)
{
	intake->bytes -= intake->bytes < intake->queue[intake->taken]->len ? intake->bytes : intake->queue[intake->taken]->len;
	intake->taken++;
	if (intake->beyond > 0)
		intake->beyond--;
}

void intake_release(struct intake *intake, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rd_kafka_message_destroy(intake->queue[i]);
	intake->taken -= n;
	intake->count -= n;
	memmove(intake->queue, intake->queue + n, intake->count * sizeof *intake->queue);
}

void intake_release_all(struct intake *intake)
{
	intake_release(intake, intake->taken);
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

const struct rd_kafka_consumer_group_metadata_s *intake_metadata(struct intake *intake, struct fault *fault)
{
	if (intake->metadata == NULL && intake->assigned_count > 0)
		intake->metadata = rd_kafka_consumer_group_metadata(intake->rk);
	if (intake->metadata && is_member(intake->metadata))
		return intake->metadata;
	forget_metadata(intake);
	fault_set(fault, FAULT_FENCED, "not a member of the consumer group at this moment");
	return NULL;
}

int intake_partition_count(const struct intake *intake)
{
	return intake->partition_count;
}

int intake_look(const struct config *config, char *cluster_id, size_t size, struct position *position, int timeout_ms,
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
