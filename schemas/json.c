#include "schemas/json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"

enum type { TEXT, BOOLEAN, INT32, INT64, TIME, RECORD, TEXTS, DIGEST };

/* One member of a JSON object and where it lies in our struct. A null is a NULL pointer (TEXT, TEXTS, RECORD) or a false
 * flag at has (INT32, INT64, TIME, DIGEST). */
struct field {
	const char *name;
	enum type type;
	bool nullable;
	size_t at, has;
	const struct field *members; /* RECORD */
	size_t size;                 /* RECORD: of the struct that at points to; 0: members lie in the same struct */
};

#define AT(struct_, member) .at = offsetof(struct struct_, member)
#define HAS(struct_, member) .nullable = true, .has = offsetof(struct struct_, member)
#define END { .name = NULL }

static const struct field campaign_fields[] = {
	{ "id", TEXT, AT(campaign, id) },
	{ "name", TEXT, AT(campaign, name) },
	{ "description", TEXT, AT(campaign, description), .nullable = true },
	{ "status", TEXT, AT(campaign, status) },
	{ "selectedLeadCount", INT32, AT(campaign, selected_lead_count) },
	{ "includeConversationHistory", BOOLEAN, AT(campaign, include_conversation_history) },
	{ "autoCancelOnMessageReceived", BOOLEAN, AT(campaign, auto_cancel_on_message_received) },
	{ "outreachLanguage", TEXT, AT(campaign, outreach_language), .nullable = true },
	{ "createdAt", TIME, AT(campaign, created_at_ms) },
	{ "updatedAt", TIME, AT(campaign, updated_at_ms) },
	{ "startedAt", TIME, AT(campaign, started_at_ms), HAS(campaign, has_started_at) },
	{ "rateLimitedUntil", TIME, AT(campaign, rate_limited_until_ms), HAS(campaign, has_rate_limited_until) },
	END
};

static const struct field error_fields[] = {
	{ "code", TEXT, AT(command_result, error_code) },
	{ "message", TEXT, AT(command_result, error_message) },
	{ "details", TEXT, AT(command_result, error_details) },
	END
};

#define POSITION \
	{ "topic", TEXT, AT(command_result, command_topic) }, \
	{ "partition", INT32, AT(command_result, command_partition) }, \
	{ "offset", INT64, AT(command_result, command_offset) }

static const struct field position_fields[] = {
	POSITION,
	{ "timestamp", TIME, AT(command_result, command_timestamp_ms) },
	END
};

#define TRACE_ID { "traceId", TEXT, AT(command_result, trace_id) }
#define SUCCESS { "success", BOOLEAN, AT(command_result, success) }
#define DATA { "data", RECORD, AT(command_result, data), .nullable = true, .members = campaign_fields, .size = sizeof(struct campaign) }
#define ERROR { "error", RECORD, AT(command_result, error_code), .nullable = true, .members = error_fields }

/* The event: the Avro schema's order. */
static const struct field result_fields[] = {
	TRACE_ID, SUCCESS, DATA, ERROR,
	{ "httpStatus", INT32, AT(command_result, http_status) },
	{ "reason", TEXT, AT(command_result, reason), .nullable = true },
	{ "retryable", BOOLEAN, AT(command_result, retryable) },
	{ "retryAfterSeconds", INT32, AT(command_result, retry_after_s), HAS(command_result, has_retry_after) },
	{ "accountGroupId", TEXT, AT(command_result, account_group_id), .nullable = true },
	{ "sourceCampaignId", TEXT, AT(command_result, source_campaign_id), .nullable = true },
	{ "audienceId", TEXT, AT(command_result, audience_id), .nullable = true },
	{ "draftExisted", BOOLEAN, AT(command_result, draft_existed) },
	{ "command", RECORD, AT(command_result, command_topic), .members = position_fields },
	{ "issuedAt", TIME, AT(command_result, issued_at_ms), HAS(command_result, has_issued_at) },
	{ "processedAt", TIME, AT(command_result, processed_at_ms) },
	END
};

/* The response's body: the API reference's order. */
static const struct field envelope_fields[] = { SUCCESS, DATA, ERROR, TRACE_ID, END };

static const struct field acknowledgement_fields[] = { TRACE_ID, POSITION, END };

static const struct field command_fields[] = {
	{ "traceId", TEXT, AT(duplicate_command, head.trace_id) },
	{ "accountGroupId", TEXT, AT(duplicate_command, head.account_group_id) },
	{ "campaignId", TEXT, AT(duplicate_command, campaign_id) },
	{ "name", TEXT, AT(duplicate_command, name) },
	{ "audienceId", TEXT, AT(duplicate_command, audience_id) },
	{ "leadIds", TEXTS, AT(duplicate_command, lead_ids), HAS(duplicate_command, lead_count) },
	{ "apiKeyDigest", DIGEST, AT(duplicate_command, head.key_digest), HAS(duplicate_command, head.has_key) },
	{ "issuedAt", TIME, AT(duplicate_command, head.issued_at_ms) },
	{ "expiresAt", TIME, AT(duplicate_command, head.expires_at_ms), HAS(duplicate_command, head.has_expiry) },
	END
};

static json_t *must(json_t *json)
{
	if (json == NULL) /* out of memory, or text that is not UTF-8, which neither the codec nor the store lets through */
		abort();
	return json;
}

static bool is_null(const struct field *field, const char *at, const char *has)
{
	if (!field->nullable)
		return false;
	if (field->type == TEXT || field->type == RECORD)
		return *(const void *const *)at == NULL;
	return !*(const bool *)has;
}

static json_t *object_of(const struct field *fields, const void *base);

static json_t *value_of(const struct field *field, const char *base)
{
	const char *at = base + field->at;
	char time[TIME_TEXT_SIZE];

	if (is_null(field, at, base + field->has))
		return json_null();
	switch (field->type) {
	case TEXT:
		return must(json_string(*(const char *const *)at));
	case BOOLEAN:
		return json_boolean(*(const bool *)at);
	case INT32:
		return must(json_integer(*(const int32_t *)at));
	case INT64:
		return must(json_integer(*(const int64_t *)at));
	case TIME:
		return must(json_string(clock_format(*(const int64_t *)at, time)));
	case RECORD:
		return object_of(field->members, field->size ? *(const void *const *)at : base);
	default: /* TEXTS and DIGEST occur in commands only, which are read and never written */
		abort();
	}
}

static json_t *object_of(const struct field *fields, const void *base)
{
	json_t *object = must(json_object());

	for (const struct field *field = fields; field->name; field++)
		if (json_object_set_new_nocheck(object, field->name, value_of(field, base)) != 0)
			abort();
	return object;
}

static const char *text_of(const struct field *fields, const void *base, struct arena *arena)
{
	json_t *object = object_of(fields, base);
	char *text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
	const char *copy;

	if (text == NULL)
		abort();
	copy = arena_strndup(arena, text, strlen(text));
	free(text);
	json_decref(object);
	return copy;
}

const char *result_to_json(const struct command_result *result, struct arena *arena)
{
	return text_of(result_fields, result, arena);
}

const char *position_to_json(const char *trace_id, const char *topic, int32_t partition, int64_t offset, struct arena *arena)
{
	struct command_result result = { .trace_id = trace_id, .command_topic = topic, .command_partition = partition,
				 .command_offset = offset };

	return text_of(acknowledgement_fields, &result, arena);
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

void result_to_http(const struct command_result *result, struct arena *arena, struct http_response *response)
{
	response->status = result->http_status;
	response->reason_phrase = reason_phrase(result->http_status);
	response->body = text_of(envelope_fields, result, arena);
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

/* Reading. */

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
	if (field->type == INT64) {
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

static int read_digest(struct reader *reader, const struct field *field, const json_t *json, uint8_t digest[DIGEST_BYTES])
{
	const char *hex = json_string_value(json);

	if (hex == NULL || json_string_length(json) != (size_t)2 * DIGEST_BYTES)
		return refuse(reader, field, "64 hex digits are wanted");
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return refuse(reader, field, "64 hex digits are wanted");
		digest[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

static int read_object(struct reader *reader, const struct field *fields, const char *name, json_t *json, void *base);

static int read_value(struct reader *reader, const struct field *field, json_t *json, char *base)
{
	char *at = base + field->at;

	if (field->nullable && field->type != TEXT && field->type != TEXTS && field->type != RECORD)
		*(bool *)(base + field->has) = true;
	switch (field->type) {
	case TEXT:
		if (!json_is_string(json))
			return refuse(reader, field, "a string is wanted");
		*(const char **)at = copy_text(reader, json);
		return 0;
	case BOOLEAN:
		if (!json_is_boolean(json))
			return refuse(reader, field, "true or false is wanted");
		*(bool *)at = json_is_true(json);
		return 0;
	case INT32:
	case INT64:
		return read_integer(reader, field, json, at);
	case TIME:
		return read_time(reader, field, json, (int64_t *)at);
	case TEXTS:
		return read_texts(reader, field, json, (const char ***)at, (size_t *)(base + field->has));
	case DIGEST:
		return read_digest(reader, field, json, (uint8_t *)at);
	case RECORD:
		if (field->size)
			base = *(void **)at = arena_alloc(reader->arena, field->size);
		return read_object(reader, field->members, field->name, json, base);
	}
	abort();
}

static int read_members(struct reader *reader, const struct field *fields, json_t *json, void *base)
{
	for (const struct field *field = fields; field->name; field++) {
		json_t *member = json_object_get(json, field->name);

		if (reader->all && member == NULL)
			return refuse(reader, field, "missing");
		if (reader->all && json_is_null(member) && !field->nullable)
			return refuse(reader, field, "may not be null");
		if (member && !json_is_null(member) && read_value(reader, field, member, base) != 0)
			return -1;
	}
	return 0;
}

static int read_object(struct reader *reader, const struct field *fields, const char *name, json_t *json, void *base)
{
	const char *key;
	json_t *member;

	if (!json_is_object(json))
		return fault_set(reader->fault, FAULT_REJECT, "%s: an object is wanted", name);
	json_object_foreach (json, key, member) {
		const struct field *field = fields;

		while (field->name && strcmp(field->name, key) != 0)
			field++;
		if (field->name == NULL)
			return fault_set(reader->fault, FAULT_REJECT, "%s: unknown key \"%.64s\"", name, key);
	}
	return read_members(reader, fields, json, base);
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

static int read_text(struct reader *reader, const struct field *fields, const char *name, const char *text, size_t size,
		     void *base)
{
	json_error_t error;
	json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	int rc;

	if (json == NULL)
		return refuse_syntax(reader->fault, &error);
	rc = read_object(reader, fields, name, json, base);
	json_decref(json);
	return rc;
}

int result_from_json(const char *text, size_t size, struct arena *arena, struct command_result *result, struct fault *fault)
{
	struct reader reader = { arena, fault, true };

	memset(result, 0, sizeof *result);
	return read_text(&reader, result_fields, "result", text, size, result);
}

int command_from_json(const char *text, size_t size, struct arena *arena, struct duplicate_command *command, struct fault *fault)
{
	struct reader reader = { arena, fault, false };

	memset(command, 0, sizeof *command);
	return read_text(&reader, command_fields, "command", text, size, command);
}
