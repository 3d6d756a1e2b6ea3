#include "producer/campaign.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "producer/error.h"
#include "producer/options.h"
#include "producer/pending.h"
#include "producer/publishing.h"
#include "producer/subscription.h"
#include "schemas/codec.h"
#include "schemas/command.h"
#include "schemas/duplicate.h"
#include "schemas/id.h"
#include "worker/base/arena.h"
#include "worker/base/clock.h"
#include "worker/base/must.h"

#define SLICE_MS 20 /* how long Kafka's one client is waited for before the other is looked at */

struct campaign_client {
	struct arena *kept; /* the options */
	struct options options;
	struct codec *codec;
	struct arena *arena; /* what the last event points to */
	struct pending *pending;
	struct publishing *publishing;     /* NULL until the first submit */
	struct subscription *subscription; /* NULL until subscribed */
	bool abandoned;
};

/* Codecs are made one after another (schemas/codec.h says why). */
static struct codec *make_codec(const char *folder, struct fault *fault)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct codec *codec;

	pthread_mutex_lock(&lock);
	codec = codec_new(&duplicate_contract, folder, NULL, fault);
	pthread_mutex_unlock(&lock);
	return codec;
}

struct campaign_client *campaign_client_new(const struct campaign_options *options, struct campaign_error *error)
{
	struct campaign_client *client = must(calloc(1, sizeof *client));
	struct fault fault;

	client->kept = arena_new(0);
	client->arena = arena_new((size_t)1024 * 1024);
	client->pending = pending_new();
	if (options_copy(&client->options, options, client->kept, &fault) == 0)
		client->codec = make_codec(client->options.schemas, &fault);
	if (client->codec)
		return client;
	campaign_client_free(client);
	error_set(error, &fault);
	return NULL;
}

void campaign_client_free(struct campaign_client *client)
{
	if (client == NULL)
		return;
	publishing_free(client->publishing);
	subscription_free(client->subscription);
	codec_free(client->codec);
	pending_free(client->pending);
	arena_free(client->arena);
	arena_free(client->kept);
	free(client);
}

size_t campaign_client_in_flight(const struct campaign_client *client)
{
	return pending_count(client->pending);
}

int campaign_client_subscribe(struct campaign_client *client, enum campaign_from from, int64_t time_ms, struct campaign_error *error)
{
	struct fault fault;

	if (client->subscription)
		fault_set(&fault, FAULT_FATAL, "the client has subscribed before");
	else if (client->options.results == NULL)
		fault_set(&fault, FAULT_FATAL, "results: missing");
	else if (from == CAMPAIGN_FROM_TIME && time_ms < 0)
		fault_set(&fault, FAULT_FATAL, "time_ms: before the year 1970");
	else if ((client->subscription = subscription_new(&client->options, from, time_ms, &fault)))
		return 0;
	return error_set(error, &fault);
}

bool campaign_client_caught_up(const struct campaign_client *client)
{
	return client->subscription == NULL || subscription_caught_up(client->subscription);
}

static const char *missing_field(const struct duplicate_command *command)
{
	const char *const values[] = { command->head.trace_id, command->head.account_group_id, command->campaign_id,
				       command->audience_id };
	static const char *const names[] = { "traceId", "accountGroupId", "campaignId", "audienceId" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (values[i] == NULL)
			return names[i];
	return NULL;
}

/* Nobody is sure to receive an answer that goes to an id that is none. Whatever else is wrong with a command is answered. */
static const char *malformed_id(const struct duplicate_command *command, struct arena *arena)
{
	const char *why = command_find_malformed_id(duplicate_contract.command, command, arena);

	for (size_t i = 0; why == NULL && command->lead_ids && i < command->lead_count; i++)
		if (!id_is_well_formed(command->lead_ids[i]))
			why = id_refuse(arena_printf(arena, "leadIds[%zu]", i), command->lead_ids[i], arena);
	return why;
}

static int open_publishing(struct campaign_client *client, struct fault *fault)
{
	if (client->publishing)
		return 0;
	if (client->options.commands == NULL)
		return fault_set(fault, FAULT_FATAL, "commands: missing");
	client->publishing = publishing_new(&client->options, fault);
	return client->publishing ? 0 : -1;
}

static int submit(struct campaign_client *client, const struct duplicate_command *command, const struct campaign_trace *trace,
		  int timeout_ms, struct fault *fault)
{
	const char *missing = missing_field(command), *malformed;
	size_t unacknowledged, size;
	const void *value;

	arena_reset(client->arena);
	if (missing)
		return fault_set(fault, FAULT_REJECT, "%s: missing", missing);
	malformed = malformed_id(command, client->arena);
	if (malformed)
		return fault_set(fault, FAULT_REJECT, "%s", malformed);
	if (open_publishing(client, fault) < 0)
		return -1;
	if (pending_count(client->pending) >= CAMPAIGN_IN_FLIGHT_MAX)
		return fault_set(fault, FAULT_RETRY, "%d commands are in flight", CAMPAIGN_IN_FLIGHT_MAX);
	if (codec_encode_command(client->codec, &command->head, client->arena, &value, &size, fault) < 0)
		return -1;
	unacknowledged = publishing_unacknowledged(client->publishing);
	if (unacknowledged > 0 && unacknowledged + size > CAMPAIGN_IN_FLIGHT_BYTES)
		return fault_set(fault, FAULT_RETRY, "%zu bytes are in flight", unacknowledged);
	if (publishing_send(client->publishing, &command->head, trace, value, size, fault) < 0)
		return -1;
	pending_add(client->pending, command->head.trace_id, command->head.account_group_id, clock_monotonic_ms() + timeout_ms);
	return 0;
}

int campaign_client_submit(struct campaign_client *client, const struct duplicate_command *command,
			   const struct campaign_trace *trace, int timeout_ms, struct campaign_error *error)
{
	struct fault fault;

	return submit(client, command, trace, timeout_ms, &fault) == 0 ? 0 : error_set(error, &fault);
}

/* A command that waits for its result goes on waiting once it is published. Nothing is told of one that was not published
 * and that was told missing before. */
static bool next_report(struct campaign_client *client, int wait_ms, struct campaign_event *event)
{
	bool told;

	while (publishing_next(client->publishing, wait_ms, client->arena, event)) {
		told = event->kind == CAMPAIGN_PUBLISHED;
		if (!told || client->subscription == NULL)
			told |= pending_take(client->pending, event->trace_id, event->account_group_id);
		if (told)
			return true;
		memset(event, 0, sizeof *event);
		wait_ms = 0;
	}
	return false;
}

void campaign_client_abandon(struct campaign_client *client)
{
	client->abandoned = true;
}

static bool next_missing(struct campaign_client *client, struct campaign_event *event)
{
	struct pending_wait *wait = pending_expire(client->pending, client->abandoned ? INT64_MAX : clock_monotonic_ms());

	if (wait == NULL)
		return false;
	event->kind = CAMPAIGN_MISSING;
	event->trace_id = arena_printf(client->arena, "%s", wait->trace_id);
	event->account_group_id = arena_printf(client->arena, "%s", wait->account_group_id);
	free(wait);
	return true;
}

static int remains(int64_t deadline_ms, int at_most_ms)
{
	int64_t left_ms = deadline_ms - clock_monotonic_ms();

	if (left_ms <= 0)
		return 0;
	return left_ms < at_most_ms ? (int)left_ms : at_most_ms;
}

/* Whether the record just taken answers one of our commands; then it is told. Others are passed over undecoded. */
static bool report_answer(struct campaign_client *client, struct campaign_event *event)
{
	size_t size;
	const void *key = subscription_key(client->subscription, &size);

	if (key == NULL || !pending_has(client->pending, key, size))
		return false;
	subscription_decode(client->subscription, client->codec, client->arena, event);
	return event->kind == CAMPAIGN_UNREADABLE ||
	       pending_take(client->pending, event->result->trace_id, event->result->account_group_id);
}

static int await(struct campaign_client *client, int wait_ms, struct campaign_event *event, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + wait_ms;
	int left_ms, got;

	arena_reset(client->arena);
	do {
		memset(event, 0, sizeof *event);
		left_ms = remains(deadline_ms, SLICE_MS);
		if (client->publishing && next_report(client, client->subscription ? 0 : left_ms, event))
			return 0;
		if (next_missing(client, event))
			return 0;
		if (client->subscription == NULL) {
			if (client->publishing == NULL)
				clock_sleep_ms(left_ms);
			continue;
		}
		got = subscription_next(client->subscription, left_ms, fault);
		if (got < 0)
			return -1;
		if (got > 0 && report_answer(client, event))
			return 0;
		if (got > 0)
			left_ms = remains(deadline_ms + SLICE_MS, 1); /* more may be ready, also when wait_ms is 0 */
	} while (left_ms > 0);
	memset(event, 0, sizeof *event);
	return 0;
}

int campaign_client_await(struct campaign_client *client, int wait_ms, struct campaign_event *event, struct campaign_error *error)
{
	struct fault fault;

	return await(client, wait_ms, event, &fault) == 0 ? 0 : error_set(error, &fault);
}

int campaign_client_watch(struct campaign_client *client, int wait_ms, struct campaign_event *event, struct campaign_error *error)
{
	struct fault fault;
	int got;

	memset(event, 0, sizeof *event);
	arena_reset(client->arena);
	if (client->subscription)
		got = subscription_next(client->subscription, wait_ms, &fault);
	else
		got = fault_set(&fault, FAULT_FATAL, "the client has not subscribed");
	if (got < 0)
		return error_set(error, &fault);
	if (got > 0)
		subscription_decode(client->subscription, client->codec, client->arena, event);
	return 0;
}
