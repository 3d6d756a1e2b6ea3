/* Campaign commands from the caller's side: submit a command, await its result.
 *
 * The gateway's pattern: client_subscribe first (a result cannot be missed then), client_submit for each request, and
 * client_await in a loop for what became of them: published, not published, answered, or not answered in time. A command
 * that is not known to be published, or was not answered in time, is submitted again under its traceId: one draft comes
 * of it. client_watch is for subscribers: every result, in each partition's order.
 * Not thread-safe: one client per thread. */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/types.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"

#define CLIENT_IN_FLIGHT_MAX 10000                     /* commands submitted and not settled */
#define CLIENT_IN_FLIGHT_BYTES ((size_t)32 * 1024 * 1024) /* of commands not acknowledged by the broker */

struct client;

/* config is borrowed until client_free. Connects to nothing yet. */
struct client *client_new(const struct config *config, struct fault *fault) MUST_CHECK;
void client_free(struct client *client); /* accepts NULL; what is not acknowledged is dropped */

enum client_from { CLIENT_FROM_NOW, CLIENT_FROM_BEGINNING, CLIENT_FROM_TIME };

/* Reads all partitions of the results topic, read_committed, from there on (time_ms: record timestamps). Once; before the
 * first submit if the results are awaited. Takes no part in any consumer group and commits nothing; partitions that are
 * added to the topic later are not seen. FAULT_WAIT: the brokers cannot be reached; FAULT_FATAL: there is no such topic. */
int client_subscribe(struct client *client, enum client_from from, int64_t time_ms, struct fault *fault) MUST_CHECK;

/* W3C trace context carried from command to result; NULL: none. */
struct client_trace {
	const char *traceparent, *tracestate;
};

/* Publishes the command, keyed by its account group (traceId, accountGroupId, campaignId and audienceId must be set).
 * Everything is copied. It is settled by client_await: by its result if there is a subscription, else by the broker's
 * acknowledgement; at the latest timeout_ms from now, which should be the same for all of a client's commands.
 * FAULT_RETRY: too much in flight, await first; FAULT_REJECT: this command cannot be published; FAULT_WAIT, FAULT_FATAL as
 * for client_subscribe (of the commands topic, looked for at the first submit). */
int client_submit(struct client *client, const struct duplicate_command *command, const struct client_trace *trace, int timeout_ms,
		  struct fault *fault) MUST_CHECK;

size_t client_in_flight(const struct client *client);

enum client_event_kind {
	CLIENT_NOTHING,
	CLIENT_PUBLISHED,     /* topic, partition, offset of the command; settles it if there is no subscription */
	CLIENT_NOT_PUBLISHED, /* message says why, and whether it may stand in the topic all the same; settles it */
	CLIENT_RESULT,        /* result; in client_await it settles its command */
	CLIENT_MISSING,       /* neither within timeout_ms; settles it */
	CLIENT_UNREADABLE,    /* a record of the results topic that does not decode: message says why */
};

struct client_event {
	enum client_event_kind kind;
	const char *trace_id, *account_group_id; /* of the command: PUBLISHED, NOT_PUBLISHED, MISSING */
	const char *topic;                       /* PUBLISHED, RESULT, UNREADABLE */
	int32_t partition;
	int64_t offset;
	bool is_new; /* RESULT, UNREADABLE: published after client_subscribe looked for the end */
	const struct command_result *result;
	const char *message;
};

/* The next event, at the latest after wait_ms (then CLIENT_NOTHING). What it points to lives until the next call of
 * client_submit, client_await or client_watch. FAULT_FATAL: results cannot be read any more. Passing trouble is logged. */
int client_await(struct client *client, int wait_ms, struct client_event *event, struct fault *fault) MUST_CHECK;
int client_watch(struct client *client, int wait_ms, struct client_event *event, struct fault *fault) MUST_CHECK;

/* Ends all waiting: client_await tells what is ready, then every command in flight as missing. */
void client_abandon(struct client *client);

/* Whether client_watch has passed every record that stood in the topic when client_subscribe was called. */
bool client_caught_up(const struct client *client);

#endif
