#include "worker/lane.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"
#include "worker/assignment.h"
#include "worker/base/clock.h"
#include "worker/base/failpoint.h"
#include "worker/base/identity.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "worker/batch.h"
#include "worker/db/execution.h"
#include "worker/db/ownership.h"
#include "worker/executor.h"
#include "worker/kafka/consumer.h"
#include "worker/kafka/publisher.h"
#include "worker/lockwait.h"
#include "worker/setbacks.h"
#include "worker/takeover.h"
#include "worker/wait.h"

#define FETCH_MS 100         /* longest wait for a first record: also how soon a stop is noticed */
#define PAUSE_AFTER_MS 1000  /* a wait for PostgreSQL that lasts longer stops the fetching */
#define BREAKER_PAUSE_MS 1000
#define LEAVE_MS 5000
#define LEAVE_SETTLE_MS 1000
#define REVOKED_CONFIRM_MS 500
#define BROKEN_LEAVE_MS 1000 /* a consumer that is given up: its partitions need not wait for the session time-out */
#define INIT_MS 1000
#define SCHEMA_PAUSE_MS 1000
#define CONNECT_MS 5000
#define ARENA_KEEP ((size_t)4 * 1024 * 1024)
#define BATCHES 2

struct lane {
	const struct config *config;
	int number;
	char transactional_id[TRANSACTIONAL_ID_SIZE];

	struct consumer *consumer;   /* NULL: to be made; so is publisher */
	struct publisher *publisher;
	struct lessons lessons;      /* of all its publishers */
	struct session *session;
	struct execution *execution;
	const struct contract *contract; /* the operation's, and what executes it */
	struct execution_settings execution_settings;
	struct statement execution_statements[EXECUTION_STATEMENTS];
	const struct statement *statements[3];
	struct codec *codec;
	struct arena *arena;         /* of one round */
	bool rejoin;                 /* the consumer is to be made anew */
	bool publisher_ready;

	struct wait wait;
	struct assignment assignment;
	struct takeover takeover;
	struct executor executor;
	struct statistics statistics;

	/* While Kafka commits one batch, PostgreSQL works on the next. */
	struct batch batches[BATCHES];
	struct batch *batch;    /* filled, or executed by PostgreSQL while the other one is filled */
	struct batch *executed; /* committed in PostgreSQL, to be published; NULL: there is none */

	struct lockwait lockwait;
	struct setbacks setbacks;
	struct view view;
};

/* ---- making and freeing ---- */

static int keep_consumer_alive(void *arg, int64_t waited_ms, struct fault *fault)
{
	struct lane *lane = arg;

	if (lane->consumer == NULL)
		return 0;
	if (waited_ms >= PAUSE_AFTER_MS)
		consumer_pause(lane->consumer);
	return consumer_poll(lane->consumer, 0, fault);
}

static uint64_t get_serial(void *arg)
{
	const struct lane *lane = arg;

	return lane->consumer ? consumer_serial(lane->consumer) : 0;
}

static void prepare_operation(struct lane *lane, const struct operation *operation)
{
	lane->contract = operation->contract;
	lane->execution_settings = (struct execution_settings){
		.contract = operation->contract,
		.lock_sql = operation->lock_sql,
		.execute_sql = operation->execute_sql,
		.written_sql = operation->written_sql,
		.limit = operation->limit(lane->config),
	};
	execution_statements(&lane->execution_settings, lane->execution_statements);
	lane->statements[0] = ownership_statements;
	lane->statements[1] = lane->execution_statements;
}

static struct session *make_session(struct lane *lane)
{
	const struct config *config = lane->config;
	char application[64];
	struct session_settings settings = {
		.database = config->database,
		.schema = config->database_schema,
		.application = application,
		.group = config->group,
		.transactional_id = lane->transactional_id,
		.claim_timeout_ms = config->lock_timeout_ms,
		.lock_timeout_ms = lockwait_timeout_ms(config),
		.statement_timeout_ms = config->statement_timeout_ms,
		.idle_in_transaction_ms = config->lock_timeout_ms,
		.connect_timeout_ms = CONNECT_MS,
		.statements = lane->statements,
	};
	struct waiter waiter = { wait_for_socket, &lane->wait };

	snprintf(application, sizeof application, "campaign-worker %.30s.%d", config->instance, lane->number);
	return session_new(&settings, &waiter);
}

struct lane *lane_new(const struct config *config, const struct operation *operation, int number, const atomic_bool *stop,
		      struct fault *fault)
{
	struct lane *lane = must(calloc(1, sizeof *lane));
	const struct keep_alive keep_alive = { keep_consumer_alive, get_serial, lane };
	char role[12];

	lane->config = config;
	lane->number = number;
	view_init(&lane->view);
	snprintf(role, sizeof role, "%d", number);
	identity_transactional_id(lane->transactional_id, config->group, config->instance, role);
	lane->arena = arena_new(ARENA_KEEP);
	prepare_operation(lane, operation);
	lane->session = make_session(lane);
	lane->execution = execution_new(lane->session, &lane->execution_settings);
	wait_init(&lane->wait, stop, number, &keep_alive);
	assignment_init(&lane->assignment, config->commands, config->group);
	executor_init(&lane->executor, lane->execution, &lane->wait, &lane->statistics, lane->contract, config);
	lockwait_init(&lane->lockwait, config, lane->session, &lane->wait);
	lane->takeover = (struct takeover){ .config = config, .transactional_id = lane->transactional_id, .session = lane->session,
					    .wait = &lane->wait, .assignment = &lane->assignment, .arena = lane->arena };
	identity_former_transactional_id(lane->takeover.former_transactional_id, config->group, config->instance, number);
	for (size_t i = 0; i < BATCHES; i++)
		batch_init(&lane->batches[i], (size_t)config->batch + EXECUTOR_OTHERS);
	lane->batch = &lane->batches[0];
	lane->codec = codec_new(lane->contract, config->schemas, NULL, fault);
	if (lane->codec)
		return lane;
	lane_free(lane);
	return NULL;
}

void lane_free(struct lane *lane)
{
	if (lane == NULL)
		return;
	consumer_free(lane->consumer, 0);
	publisher_free(lane->publisher);
	executor_destroy(&lane->executor);
	lockwait_destroy(&lane->lockwait);
	execution_free(lane->execution);
	session_free(lane->session);
	codec_free(lane->codec);
	arena_free(lane->arena);
	assignment_clear(&lane->assignment);
	for (size_t i = 0; i < BATCHES; i++)
		batch_destroy(&lane->batches[i]);
	view_destroy(&lane->view);
	free(lane);
}

/* ---- the view of other threads ---- */

const struct statistics *lane_statistics(const struct lane *lane)
{
	return &lane->statistics;
}

size_t lane_partitions(struct lane *lane, struct view_partition *partitions, size_t max)
{
	return view_copy(&lane->view, partitions, max);
}

/* Waits for PostgreSQL's answer, and forgets what is in hand. */
static void drop_batches(struct lane *lane)
{
	executor_abandon(&lane->executor);
	if (lane->consumer)
		consumer_release_all(lane->consumer);
	lane->executed = NULL;
	for (size_t i = 0; i < BATCHES; i++)
		batch_clear(&lane->batches[i]);
}

/* ---- making missing clients ---- */

static void drop_publisher_if_broken(struct lane *lane, const struct fault *fault)
{
	if (publisher_was_fenced(lane->publisher)) {
		setbacks_fenced(&lane->setbacks);
		statistics_add(&lane->statistics, COUNT_FENCINGS, 1);
	}
	if (fault->kind == FAULT_REBUILD) {
		publisher_free(lane->publisher);
		lane->publisher = NULL;
	}
}

/* The producer comes first: initialising it ends a transaction that a predecessor of this name left pending, which would
 * otherwise hide the offsets. */
static int ensure_publisher(struct lane *lane, struct fault *fault)
{
	if (lane->publisher && publisher_is_spent(lane->publisher)) {
		log_info("producer_renewed", "a transactional request was sent twice, or a record was refused: going on with a new producer");
		publisher_free(lane->publisher);
		lane->publisher = NULL;
	}
	if (lane->publisher == NULL) {
		lane->publisher_ready = false;
		lane->publisher = publisher_new(lane->config, lane->transactional_id, &lane->lessons, fault);
		if (lane->publisher == NULL)
			return -1;
		statistics_add(&lane->statistics, COUNT_PRODUCERS, 1);
	}
	if (!lane->publisher_ready && publisher_init(lane->publisher, INIT_MS, fault) < 0) {
		drop_publisher_if_broken(lane, fault);
		return -1;
	}
	lane->publisher_ready = true;
	publisher_renew_limits(lane->publisher);
	return 0;
}

static int ensure_consumer(struct lane *lane, struct fault *fault)
{
	if (lane->consumer && (lane->rejoin || consumer_is_finished(lane->consumer))) {
		drop_batches(lane); /* their records are the consumer's */
		consumer_free(lane->consumer, BROKEN_LEAVE_MS);
		lane->consumer = lane->takeover.consumer = NULL;
	}
	lane->rejoin = false;
	if (lane->consumer)
		return 0;
	assignment_clear(&lane->assignment);
	lane->wait.fault.kind = FAULT_NONE;
	lane->consumer = lane->takeover.consumer = consumer_new(lane->config, lane->number, fault);
	if (lane->consumer == NULL)
		return -1;
	statistics_add(&lane->statistics, COUNT_CONSUMERS, 1);
	return 0;
}

static int ensure_session(struct lane *lane, struct fault *fault)
{
	if (session_connected(lane->session))
		return 0;
	assignment_drop(&lane->assignment);
	wait_begin(&lane->wait, true, clock_monotonic_ms());
	if (session_connect(lane->session, fault) < 0)
		return -1;
	statistics_add(&lane->statistics, COUNT_CONNECTIONS, 1);
	log_info("database_connected", lane->session->ended[0] ? "connected to PostgreSQL again" : "connected to PostgreSQL", "lane",
		 LOG_INT(lane->number), "ended", lane->session->ended[0] ? lane->session->ended : NULL);
	lane->session->ended[0] = '\0';
	return 0;
}

/* An executed batch is published first: for that, consumer and session need not be made anew. */
static int ensure_clients(struct lane *lane, struct fault *fault)
{
	if (ensure_publisher(lane, fault) < 0)
		return -1;
	if (lane->executed)
		return 0;
	return ensure_consumer(lane, fault) < 0 ? -1 : ensure_session(lane, fault);
}

/* ---- one round ---- */

static int check_assignment(const struct lane *lane, struct fault *fault)
{
	if (lane->wait.fault.kind != FAULT_NONE) {
		*fault = lane->wait.fault;
		return -1;
	}
	if (consumer_serial(lane->consumer) != lane->assignment.serial)
		return fault_set(fault, FAULT_FENCED, "partitions moved while a batch was in hand: it is dropped, its new owner answers it");
	return 0;
}

static int publish(struct lane *lane, struct batch *batch, struct fault *fault)
{
	struct publication publication = {
		.jobs = batch->jobs, .count = batch->count,
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
	for (size_t i = 0; i < batch->offset_count; i++)
		assignment_advance(&lane->assignment, batch->offsets[i].partition, batch->offsets[i].next);
	breaker_published(&lane->executor.breaker);
	setbacks_published(&lane->setbacks);
}

/* Publishes the executed batch and releases its records. */
static int publish_executed(struct lane *lane, struct fault *fault)
{
	struct batch *batch = lane->executed;
	int64_t begun_us = clock_monotonic_us(), taken_us;

	if (publish(lane, batch, fault) < 0)
		return -1;
	taken_us = clock_monotonic_us() - begun_us;
	sizing_observe_kafka(&lane->executor.sizing, taken_us);
	statistics_observe(&lane->statistics, HISTOGRAM_PUBLISH, taken_us);
	batch_log(batch, lane->contract);
	batch_count(batch, &lane->statistics);
	advance(lane, batch);
	consumer_release(lane->consumer, batch->count);
	batch_clear(batch);
	lane->executed = NULL;
	failpoint("batch-end");
	return 0;
}

static bool something_is_due(const struct lane *lane)
{
	return takeover_is_due(&lane->takeover, clock_monotonic_ms());
}

/* Whether the next batch may be begun while one is in hand. */
static bool may_go_ahead(const struct lane *lane)
{
	return !wait_is_stopping(&lane->wait) && session_connected(lane->session);
}

static bool is_worth_it(const struct lane *lane)
{
	size_t ready = lane->batch->count + consumer_waiting(lane->consumer);

	return sizing_overlaps(&lane->executor.sizing, ready) || failpoint_always_ahead();
}

static void fill(struct lane *lane, struct batch *batch)
{
	struct fence_partition *partitions = arena_array(lane->arena, lane->assignment.count + 1, sizeof *partitions);
	const struct batch_source source = {
		.consumer = lane->consumer,
		.codec = lane->codec,
		.contract = lane->contract,
		.partitions = partitions,
		.partition_count = assignment_fences(&lane->assignment, partitions),
		.count_max = lockwait_choose(&lane->lockwait, lane->consumer, batch, executor_batch_limit(&lane->executor)),
		.bytes_max = (size_t)lane->config->batch_bytes,
	};

	batch_fill(batch, &source);
	lockwait_filled(&lane->lockwait, lane->consumer, batch);
}

static bool send_batch(struct lane *lane)
{
	struct batch *batch = lane->batch;
	struct fence fence = { .cluster_id = lane->assignment.cluster_id, .topic = lane->assignment.topic, .partitions = batch->fences };

	if (lane->executed && !(may_go_ahead(lane) && is_worth_it(lane)))
		return false;
	if (lane->executed == NULL || !something_is_due(lane))
		fill(lane, batch);
	if (batch->count == 0)
		return false;
	publisher_bound_results(lane->publisher, lane->codec, batch->jobs, batch->count, batch->arena);
	failpoint("poll");
	fence.count = batch->offset_count;
	lane->executor.answers_locked = lockwait_is_over(&lane->lockwait, batch);
	executor_send(&lane->executor, &fence, batch->order, batch->count, batch->arena);
	lockwait_sent(&lane->lockwait, batch);
	return true;
}

/* Fills nothing if work is due that needs every batch to be published first. */
static int fill_ahead(struct lane *lane, struct batch *batch, struct fault *fault)
{
	if (!may_go_ahead(lane) || something_is_due(lane))
		return 0;
	if (consumer_has_room(lane->consumer) && consumer_poll(lane->consumer, 0, fault) < 0)
		return -1;
	fill(lane, batch);
	return 0;
}

/* The next record cannot be decoded yet: it waits in its place, and what is due goes on. */
static void wait_for_schema(struct lane *lane, const struct batch *batch)
{
	log_error("waiting", batch->fault.msg, "lane", LOG_INT(lane->number));
	wait_pause(&lane->wait, SCHEMA_PAUSE_MS);
}

static int maintain(struct lane *lane, struct fault *fault)
{
	if (check_assignment(lane, fault) < 0)
		return -1;
	wait_begin(&lane->wait, true, clock_monotonic_ms());
	if (session_check_guarantees(lane->session, clock_monotonic_ms(), fault) < 0)
		return -1;
	return takeover_maintain(&lane->takeover, clock_monotonic_ms(), fault);
}

/* The batch met locked rows, and was rolled back: its records wait again, with those that are decoded behind it. */
static int put_back(struct lane *lane, struct fault *fault)
{
	const struct fault met = *fault;

	if (check_assignment(lane, fault) < 0)
		return -1;
	breaker_dropped(&lane->executor.breaker);
	if (lane->executor.answers_locked) /* it was to be answered, and cannot be: the fence, or its draft, is not to be had */
		log_warn("waiting", met.msg, "topic", lane->assignment.topic, "partition", LOG_INT(lane->batch->only), "sqlstate", met.sqlstate);
	lockwait_met(&lane->lockwait, lane->consumer, lane->batch, lane->executor.sizing.limit, &met);
	for (size_t i = 0; i < BATCHES; i++)
		batch_clear(&lane->batches[i]);
	return 0;
}

/* While PostgreSQL executes a batch, the one behind it is decoded and, if that is worth it, Kafka commits the one before it.
 * Nothing else is done before the batch's outcome is known (protocol.txt, one batch ahead). A transaction whose answer is
 * larger than the sockets hold keeps its COMMIT, and its locks, waiting until the answer is received. */
static int run_batches(struct lane *lane, struct fault *fault)
{
	struct batch *batch = lane->batch, *other = batch == &lane->batches[0] ? &lane->batches[1] : &lane->batches[0];
	int64_t begun_us = clock_monotonic_us();
	bool sent = send_batch(lane);

	if (lane->executed && publish_executed(lane, fault) < 0)
		return -1;
	if (!sent && (wait_is_stopping(&lane->wait) || batch->count > 0))
		return 0;
	if (!sent && batch->fault.kind != FAULT_NONE)
		wait_for_schema(lane, batch);
	if (!sent)
		return maintain(lane, fault);
	if (fill_ahead(lane, other, fault) < 0)
		return -1;
	if (executor_receive(&lane->executor, fault) < 0)
		return executor_met_lock(fault) ? put_back(lane, fault) : -1;
	lockwait_passed(&lane->lockwait, lane->consumer, batch);
	statistics_observe(&lane->statistics, HISTOGRAM_EXECUTE, clock_monotonic_us() - begun_us);
	lane->executed = batch;
	lane->batch = other;
	return 0;
}

/* With a batch in hand polls only for more of it: records without room are too early, and too many of them pause the
 * fetching. */
static int poll_consumer(struct lane *lane, struct fault *fault)
{
	bool idle = lane->executed == NULL && lane->batch->count == 0;

	if (lane->executed == NULL && !idle && !consumer_has_room(lane->consumer))
		return 0;
	if (consumer_poll(lane->consumer, idle ? FETCH_MS : 0, fault) < 0)
		return -1;
	wait_polled(&lane->wait, clock_monotonic_ms());
	return 0;
}

static int take_over(struct lane *lane, struct fault *fault)
{
	const int32_t *ids;
	size_t n;

	drop_batches(lane);
	takeover_confirm_last(&lane->takeover, REVOKED_CONFIRM_MS);
	n = consumer_partitions(lane->consumer, &ids);
	assignment_take(&lane->assignment, consumer_serial(lane->consumer), ids, n);
	for (size_t i = 0; i < BATCHES; i++)
		batch_resize(&lane->batches[i], n);
	if (takeover_run(&lane->takeover, fault) < 0)
		return -1;
	if (n > 0)
		setbacks_taken_over(&lane->setbacks);
	statistics_add(&lane->statistics, COUNT_TAKEOVERS, 1);
	return 0;
}

/* Nothing is in PostgreSQL's hands. */
static int start_over(struct lane *lane)
{
	drop_batches(lane);
	consumer_stop(lane->consumer);
	assignment_drop(&lane->assignment);
	return 0;
}

static int step(struct lane *lane, struct fault *fault)
{
	if (ensure_clients(lane, fault) < 0)
		return -1;
	if (consumer_resume(lane->consumer, fault) < 0 || poll_consumer(lane, fault) < 0)
		return -1;
	if (lane->executed == NULL && session_was_ended(lane->session)) /* the next round connects and takes over */
		return start_over(lane);
	if (lane->executed == NULL && consumer_serial(lane->consumer) != lane->assignment.serial)
		return take_over(lane, fault);
	return check_assignment(lane, fault) < 0 ? -1 : run_batches(lane, fault);
}

/* ---- recovery ---- */

static void log_fault(const struct lane *lane, const struct fault *fault)
{
	static const char *const events[] = {
		[FAULT_RETRY] = "retrying", [FAULT_REJECT] = "rejected", [FAULT_FENCED] = "batch_dropped", [FAULT_ABORT] = "transaction_aborted",
		[FAULT_REBUILD] = "client_rebuilt", [FAULT_WAIT] = "waiting", [FAULT_FATAL] = "fatal",
	};

	log_event(fault->kind == FAULT_FENCED || fault->kind == FAULT_RETRY ? LEVEL_WARN : LEVEL_ERROR,
		  executor_is_breakers(&lane->executor, fault) ? "breaker_open" : events[fault->kind], fault->msg, "lane",
		  LOG_INT(lane->number), "sqlstate", fault->sqlstate[0] ? fault->sqlstate : NULL, (char *)0);
}

/* Two workers with the same group and instance would fence each other for ever. */
static bool is_fenced_too_often(struct lane *lane, int64_t now_ms)
{
	if (!setbacks_are_fencings(&lane->setbacks, now_ms))
		return false;
	log_error("fatal", "the producer was fenced again and again: does another process run with the same group and instance? "
		  "Give each its own --instance", "transactionalId", lane->transactional_id);
	return true;
}

/* Drops the batches in hand and makes the next round start over. -1: the lane gives up. */
static int recover(struct lane *lane, const struct fault *fault)
{
	drop_batches(lane);
	if (fault->kind == FAULT_STOP)
		return 0;
	log_fault(lane, fault);
	assignment_drop(&lane->assignment); /* whether the last batch is published may not be known: its starts are void */
	if (fault->kind == FAULT_FATAL || is_fenced_too_often(lane, clock_monotonic_ms()))
		return -1;
	statistics_add(&lane->statistics, COUNT_BATCHES_DROPPED, 1);
	breaker_dropped(&lane->executor.breaker);
	lane->rejoin |= setbacks_add(&lane->setbacks, fault->kind);
	if (lane->consumer)
		consumer_stop(lane->consumer);
	wait_pause(&lane->wait, lane->executor.breaker.open ? BREAKER_PAUSE_MS : setbacks_pause_ms(&lane->setbacks, fault->kind));
	return 0;
}

static void leave(struct lane *lane)
{
	if (lane->consumer) {
		takeover_settle_last(&lane->takeover, LEAVE_SETTLE_MS);
		consumer_stop(lane->consumer);
	}
	consumer_free(lane->consumer, LEAVE_MS);
	lane->consumer = lane->takeover.consumer = NULL;
	publisher_free(lane->publisher); /* within the drain budget, which lane_free is not */
	lane->publisher = NULL;
}

int lane_run(struct lane *lane)
{
	struct fault fault = { 0 };
	int status = 0;

	while (status == 0 && (lane->executed || !wait_is_stopping(&lane->wait))) {
		if (step(lane, &fault) < 0)
			status = recover(lane, &fault);
		view_renew(&lane->view, &lane->assignment);
		arena_reset(lane->arena);
	}
	leave(lane);
	return status;
}
