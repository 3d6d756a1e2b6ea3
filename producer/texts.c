#include "producer/campaign.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "producer/error.h"
#include "schemas/duplicate.h"
#include "schemas/id.h"
#include "schemas/json.h"
#include "worker/base/arena.h"
#include "worker/base/must.h"

#define KEY_MAX 4096
#define POOL_KEPT ((size_t)4 * 1024 * 1024)

struct campaign_pool {
	struct arena *arena;
};

struct campaign_pool *campaign_pool_new(void)
{
	struct campaign_pool *pool = must(calloc(1, sizeof *pool));

	pool->arena = arena_new(POOL_KEPT);
	return pool;
}

void campaign_pool_reset(struct campaign_pool *pool)
{
	arena_reset(pool->arena);
}

void campaign_pool_free(struct campaign_pool *pool)
{
	if (pool)
		arena_free(pool->arena);
	free(pool);
}

void campaign_trace_id(char trace_id[CAMPAIGN_TRACE_ID_SIZE])
{
	_Static_assert(CAMPAIGN_TRACE_ID_SIZE == NEW_ID_CHARS + 1, "a new id is as fit for a trace");
	id_new(trace_id);
}

static int digest_of(const char *key, size_t size, uint8_t digest[CAMPAIGN_DIGEST_BYTES], struct fault *fault)
{
	if (size == 0)
		return fault_set(fault, FAULT_REJECT, "the API key is empty");
	if (size > KEY_MAX)
		return fault_set(fault, FAULT_REJECT, "the API key is longer than %d bytes", KEY_MAX);
	if (EVP_Digest(key, size, digest, NULL, EVP_sha256(), NULL) != 1)
		return fault_set(fault, FAULT_FATAL, "SHA-256 is not available");
	return 0;
}

int campaign_key_digest(const char *key, size_t size, uint8_t digest[CAMPAIGN_DIGEST_BYTES], struct campaign_error *error)
{
	struct fault fault;

	return digest_of(key, size, digest, &fault) == 0 ? 0 : error_set(error, &fault);
}

int campaign_command_from_json(const char *text, size_t size, struct campaign_pool *pool, struct duplicate_command *command,
			       struct campaign_error *error)
{
	struct fault fault;

	return command_from_json(&duplicate_contract, text, size, pool->arena, &command->head, &fault) == 0 ? 0 : error_set(error, &fault);
}

const char *campaign_result_to_json(const struct command_result *result, struct campaign_pool *pool)
{
	return result_to_json(&duplicate_contract, result, pool->arena);
}

const char *campaign_position_to_json(const struct campaign_event *event, struct campaign_pool *pool)
{
	return position_to_json(event->trace_id, event->topic, event->partition, event->offset, pool->arena);
}

void campaign_result_to_http(const struct command_result *result, struct campaign_pool *pool, struct campaign_response *response)
{
	struct http_response http;

	result_to_http(&duplicate_contract, result, pool->arena, &http);
	*response = (struct campaign_response){ http.status, http.reason_phrase, http.headers, http.body };
}

const char *campaign_response_text(const struct campaign_response *response, struct campaign_pool *pool)
{
	struct http_response http = { response->status, response->reason_phrase, response->headers, response->body };

	return http_response_text(&http, pool->arena);
}
