#include "worker/kafka/message.h"

#include <stdio.h>
#include <string.h>

#include "schemas/codec.h"
#include "schemas/dead_letter.h"
#include "schemas/guard.h"
#include "schemas/headers.h"
#include "schemas/result.h"

#define BATCH_BYTES 61          /* RecordBatch's own fields (Kafka's protocol guide, "Record Batch") */
#define RECORD_BYTES_MAX 36     /* a record's lengths, timestamp and offset, as librdkafka counts them at most */
#define HEADER_BYTES_MAX 10     /* a header's two lengths */
#define RESULT_HEADERS_MAX 6
#define HEADERS_BYTES_MAX ((size_t)16 * 1024) /* of the original's: names and values */
#define CUT_BYTES 256           /* the headers that say what was cut */
#define FIELD_BYTES_MAX 16      /* a field of data but for its text: a number, or a union's branch, a length and a short word */

size_t message_bytes(const struct message *message)
{
	size_t bytes = BATCH_BYTES + RECORD_BYTES_MAX + message->key_size + message->value_size;

	for (size_t i = 0; i < message->header_count; i++)
		bytes += strlen(message->headers[i].name) + message->headers[i].size + HEADER_BYTES_MAX;
	return bytes;
}

/* ---- results ---- */

struct writing { /* a result, shorter at each try */
	const struct job *job;
	struct codec *codec;
	struct command_result result;
	const char *omitted; /* NULL: nothing */
	bool with_trace;
	struct arena *arena;
};

static void add_header(struct message *message, struct header *headers, const char *name, const char *text)
{
	if (text)
		headers[message->header_count++] = (struct header){ name, text, strlen(text) };
}

static void write_headers(const struct writing *writing, struct message *message)
{
	struct header *headers = arena_array(writing->arena, RESULT_HEADERS_MAX, sizeof *headers);
	const struct trace_headers trace = headers_find_trace(&writing->job->record);

	message->headers = headers;
	message->header_count = 0;
	if (writing->with_trace && trace.parent)
		headers[message->header_count++] = *trace.parent;
	if (writing->with_trace && trace.state)
		headers[message->header_count++] = *trace.state;
	add_header(message, headers, "httpStatus", arena_printf(writing->arena, "%d", writing->result.http_status));
	add_header(message, headers, "code", writing->result.error_code);
	add_header(message, headers, "accountGroupId", writing->result.account_group_id);
	add_header(message, headers, "omitted", writing->omitted);
}

static int write_result(const struct writing *writing, struct message *message, struct fault *fault)
{
	const char *trace_id = writing->result.trace_id;

	message->key = trace_id;
	message->key_size = strlen(trace_id);
	write_headers(writing, message);
	return codec_encode_result(writing->codec, &writing->result, writing->arena, &message->value, &message->value_size, fault);
}

static const char *cut_text(const char *text, size_t excess, struct arena *arena)
{
	size_t len = strlen(text);

	len = len > excess ? len - excess : 0;
	while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) /* not within a character */
		len--;
	return arena_strndup(arena, text, len);
}

/* False: it cannot be shorter. */
static bool shorten(struct writing *writing, size_t excess)
{
	struct command_result *result = &writing->result;
	const char *name = NULL;

	if (result->success) {
		name = result_leave_out(result, codec_contract(writing->codec), writing->arena);
		if (name)
			writing->omitted = writing->omitted ? arena_printf(writing->arena, "%s,%s", writing->omitted, name) : name;
	} else if (result->error_details[0]) {
		result->error_details = name = cut_text(result->error_details, excess, writing->arena);
	}
	if (name)
		return true;
	name = writing->with_trace ? "" : NULL;
	writing->with_trace = false;
	return name != NULL;
}

int message_of_result(const struct job *job, struct codec *codec, size_t limit, struct arena *arena, struct message *message,
		      struct fault *fault)
{
	struct writing writing = { job, codec, job->result, NULL, true, arena };

	for (;;) {
		int failed = write_result(&writing, message, fault);
		size_t bytes = failed ? SIZE_MAX : message_bytes(message);

		if (bytes <= limit || !shorten(&writing, bytes - limit))
			return failed;
	}
}

/* The rest of a success is measured by the smallest error in its place. */
int32_t message_text_bytes_max(const struct job *job, struct codec *codec, size_t limit, struct arena *arena)
{
	static const struct reason nothing = { .word = "", .code = "", .message = "" };
	struct writing writing = { job, codec, job->result, NULL, true, arena };
	size_t rest = codec_contract(codec)->data->count * FIELD_BYTES_MAX + CAMPAIGN_ID_MAX;
	struct message message;
	struct fault fault;

	if (limit > 2 * GUARD_STRING_MAX)
		return GUARD_STRING_MAX;
	result_refuse(&writing.result, &nothing, NULL);
	if (write_result(&writing, &message, &fault) < 0)
		return GUARD_STRING_MAX;
	rest += message_bytes(&message);
	return limit <= rest ? 1 : limit - rest > GUARD_STRING_MAX ? (int32_t)GUARD_STRING_MAX : (int32_t)(limit - rest);
}

/* ---- dead letters ---- */

static void write_letter(const struct dead_letter *letter, const struct job *job, size_t limit, struct arena *arena,
			 struct message *message)
{
	size_t bytes_max = limit / 4 < HEADERS_BYTES_MAX ? limit / 4 : HEADERS_BYTES_MAX;

	message->header_count = dead_letter_write(letter, &job->record, bytes_max, arena, &message->headers);
}

void message_of_dead_letter(const struct job *job, const char *group, size_t kept_max, size_t limit, struct arena *arena,
			    struct message *message)
{
	const struct record *record = &job->record;
	struct dead_letter letter = {
		.topic = record->topic, .partition = record->partition, .offset = record->offset, .timestamp_ms = record->timestamp_ms,
		.group = group, .message = job->cause ? job->cause : "", .reason = job->reason->word,
		.answered = job->answerable ? job->result.error_code : NULL,
	};
	size_t taken;

	*message = (struct message){ .key = record->key, .value = record->value };
	write_letter(&letter, job, limit, arena, message);
	taken = message_bytes(message) + CUT_BYTES;
	if (limit < taken || limit - taken < kept_max)
		kept_max = limit < taken ? 0 : limit - taken;
	message->key_size = record->key_size < kept_max ? record->key_size : kept_max;
	message->value_size = record->value_size;
	if (message->value_size <= kept_max - message->key_size)
		return;
	message->value_size = kept_max - message->key_size;
	dead_letter_cut(&letter, record->value, record->value_size, arena);
	write_letter(&letter, job, limit, arena, message);
}
