/* The answer to a command of any operation. */
#ifndef RESULT_H
#define RESULT_H

#include <stdbool.h>
#include <stddef.h>

#include "schemas/contract.h"
#include "schemas/types.h"

/* The fields that every result has, for the tables of results: before and behind those of the operation's own. */
#define RESULT_ENVELOPE(data_type) \
	{ "traceId", FIELD_TEXT, AT(command_result, trace_id) }, \
	{ "success", FIELD_BOOLEAN, AT(command_result, success) }, \
	{ "data", FIELD_RECORD, AT(command_result, data), .inner = (data_type), .nullable = true }, \
	{ "error", FIELD_RECORD, AT(command_result, error_code), .inner = &result_error_type, .nullable = true }, \
	{ "httpStatus", FIELD_INT, AT(command_result, http_status) }, \
	{ "reason", FIELD_TEXT, AT(command_result, reason), .nullable = true }, \
	{ "retryable", FIELD_BOOLEAN, AT(command_result, retryable) }, \
	{ "retryAfterSeconds", FIELD_INT, AT(command_result, retry_after_s), BESIDE(command_result, has_retry_after), \
	  .nullable = true }, \
	{ "accountGroupId", FIELD_TEXT, AT(command_result, account_group_id), .nullable = true }
#define RESULT_EVENT \
	{ "draftExisted", FIELD_BOOLEAN, AT(command_result, draft_existed) }, \
	{ "command", FIELD_RECORD, AT(command_result, command_topic), .inner = &result_position_type }, \
	{ "issuedAt", FIELD_TIME, AT(command_result, issued_at_ms), BESIDE(command_result, has_issued_at), .nullable = true }, \
	{ "processedAt", FIELD_TIME, AT(command_result, processed_at_ms) }

extern const struct record_type result_error_type, result_position_type; /* members of struct command_result */

/* Copies what the result repeats of the command: ids that are well-formed (others stay NULL) and issuedAt. */
void result_describe(struct command_result *result, const struct contract *contract, const struct command_head *command);
/* Turns result into the refusal of that reason; details is borrowed (arena), NULL is "". Clears what a success has and
 * retry-after: set that afterwards. */
void result_refuse(struct command_result *result, const struct reason *reason, const char *details);
/* Turns result into the success with that data (borrowed). */
void result_accept(struct command_result *result, const struct contract *contract, const void *data, bool draft_existed);
/* Gives result the outcome of another record of the same command; a success is there already. Text and data are borrowed. */
void result_share(struct command_result *result, const struct command_result *first);
/* The id of what a success wrote; NULL for a refusal. */
const char *result_id(const struct command_result *result, const struct contract *contract);

#endif
