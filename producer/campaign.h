/* libcampaign: commands that duplicate a campaign, from the caller's side.
 *
 * The gateway's pattern: campaign_client_subscribe first (a result cannot be missed then), campaign_client_submit for each
 * request, and campaign_client_await in a loop for what became of them: published, not published, answered, or not answered
 * in time. A command that is not known to be published, or was not answered in time, is submitted again under its traceId:
 * one draft comes of it. campaign_client_watch is for subscribers: every result, in each partition's order.
 *
 * Functions that can fail return -1 (or NULL) and fill the error. Arguments are borrowed until the function returns. A client,
 * and a pool, is used by one thread at a time; several clients share nothing. Lack of memory ends the process (abort). */
#ifndef CAMPAIGN_H
#define CAMPAIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CAMPAIGN_API __attribute__((visibility("default")))
#define CAMPAIGN_MUST_CHECK __attribute__((warn_unused_result))

/* What the caller may do next. */
enum campaign_error_kind {
	CAMPAIGN_ERROR_NONE,
	CAMPAIGN_ERROR_BUSY,   /* too much is in flight: await something, then submit the command again */
	CAMPAIGN_ERROR_REJECT, /* this command or text cannot be used as it is; others can */
	CAMPAIGN_ERROR_AWAY,   /* the brokers cannot be reached, or have no leader: the same call may succeed later */
	CAMPAIGN_ERROR_FATAL,  /* a person must change something (an option, a topic, a right); the message names it */
};

struct campaign_error {
	enum campaign_error_kind kind;
	char message[512]; /* one line; never a command, a digest or a password */
};

/* --- the client ----------------------------------------------------------------------------------------------------- */

/* A librdkafka property, such as security.protocol. Those that delivery rests on (acks, partitioner, isolation.level and their
 * like) are refused, with the reason. */
struct campaign_property {
	const char *name, *value;
	const char *origin; /* where it was given, for messages; NULL: the options */
};

enum campaign_log_level { CAMPAIGN_LOG_DEBUG, CAMPAIGN_LOG_INFO, CAMPAIGN_LOG_WARN, CAMPAIGN_LOG_ERROR };

struct campaign_log_line {
	enum campaign_log_level level;
	const char *event;   /* a stable word: results_trouble, partitions_added, or kafka_ and librdkafka's facility */
	const char *message; /* a sentence for a person */
	const char *client;  /* librdkafka's name of the client; NULL: the line is not librdkafka's */
	const char *topic;   /* NULL: of no topic */
	int32_t partition;   /* of that topic; partitions_added: the first of them */
};

struct campaign_options {
	const char *brokers;           /* HOST:PORT,... */
	const char *commands, *results; /* topics; NULL: not submitted to, not read */
	const char *schemas;           /* folder of further Avro schemas (*.avsc) that results may be written with, or NULL */
	const char *client_id;         /* that brokers know the client by; NULL: campaign */
	const struct campaign_property *properties;
	size_t property_count;
	/* Passing trouble, which the client gets over by itself; NULL: it is not told. Called by librdkafka's threads as well,
	 * also by several at once. The line is borrowed. */
	void (*log)(void *log_arg, const struct campaign_log_line *line);
	void *log_arg; /* lives until campaign_client_free returns */
};

struct campaign_client;

/* Copies the options. Connects to nothing yet. */
CAMPAIGN_API struct campaign_client *campaign_client_new(const struct campaign_options *options,
							 struct campaign_error *error) CAMPAIGN_MUST_CHECK;
CAMPAIGN_API void campaign_client_free(struct campaign_client *client); /* accepts NULL; drops what is not acknowledged */

enum campaign_from { CAMPAIGN_FROM_NOW, CAMPAIGN_FROM_BEGINNING, CAMPAIGN_FROM_TIME };

/* Reads all partitions of the results topic, read_committed, from there on (time_ms: record timestamps). Once; before the
 * first submit if the results are awaited. Takes no part in any consumer group and commits nothing; partitions that are
 * added to the topic later are not seen. AWAY, or FATAL: there is no such topic. After an error it may be called again. */
CAMPAIGN_API int campaign_client_subscribe(struct campaign_client *client, enum campaign_from from, int64_t time_ms,
					   struct campaign_error *error) CAMPAIGN_MUST_CHECK;

#define CAMPAIGN_IN_FLIGHT_MAX 10000                           /* commands submitted and not settled */
#define CAMPAIGN_IN_FLIGHT_BYTES ((size_t)32 * 1024 * 1024)    /* of commands not acknowledged by the broker */

/* W3C trace context that is carried from command to result. */
struct campaign_trace {
	const char *traceparent, *tracestate; /* NULL: none */
};

/* Publishes the command, keyed by its account group. traceId, accountGroupId, campaignId and audienceId must be set, and
 * issuedAt should be. An id that is not 1 to 64 of A-Z a-z 0-9 _ - or begins with sk_ is a REJECT (leads as well); other mistakes are
 * answered by a result. trace may be NULL. The command is settled by campaign_client_await: by its result if there is a
 * subscription, else by the broker's acknowledgement; at the latest timeout_ms from now, which should be the same for all
 * commands of a client. BUSY; REJECT; AWAY or FATAL as above (the commands topic is looked for at the first submit). */
CAMPAIGN_API int campaign_client_submit(struct campaign_client *client, const struct duplicate_command *command,
					const struct campaign_trace *trace, int timeout_ms,
					struct campaign_error *error) CAMPAIGN_MUST_CHECK;

/* Commands submitted and not settled. */
CAMPAIGN_API size_t campaign_client_in_flight(const struct campaign_client *client);

enum campaign_event_kind {
	CAMPAIGN_NOTHING,
	CAMPAIGN_PUBLISHED,     /* topic, partition, offset of the command; settles it if there is no subscription */
	CAMPAIGN_NOT_PUBLISHED, /* message says why, and whether it may stand in the topic all the same; settles it */
	CAMPAIGN_RESULT,        /* result; in campaign_client_await it settles its command */
	CAMPAIGN_MISSING,       /* neither within timeout_ms; settles it */
	CAMPAIGN_UNREADABLE,    /* a record of the results topic that does not decode: message says why */
};

struct campaign_event {
	enum campaign_event_kind kind;
	const char *trace_id, *account_group_id; /* of the command: PUBLISHED, NOT_PUBLISHED, MISSING */
	const char *topic;                       /* PUBLISHED, RESULT, UNREADABLE */
	int32_t partition;
	int64_t offset;
	bool is_new; /* RESULT, UNREADABLE: published after campaign_client_subscribe looked for the end */
	const struct command_result *result;
	const char *message;
};

/* The next event, at the latest after wait_ms (then CAMPAIGN_NOTHING). What it points to lives until the next call of submit,
 * await or watch. FATAL: results cannot be read any more (the topic was deleted, or deleted and created again). */
CAMPAIGN_API int campaign_client_await(struct campaign_client *client, int wait_ms, struct campaign_event *event,
				       struct campaign_error *error) CAMPAIGN_MUST_CHECK;
CAMPAIGN_API int campaign_client_watch(struct campaign_client *client, int wait_ms, struct campaign_event *event,
				       struct campaign_error *error) CAMPAIGN_MUST_CHECK;

/* Ends all waiting: campaign_client_await tells what is ready, then every command in flight as missing. */
CAMPAIGN_API void campaign_client_abandon(struct campaign_client *client);

/* Whether campaign_client_watch has passed every record that stood in the topic when the client subscribed. */
CAMPAIGN_API bool campaign_client_caught_up(const struct campaign_client *client);

/* --- commands and results as texts ---------------------------------------------------------------------------------- */

#define CAMPAIGN_TRACE_ID_SIZE 25 /* 24 lowercase hex digits and a NUL */

/* A traceId that no other command has: one for each request, never the caller's own. */
CAMPAIGN_API void campaign_trace_id(char trace_id[CAMPAIGN_TRACE_ID_SIZE]);

/* SHA-256 of an API key, for the command's key_digest. REJECT: the key is empty, or longer than 4096 bytes. */
CAMPAIGN_API int campaign_key_digest(const char *key, size_t size, uint8_t digest[CAMPAIGN_DIGEST_BYTES],
				     struct campaign_error *error) CAMPAIGN_MUST_CHECK;

/* Memory that the functions below take texts from, given back all at once by a reset. */
struct campaign_pool;

CAMPAIGN_API struct campaign_pool *campaign_pool_new(void);
CAMPAIGN_API void campaign_pool_reset(struct campaign_pool *pool);
CAMPAIGN_API void campaign_pool_free(struct campaign_pool *pool); /* accepts NULL */

/* A command from one JSON object: the Avro field names; times as milliseconds or as YYYY-MM-DDTHH:MM:SS.mmmZ; absent and null
 * are the same; apiKeyDigest as 64 hex digits. Absent fields stay NULL or 0 for the caller to fill. REJECT says what is wrong,
 * and where. */
CAMPAIGN_API int campaign_command_from_json(const char *text, size_t size, struct campaign_pool *pool,
					    struct duplicate_command *command,
					    struct campaign_error *error) CAMPAIGN_MUST_CHECK;

/* The whole result as one line of JSON. */
CAMPAIGN_API const char *campaign_result_to_json(const struct command_result *result, struct campaign_pool *pool);

/* Where a command stands: {"traceId":..,"topic":..,"partition":..,"offset":..} of a CAMPAIGN_PUBLISHED. */
CAMPAIGN_API const char *campaign_position_to_json(const struct campaign_event *event, struct campaign_pool *pool);

/* The HTTP response that the API reference gives for a result, byte for byte. */
struct campaign_response {
	int status;
	const char *reason_phrase;
	const char *headers; /* "Name: value\r\n"...: Content-Type, Content-Length, and Retry-After where there is one */
	const char *body;
};

CAMPAIGN_API void campaign_result_to_http(const struct command_result *result, struct campaign_pool *pool,
					  struct campaign_response *response);
/* The response as HTTP/1.1 has it on the wire: status line, headers, an empty line, body. */
CAMPAIGN_API const char *campaign_response_text(const struct campaign_response *response, struct campaign_pool *pool);

#ifdef __cplusplus
}
#endif

#endif
