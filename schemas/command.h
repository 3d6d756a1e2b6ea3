/* The command, the result, and the rules that need no database (protocol.txt, rules 0 and 1).
 * The contract's source is the API reference's "Duplicate a campaign into a draft".
 * Strings are NUL-terminated UTF-8 in the batch's arena; nothing here owns memory. */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/types.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"

#define CAMPAIGN_ID_CHARS 24 /* of a new campaign: lowercase hex */

/* Why a command was answered as it was: the stable word below the code. REASON_NONE is success. */
enum reason {
	REASON_NONE,
	REASON_UNDECODABLE,
	REASON_TOO_LARGE,
	REASON_TOMBSTONE,
	REASON_UNKNOWN_SCHEMA,
	REASON_KEY_MISMATCH,
	REASON_INVALID_FIELD,
	REASON_DRAFT_DELETED,
	REASON_EXPIRED,
	REASON_KEY_MISSING,
	REASON_KEY_UNKNOWN,
	REASON_KEY_REVOKED,
	REASON_PERMISSION_MISSING,
	REASON_ACCOUNT_GROUP_DENIED,
	REASON_TRACE_REUSED,
	REASON_RATE_LIMITED,
	REASON_CAMPAIGN_NOT_FOUND,
	REASON_AUDIENCE_NOT_FOUND,
	REASON_AUDIENCE_POPULATING,
	REASON_LEAD_NOT_IN_AUDIENCE,
	REASON_AUDIENCE_TOO_LARGE,
	REASON_LEAD_ACTIVE,
	REASON_DATABASE_ERROR,
	REASON_ROWS_LOCKED,
	REASON_COUNT
};

struct reason_info {
	const char *word;    /* "campaign_not_found" */
	int http_status;     /* 404 */
	const char *code;    /* "NOT_FOUND" */
	const char *message; /* a sentence for a person, the same for every command of this reason */
	bool retryable;      /* the same command may succeed later, published again under the same traceId */
	bool dead_letter;    /* the record also goes to the dead-letter topic */
};

const struct reason_info *reason_info(enum reason reason);
enum reason reason_find(const char *word); /* REASON_COUNT if there is none */

bool id_is_well_formed(const char *id); /* 1 to ID_MAX of [A-Za-z0-9_-], not beginning with "sk_"; NULL is not */

/* Rule 1. Sorts lead_ids, drops duplicates (lead_count shrinks) and computes digest. 0, or -1 with details (a sentence
 * in the arena that names the field and echoes only well-formed ids) for REASON_INVALID_FIELD. */
int command_check(struct duplicate_command *command, struct arena *arena, const char **details) MUST_CHECK;

/* SHA-256 over the length-prefixed campaignId, audienceId, name, sorted leadIds and apiKeyDigest (nulls told apart
 * from empty). lead_ids must be sorted and distinct. */
void command_digest(const struct duplicate_command *command, uint8_t digest[DIGEST_BYTES]);

/* Copies what the result repeats of the command: ids that are well-formed (others stay NULL) and issuedAt. */
void result_describe(struct command_result *result, const struct duplicate_command *command);
/* Turns result into the refusal of that reason; details is borrowed (arena), NULL is "". Clears what a 201 has and
 * retry-after: set that afterwards. */
void result_refuse(struct command_result *result, enum reason reason, const char *details);
/* Turns result into the 201 with that campaign (borrowed). */
void result_accept(struct command_result *result, const struct campaign *campaign, bool draft_existed);

/* A new campaign's id: seconds since the epoch, then random bytes, as 24 lowercase hex characters and a NUL. */
void campaign_new_id(char id[CAMPAIGN_ID_CHARS + 1]);

/* murmur2 as Java's default partitioner computes it (org.apache.kafka.common.utils.Utils.murmur2), made positive. */
uint32_t murmur2_positive(const void *key, size_t len);

#endif
