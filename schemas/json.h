/* Commands and results as JSON, and a result as the HTTP response that the API reference gives for it. On jansson. */
#ifndef SCHEMAS_JSON_H
#define SCHEMAS_JSON_H

#include <stddef.h>

#include "schemas/contract.h"
#include "schemas/types.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"

/* A response to write to the caller. body is what the reference's envelope says, byte for byte: compact JSON, all keys,
 * the reference's order, nulls written, times YYYY-MM-DDTHH:MM:SS.mmmZ. */
struct http_response {
	int status;
	const char *reason_phrase;
	const char *headers; /* "Name: value\r\n"...: Content-Type, Content-Length, and Retry-After where there is one */
	const char *body;
};

/* Arena-allocated. The whole result event as one line of JSON, keys in the schema's order. */
const char *result_to_json(const struct contract *contract, const struct command_result *result, struct arena *arena);
void result_to_http(const struct contract *contract, const struct command_result *result, struct arena *arena,
		    struct http_response *response);
/* The response as HTTP/1.1 has it on the wire: status line, headers, an empty line, body. */
const char *http_response_text(const struct http_response *response, struct arena *arena);
/* {"traceId":..,"topic":..,"partition":..,"offset":..}: where a command stands. */
const char *position_to_json(const char *trace_id, const char *topic, int32_t partition, int64_t offset, struct arena *arena);
/* The reverse of result_to_json (used by the examples' tests). FAULT_REJECT says what and where. */
int result_from_json(const struct contract *contract, const char *text, size_t size, struct arena *arena,
		     struct command_result *result, struct fault *fault) MUST_CHECK;

/* A command from one JSON object: the Avro field names; times as milliseconds or as YYYY-MM-DDTHH:MM:SS.mmmZ; absent and
 * null are the same; apiKeyDigest as 64 hex digits. Unknown and duplicate keys are refused. Fields that are absent stay
 * NULL/0 for the caller to fill. FAULT_REJECT says what and where (line, column or field). */
int command_from_json(const struct contract *contract, const char *text, size_t size, struct arena *arena,
		      struct command_head *command, struct fault *fault) MUST_CHECK;

#endif
