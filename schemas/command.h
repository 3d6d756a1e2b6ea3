/* A command of any operation: the rules that need no database (DESIGN: rule 1), and the fields that every command has. */
#ifndef COMMAND_H
#define COMMAND_H

#include <stddef.h>

#include "schemas/contract.h"
#include "schemas/types.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"

/* The fields of struct command_head, for the tables of commands. */
#define COMMAND_TRACE_ID { "traceId", FIELD_TEXT, AT(command_head, trace_id), .id = true, .parameter = true }
#define COMMAND_ACCOUNT_GROUP_ID \
	{ "accountGroupId", FIELD_TEXT, AT(command_head, account_group_id), .id = true, .parameter = true }
#define COMMAND_KEY(place) \
	{ "apiKeyDigest", FIELD_DIGEST, AT(command_head, key_digest), BESIDE(command_head, has_key), .nullable = true, \
	  .parameter = true, .digest = (place) }
#define COMMAND_ISSUED_AT { "issuedAt", FIELD_TIME, AT(command_head, issued_at_ms) }
#define COMMAND_EXPIRES_AT \
	{ "expiresAt", FIELD_TIME, AT(command_head, expires_at_ms), BESIDE(command_head, has_expiry), .nullable = true, \
	  .parameter = true }

/* Rule 1: every id is well-formed, and what the contract checks beyond that. Computes the digest. 0, or -1 with details (a
 * sentence in the arena that names the field and echoes only well-formed ids) for reason_invalid_field. */
int command_check(const struct contract *contract, struct command_head *command, struct arena *arena,
		  const char **details) MUST_CHECK;

/* A copy of the command with all it refers to, in the arena. */
struct command_head *command_copy(const struct contract *contract, const struct command_head *command, struct arena *arena);

#endif
