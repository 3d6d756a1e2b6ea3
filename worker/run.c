#include "worker/run.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/base/clock.h"
#include "worker/base/findings.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "worker/kafka/topics.h"
#include "worker/lane.h"

static atomic_bool stop;
static atomic_int signals;

static void on_signal(int number)
{
	if (atomic_fetch_add(&signals, 1) > 0)
		_exit(128 + number); /* the second one ends at once; the batches in hand are delivered again */
	atomic_store(&stop, true);
}

static void install_signals(void)
{
	struct sigaction act = { .sa_handler = on_signal };

	sigemptyset(&act.sa_mask);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	act.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
}

/* Held until every lane has its thread: the clients of a lane have threads as well, of which librdkafka may not survive the lack. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

struct worker_thread {
	struct lane *lane;
	pthread_t thread;
	atomic_bool ended;
	int status;
};

static void *run_lane(void *arg)
{
	struct worker_thread *thread = arg;

	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	thread->status = lane_run(thread->lane);
	if (thread->status < 0)
		atomic_store(&stop, true); /* the others drain; a supervisor starts all anew */
	atomic_store(&thread->ended, true);
	return NULL;
}

static void warn_of_timestamps(void *arg, bool wrong, const char *line)
{
	const struct config *config = arg;

	if (wrong && strstr(line, config->commands) && strstr(line, "message.timestamp.type"))
		log_warn("topic_setting", line, "topic", config->commands);
}

/* What check says of the commands topic's timestamps, once, beside the lanes: they wait for no answer. */
static void *check_timestamps(void *arg)
{
	struct findings findings = { .print = warn_of_timestamps, .arg = arg };
	struct fault fault;

	if (topics_check(arg, &findings, &fault) < 0)
		log_debug("topics_unknown", fault.msg);
	return NULL;
}

static void check_topics(const struct config *config)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, check_timestamps, (void *)config) == 0)
		pthread_detach(thread);
}

static bool all_ended(const struct worker_thread *threads, int n)
{
	for (int i = 0; i < n; i++)
		if (!atomic_load(&threads[i].ended))
			return false;
	return true;
}

/* Waits for the lanes; after the stop for at most the drain budget, because a library call that hangs must not hold the
 * process. */
static void wait_for_lanes(const struct config *config, const struct worker_thread *threads, int n)
{
	int64_t deadline = 0;

	while (!all_ended(threads, n)) {
		clock_sleep_ms(20);
		log_tell_suppressed(false);
		if (!atomic_load(&stop))
			continue;
		if (deadline == 0) {
			deadline = clock_monotonic_ms() + config->drain_ms;
			log_info("draining", "stopping: the batch in hand is finished, then the group is left");
		}
		if (clock_monotonic_ms() >= deadline) {
			log_error("drain_budget_exceeded", "not drained in time: ending anyway, what was in hand is delivered again",
				  "drain_ms", LOG_INT(config->drain_ms));
			log_tell_suppressed(true);
			_exit(EXIT_FAILURE);
		}
	}
}

/* Logs a lane that has stopped, for the person who looks for the cause. */
static void log_lane(struct lane *lane, int number)
{
	struct view_partition partitions[64];
	size_t n = lane_partitions(lane, partitions, sizeof partitions / sizeof partitions[0]);

	statistics_log(lane_statistics(lane), number);
	for (size_t i = 0; i < n && i < sizeof partitions / sizeof partitions[0]; i++)
		log_debug("partition", assignment_state_name(partitions[i].state), "partition", LOG_INT(partitions[i].id), "next",
			  LOG_INT(partitions[i].start), "lane", LOG_INT(number));
}

static void free_lanes(struct worker_thread *threads, int n)
{
	for (int i = 0; i < n; i++)
		lane_free(threads[i].lane);
	free(threads);
}

/* glibc gives each thread a heap of its own, and memory that one thread allocates and another frees stays with the first.
 * librdkafka has many threads. */
static void bound_heaps(int lanes)
{
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, lanes + 1);
	mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024); /* no repeated mmap and munmap of large blocks */
#else
	(void)lanes;
#endif
}

static int make_lanes(struct worker_thread *threads, const struct config *config, const struct operation *operation)
{
	struct fault fault;

	for (int i = 0; i < config->lanes; i++) {
		threads[i].lane = lane_new(config, operation, i, &stop, &fault);
		if (threads[i].lane == NULL) {
			log_error("fatal", fault.msg);
			return -1;
		}
	}
	return 0;
}

/* How many lanes have a thread. If not all of them, those that have one find that they are to stop. */
static int start_lanes(struct worker_thread *threads, int n)
{
	int started = 0, error = 0;

	pthread_mutex_lock(&gate);
	while (started < n && (error = pthread_create(&threads[started].thread, NULL, run_lane, &threads[started])) == 0)
		started++;
	if (error) {
		log_error("fatal", "cannot start a thread for each lane", "lane", LOG_INT(started), "error", strerror(error));
		atomic_store(&stop, true);
	}
	pthread_mutex_unlock(&gate);
	return started;
}

/* Until all of them have stopped. */
static int run_threads(const struct config *config, struct worker_thread *threads)
{
	int started = start_lanes(threads, config->lanes), status = started < config->lanes ? EXIT_FAILURE : EXIT_SUCCESS;

	wait_for_lanes(config, threads, started);
	for (int i = 0; i < started; i++) {
		pthread_join(threads[i].thread, NULL);
		log_lane(threads[i].lane, i);
		if (threads[i].status < 0)
			status = EXIT_FAILURE;
	}
	return status;
}

int run_lanes(const struct config *config, const struct operation *operation)
{
	struct worker_thread *threads = must(calloc((size_t)config->lanes, sizeof *threads));
	int status = EXIT_FAILURE;

	bound_heaps(config->lanes);
	install_signals();
	srand((unsigned)(getpid() ^ clock_wall_ms())); /* jitter: workers must not all come back at once */
	log_info("starting", "campaign-worker " VERSION, "group", config->group, "instance", config->instance, "commands",
		 config->commands, "lanes", LOG_INT(config->lanes));
	if (make_lanes(threads, config, operation) == 0) {
		check_topics(config);
		status = run_threads(config, threads);
	}
	free_lanes(threads, config->lanes);
	log_info("stopped", status == EXIT_SUCCESS ? "drained" : "stopped on an error");
	return status;
}
