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

struct worker_thread {
	struct lane *lane;
	pthread_t thread;
	atomic_bool ended;
	int status;
};

static void *run_lane(void *arg)
{
	struct worker_thread *thread = arg;

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
		if (!atomic_load(&stop))
			continue;
		if (deadline == 0) {
			deadline = clock_monotonic_ms() + config->drain_ms;
			log_info("draining", "stopping: the batch in hand is finished, then the group is left");
		}
		if (clock_monotonic_ms() >= deadline) {
			log_error("drain_budget_exceeded", "not drained in time: ending anyway, what was in hand is delivered again",
				  "drain_ms", LOG_INT(config->drain_ms));
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

int run_lanes(const struct config *config, const struct operation *operation)
{
	struct worker_thread *threads = must(calloc((size_t)config->lanes, sizeof *threads));
	int status = EXIT_SUCCESS;
	struct fault fault;

	bound_heaps(config->lanes);
	install_signals();
	srand((unsigned)(getpid() ^ clock_wall_ms())); /* jitter: workers must not all come back at once */
	log_info("starting", "campaign-worker " VERSION, "group", config->group, "instance", config->instance, "commands",
		 config->commands, "lanes", LOG_INT(config->lanes));
	for (int i = 0; i < config->lanes; i++) {
		threads[i].lane = lane_new(config, operation, i, &stop, &fault);
		if (threads[i].lane == NULL) {
			log_error("fatal", fault.msg);
			free_lanes(threads, config->lanes);
			return EXIT_FAILURE;
		}
	}
	check_topics(config);
	for (int i = 0; i < config->lanes; i++)
		must_be(pthread_create(&threads[i].thread, NULL, run_lane, &threads[i]) == 0);
	wait_for_lanes(config, threads, config->lanes);
	for (int i = 0; i < config->lanes; i++) {
		pthread_join(threads[i].thread, NULL);
		log_lane(threads[i].lane, i);
		if (threads[i].status < 0)
			status = EXIT_FAILURE;
	}
	free_lanes(threads, config->lanes);
	log_info("stopped", status == EXIT_SUCCESS ? "drained" : "stopped on an error");
	return status;
}
