#include "schemas/result.h"

#include "schemas/id.h"

static const struct field error_fields[] = {
	{ "code", FIELD_TEXT, AT(command_result, error_code) },
	{ "message", FIELD_TEXT, AT(command_result, error_message) },
	{ "details", FIELD_TEXT, AT(command_result, error_details) },
};
const struct record_type result_error_type = { "Error", FIELDS(error_fields) };

static const struct field position_fields[] = {
	{ "topic", FIELD_TEXT, AT(command_result, command_topic) },
	{ "partition", FIELD_INT, AT(command_result, command_partition) },
	{ "offset", FIELD_LONG, AT(command_result, command_offset) },
	{ "timestamp", FIELD_TIME, AT(command_result, command_timestamp_ms) },
};
const struct record_type result_position_type = { "CommandPosition", FIELDS(position_fields) };

void result_describe(struct command_result *result, const struct contract *contract, const struct command_head *command)
{
	if (id_is_well_formed(command->trace_id))
		result->trace_id = command->trace_id;
	if (id_is_well_formed(command->account_group_id))
		result->account_group_id = command->account_group_id;
	result->has_issued_at = true;
	result->issued_at_ms = command->issued_at_ms;
	if (contract->describe)
		contract->describe(result, command);
}

void result_refuse(struct command_result *result, const struct reason *reason, const char *details)
{
	result->success = false;
	result->data = NULL;
	result->error_code = reason->code;
	result->error_message = reason->message;
	result->error_details = details ? details : "";
	result->http_status = reason->http_status;
	result->reason = reason->word;
	result->retryable = reason->retryable;
	result->has_retry_after = false;
	result->draft_existed = false;
}

void result_accept(struct command_result *result, const struct contract *contract, const void *data, bool draft_existed)
{
	result->success = true;
	result->data = data;
	result->error_code = result->error_message = result->error_details = NULL;
	result->http_status = contract->success_status;
	result->reason = NULL;
	result->retryable = false;
	result->has_retry_after = false;
	result->draft_existed = draft_existed;
}

void result_share(struct command_result *result, const struct command_result *first)
{
	result->success = first->success;
	result->data = first->data;
	result->error_code = first->error_code;
	result->error_message = first->error_message;
	result->error_details = first->error_details;
	result->http_status = first->http_status;
	result->reason = first->reason;
	result->retryable = first->retryable;
	result->has_retry_after = first->has_retry_after;
	result->retry_after_s = first->retry_after_s;
	result->draft_existed = first->success;
	result->processed_at_ms = first->processed_at_ms;
}

const char *result_id(const struct command_result *result, const struct contract *contract)
{
	if (result->data == NULL)
		return NULL;
	return *(const char *const *)(const void *)((const char *)result->data + contract->data->fields[0].offset);
}
