#include "worker/kafka/consumer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/clock.h"
#include "worker/base/failpoint.h"
#include "worker/base/identity.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "worker/kafka/group.h"
#include "worker/kafka/inflight.h"
#include "worker/kafka/kafka.h"
#include "worker/kafka/positions.h"
#include "worker/kafka/queue.h"
#include "worker/kafka/refusals.h"

#define WAITING_MIN 9 /* so many records may wait, however small batches are: who fails alone is compared with others */
#define HELD_SHARE 32 /* a held partition keeps that part of the queue's room */

struct running {
	int32_t partition;
	int64_t next; /* offset after the last record that entered the queue */
	bool held;    /* not fetched */
	int64_t ended; /* offset of the last end of the partition that was met; OFFSET_NONE: none since the last assign */
	char unreadable[256]; /* why the next records cannot be read; empty: they can */
};

struct consumer {
	rd_kafka_t *rk;
	char *topic, *group;
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

	struct queue queue;
	int beyond;                 /* records taken without room */
	struct fault fatal; /* recorded by callbacks */
	bool finished;
};

static void forget_running(struct consumer *consumer)
{
	queue_drop_waiting(&consumer->queue);
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

/* Ends the use of this consumer; returns -1 with FAULT_REBUILD and the reason. */
static int finish(struct consumer *consumer, struct fault *fault, const char *fmt, ...)
{
	char why[sizeof fault->msg];
	va_list ap;

	consumer->finished |= fault != &consumer->fatal; /* a callback's fault is told, and ends the use, at the next poll */
	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	return fault_set(fault, FAULT_REBUILD, "%s", why);
}

/* Replaces the partitions that librdkafka fetches. The list may be empty; NULL would answer a revoke. */
static int replace(struct consumer *consumer, const struct running *running, size_t n, struct fault *fault)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_resp_err_t err;
	bool fetching;

	for (size_t i = 0; i < n; i++)
		if (!running[i].held)
			rd_kafka_topic_partition_list_add(list, consumer->topic, running[i].partition)->offset = running[i].next;
	err = rd_kafka_assign(consumer->rk, list);
	fetching = list->cnt > 0;
	rd_kafka_topic_partition_list_destroy(list);
	if (err)
		return finish(consumer, fault, "cannot assign %zu partitions of %s: %s", n, consumer->topic, rd_kafka_err2str(err));
	consumer->fetching = fetching;
	return 0;
}

/* Replaces the fetched partitions by way of an empty list. librdkafka aborts the process when a partition is removed a second
 * time before the first stop was reported back to its main thread (assertion on rktp_started, 2.0.2 and later). A call that
 * only adds partitions lets that report come first. */
static int assign(struct consumer *consumer, const struct running *running, size_t n, struct fault *fault)
{
	if (consumer->fetching && n > 0 && replace(consumer, NULL, 0, fault) < 0)
		return -1;
	return replace(consumer, running, n, fault);
}

static void on_assign(struct consumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
	free(consumer->assigned);
	consumer->assigned = must(calloc((size_t)list->cnt + 1, sizeof *consumer->assigned));
	free(consumer->running);
	consumer->running = must(calloc((size_t)list->cnt + 1, sizeof *consumer->running));
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

/* The consumer's errors come in place of records, the client's errors to on_error; a fatal one comes either way. */
static void handle_error(struct consumer *consumer, rd_kafka_resp_err_t err, const char *reason, int32_t partition)
{
	const char *refusal = refusal_of(err);
	char text[256];

	if (refusal && consumer->serial == 0) { /* it has never joined, and will not by itself */
		fault_set(&consumer->fatal, FAULT_FATAL, "%s: %s", reason, refusal);
		return;
	}
	if (err == RD_KAFKA_RESP_ERR__FATAL) {
		rd_kafka_fatal_error(consumer->rk, text, sizeof text);
		fault_set(&consumer->fatal, FAULT_REBUILD, "consumer failed: %s", text);
		return;
	}
	log_warn("consumer_error", refusal ? refusal : reason, "error", rd_kafka_err2name(err), "topic", consumer->topic, "partition",
		 partition >= 0 ? LOG_INT(partition) : NULL);
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	(void)rk;
	handle_error(opaque, (rd_kafka_resp_err_t)err, reason, RD_KAFKA_PARTITION_UA);
}

static int make_consumer(struct consumer *consumer, const struct config *config, int lane, struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_CONSUMER, fault);
	rd_kafka_topic_partition_list_t *topics;
	rd_kafka_resp_err_t err;
	char client_id[CLIENT_ID_SIZE], role[12];

	if (conf == NULL)
		return -1;
	snprintf(role, sizeof role, "%d", lane);
	identity_client_id(client_id, config->instance, role);
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
	struct consumer *consumer = must(calloc(1, sizeof *consumer));

	consumer->topic = must(strdup(config->commands));
	consumer->group = must(strdup(config->group));
	queue_init(&consumer->queue, (size_t)(config->batch > WAITING_MIN ? config->batch : WAITING_MIN), (size_t)config->batch_bytes);
	if (make_consumer(consumer, config, lane, fault) < 0) {
		consumer_free(consumer, 0);
		return NULL;
	}
	return consumer;
}

/* Leaves the group, and serves the revoke meanwhile, for at most leave_ms: closing can hang while a coordinator is away. */
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
	queue_free(&consumer->queue);
	forget_metadata(consumer);
	if (consumer->rk) {
		bool left = leave_ms > 0 && leave(consumer, leave_ms);

		rd_kafka_destroy_flags(consumer->rk, left ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	}
	free(consumer->cluster_id);
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

static struct running *find_running(const struct consumer *consumer, int32_t partition)
{
	for (size_t i = 0; i < consumer->running_count; i++)
		if (consumer->running[i].partition == partition)
			return &consumer->running[i];
	return NULL;
}

/* Errors of a partition whose next records cannot be read: a batch that does not decompress, or decompresses to more than
 * receive.message.max.bytes, a wrong checksum, a format of the future. librdkafka fetches the same records again for ever, or
 * skips them. */
static bool is_unreadable(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__BAD_COMPRESSION || err == RD_KAFKA_RESP_ERR__BAD_MSG ||
	       err == RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED || err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
}

/* librdkafka tells the end of a partition once for each last stable offset, behind the last record that it gave out, and
 * anew after each assign. Where it fetches on is behind control records and aborted batches. */
static void take_end(struct consumer *consumer, const rd_kafka_message_t *message)
{
	struct running *running = find_running(consumer, message->partition);

	if (running && !running->held && message->offset >= running->next)
		running->ended = message->offset;
}

/* An offset that is out of range makes the lane start over: the takeover checks the offsets again, and halts this partition
 * alone if its offset is unusable. */
static void take_error(struct consumer *consumer, const rd_kafka_message_t *message)
{
	struct running *running = find_running(consumer, message->partition);

	if (running && (running->held || running->unreadable[0]))
		return;
	handle_error(consumer, message->err, rd_kafka_message_errstr(message), message->partition);
	if (running && message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
		consumer->serial++;
	if (running && is_unreadable(message->err))
		snprintf(running->unreadable, sizeof running->unreadable, "%s", rd_kafka_message_errstr(message));
}

static void take_message(struct consumer *consumer, rd_kafka_message_t *message)
{
	struct running *running;

	if (message->err) {
		if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			take_end(consumer, message);
		else
			take_error(consumer, message);
		rd_kafka_message_destroy(message);
		return;
	}
	running = find_running(consumer, message->partition);
	/* Records that were fetched before the last start are dropped, too. */
	if (running == NULL || running->held || message->offset < running->next || running->unreadable[0]) {
		rd_kafka_message_destroy(message);
		return;
	}
	running->next = message->offset + 1;
	queue_add_take(&consumer->queue, message);
}

size_t consumer_waiting(const struct consumer *consumer)
{
	return queue_waiting(&consumer->queue);
}

bool consumer_has_room(const struct consumer *consumer)
{
	return queue_has_room(&consumer->queue);
}

/* Polls once also without room: a rebalance has to be served, and a member that does not poll is put out of the group. A
 * record that such a poll returns is kept. After QUEUE_SPARE of them the fetching is paused. */
int consumer_poll(struct consumer *consumer, int timeout_ms, struct fault *fault)
{
	bool room = consumer_has_room(consumer);

	if (room)
		consumer->beyond = 0;
	else if (consumer->beyond == QUEUE_SPARE)
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
	consumer->finished = true;
	*fault = consumer->fatal;
	return -1;
}

const char *consumer_find_unreadable(const struct consumer *consumer, int32_t *partition)
{
	for (size_t i = 0; i < consumer->running_count; i++) {
		const struct running *running = &consumer->running[i];

		if (running->unreadable[0] && !queue_holds(&consumer->queue, running->partition)) {
			*partition = running->partition;
			return running->unreadable;
		}
	}
	return NULL;
}

bool consumer_find_end(const struct consumer *consumer, int32_t partition, struct end *end)
{
	const struct running *running = find_running(consumer, partition);
	int64_t low;

	if (running == NULL || running->unreadable[0])
		return false;
	*end = (struct end){ running->next, running->ended, OFFSET_NONE };
	if (rd_kafka_get_watermark_offsets(consumer->rk, consumer->topic, partition, &low, &end->high)) /* kept since a fetch */
		end->high = OFFSET_NONE;
	return true;
}

bool consumer_is_finished(const struct consumer *consumer)
{
	return consumer->finished;
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

int consumer_positions(struct consumer *consumer, struct position *positions, size_t n, int timeout_ms, struct fault *fault)
{
	int count;

	if (positions_fetch_committed(consumer->rk, consumer->topic, positions, n, timeout_ms, fault) < 0)
		return -1;
	positions_find_ends_patiently(consumer->rk, consumer->topic, positions, n, timeout_ms);
	count = positions_count_partitions(consumer->rk, consumer->topic, timeout_ms);
	if (count > 0)
		consumer->partition_count = count;
	return 0;
}

int consumer_find_member(struct consumer *consumer, const char *client_id, bool *found, int timeout_ms, struct fault *fault)
{
	return group_find_member(consumer->rk, consumer->group, client_id, found, timeout_ms, fault);
}

/* Asks anew, because the stored membership may be over. After its end no other membership begins before the revoke was
 * served. */
static int check_membership(struct consumer *consumer, struct fault *fault)
{
	forget_metadata(consumer);
	return consumer_metadata(consumer, fault) ? 0 : -1;
}

int consumer_check(struct consumer *consumer, const struct start *starts, size_t n, int timeout_ms, struct fault *fault)
{
	bool failed;

	failpoint("check-before");
	/* The membership is checked before the commit: without members in the group, a commit without a generation is taken
	 * unchecked. */
	if (check_membership(consumer, fault) < 0)
		return -1;
	failed = group_commit(consumer->rk, consumer->topic, starts, n, timeout_ms, fault) < 0;
	if (inflight_is_doubtful(&consumer->inflight, API_OFFSET_COMMIT))
		return finish(consumer, fault, "the group coordinator gave no single answer to an offset commit: joining anew");
	/* The membership is checked behind the commit, too: librdkafka sends the generation that holds when it sends. */
	if (!failed && check_membership(consumer, fault) < 0)
		return -1;
	failpoint("check-after");
	consumer->finished |= failed && fault->kind == FAULT_REBUILD;
	return failed ? -1 : 0;
}

int consumer_start(struct consumer *consumer, const struct start *starts, size_t n, struct fault *fault)
{
	forget_running(consumer);
	for (size_t i = 0; i < n && i < consumer->assigned_count; i++)
		consumer->running[consumer->running_count++] =
			(struct running){ .partition = starts[i].partition, .next = starts[i].offset, .ended = OFFSET_NONE };
	return assign(consumer, consumer->running, consumer->running_count, fault);
}

void consumer_stop(struct consumer *consumer)
{
	if (consumer->running_count > 0 && !consumer->paused)
		(void)!assign(consumer, NULL, 0, &consumer->fatal); /* the next poll returns the fault */
	forget_running(consumer);
}

void consumer_pause(struct consumer *consumer)
{
	if (consumer->paused || consumer->running_count == 0)
		return;
	consumer->paused = assign(consumer, NULL, 0, &consumer->fatal) == 0;
}

/* Fetches what is to be fetched now; a paused consumer does so when it is resumed. The ends that were met are void: what lies
 * before them may have been cut from the queue. */
static int fetch_again(struct consumer *consumer, struct fault *fault)
{
	for (size_t i = 0; i < consumer->running_count; i++)
		consumer->running[i].ended = OFFSET_NONE;
	return consumer->paused ? 0 : assign(consumer, consumer->running, consumer->running_count, fault);
}

int consumer_resume(struct consumer *consumer, struct fault *fault)
{
	if (!consumer->paused)
		return 0;
	consumer->paused = false;
	return fetch_again(consumer, fault);
}

void consumer_put_back(struct consumer *consumer)
{
	queue_put_back(&consumer->queue);
}

void consumer_select(struct consumer *consumer, int32_t partition)
{
	consumer->queue.only = partition == CONSUMER_ALL ? QUEUE_ALL : partition;
}

void consumer_set_aside(struct consumer *consumer, int32_t partition)
{
	queue_set_aside(&consumer->queue, partition, true);
}

int consumer_hold(struct consumer *consumer, int32_t partition, struct fault *fault)
{
	struct running *running = find_running(consumer, partition);
	int64_t dropped;

	if (running == NULL || running->held)
		return 0;
	dropped = queue_cut(&consumer->queue, partition, consumer->queue.room / HELD_SHARE + 1);
	if (dropped >= 0) {
		running->next = dropped;
		running->unreadable[0] = '\0'; /* it is found again */
	}
	running->held = true;
	return fetch_again(consumer, fault);
}

bool consumer_holds(const struct consumer *consumer, int32_t partition)
{
	return queue_holds(&consumer->queue, partition);
}

bool consumer_has_aside(const struct consumer *consumer)
{
	return consumer->queue.aside_count > 0;
}

int consumer_readmit(struct consumer *consumer, int32_t partition, struct fault *fault)
{
	struct running *running = find_running(consumer, partition);

	queue_set_aside(&consumer->queue, partition, false);
	if (running == NULL || !running->held)
		return 0;
	running->held = false;
	return fetch_again(consumer, fault);
}

bool consumer_peek(struct consumer *consumer, struct arena *arena, struct record *record)
{
	return queue_peek(&consumer->queue, consumer->topic, arena, record);
}

void consumer_take(struct consumer *consumer)
{
	queue_take(&consumer->queue);
	if (consumer->beyond > 0)
		consumer->beyond--;
}

void consumer_release(struct consumer *consumer, size_t n)
{
	queue_release(&consumer->queue, n);
}

void consumer_release_all(struct consumer *consumer)
{
	queue_release(&consumer->queue, consumer->queue.taken);
}

const struct rd_kafka_consumer_group_metadata_s *consumer_metadata(struct consumer *consumer, struct fault *fault)
{
	if (consumer->metadata == NULL && consumer->assigned_count > 0)
		consumer->metadata = rd_kafka_consumer_group_metadata(consumer->rk);
	if (consumer->metadata && group_is_member(consumer->metadata))
		return consumer->metadata;
	forget_metadata(consumer);
	fault_set(fault, FAULT_FENCED, "not a member of the consumer group at this moment");
	return NULL;
}

int consumer_partition_count(const struct consumer *consumer)
{
	return consumer->partition_count;
}
