/* Batches while other sessions race for the same traces, and while facts change under them. */
#include "store_fixture.h"

#include <pthread.h>
#include <time.h>

/* ---- other sessions at the same time ---- */

#define RACERS 3
#define RACE_BATCHES 12
#define RACE_BATCH 40

struct racer {
	int number;
	const char *key;
	struct arena *arena;
	struct job *jobs;
	size_t created, existed, reused, retries;
	char failure[600];
};

static void fill_race(struct racer *racer, int batch, struct job **order)
{
	for (int i = 0; i < RACE_BATCH; i++) {
		struct job *job = &racer->jobs[batch * RACE_BATCH + i];
		struct duplicate_command *command = arena_alloc(racer->arena, sizeof *command);
		const char *details;

		*command = (struct duplicate_command){
			.head.trace_id = arena_printf(racer->arena, "race-%d-%d", batch, i),
			.head.account_group_id = AG,
			.campaign_id = PLAIN,
			.audience_id = "aud_empty",
			.head.has_key = true,
		};
		digest_key(racer->key, command->head.key_digest);
		if (command_check(&duplicate_contract, &command->head, racer->arena, &details) < 0)
			abort();
		job->command = &command->head;
		job->record.timestamp_ms = -1;
		job->executable = true;
		order[(i + racer->number * 13) % RACE_BATCH] = job; /* each in another order */
	}
}

static void *race(void *arg)
{
	struct racer *racer = arg;
	struct session *session = open_session("group", NULL);
	struct claim claim;
	struct fence_partition partition;
	struct fence fence = { "cluster", "commands", &partition, 1, false };
	struct fault fault;

	claim_partition(session, 100 + racer->number, &claim);
	partition = (struct fence_partition){ claim.partition, claim.epoch, 0, 0 };
	for (int batch = 0; batch < RACE_BATCHES; batch++) {
		struct job *order[RACE_BATCH];

		fill_race(racer, batch, order);
		while (execute(session, &fence, order, RACE_BATCH, EXECUTION_COMMIT, racer->arena, &fault) < 0) {
			if (fault.kind != FAULT_RETRY || racer->retries++ > 200) {
				snprintf(racer->failure, sizeof racer->failure, "%s %s", fault_kind_name(fault.kind), fault.msg);
				session_free(session);
				return NULL;
			}
			clock_sleep_ms(rand() % 20);
		}
		for (int i = 0; i < RACE_BATCH; i++) {
			racer->created += order[i]->result.success && !order[i]->result.draft_existed;
			racer->existed += order[i]->result.success && order[i]->result.draft_existed;
			racer->reused += was_refused(order[i], "trace_reused");
		}
	}
	session_free(session);
	return NULL;
}

/* Three workers get the same traces, two of them as the same commands, the third with another key. */
static void test_workers_race_for_the_same_traces(void **state)
{
	static const char *const keys[RACERS] = { "demo-key-full", "demo-key-full", "demo-key-other" };
	struct racer racers[RACERS];
	pthread_t threads[RACERS];
	size_t created = 0, total = RACE_BATCHES * RACE_BATCH;

	(void)state;
	for (int i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){ .number = i, .key = keys[i], .arena = arena_new(1 << 20) };
		racers[i].jobs = calloc(total, sizeof *racers[i].jobs);
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (int i = 0; i < RACERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < RACERS; i++) {
		assert_string_equal(racers[i].failure, "");
		assert_int_equal(racers[i].created + racers[i].existed + racers[i].reused, total);
		created += racers[i].created;
		for (size_t j = 0; j < total; j++)
			assert_agrees(&racers[i].jobs[j]);
	}
	assert_int_equal(created, total);
	assert_int_equal(racers[0].existed + racers[1].existed + racers[0].created + racers[1].created + racers[2].created +
			 racers[2].existed, 2 * racers[0].created + 2 * racers[1].created + racers[2].created);
	assert_string_equal(ask("SELECT count(*) || ' ' || count(DISTINCT trace_id) FROM campaigns WHERE trace_id LIKE 'race-%%'"),
			    arena_printf(fx.arena, "%zu %zu", total, total));
	for (int i = 0; i < RACERS; i++) {
		free(racers[i].jobs);
		arena_free(racers[i].arena);
	}
}

/* Facts that another session flips while batches run: when each was surely or possibly true. */
#define FLIPS_MAX 20000
#define FACTS 3

static const struct fact {
	const char *set, *clear;
	const char *reason; /* the refusal while it is set */
} facts[FACTS] = {
	{ "UPDATE api_keys SET revoked_at = now() WHERE public_id = 'key_other'",
	  "UPDATE api_keys SET revoked_at = NULL WHERE public_id = 'key_other'", "key_revoked" },
	{ "UPDATE audiences SET ready = false WHERE id = 'aud_second'", "UPDATE audiences SET ready = true WHERE id = 'aud_second'",
	  "audience_populating" },
	{ "UPDATE campaign_leads SET state = 'enrolled' WHERE campaign_id = '" RUNNING "' AND lead_id = 'lead_12'",
	  "UPDATE campaign_leads SET state = 'removed' WHERE campaign_id = '" RUNNING "' AND lead_id = 'lead_12'", "lead_active" },
};

struct flips {
	volatile bool stop;
	size_t count;
	struct flip {
		int fact;
		bool set;
		int64_t begin_us, end_us; /* the change became visible between these */
	} all[FLIPS_MAX];
};

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void *flip_facts(void *arg)
{
	struct flips *flips = arg;
	PGconn *conn = PQconnectdb(fx.super);
	bool set[FACTS] = { false };
	unsigned seed = 11;

	while (!flips->stop && flips->count < FLIPS_MAX) {
		struct flip *flip = &flips->all[flips->count++];

		flip->fact = rand_r(&seed) % FACTS;
		flip->set = set[flip->fact] = !set[flip->fact];
		flip->begin_us = now_us();
		PQclear(PQexec(conn, flip->set ? facts[flip->fact].set : facts[flip->fact].clear));
		flip->end_us = now_us();
		clock_sleep_ms(rand_r(&seed) % 4);
	}
	for (int i = 0; i < FACTS; i++)
		PQclear(PQexec(conn, facts[i].clear));
	PQfinish(conn);
	return NULL;
}

/* Whether the fact can have been as said at some moment between from and to. */
static bool may_have_been(const struct flips *flips, int fact, bool set, int64_t from_us, int64_t to_us)
{
	bool current = false;
	int64_t since_us = 0; /* since when, at the earliest */

	for (size_t i = 0; i < flips->count; i++) {
		const struct flip *flip = &flips->all[i];

		if (flip->fact != fact)
			continue;
		if (current == set && since_us <= to_us && flip->end_us >= from_us)
			return true;
		current = flip->set;
		since_us = flip->begin_us;
	}
	return current == set && since_us <= to_us;
}

struct flip_batch {
	struct job *jobs[10];
	int64_t from_us, to_us;
};

static void check_flip_batch(const struct flips *flips, const struct flip_batch *batch, size_t verdicts[FACTS + 1])
{
	const struct reason *first = batch->jobs[0]->reason;

	for (size_t i = 0; i < COUNT(batch->jobs); i++) {
		const struct job *job = batch->jobs[i];
		int fact = 0;

		assert_agrees(job);
		assert_ptr_equal(job->reason, first); /* one snapshot: the same commands get the same verdict */
		while (fact < FACTS && !was_refused(job, facts[fact].reason))
			fact++;
		verdicts[fact]++;
		if (fact == FACTS)
			assert_true(job->result.success);
		/* The rules before were passed, so their facts were clear; the one that refused was set. */
		for (int f = 0; f < fact; f++)
			assert_true(may_have_been(flips, f, false, batch->from_us, batch->to_us));
		if (fact < FACTS)
			assert_true(may_have_been(flips, fact, true, batch->from_us, batch->to_us));
	}
}

static void test_facts_flip_while_batches_run(void **state)
{
	struct flips *flips = calloc(1, sizeof *flips);
	struct flip_batch *batches = calloc(300, sizeof *batches);
	size_t verdicts[FACTS + 1] = { 0 };
	pthread_t thread;

	(void)state;
	run_sql("INSERT INTO campaign_leads VALUES ('" AG "', '" RUNNING "', 'lead_12', 'removed') ON CONFLICT DO NOTHING");
	assert_int_equal(pthread_create(&thread, NULL, flip_facts, flips), 0);
	for (size_t b = 0; b < 300; b++) {
		struct flip_batch *batch = &batches[b];
		struct fault fault;

		for (size_t i = 0; i < COUNT(batch->jobs); i++)
			batch->jobs[i] = COMMAND(.key = "demo-key-other", .audience = "aud_second");
		batch->from_us = now_us();
		if (try_execute(batch->jobs, COUNT(batch->jobs), &fault) < 0)
			fail_msg("%s", fault.msg);
		batch->to_us = now_us();
	}
	flips->stop = true;
	pthread_join(thread, NULL);
	for (size_t b = 0; b < 300; b++)
		check_flip_batch(flips, &batches[b], verdicts);
	for (int i = 0; i <= FACTS; i++) /* each happened, or the test shows nothing */
		assert_true(verdicts[i] > 0);
	free(batches);
	free(flips);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_workers_race_for_the_same_traces),
		STORE_TEST(test_facts_flip_while_batches_run),
	};

	return run_store_tests("races", tests, COUNT(tests));
}
