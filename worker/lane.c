#include "worker/lane.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"
#include "worker/base/clock.h"
#include "worker/base/failpoint.h"
#include "worker/kafka/consumer.h"
#include "worker/lane_parts.h"
#include "worker/base/log.h"

#define FETCH_MS 100         /* longest wait for a first record: also how soon a stop is noticed */
#define SERVE_MS 100         /* the consumer is served that often while PostgreSQL is waited for */
#define PAUSE_AFTER_MS 1000  /* such a wait that lasts longer stops the fetching */
#define COMPLAIN_MS 5000
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define BREAKER_PAUSE_MS 1000
#define FENCED_PAUSE_MS 500
#define LEAVE_MS 5000
#define LEAVE_CONFIRM_MS 1000
#define BROKEN_LEAVE_MS 1000 /* a consumer that is given up: its partitions need not wait for the session time-out */
#define INIT_MS 1000
#define ARENA_KEEP ((size_t)4 * 1024 * 1024)
#define FENCED_LIMIT 10      /* producer fencings within FENCED_WINDOW_MS: somebody else uses our transactional.id */
#define FENCED_WINDOW_MS (5 * 60 * 1000)
#define FENCED_WITHOUT_REVOKE 8
#define BATCHES (sizeof ((struct lane *)0)->batches / sizeof (struct batch))

bool lane_is_stopping(const struct lane *lane)
{
	return atomic_load(lane->stop);
}

void lane_begin_wait(struct lane *lane, bool abandonable)
{
	lane->abandonable = abandonable;
	lane->abandon_at_ms = 0;
	lane->wait_since_ms = clock_monotonic_ms();
	lane->next_complaint_ms = lane->wait_since_ms + COMPLAIN_MS;
}

/* A PostgreSQL that is there and does not answer raises no error. */
static void complain_if_long(struct lane *lane, int64_t now)
{
	char msg[96];

	if (now < lane->next_complaint_ms)
		return;
	lane->next_complaint_ms = now + COMPLAIN_MS;
	snprintf(msg, sizeof msg, "PostgreSQL has not answered for %d s", (int)((now - lane->wait_since_ms) / 1000));
	log_warn("waiting", msg, "lane", LOG_INT(lane->number));
}

static void serve(struct lane *lane)
{
	lane->served_at_ms = clock_monotonic_ms();
	if (lane->consumer == NULL || lane->wait_fault.kind != FAULT_NONE)
		return;
	if (lane->served_at_ms - lane->wait_since_ms >= PAUSE_AFTER_MS)
		consumer_pause(lane->consumer);
	if (consumer_poll(lane->consumer, 0, &lane->wait_fault) < 0)
		lane->consumer_broken = true;
}

/* The store's waiter. */
static int wait_for(void *arg, int fd, short events, int timeout_ms)
{
	struct lane *lane = arg;
	struct pollfd pollfd = { .fd = fd, .events = events };
	int64_t now;

	if (lane->abandonable && lane_is_stopping(lane))
		return -1;
	if (lane->abandon_at_ms > 0 && clock_monotonic_ms() >= lane->abandon_at_ms)
		return -1;
	if (timeout_ms < 0 || timeout_ms > SERVE_MS)
		timeout_ms = SERVE_MS;
	poll(&pollfd, 1, timeout_ms);
	now = clock_monotonic_ms();
	if (now - lane->served_at_ms >= SERVE_MS)
		serve(lane);
	if (fd >= 0)
		complain_if_long(lane, now);
	return 0;
}

void lane_pause(struct lane *lane, int64_t ms)
{
	int64_t until = clock_monotonic_ms() + ms;
	uint64_t serial = lane->consumer ? consumer_serial(lane->consumer) : 0;

	lane_begin_wait(lane, true);
	while (clock_monotonic_ms() < until && wait_for(lane, -1, 0, (int)(until - clock_monotonic_ms())) == 0)
		if (lane->consumer && consumer_serial(lane->consumer) != serial)
			break;
}

struct partition *lane_find_partition(struct lane *lane, int32_t id)
{
	for (size_t i = 0; i < lane->partition_count; i++)
		if (lane->partitions[i].id == id)
			return &lane->partitions[i];
	return NULL;
}

static int prepare(struct lane *lane, struct fault *fault)
{
	char application[64];
	struct store_settings settings = {
		.database = lane->config->database,
		.application = application,
		.group = lane->config->group,
		.transactional_id = lane->transactional_id,
		.lock_timeout_ms = lane->config->lock_timeout_ms,
		.statement_timeout_ms = lane->config->statement_timeout_ms,
		.idle_in_transaction_ms = lane->config->lock_timeout_ms,
		.connect_timeout_ms = 5000,
		.audience_leads_max = lane->config->audience_leads_max,
	};
	struct waiter waiter = { wait_for, lane };

	snprintf(application, sizeof application, "campaign-worker %.30s.%d", lane->config->instance, lane->number);
	lane->codec = codec_new(lane->config->schemas, fault);
	if (lane->codec == NULL)
		return -1;
	lane->store = store_new(&settings, &waiter);
	return 0;
}

static void make_batch(struct batch *batch, size_t size)
{
	batch->arena = arena_new(ARENA_KEEP);
	batch->jobs = calloc(size, sizeof *batch->jobs);
	batch->order = calloc(size, sizeof *batch->order);
	if (batch->jobs == NULL || batch->order == NULL)
		abort();
}

static void free_batch(struct batch *batch)
{
	arena_free(batch->arena);
	free(batch->jobs);
	free(batch->order);
	free(batch->offsets);
	free(batch->fences);
}

void lane_size_batches(struct lane *lane, size_t partitions)
{
	for (size_t i = 0; i < BATCHES; i++) {
		struct batch *batch = &lane->batches[i];

		free(batch->offsets);
		free(batch->fences);
		batch->offsets = calloc(partitions + 1, sizeof *batch->offsets);
		batch->fences = calloc(partitions + 1, sizeof *batch->fences);
		if (batch->offsets == NULL || batch->fences == NULL)
			abort();
		batch_clear(batch);
	}
}

struct lane *lane_new(const struct config *config, int number, const atomic_bool *stop, struct fault *fault)
{
	struct lane *lane = calloc(1, sizeof *lane);
	size_t batch = (size_t)config->batch;

	if (lane == NULL)
		abort();
	lane->config = config;
	lane->number = number;
	lane->stop = stop;
	snprintf(lane->transactional_id, sizeof lane->transactional_id, "%s.%s.%d", config->group, config->instance, number);
	breaker_init(&lane->breaker, config->breaker);
	sizing_init(&lane->sizing, batch, config->batch_ms);
	lane->arena = arena_new(ARENA_KEEP);
	for (size_t i = 0; i < BATCHES; i++)
		make_batch(&lane->batches[i], batch);
	lane->batch = &lane->batches[0];
	for (lane->trace_slots = 16; lane->trace_slots < 2 * batch;)
		lane->trace_slots *= 2;
	lane->traces = calloc(lane->trace_slots, sizeof *lane->traces);
	if (lane->traces == NULL)
		abort();
	if (prepare(lane, fault) < 0) {
		lane_free(lane);
		return NULL;
	}
	return lane;
}

void lane_free(struct lane *lane)
{
	if (lane == NULL)
		return;
	consumer_free(lane->consumer, 0);
	publisher_free(lane->publisher);
	store_free(lane->store);
	codec_free(lane->codec);
	arena_free(lane->arena);
	for (size_t i = 0; i < BATCHES; i++)
		free_batch(&lane->batches[i]);
	free(lane->traces);
	free(lane->partitions);
	free(lane);
}

/* ---- making what is not there ---- */

static void drop_publisher_if_broken(struct lane *lane, const struct fault *fault)
{
	if (publisher_was_fenced(lane->publisher))
		lane->fenced_count++;
	if (fault->kind == FAULT_REBUILD) {
		publisher_free(lane->publisher);
		lane->publisher = NULL;
	}
}

/* The producer comes first: initialising it ends what a predecessor of this name left pending, which would otherwise hide
 * the offsets. */
static int ensure_publisher(struct lane *lane, struct fault *fault)
{
	if (lane->publisher && publisher_is_spent(lane->publisher)) {
		log_info("producer_renewed", "a transactional request was sent twice: going on with a new producer");
		publisher_free(lane->publisher);
		lane->publisher = NULL;
	}
	if (lane->publisher == NULL) {
		lane->publisher_ready = false;
		lane->publisher = publisher_new(lane->config, lane->transactional_id, fault);
		if (lane->publisher == NULL)
			return -1;
	}
	if (!lane->publisher_ready && publisher_init(lane->publisher, INIT_MS, fault) < 0) {
		drop_publisher_if_broken(lane, fault);
		return -1;
	}
	lane->publisher_ready = true;
	return 0;
}

static int ensure_consumer(struct lane *lane, struct fault *fault)
{
	if (lane->consumer_broken) {
		consumer_free(lane->consumer, BROKEN_LEAVE_MS);
		lane->consumer = NULL;
		lane->consumer_broken = false;
	}
	if (lane->consumer)
		return 0;
	lane->serial = 0;
	lane->partition_count = lane->halted_count = 0;
	lane->wait_fault.kind = FAULT_NONE;
	lane->consumer = consumer_new(lane->config, lane->number, fault);
	return lane->consumer ? 0 : -1;
}

static int ensure_store(struct lane *lane, struct fault *fault)
{
	if (store_connected(lane->store))
		return 0;
	lane->serial = 0;
	lane_begin_wait(lane, true);
	if (store_connect(lane->store, fault) < 0)
		return -1;
	log_info("database_connected", "connected to PostgreSQL", "lane", LOG_INT(lane->number));
	return 0;
}

/* An executed batch is published first: it needs none of the others anew. */
static int ensure_clients(struct lane *lane, struct fault *fault)
{
	if (ensure_publisher(lane, fault) < 0)
		return -1;
	if (lane->executed)
		return 0;
	if (ensure_consumer(lane, fault) < 0)
		return -1;
	return ensure_store(lane, fault);
}

/* ---- one round ---- */

static int check_assignment(const struct lane *lane, struct fault *fault)
{
	if (lane->wait_fault.kind != FAULT_NONE) {
		*fault = lane->wait_fault;
		return -1;
	}
	if (consumer_serial(lane->consumer) != lane->serial)
		return fault_set(fault, FAULT_FENCED, "partitions moved while a batch was in hand: it is dropped, its new owner answers it");
	return 0;
}

static int publish(struct lane *lane, struct batch *batch, struct fault *fault)
{
	struct publication publication = {
		.jobs = batch->jobs,
		.count = batch->count,
		.offsets = batch->offsets,
		.offset_count = batch->offset_count,
	};

	if (check_assignment(lane, fault) < 0)
		return -1;
	publication.metadata = consumer_metadata(lane->consumer, fault);
	if (publication.metadata == NULL)
		return -1;
	if (publisher_publish(lane->publisher, lane->codec, &publication, batch->arena, fault) == 0)
		return 0;
	drop_publisher_if_broken(lane, fault);
	return -1;
}

static void advance(struct lane *lane, const struct batch *batch)
{
	for (size_t i = 0; i < batch->offset_count; i++) {
		struct partition *partition = lane_find_partition(lane, batch->offsets[i].partition);

		if (partition)
			partition->start = batch->offsets[i].next;
	}
	breaker_published(&lane->breaker);
	takeover_note_progress(lane);
	lane->failures = 0;
}

/* Publishes the executed batch, and is done with it. */
static int settle(struct lane *lane, struct fault *fault)
{
	struct batch *batch = lane->executed;
	int64_t begun_us = clock_monotonic_us();

	if (publish(lane, batch, fault) < 0)
		return -1;
	sizing_note_kafka(&lane->sizing, clock_monotonic_us() - begun_us);
	batch_log(batch);
	advance(lane, batch);
	consumer_release(lane->consumer, batch->count);
	batch_clear(batch);
	lane->executed = NULL;
	failpoint("batch-end");
	return 0;
}

/* While a batch is in hand, the next one may be begun. */
static bool may_go_ahead(const struct lane *lane)
{
	return !lane_is_stopping(lane) && store_connected(lane->store);
}

static bool is_worth_it(const struct lane *lane)
{
	return sizing_overlaps(&lane->sizing, lane->batch->count + consumer_waiting(lane->consumer)) || failpoint_always_ahead();
}

static bool send_batch(struct lane *lane)
{
	if (lane->executed && !(may_go_ahead(lane) && is_worth_it(lane)))
		return false;
	if (lane->executed == NULL || !takeover_is_due(lane))
		batch_fill(lane, lane->batch);
	if (lane->batch->count == 0)
		return false;
	failpoint("poll");
	execute_send(lane);
	return true;
}

/* Not if something has to be done that needs empty hands. */
static int fill_ahead(struct lane *lane, struct batch *batch, struct fault *fault)
{
	if (!may_go_ahead(lane) || takeover_is_due(lane))
		return 0;
	if (consumer_has_room(lane->consumer) && consumer_poll(lane->consumer, 0, fault) < 0) {
		lane->consumer_broken = true;
		return -1;
	}
	batch_fill(lane, batch);
	return 0;
}

/* PostgreSQL works on a batch while the one behind it is decoded and, if that is worth it, Kafka commits the one before it;
 * nothing else is done before it is known (protocol.txt, one batch ahead). An answer that is larger than the sockets hold
 * waits with its COMMIT, and its locks, until it is received. */
static int run_batches(struct lane *lane, struct fault *fault)
{
	struct batch *batch = lane->batch, *other = batch == &lane->batches[0] ? &lane->batches[1] : &lane->batches[0];
	bool sent = send_batch(lane);

	if (lane->executed && settle(lane, fault) < 0)
		return -1;
	if (!sent)
		return lane_is_stopping(lane) || batch->count > 0 ? 0 : takeover_tend(lane, fault);
	if (fill_ahead(lane, other, fault) < 0 || execute_batch(lane, fault) < 0)
		return -1;
	lane->executed = batch;
	lane->batch = other;
	return 0;
}

static void drop_batches(struct lane *lane)
{
	execute_abandon(lane);
	if (lane->consumer)
		consumer_release_all(lane->consumer);
	lane->executed = NULL;
	for (size_t i = 0; i < BATCHES; i++)
		batch_clear(&lane->batches[i]);
}

/* With a batch at hand only for more of it: what comes without room is too early, and after some of that fetching stops. */
static int poll_consumer(struct lane *lane, struct fault *fault)
{
	bool idle = lane->executed == NULL && lane->batch->count == 0;

	if (lane->executed == NULL && !idle && !consumer_has_room(lane->consumer))
		return 0;
	if (consumer_poll(lane->consumer, idle ? FETCH_MS : 0, fault) < 0)
		return -1;
	lane->served_at_ms = clock_monotonic_ms();
	return 0;
}

static int step(struct lane *lane, struct fault *fault)
{
	if (ensure_clients(lane, fault) < 0)
		return -1;
	if (consumer_resume(lane->consumer, fault) < 0 || poll_consumer(lane, fault) < 0) {
		lane->consumer_broken = true;
		return -1;
	}
	if (lane->executed == NULL && consumer_serial(lane->consumer) != lane->serial) {
		drop_batches(lane);
		return takeover_run(lane, fault);
	}
	if (check_assignment(lane, fault) < 0)
		return -1;
	return run_batches(lane, fault);
}

/* ---- the way back ---- */

static int64_t backoff_ms(int failures)
{
	int64_t ms = BACKOFF_MIN_MS;

	for (int i = 1; i < failures && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	return ms / 2 + rand() % (ms / 2 + 1);
}

static bool is_breakers(const struct lane *lane, const struct fault *fault)
{
	return lane->breaker.open && fault->kind == FAULT_WAIT && strcmp(fault->sqlstate, lane->breaker.cause) == 0;
}

static void log_fault(const struct lane *lane, const struct fault *fault)
{
	static const char *const events[] = {
		[FAULT_RETRY] = "retrying", [FAULT_REJECT] = "rejected", [FAULT_FENCED] = "batch_dropped", [FAULT_ABORT] = "transaction_aborted",
		[FAULT_REBUILD] = "client_rebuilt", [FAULT_WAIT] = "waiting", [FAULT_FATAL] = "fatal",
	};

	log_event(fault->kind == FAULT_FENCED || fault->kind == FAULT_RETRY ? LEVEL_WARN : LEVEL_ERROR,
		  is_breakers(lane, fault) ? "breaker_open" : events[fault->kind], fault->msg, "lane", LOG_INT(lane->number), "sqlstate",
		  fault->sqlstate[0] ? fault->sqlstate : NULL, (char *)0);
}

/* Two workers of one name would fence each other for ever. */
static bool is_fenced_too_often(struct lane *lane)
{
	int64_t now = clock_monotonic_ms();

	if (now - lane->fenced_since_ms > FENCED_WINDOW_MS) {
		lane->fenced_since_ms = now;
		lane->fenced_count = 0;
	}
	if (lane->fenced_count < FENCED_LIMIT)
		return false;
	log_error("fatal", "the producer was fenced again and again: does another process run with the same group and instance? "
		  "Give each its own --instance", "transactionalId", lane->transactional_id);
	return true;
}

/* Drops what is in hand and makes the next round start over. -1: give up. */
static int recover(struct lane *lane, const struct fault *fault)
{
	drop_batches(lane);
	if (fault->kind == FAULT_STOP)
		return 0;
	log_fault(lane, fault);
	if (fault->kind == FAULT_FATAL || is_fenced_too_often(lane))
		return -1;
	lane->failures++;
	lane->serial = 0;
	breaker_dropped(&lane->breaker);
	if (fault->kind == FAULT_FENCED && ++lane->refusals % FENCED_WITHOUT_REVOKE == 0)
		lane->consumer_broken = true; /* the group says we are out, and yet no revoke comes: join anew */
	if (lane->consumer)
		consumer_stop(lane->consumer);
	lane_pause(lane, lane->breaker.open ? BREAKER_PAUSE_MS : fault->kind == FAULT_FENCED ? FENCED_PAUSE_MS : backoff_ms(lane->failures));
	return 0;
}

static void leave(struct lane *lane)
{
	if (lane->consumer) {
		takeover_confirm_last(lane, LEAVE_CONFIRM_MS);
		consumer_stop(lane->consumer);
	}
	consumer_free(lane->consumer, LEAVE_MS);
	lane->consumer = NULL;
	publisher_free(lane->publisher); /* here, where the drain budget still holds */
	lane->publisher = NULL;
}

int lane_run(struct lane *lane)
{
	struct fault fault = { 0 };
	int status = 0;

	while (status == 0 && (lane->executed || !lane_is_stopping(lane))) {
		if (step(lane, &fault) < 0)
			status = recover(lane, &fault);
		arena_reset(lane->arena);
	}
	leave(lane);
	return status;
}
