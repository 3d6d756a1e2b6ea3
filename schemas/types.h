/* What is said between a publisher of commands, the worker and a subscriber to results: the structs that Avro and JSON are
 * decoded into and encoded from. Installed as <campaign/types.h>, so it includes nothing of ours.
 *
 * Strings are NUL-terminated UTF-8; nothing here owns memory. A NULL pointer and a false has_ are the contract's null.
 * Times are milliseconds since the Unix epoch. The contract's source is the API reference's "Duplicate a campaign into a
 * draft". */
#ifndef CAMPAIGN_TYPES_H
#define CAMPAIGN_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAMPAIGN_ID_MAX 64          /* bytes of an id, of [A-Za-z0-9_-] */
#define CAMPAIGN_NAME_MAX_CHARS 255 /* characters (code points) of a name */
#define CAMPAIGN_LEADS_MAX 10000    /* leadIds of one command */
#define CAMPAIGN_DIGEST_BYTES 32    /* SHA-256 */

/* The struct of every operation's command begins with this. */
struct command_head {
	const char *trace_id;
	const char *account_group_id;
	bool has_key;
	uint8_t key_digest[CAMPAIGN_DIGEST_BYTES]; /* SHA-256 of the caller's API key */
	int64_t issued_at_ms;
	bool has_expiry;
	int64_t expires_at_ms;
	uint8_t digest[CAMPAIGN_DIGEST_BYTES]; /* two commands with the same digest are the same; computed when a command is checked */
};

struct duplicate_command {
	struct command_head head;
	const char *campaign_id;
	const char *name; /* NULL: the source's */
	const char *audience_id;
	const char **lead_ids; /* NULL: all of the audience; sorted bytewise and distinct once the command is checked */
	size_t lead_count;
};

/* The campaign of a 201, as the API reference gives it. */
struct campaign {
	const char *id, *name, *description, *status, *outreach_language;
	int32_t selected_lead_count;
	bool include_conversation_history, auto_cancel_on_message_received;
	int64_t created_at_ms, updated_at_ms;
	bool has_started_at, has_rate_limited_until;
	int64_t started_at_ms, rate_limited_until_ms;
};

struct command_result {
	const char *trace_id;
	bool success;
	union { /* set if and only if success; its struct is the operation's */
		const void *data;
		const struct campaign *campaign; /* of duplicate */
	};
	const char *error_code, *error_message, *error_details; /* all set if and only if not success */
	int32_t http_status;
	const char *reason; /* a stable word below the code; NULL on success */
	bool retryable;
	bool has_retry_after;
	int32_t retry_after_s; /* at least 1, counted from processed_at_ms */
	const char *account_group_id, *source_campaign_id, *audience_id; /* NULL: not decoded, or not well-formed */
	bool draft_existed;
	const char *command_topic;
	int32_t command_partition;
	int64_t command_offset, command_timestamp_ms; /* timestamp -1: the command's record has none */
	bool has_issued_at;
	int64_t issued_at_ms, processed_at_ms;
};

#endif
