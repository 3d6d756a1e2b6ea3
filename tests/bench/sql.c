/* The store without Kafka and Avro around it: what the worker could reach at most with this SQL. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"
#include "schemas/command.h"
#include "schemas/duplicate.h"
#include "schemas/result.h"
#include "tests/fault_kind.h"
#include "worker/base/clock.h"
#include "worker/db/connection.h"
#include "worker/db/execution.h"
#include "worker/sql/sql.h"
#include "commands.h"

#define TOPIC "bench"
#define TRIES 3
#define REASONS_MAX 64

struct run {
	struct bench_file *file;
	struct codec *codec;
	struct session *session;
	struct execution *execution;
	struct arena *arena;
	struct claim claim;
	struct fence_partition place;
	struct fence fence;
	struct job *jobs, **order;
	int64_t *batch_us;
	size_t batches, drafts, refusals[REASONS_MAX]; /* by reason, as the contract counts them */
	double seconds, cpu_s;
};

/* As the worker judges a record before the database does. Costs no time that is counted. */
static void judge(struct run *run, size_t i, struct job *job)
{
	struct duplicate_command *command = arena_alloc(run->arena, sizeof *command);
	struct bench_record record;
	const struct reason *reason;
	const char *details;
	struct fault fault;

	bench_get(run->file, i, &record);
	*job = (struct job){ .record = { .topic = TOPIC, .partition = run->place.partition, .offset = (int64_t)i,
					 .timestamp_ms = clock_wall_ms() },
			     .command = &command->head };
	if (codec_decode_command(run->codec, record.value, record.value_size, run->arena, &command->head, &reason, &fault) < 0)
		bench_die("record %zu: %s", i, fault.msg);
	job->executable = command_check(&duplicate_contract, &command->head, run->arena, &details) == 0;
	job->reason = job->executable ? NULL : &reason_invalid_field;
	result_describe(&job->result, &duplicate_contract, &command->head);
}

static void count_outcome(struct run *run, const struct reason *reason)
{
	size_t i = 0;

	if (reason == NULL) {
		run->drafts++;
		return;
	}
	while (contract_reason(&duplicate_contract, i) != reason)
		i++;
	if (i < REASONS_MAX)
		run->refusals[i]++;
}

static int execute_once(struct run *run, size_t n, struct fault *fault)
{
	execution_send(run->execution, &run->fence, run->order, n, EXECUTION_COMMIT, run->arena);
	return execution_receive(run->execution, run->order, n, run->arena, fault);
}

static void execute(struct run *run, size_t n)
{
	struct fault fault;
	double start = bench_now_s(), cpu = bench_cpu_s(), end;

	for (int try = 1; execute_once(run, n, &fault) < 0; try++)
		if (fault.kind != FAULT_RETRY || try == TRIES)
			bench_die("%s: %s", fault_kind_name(fault.kind), fault.msg);
	end = bench_now_s();
	run->cpu_s += bench_cpu_s() - cpu;
	run->seconds += end - start;
	run->batch_us[run->batches++] = (int64_t)((end - start) * 1e6);
	for (size_t i = 0; i < n; i++)
		count_outcome(run, run->order[i]->reason);
}

static void run_batches(struct run *run, size_t from, size_t count, size_t batch)
{
	for (size_t i = from; i < from + count;) {
		size_t n = from + count - i < batch ? from + count - i : batch;

		run->place.start_offset = run->place.end_offset = (int64_t)i;
		for (size_t j = 0; j < n; j++) {
			run->order[j] = &run->jobs[j];
			judge(run, i++, &run->jobs[j]);
		}
		execute(run, n);
		arena_reset(run->arena);
	}
}

static void open_session(struct run *run, const char *database, int32_t partition)
{
	static const struct execution_settings execution = {
		.contract = &duplicate_contract, .lock_sql = sql_lock, .execute_sql = sql_execute, .written_sql = sql_written,
		.limit = 50000,
	};
	static struct statement own[EXECUTION_STATEMENTS];
	static const struct statement *const statements[] = { ownership_statements, own, NULL };
	struct waiter waiter = { connection_wait_blocking, NULL };
	struct session_settings settings = {
		.database = database, .application = "bench-sql", .group = "bench-sql", .transactional_id = "bench-sql",
		.lock_timeout_ms = 2000, .statement_timeout_ms = 30000, .idle_in_transaction_ms = 30000,
		.connect_timeout_ms = 10000, .statements = statements,
	};
	struct fault fault;

	execution_statements(&execution, own);
	run->session = session_new(&settings, &waiter);
	run->execution = execution_new(run->session, &execution);
	run->claim = (struct claim){ .partition = partition };
	if (session_connect(run->session, &fault) < 0 || ownership_claim(run->session, "bench", TOPIC, &run->claim, 1, &fault) < 0)
		bench_die("%s", fault.msg);
	run->place = (struct fence_partition){ partition, run->claim.epoch, 0, 0 };
	run->fence = (struct fence){ "bench", TOPIC, &run->place, 1, false };
	run->codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	if (run->codec == NULL)
		bench_die("%s", fault.msg);
	run->arena = arena_new(64 << 20);
}

static void report(struct run *run, size_t count, size_t batch)
{
	printf("{\"commands\":%zu,\"batch\":%zu,\"seconds\":%.6f,\"cpu_s\":%.6f,\"batches\":%zu,\"batch_p50_ms\":%.3f,"
	       "\"batch_p99_ms\":%.3f,\"outcomes\":{\"created\":%zu", count, batch, run->seconds, run->cpu_s, run->batches,
	       (double)bench_percentile(run->batch_us, run->batches, 0.5) / 1e3,
	       (double)bench_percentile(run->batch_us, run->batches, 0.99) / 1e3, run->drafts);
	for (size_t i = 0; i < REASONS_MAX; i++)
		if (run->refusals[i])
			printf(",\"%s\":%zu", contract_reason(&duplicate_contract, i)->word, run->refusals[i]);
	puts("}}");
}

int bench_sql(int argc, char **argv)
{
	struct run run = { .file = bench_open(bench_path(argc, argv)) };
	size_t batch = (size_t)bench_number(argc, argv, "batch", "500"), from, count;

	count = bench_range(argc, argv, run.file, &from);
	if (batch == 0)
		bench_die("batch: at least 1");
	run.jobs = calloc(batch, sizeof *run.jobs);
	run.order = calloc(batch, sizeof *run.order);
	run.batch_us = calloc(count / batch + 1, sizeof *run.batch_us);
	if (run.jobs == NULL || run.order == NULL || run.batch_us == NULL)
		bench_die("out of memory");
	open_session(&run, bench_option(argc, argv, "database", NULL), (int32_t)bench_number(argc, argv, "partition", "0"));
	run_batches(&run, from, count, batch);
	report(&run, count, batch);
	execution_free(run.execution);
	session_free(run.session);
	codec_free(run.codec);
	arena_free(run.arena);
	bench_close(run.file);
	free(run.jobs);
	free(run.order);
	free(run.batch_us);
	return 0;
}
