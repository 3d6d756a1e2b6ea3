/* The limit: the rows that the drafts of a file of commands would be, written by COPY without looking at anything. Each
 * batch is one transaction, as the worker's is. Traces differ from the file's, so that both fit into one database. */
#include <arpa/inet.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"
#include "schemas/command.h"
#include "schemas/duplicate.h"
#include "schemas/id.h"
#include "worker/base/clock.h"
#include "commands.h"

#define OID_TEXT 25
#define POSTGRES_EPOCH_MS 946684800000ll
#define DESCRIPTION "First contact, then two reminders, then a closing message to all who have not answered; reviewed"
#define WORKFLOW_STEPS 8
#define TEMPLATE_SIZE 164

static const char copy_sql[] =
	"COPY campaigns (account_group_id, id, name, description, status, selected_lead_count, selected_leads, "
	"include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow, source_campaign_id, trace_id, "
	"command_digest, created_by_key, created_at, updated_at) FROM STDIN (FORMAT binary)";

struct buffer {
	char *bytes;
	size_t size, capacity;
};

struct run {
	struct bench_file *file;
	struct codec *codec;
	struct arena *arena;
	PGconn *conn;
	struct buffer rows;
	int64_t *batch_us;
	size_t batches;
	double seconds, cpu_s;
};

/* ---- COPY's binary format (PostgreSQL, "COPY", File Formats) ---- */

static void put(struct buffer *buffer, const void *bytes, size_t size)
{
	if (buffer->capacity - buffer->size < size) {
		buffer->capacity = 2 * buffer->capacity + size;
		buffer->bytes = realloc(buffer->bytes, buffer->capacity);
		if (buffer->bytes == NULL)
			bench_die("out of memory");
	}
	memcpy(buffer->bytes + buffer->size, bytes, size);
	buffer->size += size;
}

static void put_int16(struct buffer *buffer, int16_t value)
{
	uint16_t number = htons((uint16_t)value);

	put(buffer, &number, sizeof number);
}

static void put_int32(struct buffer *buffer, int32_t value)
{
	uint32_t number = htonl((uint32_t)value);

	put(buffer, &number, sizeof number);
}

static void put_field(struct buffer *buffer, const void *bytes, size_t size)
{
	put_int32(buffer, (int32_t)size);
	put(buffer, bytes, size);
}

static void put_text(struct buffer *buffer, const char *text)
{
	put_field(buffer, text, strlen(text));
}

static void put_bool(struct buffer *buffer, bool value)
{
	char byte = value;

	put_field(buffer, &byte, 1);
}

static void put_time(struct buffer *buffer, int64_t ms)
{
	uint64_t number = htobe64((uint64_t)(ms - POSTGRES_EPOCH_MS) * 1000);

	put_field(buffer, &number, sizeof number);
}

/* A field whose size is known only when it has been put. */
static size_t begin_field(struct buffer *buffer)
{
	put_int32(buffer, 0);
	return buffer->size;
}

static void end_field(struct buffer *buffer, size_t start)
{
	uint32_t size = htonl((uint32_t)(buffer->size - start));

	memcpy(buffer->bytes + start - sizeof size, &size, sizeof size);
}

/* ---- the row ---- */

/* The leads that the command names, or all of its audience. */
static void put_leads(struct buffer *buffer, const struct duplicate_command *command, size_t *count)
{
	unsigned long long number = bench_id_number(command->audience_id);
	struct bench_audience audience = bench_audience((unsigned)(number / 100), (unsigned)(number % 100));
	char id[BENCH_ID_SIZE];
	size_t start = begin_field(buffer);

	*count = command->lead_ids ? command->lead_count : audience.n;
	put_int32(buffer, 1); /* dimensions */
	put_int32(buffer, 0); /* no nulls */
	put_int32(buffer, OID_TEXT);
	put_int32(buffer, (int32_t)*count);
	put_int32(buffer, 1); /* lower bound */
	for (size_t i = 0; i < *count; i++)
		put_text(buffer, command->lead_ids ? command->lead_ids[i]
						   : bench_lead(id, number / 100, audience.first + i));
	end_field(buffer, start);
}

/* As large as those of data.sql, and as hard to compress. */
static void put_workflow(struct buffer *buffer, size_t n)
{
	static const char head[] = "\1{\"version\":3,\"timezone\":\"Europe/Zurich\",\"steps\":["; /* 1: the format's version */
	uint64_t random = n + 1;
	char text[128], template[TEMPLATE_SIZE];
	size_t start = begin_field(buffer);

	put(buffer, head, sizeof head - 1);
	for (int step = 0; step < WORKFLOW_STEPS; step++) {
		for (size_t i = 0; i < sizeof template; i++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			template[i] = "0123456789abcdef"[random >> 60];
		}
		put(buffer, text, (size_t)snprintf(text, sizeof text, "%s{\"kind\":\"message\",\"delayHours\":%d,\"template\":\"",
						   step ? "," : "", 12 * step));
		put(buffer, template, sizeof template);
		put(buffer, "\"}", 2);
	}
	put(buffer, "]}", 2);
	end_field(buffer, start);
}

static void put_row(struct run *run, size_t i)
{
	struct bench_record record;
	struct duplicate_command command;
	struct buffer *rows = &run->rows;
	const struct reason *reason;
	const char *details;
	struct fault fault;
	char id[NEW_ID_CHARS + 1];
	size_t count_at, leads;

	bench_get(run->file, i, &record);
	if (codec_decode_command(run->codec, record.value, record.value_size, run->arena, &command.head, &reason, &fault) < 0)
		bench_die("record %zu: %s", i, fault.msg);
	if (command_check(&duplicate_contract, &command.head, run->arena, &details) < 0)
		bench_die("record %zu: %s", i, details);
	id_new(id);
	put_int16(rows, 17);
	put_text(rows, command.head.account_group_id);
	put_text(rows, id);
	put_text(rows, command.name ? command.name : "Campaign 1 of account group 1");
	put_text(rows, DESCRIPTION);
	put_text(rows, "draft");
	count_at = begin_field(rows);
	put_int32(rows, 0);
	end_field(rows, count_at);
	put_leads(rows, &command, &leads);
	memcpy(rows->bytes + count_at, &(uint32_t){ htonl((uint32_t)leads) }, sizeof(uint32_t));
	put_bool(rows, i % 2);
	put_bool(rows, i % 3);
	put_text(rows, "en");
	put_workflow(rows, i);
	put_text(rows, command.campaign_id);
	put_text(rows, arena_printf(run->arena, "copy-%s", command.head.trace_id));
	put_field(rows, command.head.digest, sizeof command.head.digest);
	put_text(rows, "bench-key-1");
	put_time(rows, clock_wall_ms());
	put_time(rows, clock_wall_ms());
}

/* ---- the run ---- */

static void finish(struct run *run, ExecStatusType wanted)
{
	PGresult *result = PQgetResult(run->conn);

	if (PQresultStatus(result) != wanted)
		bench_die("%s", PQerrorMessage(run->conn));
	PQclear(result);
	if (wanted == PGRES_COMMAND_OK)
		(void)PQgetResult(run->conn); /* NULL: the statement is done */
}

static void copy_batch(struct run *run)
{
	double start = bench_now_s(), cpu = bench_cpu_s(), seconds;

	if (!PQsendQuery(run->conn, copy_sql))
		bench_die("%s", PQerrorMessage(run->conn));
	finish(run, PGRES_COPY_IN);
	if (PQputCopyData(run->conn, run->rows.bytes, (int)run->rows.size) != 1 || PQputCopyEnd(run->conn, NULL) != 1)
		bench_die("%s", PQerrorMessage(run->conn));
	finish(run, PGRES_COMMAND_OK);
	seconds = bench_now_s() - start;
	run->cpu_s += bench_cpu_s() - cpu;
	run->seconds += seconds;
	run->batch_us[run->batches++] = (int64_t)(seconds * 1e6);
}

static void run_batches(struct run *run, size_t from, size_t count, size_t batch)
{
	static const char header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"; /* flags, extension: none */

	for (size_t i = from; i < from + count;) {
		size_t n = from + count - i < batch ? from + count - i : batch;

		run->rows.size = 0;
		put(&run->rows, header, 19);
		while (n-- > 0)
			put_row(run, i++);
		put_int16(&run->rows, -1);
		copy_batch(run);
		arena_reset(run->arena);
	}
}

int bench_copy(int argc, char **argv)
{
	struct run run = { .file = bench_open(bench_path(argc, argv)), .arena = arena_new(64 << 20) };
	size_t batch = (size_t)bench_number(argc, argv, "batch", "500"), from, count;
	struct fault fault;

	count = bench_range(argc, argv, run.file, &from);
	if (batch == 0)
		bench_die("batch: at least 1");
	run.codec = codec_new(&duplicate_contract, NULL, NULL, &fault);
	run.conn = PQconnectdb(bench_option(argc, argv, "database", NULL));
	run.batch_us = calloc(count / batch + 1, sizeof *run.batch_us);
	if (run.codec == NULL || run.batch_us == NULL || PQstatus(run.conn) != CONNECTION_OK)
		bench_die("%s", run.codec ? PQerrorMessage(run.conn) : fault.msg);
	run_batches(&run, from, count, batch);
	printf("{\"commands\":%zu,\"batch\":%zu,\"seconds\":%.6f,\"cpu_s\":%.6f,\"batches\":%zu,\"batch_p50_ms\":%.3f,"
	       "\"batch_p99_ms\":%.3f}\n", count, batch, run.seconds, run.cpu_s, run.batches,
	       (double)bench_percentile(run.batch_us, run.batches, 0.5) / 1e3,
	       (double)bench_percentile(run.batch_us, run.batches, 0.99) / 1e3);
	PQfinish(run.conn);
	codec_free(run.codec);
	arena_free(run.arena);
	bench_close(run.file);
	free(run.rows.bytes);
	free(run.batch_us);
	return 0;
}
