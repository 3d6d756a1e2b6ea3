#include "schemas/reason.h"

#define INVALID .http_status = 400, .code = "VALIDATION_ERROR"
#define UNAUTHORIZED .http_status = 401, .code = "UNAUTHORIZED"
#define FORBIDDEN .http_status = 403, .code = "FORBIDDEN"
#define UPSTREAM .http_status = 502, .code = "UPSTREAM_ERROR", .retryable = true
#define DEAD .dead_letter = true

const struct reason reason_undecodable = { "undecodable", INVALID, .message = "The command could not be decoded.", DEAD };
const struct reason reason_too_large = { "too_large", INVALID, .message = "The command is too large.", DEAD };
const struct reason reason_tombstone = { "tombstone", INVALID, .message = "The command record has no value.", DEAD };
const struct reason reason_unknown_schema = { "unknown_schema", INVALID,
	.message = "The command was written with a schema that is not known here.", DEAD };
const struct reason reason_key_mismatch = { "key_mismatch", INVALID,
	.message = "The command record's key is not its account group.", DEAD };
const struct reason reason_invalid_field = { "invalid_field", INVALID, .message = "Request validation failed." };
const struct reason reason_database_error = { "database_error", .http_status = 500, .code = "INTERNAL_ERROR",
	.message = "The command could not be processed.", DEAD };
const struct reason reason_rows_locked = { "rows_locked", UPSTREAM,
	.message = "What the command needs could not be had in time; nothing was written." };

#define OF_SQL &(const struct reason)

const struct reason *const common_reasons[] = {
	&reason_undecodable,
	&reason_too_large,
	&reason_tombstone,
	&reason_unknown_schema,
	&reason_key_mismatch,
	&reason_invalid_field,
	OF_SQL{ "expired", UPSTREAM, .message = "The command expired before it could be started; nothing was written.",
		.details = "expiresAt {expiresAt} had passed" },
	OF_SQL{ "key_missing", UNAUTHORIZED, .message = "No API key was given.", .details = "apiKeyDigest is missing" },
	OF_SQL{ "key_unknown", UNAUTHORIZED, .message = "The API key is not valid.",
		.details = "no API key has this apiKeyDigest" },
	OF_SQL{ "key_revoked", UNAUTHORIZED, .message = "The API key has been revoked.",
		.details = "API key {1} has been revoked" },
	OF_SQL{ "permission_missing", FORBIDDEN, .message = "The API key lacks the permission campaigns:write.",
		.details = "API key {1} lacks campaigns:write" },
	OF_SQL{ "account_group_denied", FORBIDDEN, .message = "The API key has no access to this account group.",
		.details = "API key {1} has no access to account group {accountGroupId}" },
	OF_SQL{ "trace_reused", .http_status = 409, .code = "CONFLICT",
		.message = "This traceId was already used for another command.",
		.details = "traceId {traceId} belongs to another command" },
	OF_SQL{ "rate_limited", .http_status = 429, .code = "RATE_LIMITED", .message = "Rate limit exceeded.", .retryable = true,
		.details = "rate limit of {1:rate}, burst {2}; retry after {3} s" },
	OF_SQL{ "result_too_large", .http_status = 500, .code = "INTERNAL_ERROR",
		.message = "The result would be larger than the results topic takes; nothing was written.", DEAD,
		.details = "the texts of the result would have more than {1} bytes" },
	&reason_database_error,
	&reason_rows_locked,
};
const size_t common_reason_count = sizeof common_reasons / sizeof common_reasons[0];
