#include "schemas/command.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <openssl/evp.h>

#include "worker/base/utf8.h"

#define ID_RANDOM_BYTES (CAMPAIGN_ID_CHARS / 2 - 4) /* of an id, behind the seconds */

/* The reference knows codes; reasons tell apart what shares a code. A word, once published, keeps its meaning. */
static const struct reason_info reasons[REASON_COUNT] = {
	[REASON_NONE] = { "", 201, "", "", false, false },
	[REASON_UNDECODABLE] = { "undecodable", 400, "VALIDATION_ERROR", "The command could not be decoded.", false, true },
	[REASON_TOO_LARGE] = { "too_large", 400, "VALIDATION_ERROR", "The command is too large.", false, true },
	[REASON_TOMBSTONE] = { "tombstone", 400, "VALIDATION_ERROR", "The command record has no value.", false, true },
	[REASON_UNKNOWN_SCHEMA] = { "unknown_schema", 400, "VALIDATION_ERROR",
				    "The command was written with a schema that is not known here.", false, true },
	[REASON_KEY_MISMATCH] = { "key_mismatch", 400, "VALIDATION_ERROR",
				  "The command record's key is not its account group.", false, true },
	[REASON_INVALID_FIELD] = { "invalid_field", 400, "VALIDATION_ERROR", "Request validation failed.", false, false },
	[REASON_DRAFT_DELETED] = { "draft_deleted", 409, "CONFLICT",
				   "The draft this command created has been deleted since.", false, false },
	[REASON_EXPIRED] = { "expired", 502, "UPSTREAM_ERROR",
			     "The command expired before it could be started; nothing was written.", true, false },
	[REASON_KEY_MISSING] = { "key_missing", 401, "UNAUTHORIZED", "No API key was given.", false, false },
	[REASON_KEY_UNKNOWN] = { "key_unknown", 401, "UNAUTHORIZED", "The API key is not valid.", false, false },
	[REASON_KEY_REVOKED] = { "key_revoked", 401, "UNAUTHORIZED", "The API key has been revoked.", false, false },
	[REASON_PERMISSION_MISSING] = { "permission_missing", 403, "FORBIDDEN",
					"The API key lacks the permission campaigns:write.", false, false },
	[REASON_ACCOUNT_GROUP_DENIED] = { "account_group_denied", 403, "FORBIDDEN",
					  "The API key has no access to this account group.", false, false },
	[REASON_TRACE_REUSED] = { "trace_reused", 409, "CONFLICT",
				  "This traceId was already used for another command.", false, false },
	[REASON_RATE_LIMITED] = { "rate_limited", 429, "RATE_LIMITED", "Rate limit exceeded.", true, false },
	[REASON_CAMPAIGN_NOT_FOUND] = { "campaign_not_found", 404, "NOT_FOUND", "The campaign was not found.", false, false },
	[REASON_AUDIENCE_NOT_FOUND] = { "audience_not_found", 404, "NOT_FOUND", "The audience was not found.", false, false },
	[REASON_AUDIENCE_POPULATING] = { "audience_populating", 409, "AUDIENCE_NOT_READY",
					 "The audience is still being populated.", true, false },
	[REASON_LEAD_NOT_IN_AUDIENCE] = { "lead_not_in_audience", 400, "VALIDATION_ERROR",
					  "Not every lead belongs to the audience.", false, false },
	[REASON_AUDIENCE_TOO_LARGE] = { "audience_too_large", 400, "VALIDATION_ERROR",
					"The audience has more leads than one campaign may select.", false, false },
	[REASON_LEAD_ACTIVE] = { "lead_active", 409, "CONFLICT", "A lead is enrolled in an active workflow.", false, false },
	[REASON_DATABASE_ERROR] = { "database_error", 500, "INTERNAL_ERROR",
				    "The command could not be processed.", false, true },
	[REASON_ROWS_LOCKED] = { "rows_locked", 502, "UPSTREAM_ERROR",
				 "What the command needs could not be had in time; nothing was written.", true, false },
};

const struct reason_info *reason_info(enum reason reason)
{
	return &reasons[reason];
}

enum reason reason_find(const char *word)
{
	enum reason reason = REASON_NONE + 1;

	while (reason < REASON_COUNT && strcmp(reasons[reason].word, word) != 0)
		reason++;
	return reason;
}

/* Looked up: leads have more characters than all the rest of a command. */
static bool is_id_char(char c)
{
	static const bool of_ids[UCHAR_MAX + 1] = {
		['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['_'] = true, ['-'] = true,
	};

	return of_ids[(unsigned char)c];
}

bool id_is_well_formed(const char *id)
{
	size_t len = 0;

	if (id == NULL)
		return false;
	while (len <= ID_MAX && is_id_char(id[len]))
		len++;
	return len >= 1 && len <= ID_MAX && id[len] == '\0' && strncmp(id, "sk_", 3) != 0;
}

/* Why id is refused, without showing it: what is not well-formed may be an API key (sk_...) or markup. */
static const char *refuse_id(struct arena *arena, const char *field, const char *id)
{
	if (id == NULL)
		return arena_printf(arena, "%s is missing", field);
	if (strncmp(id, "sk_", 3) == 0)
		return arena_printf(arena, "%s is not a well-formed id: it begins with sk_, as an API key does", field);
	return arena_printf(arena, "%s is not a well-formed id: 1 to %d of A-Z a-z 0-9 _ -", field, ID_MAX);
}

static bool is_control(int32_t c)
{
	return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029;
}

/* Embeddings, overrides and isolates reorder the text that follows, also beyond the name's end: a name could pass for
 * another in a list. The marks U+200E, U+200F and U+061C are let through: they act on their neighbours only, carry no
 * scope, and keyboards for Arabic and Hebrew put them into honest names. */
static bool is_bidi_control(int32_t c)
{
	return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Unicode's White_Space, and what shows nothing at all: a name of these only would be an empty line on a screen. */
static bool is_blank(int32_t c)
{
	return c == 0x20 || c == 0xa0 || c == 0xad || c == 0x61c || c == 0x1680 || (c >= 0x2000 && c <= 0x200f) ||
	       c == 0x202f || c == 0x205f || c == 0x2060 || c == 0x2800 || c == 0x3000 || c == 0x3164 || c == 0xfeff;
}

static const char *check_name(const char *name, struct arena *arena)
{
	const char *end = name + strlen(name);
	bool blank = true;
	int chars = 0;

	while (name < end) {
		int32_t c = utf8_next(&name, end);

		chars++;
		if (c < 0)
			return arena_printf(arena, "name is not UTF-8 at character %d", chars);
		if (is_control(c))
			return arena_printf(arena, "name has a control character at character %d", chars);
		if (is_bidi_control(c))
			return arena_printf(arena, "name has a bidirectional-override character at character %d", chars);
		blank = blank && is_blank(c);
		if (chars > NAME_MAX_CHARS)
			return arena_printf(arena, "name is too long: 1 to %d characters", NAME_MAX_CHARS);
	}
	if (blank)
		return arena_printf(arena, "name is %s: 1 to %d characters, not only white space", chars ? "blank" : "empty",
				    NAME_MAX_CHARS);
	return NULL;
}

static const char *check_leads(const struct duplicate_command *command, struct arena *arena)
{
	if (command->lead_count == 0)
		return arena_printf(arena, "leadIds is empty: 1 to %d ids, or null for all of the audience", LEADS_MAX);
	if (command->lead_count > LEADS_MAX)
		return arena_printf(arena, "leadIds has %zu ids: at most %d", command->lead_count, LEADS_MAX);
	for (size_t i = 0; i < command->lead_count; i++)
		if (!id_is_well_formed(command->lead_ids[i]))
			return refuse_id(arena, arena_printf(arena, "leadIds[%zu]", i), command->lead_ids[i]);
	return NULL;
}

static int compare_ids(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_leads(struct duplicate_command *command)
{
	const char **ids = command->lead_ids;
	size_t kept = 1;

	qsort(ids, command->lead_count, sizeof *ids, compare_ids);
	for (size_t i = 1; i < command->lead_count; i++)
		if (strcmp(ids[i], ids[kept - 1]) != 0)
			ids[kept++] = ids[i];
	command->lead_count = kept;
}

static const char *find_invalid_field(const struct duplicate_command *command, struct arena *arena)
{
	const struct {
		const char *field, *id;
	} ids[] = {
		{ "traceId", command->head.trace_id },
		{ "accountGroupId", command->head.account_group_id },
		{ "campaignId", command->campaign_id },
		{ "audienceId", command->audience_id },
	};
	const char *details = NULL;

	for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
		if (!id_is_well_formed(ids[i].id))
			return refuse_id(arena, ids[i].field, ids[i].id);
	if (command->name)
		details = check_name(command->name, arena);
	if (details == NULL && command->lead_ids)
		details = check_leads(command, arena);
	return details;
}

int command_check(struct duplicate_command *command, struct arena *arena, const char **details)
{
	*details = find_invalid_field(command, arena);
	if (*details)
		return -1;
	if (command->lead_ids)
		sort_leads(command);
	command_digest(command, command->head.digest);
	return 0;
}

/* A digest that cannot be computed is a lack of memory or a broken libcrypto: as in arena.c, the process ends and the
 * batch is delivered again. */
static void must(bool done)
{
	if (!done)
		abort();
}

/* Gathers bytes: a call of libcrypto costs as much as summing some hundred of them. */
struct sum {
	EVP_MD_CTX *context;
	size_t used;
	uint8_t bytes[2048];
};

static void flush(struct sum *sum)
{
	must(EVP_DigestUpdate(sum->context, sum->bytes, sum->used));
	sum->used = 0;
}

static void put(struct sum *sum, const void *bytes, size_t size)
{
	if (size > sizeof sum->bytes - sum->used)
		flush(sum);
	if (size > sizeof sum->bytes) {
		must(EVP_DigestUpdate(sum->context, bytes, size));
		return;
	}
	memcpy(sum->bytes + sum->used, bytes, size);
	sum->used += size;
}

static void put_length(struct sum *sum, size_t len)
{
	const uint8_t bytes[] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len };

	put(sum, bytes, sizeof bytes);
}

static void put_present(struct sum *sum, bool present)
{
	put(sum, present ? "\1" : "", 1);
}

static void put_text(struct sum *sum, const char *text)
{
	size_t len = strlen(text);

	put_length(sum, len);
	put(sum, text, len);
}

static EVP_MD *sha256;

static void fetch_sha256(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	must(sha256 != NULL);
}

/* The bytes that are summed, in this order, lengths and counts as 4 bytes big-endian:
 *   campaignId    length, bytes
 *   audienceId    length, bytes
 *   name          00 if null, else 01, length, UTF-8 bytes
 *   leadIds       00 if null, else 01, count, and for each, sorted bytewise and distinct: length, bytes
 *   apiKeyDigest  00 if null, else 01, length (32), bytes
 * Drafts keep the sum: another layout would turn every redelivered command of before into a trace_reused. */
void command_digest(const struct duplicate_command *command, uint8_t digest[DIGEST_BYTES])
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct sum sum;

	pthread_once(&once, fetch_sha256); /* EVP_sha256() would be looked up each time */
	sum.context = EVP_MD_CTX_new();
	sum.used = 0;
	must(sum.context && EVP_DigestInit_ex(sum.context, sha256, NULL));
	put_text(&sum, command->campaign_id);
	put_text(&sum, command->audience_id);
	put_present(&sum, command->name != NULL);
	if (command->name)
		put_text(&sum, command->name);
	put_present(&sum, command->lead_ids != NULL);
	if (command->lead_ids) {
		put_length(&sum, command->lead_count);
		for (size_t i = 0; i < command->lead_count; i++)
			put_text(&sum, command->lead_ids[i]);
	}
	put_present(&sum, command->head.has_key);
	if (command->head.has_key) {
		put_length(&sum, DIGEST_BYTES);
		put(&sum, command->head.key_digest, DIGEST_BYTES);
	}
	flush(&sum);
	must(EVP_DigestFinal_ex(sum.context, digest, NULL));
	EVP_MD_CTX_free(sum.context);
}

void result_describe(struct command_result *result, const struct duplicate_command *command)
{
	if (id_is_well_formed(command->head.trace_id))
		result->trace_id = command->head.trace_id;
	if (id_is_well_formed(command->head.account_group_id))
		result->account_group_id = command->head.account_group_id;
	if (id_is_well_formed(command->campaign_id))
		result->source_campaign_id = command->campaign_id;
	if (id_is_well_formed(command->audience_id))
		result->audience_id = command->audience_id;
	result->has_issued_at = true;
	result->issued_at_ms = command->head.issued_at_ms;
}

void result_refuse(struct command_result *result, enum reason reason, const char *details)
{
	const struct reason_info *info = reason_info(reason);

	result->success = false;
	result->data = NULL;
	result->error_code = info->code;
	result->error_message = info->message;
	result->error_details = details ? details : "";
	result->http_status = info->http_status;
	result->reason = info->word;
	result->retryable = info->retryable;
	result->has_retry_after = false;
	result->draft_existed = false;
}

void result_accept(struct command_result *result, const struct campaign *campaign, bool draft_existed)
{
	result->success = true;
	result->data = campaign;
	result->error_code = result->error_message = result->error_details = NULL;
	result->http_status = reason_info(REASON_NONE)->http_status;
	result->reason = NULL;
	result->retryable = false;
	result->has_retry_after = false;
	result->draft_existed = draft_existed;
}

/* By the 32: the system call costs more than the bytes. */
static void take_random(uint8_t bytes[ID_RANDOM_BYTES])
{
	static _Thread_local uint8_t pool[32 * ID_RANDOM_BYTES];
	static _Thread_local size_t left;
	ssize_t got;

	if (left == 0) {
		do /* up to 256 bytes come whole or not at all */
			got = getrandom(pool, sizeof pool, 0);
		while (got < 0 && errno == EINTR);
		must(got == sizeof pool);
		left = sizeof pool;
	}
	left -= ID_RANDOM_BYTES;
	memcpy(bytes, pool + left, ID_RANDOM_BYTES);
}

void campaign_new_id(char id[CAMPAIGN_ID_CHARS + 1])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t bytes[CAMPAIGN_ID_CHARS / 2];
	uint32_t seconds = (uint32_t)time(NULL);

	take_random(bytes + 4);
	for (int i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(seconds >> (24 - 8 * i));
	for (size_t i = 0; i < sizeof bytes; i++) {
		id[2 * i] = hex[bytes[i] >> 4];
		id[2 * i + 1] = hex[bytes[i] & 15];
	}
	id[CAMPAIGN_ID_CHARS] = '\0';
}

uint32_t murmur2_positive(const void *key, size_t len)
{
	const uint32_t multiplier = 0x5bd1e995;
	const uint8_t *p = key;
	uint32_t hash = 0x9747b28c ^ (uint32_t)len;

	for (; len >= 4; p += 4, len -= 4) {
		uint32_t word = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;

		word *= multiplier;
		word ^= word >> 24;
		word *= multiplier;
		hash = hash * multiplier ^ word;
	}
	if (len == 3)
		hash ^= (uint32_t)p[2] << 16;
	if (len >= 2)
		hash ^= (uint32_t)p[1] << 8;
	if (len >= 1)
		hash = (hash ^ p[0]) * multiplier;
	hash ^= hash >> 13;
	hash *= multiplier;
	hash ^= hash >> 15;
	return hash & 0x7fffffff;
}
