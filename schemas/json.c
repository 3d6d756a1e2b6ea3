#include "schemas/json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/result.h"
#include "worker/base/clock.h"
#include "worker/base/must.h"

/* The response's body: the API reference's order. */
static const char *const envelope[] = { "success", "data", "error", "traceId" };

static const struct field acknowledgement_fields[] = {
	{ "traceId", FIELD_TEXT, AT(command_result, trace_id) },
	{ "topic", FIELD_TEXT, AT(command_result, command_topic) },
	{ "partition", FIELD_INT, AT(command_result, command_partition) },
	{ "offset", FIELD_LONG, AT(command_result, command_offset) },
};
static const struct record_type acknowledgement_type = { "acknowledgement", FIELDS(acknowledgement_fields) };

/* ---- writing: what jansson refuses is text that is not UTF-8, which neither the codec nor the store lets through ---- */

static json_t *object_of(const struct record_type *type, const void *base);

/* No text has a year before 1 or behind 9999. */
static json_t *time_of(const struct field *field, int64_t ms)
{
	char text[TIME_TEXT_SIZE];

	return field->nullable && clock_clamp(ms) != ms ? json_null() : must(json_string(clock_format(ms, text)));
}

static json_t *value_of(const struct field *field, const char *base)
{
	const void *at = base + field->offset;

	if (field_is_null(field, base) || (field->negative_is_null && *(const int64_t *)at < 0))
		return json_null();
	switch (field->type) {
	case FIELD_TEXT:
		return must(json_string(*(const char *const *)at));
	case FIELD_BOOLEAN:
		return json_boolean(*(const bool *)at);
	case FIELD_INT:
		return must(json_integer(*(const int32_t *)at));
	case FIELD_LONG:
		return must(json_integer(*(const int64_t *)at));
	case FIELD_TIME:
		return time_of(field, *(const int64_t *)at);
	case FIELD_RECORD:
		return object_of(field->inner, field->inner->size > 0 ? *(const void *const *)at : base);
	case FIELD_TEXTS: /* these two occur in commands only, which are read and never written */
	case FIELD_DIGEST:
		break;
	}
	abort();
}

static void add_member(json_t *object, const struct field *field, const void *base)
{
	must_be(json_object_set_new_nocheck(object, field->name, value_of(field, base)) == 0);
}

static json_t *object_of(const struct record_type *type, const void *base)
{
	json_t *object = must(json_object());

	for (size_t i = 0; i < type->count; i++)
		add_member(object, &type->fields[i], base);
	return object;
}

static const struct field *find_field(const struct record_type *type, const char *name)
{
	for (size_t i = 0; i < type->count; i++)
		if (strcmp(type->fields[i].name, name) == 0)
			return &type->fields[i];
	return NULL;
}

static const char *text_of_take(json_t *object, struct arena *arena)
{
	char *text = must(json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER));
	const char *copy = arena_strndup(arena, text, strlen(text));

	free(text);
	json_decref(object);
	return copy;
}

const char *result_to_json(const struct contract *contract, const struct command_result *result, struct arena *arena)
{
	return text_of_take(object_of(contract->result, result), arena);
}

static const char *envelope_of(const struct contract *contract, const struct command_result *result, struct arena *arena)
{
	json_t *object = must(json_object());

	for (size_t i = 0; i < sizeof envelope / sizeof envelope[0]; i++)
		add_member(object, find_field(contract->result, envelope[i]), result);
	return text_of_take(object, arena);
}

const char *position_to_json(const char *trace_id, const char *topic, int32_t partition, int64_t offset, struct arena *arena)
{
	struct command_result result = { .trace_id = trace_id, .command_topic = topic, .command_partition = partition,
				 .command_offset = offset };

	return text_of_take(object_of(&acknowledgement_type, &result), arena);
}

/* RFC 9110's phrases; one that is not listed may be empty (RFC 9112, 4). */
static const char *reason_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{ 201, "Created" },       { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 403, "Forbidden" },     { 404, "Not Found" },   { 409, "Conflict" },
		{ 429, "Too Many Requests" }, { 500, "Internal Server Error" }, { 502, "Bad Gateway" },
	};

	for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "";
}

void result_to_http(const struct contract *contract, const struct command_result *result, struct arena *arena,
		    struct http_response *response)
{
	response->status = result->http_status;
	response->reason_phrase = reason_phrase(result->http_status);
	response->body = envelope_of(contract, result, arena);
	response->headers = arena_printf(arena, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
					 strlen(response->body));
	if (result->has_retry_after)
		response->headers = arena_printf(arena, "%sRetry-After: %d\r\n", response->headers, (int)result->retry_after_s);
}

const char *http_response_text(const struct http_response *response, struct arena *arena)
{
	return arena_printf(arena, "HTTP/1.1 %d %s\r\n%s\r\n%s", response->status, response->reason_phrase, response->headers,
			    response->body);
}

/* ---- reading ---- */

struct reader {
	struct arena *arena;
	struct fault *fault;
	bool all; /* every key must be there, and null only where the contract says so */
};

static int refuse(struct reader *reader, const struct field *field, const char *wanted)
{
	return fault_set(reader->fault, FAULT_REJECT, "%s: %s", field->name, wanted);
}

static const char *copy_text(struct reader *reader, const json_t *json)
{
	return arena_strndup(reader->arena, json_string_value(json), json_string_length(json));
}

static int read_integer(struct reader *reader, const struct field *field, const json_t *json, char *at)
{
	json_int_t value = json_integer_value(json);

	if (!json_is_integer(json))
		return refuse(reader, field, "an integer is wanted");
	if (field->type == FIELD_LONG) {
		*(int64_t *)at = value;
		return 0;
	}
	if (value < INT32_MIN || value > INT32_MAX)
		return refuse(reader, field, "an integer of 32 bits is wanted");
	*(int32_t *)at = (int32_t)value;
	return 0;
}

static int read_time(struct reader *reader, const struct field *field, const json_t *json, int64_t *ms)
{
	if (json_is_integer(json)) {
		*ms = json_integer_value(json);
		return 0;
	}
	if (!json_is_string(json) || clock_parse(json_string_value(json), ms) != 0)
		return refuse(reader, field, "a time as milliseconds or as YYYY-MM-DDTHH:MM:SS.mmmZ is wanted");
	return 0;
}

static int read_texts(struct reader *reader, const struct field *field, const json_t *json, const char ***texts, size_t *count)
{
	size_t n = json_array_size(json);

	if (!json_is_array(json))
		return refuse(reader, field, "an array of strings is wanted");
	*texts = arena_array(reader->arena, n + 1, sizeof **texts); /* never NULL, which would mean "not given" */
	*count = n;
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(json, i);

		if (!json_is_string(item))
			return fault_set(reader->fault, FAULT_REJECT, "%s[%zu]: a string is wanted", field->name, i);
		(*texts)[i] = copy_text(reader, item);
	}
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int read_digest(struct reader *reader, const struct field *field, const json_t *json, uint8_t digest[CAMPAIGN_DIGEST_BYTES])
{
	const char *hex = json_string_value(json);

	if (hex == NULL || json_string_length(json) != (size_t)2 * CAMPAIGN_DIGEST_BYTES)
		return refuse(reader, field, "64 hex digits are wanted");
	for (size_t i = 0; i < CAMPAIGN_DIGEST_BYTES; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return refuse(reader, field, "64 hex digits are wanted");
		digest[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

static int read_object(struct reader *reader, const struct record_type *type, const char *name, json_t *json, void *base);

static int read_value(struct reader *reader, const struct field *field, json_t *json, char *base)
{
	char *at = base + field->offset;

	if (field->companion && field->type != FIELD_TEXTS)
		*(bool *)(base + field->companion) = true;
	switch (field->type) {
	case FIELD_TEXT:
		if (!json_is_string(json))
			return refuse(reader, field, "a string is wanted");
		*(const char **)at = copy_text(reader, json);
		return 0;
	case FIELD_BOOLEAN:
		if (!json_is_boolean(json))
			return refuse(reader, field, "true or false is wanted");
		*(bool *)at = json_is_true(json);
		return 0;
	case FIELD_INT:
	case FIELD_LONG:
		return read_integer(reader, field, json, at);
	case FIELD_TIME:
		return read_time(reader, field, json, (int64_t *)at);
	case FIELD_TEXTS:
		return read_texts(reader, field, json, (const char ***)at, (size_t *)(base + field->companion));
	case FIELD_DIGEST:
		return read_digest(reader, field, json, (uint8_t *)at);
	case FIELD_RECORD:
		if (field->inner->size > 0)
			base = *(void **)at = arena_alloc(reader->arena, field->inner->size);
		return read_object(reader, field->inner, field->name, json, base);
	}
	abort();
}

static int read_members(struct reader *reader, const struct record_type *type, json_t *json, void *base)
{
	for (size_t i = 0; i < type->count; i++) {
		const struct field *field = &type->fields[i];
		json_t *member = json_object_get(json, field->name);

		if (reader->all && member == NULL)
			return refuse(reader, field, "missing");
		if (json_is_null(member) && field->negative_is_null)
			*(int64_t *)((char *)base + field->offset) = -1;
		else if (reader->all && json_is_null(member) && !field->nullable)
			return refuse(reader, field, "may not be null");
		if (member && !json_is_null(member) && read_value(reader, field, member, base) < 0)
			return -1;
	}
	return 0;
}

static int read_object(struct reader *reader, const struct record_type *type, const char *name, json_t *json, void *base)
{
	const char *key;
	json_t *member;

	if (!json_is_object(json))
		return fault_set(reader->fault, FAULT_REJECT, "%s: an object is wanted", name);
	json_object_foreach (json, key, member) {
		if (find_field(type, key) == NULL)
			return fault_set(reader->fault, FAULT_REJECT, "%s: unknown key \"%.64s\"", name, key);
	}
	return read_members(reader, type, json, base);
}

/* jansson's message without the text that it found there: that may be a secret. */
static int refuse_syntax(struct fault *fault, json_error_t *error)
{
	char *near = strstr(error->text, " near ");

	if (near && strcmp(near, " near end of file") != 0)
		*near = '\0';
	if (error->line > 1)
		return fault_set(fault, FAULT_REJECT, "line %d, column %d: %s", error->line, error->column, error->text);
	return fault_set(fault, FAULT_REJECT, "column %d: %s", error->column, error->text);
}

static int read_text(struct reader *reader, const struct record_type *type, const char *name, const char *text, size_t size,
		     void *base)
{
	json_error_t error;
	json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	int rc;

	if (json == NULL)
		return refuse_syntax(reader->fault, &error);
	rc = read_object(reader, type, name, json, base);
	json_decref(json);
	return rc;
}

int result_from_json(const struct contract *contract, const char *text, size_t size, struct arena *arena,
		     struct command_result *result, struct fault *fault)
{
	struct reader reader = { arena, fault, true };

	memset(result, 0, sizeof *result);
	return read_text(&reader, contract->result, "result", text, size, result);
}

int command_from_json(const struct contract *contract, const char *text, size_t size, struct arena *arena,
		      struct command_head *command, struct fault *fault)
{
	struct reader reader = { arena, fault, false };

	memset(command, 0, contract->command->size);
	return read_text(&reader, contract->command, "command", text, size, command);
}
