/* Why a command was answered as it was: the stable word below the code. The reference knows codes; reasons tell apart what
 * shares a code. A word, once published, keeps its meaning. A pointer to one that is NULL says: accepted.
 *
 * Here are those of every operation; what only one operation knows stands in its file. All that is said to a caller stands
 * in these tables: SQL and C give words and the texts that details name. */
#ifndef REASON_H
#define REASON_H

#include <stdbool.h>
#include <stddef.h>

struct reason {
	const char *word;    /* "campaign_not_found" */
	int http_status;     /* 404 */
	const char *code;    /* "NOT_FOUND" */
	const char *message; /* a sentence for a person, the same for every command of this reason */
	bool retryable;      /* the same command may succeed later, published again under the same traceId */
	bool dead_letter;    /* the record also goes to the dead-letter topic */
	const char *details; /* template of schemas/details.h, filled with the command and the statement's texts; NULL: C says it */
};

/* Those that C code gives. Others are given by SQL and found by their word (contract_find_reason). */
extern const struct reason reason_undecodable, reason_too_large, reason_tombstone, reason_unknown_schema, reason_key_mismatch,
	reason_invalid_field, reason_database_error, reason_rows_locked;

extern const struct reason *const common_reasons[];
extern const size_t common_reason_count;

#endif
