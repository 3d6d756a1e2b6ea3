/* campaign-producer send: publishes commands and, if asked, waits for their results. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "producer/campaign.h"
#include "producer/input.h"
#include "producer/tool.h"
#include "worker/base/clock.h"
#include "worker/base/must.h"

#define TIMEOUT_MS 30000
#define IDLE_MS 50 /* how often a silent pipe is looked at */
#define EXPIRY_MS_MAX ((int64_t)50 * 365 * 24 * 3600 * 1000) /* no mistake of units, and no year that a command cannot have */

const char send_help[] =
	"send [options] FILE...        commands as JSON lines; - is standard input\n"
	"send [options] --account-group ID --campaign ID --audience ID ...   one command\n"
	"  --trace-id ID               (default: a new one, 24 hex digits)\n"
	"  --account-group ID\n"
	"  --campaign ID               the source campaign\n"
	"  --audience ID\n"
	"  --name NAME                 (default: the source's)\n"
	"  --lead ID                   repeatable (default: all of the audience)\n"
	"  --expires-in-ms N           deadline for the start, counted from now\n"
	"  --api-key-file FILE         holds the caller's API key; without it, the environment's CAMPAIGN_API_KEY;\n"
	"                              only its SHA-256 is published; a line's own apiKeyDigest goes first\n"
	"  --traceparent TEXT          W3C trace context, carried to the results\n"
	"  --tracestate TEXT\n"
	"  --wait                      print each command's result as a JSON line when it arrives; without it, one line\n"
	"                              with traceId, topic, partition and offset for each command acknowledged\n"
	"  --http                      with --wait: print the HTTP status, headers and body instead, and a line break\n"
	"  --timeout-ms N              for each command's result, or its acknowledgement without --wait (default: 30000)\n"
	"A line: {\"traceId\":..,\"accountGroupId\":..,\"campaignId\":..,\"name\":..,\"audienceId\":..,\"leadIds\":[..],\n"
	"\"apiKeyDigest\":\"64 hex digits\",\"issuedAt\":..,\"expiresAt\":..}; times as milliseconds or YYYY-MM-DDTHH:MM:SS.mmmZ.\n"
	"A line or file that cannot be used is named on standard error, the others are sent, and the exit code is 1.\n";

struct send {
	bool wait, http, single;
	int timeout_ms;
	const char *api_key_file;
	struct campaign_trace trace;
	struct duplicate_command command; /* of the flags, if single */
	const char **lead_ids;            /* its, when there are any */
	int64_t expires_in_ms;

	struct campaign_client *client;
	struct input *input; /* NULL if single */
	struct campaign_pool *pool; /* the command at hand, and the line printed */
	bool has_key, broken, abandoned;
	uint8_t key_digest[CAMPAIGN_DIGEST_BYTES];
	char new_trace_id[CAMPAIGN_TRACE_ID_SIZE];
	long submitted, published, succeeded, refused, missing, unpublished, unusable;
};

enum { TRACE_ID = 256, ACCOUNT_GROUP, CAMPAIGN, AUDIENCE, NAME, LEAD, EXPIRES_IN_MS, API_KEY_FILE, API_KEY, TRACEPARENT, TRACESTATE,
	      WAIT, HTTP, TIMEOUT, HELP };

const struct option send_options[] = {
	{ "trace-id", required_argument, NULL, TRACE_ID },
	{ "account-group", required_argument, NULL, ACCOUNT_GROUP },
	{ "campaign", required_argument, NULL, CAMPAIGN },
	{ "audience", required_argument, NULL, AUDIENCE },
	{ "name", required_argument, NULL, NAME },
	{ "lead", required_argument, NULL, LEAD },
	{ "expires-in-ms", required_argument, NULL, EXPIRES_IN_MS },
	{ "api-key-file", required_argument, NULL, API_KEY_FILE },
	{ "api-key", required_argument, NULL, API_KEY }, /* or it would count as an abbreviation, and its value be quoted */
	{ "traceparent", required_argument, NULL, TRACEPARENT },
	{ "tracestate", required_argument, NULL, TRACESTATE },
	{ "wait", no_argument, NULL, WAIT },
	{ "http", no_argument, NULL, HTTP },
	{ "timeout-ms", required_argument, NULL, TIMEOUT },
	{ "help", no_argument, NULL, HELP },
	{ 0 }
};

/* An option that describes the one command. */
static int take_field(struct send *send, int option, char *value)
{
	struct duplicate_command *command = &send->command;

	send->single = true;
	switch (option) {
	case TRACE_ID:
		command->head.trace_id = value;
		return 0;
	case ACCOUNT_GROUP:
		command->head.account_group_id = value;
		return 0;
	case CAMPAIGN:
		command->campaign_id = value;
		return 0;
	case AUDIENCE:
		command->audience_id = value;
		return 0;
	case NAME:
		command->name = value;
		return 0;
	case LEAD:
		command->lead_ids[command->lead_count++] = value;
		return 0;
	default: /* EXPIRES_IN_MS; in the past, too: that is how an expired command is made */
		command->head.has_expiry = true;
		if (tool_parse_integer(value, -EXPIRY_MS_MAX, EXPIRY_MS_MAX, &send->expires_in_ms))
			return 0;
		tool_complain("--expires-in-ms %s: a number of milliseconds is wanted", value);
		return -1;
	}
}

static int take_option(struct send *send, int option, char *value)
{
	int64_t number;

	switch (option) {
	case API_KEY_FILE:
		send->api_key_file = value;
		return 0;
	case API_KEY:
		tool_complain("send: an API key does not belong on a command line: --api-key-file FILE, or CAMPAIGN_API_KEY");
		return -1;
	case TRACEPARENT:
		send->trace.traceparent = value;
		return 0;
	case TRACESTATE:
		send->trace.tracestate = value;
		return 0;
	case WAIT:
		send->wait = true;
		return 0;
	case HTTP:
		send->http = true;
		return 0;
	case TIMEOUT:
		if (!tool_parse_integer(value, 1, 24 * 3600 * 1000, &number)) {
			tool_complain("--timeout-ms %s: 1 to 86400000 is wanted", value);
			return -1;
		}
		send->timeout_ms = (int)number;
		return 0;
	case '?':
		return -1;
	default:
		return take_field(send, option, value);
	}
}

static int refuse_usage(const char *why)
{
	tool_complain("send: %s (send --help)", why);
	return -1;
}

/* 0, 1 when help was asked for, -1 after a complaint. */
static int parse_options(struct send *send, int argc, char **argv)
{
	struct duplicate_command *command = &send->command;
	int option;

	command->lead_ids = send->lead_ids = must(calloc((size_t)argc, sizeof *command->lead_ids));
	while ((option = getopt_long(argc, argv, "", send_options, NULL)) != -1) {
		if (option == HELP)
			return 1;
		if (take_option(send, option, optarg) < 0)
			return -1;
	}
	if (send->http && !send->wait)
		return refuse_usage("--http needs --wait");
	if (send->single && optind < argc)
		return refuse_usage("either files or the options of one command");
	if (!send->single && optind == argc)
		return refuse_usage("no file (- is standard input) and no options of one command");
	if (send->single && !(command->head.account_group_id && command->campaign_id && command->audience_id))
		return refuse_usage("--account-group, --campaign and --audience are wanted");
	if (command->lead_count == 0)
		command->lead_ids = NULL;
	if (!send->single)
		send->input = input_new(argv + optind, argc - optind);
	return 0;
}

static void print(struct send *send, const char *line)
{
	send->broken = send->broken || !tool_print(line);
}

static void print_result(struct send *send, const struct command_result *result)
{
	if (result->success)
		send->succeeded++;
	else
		send->refused++;
	print(send, tool_format(result, send->http, send->pool));
}

static void print_missing(struct send *send, const struct campaign_event *event)
{
	const char *what = send->wait ? "no result" : "not acknowledged";

	send->missing++;
	if (send->abandoned)
		tool_complain("traceId %s, accountGroupId %s: %s when the waiting was ended", event->trace_id,
			      event->account_group_id, what);
	else
		tool_complain("traceId %s, accountGroupId %s: %s within %d ms", event->trace_id, event->account_group_id, what,
			      send->timeout_ms);
}

static void print_event(struct send *send, const struct campaign_event *event)
{
	switch (event->kind) {
	case CAMPAIGN_NOTHING:
		break;
	case CAMPAIGN_PUBLISHED:
		send->published++;
		if (!send->wait)
			print(send, campaign_position_to_json(event, send->pool));
		break;
	case CAMPAIGN_NOT_PUBLISHED:
		send->unpublished++;
		tool_complain("traceId %s, accountGroupId %s: not acknowledged: %s", event->trace_id, event->account_group_id,
			      event->message);
		break;
	case CAMPAIGN_RESULT:
		print_result(send, event->result);
		break;
	case CAMPAIGN_MISSING:
		print_missing(send, event);
		break;
	case CAMPAIGN_UNREADABLE:
		tool_complain("%s, partition %d, offset %lld: %s", event->topic, (int)event->partition, (long long)event->offset,
			      event->message);
		break;
	}
	tool_progress("%ld sent, %ld acknowledged, %ld succeeded, %ld refused, %zu awaited", send->submitted, send->published,
		      send->succeeded, send->refused, campaign_client_in_flight(send->client));
}

/* Tells the next thing that became of a command: 1, or 0 if there was none within wait_ms, or -1 after a complaint. */
static int await_event(struct send *send, int wait_ms)
{
	struct campaign_event event;
	struct campaign_error error;

	if (campaign_client_await(send->client, wait_ms, &event, &error) < 0) {
		tool_complain("%s", error.message);
		return -1;
	}
	print_event(send, &event);
	return event.kind != CAMPAIGN_NOTHING;
}

static bool is_over(const struct send *send)
{
	return send->broken || tool_stopping();
}

/* What the input left open. */
static void complete(struct send *send, struct command_head *head)
{
	if (head->trace_id == NULL) {
		campaign_trace_id(send->new_trace_id);
		head->trace_id = send->new_trace_id;
	}
	if (head->issued_at_ms == 0)
		head->issued_at_ms = clock_wall_ms();
	if (!head->has_key && send->has_key) {
		head->has_key = true;
		memcpy(head->key_digest, send->key_digest, CAMPAIGN_DIGEST_BYTES);
	}
}

/* Publishes one: 0 (also when it was found unusable and named), -1 when nothing can be published any more. */
static int submit(struct send *send, struct duplicate_command *command)
{
	const char *place = send->single ? "the command" : input_place(send->input);
	struct campaign_error error;

	complete(send, &command->head);
	while (campaign_client_submit(send->client, command, &send->trace, send->timeout_ms, &error) < 0) {
		if (error.kind == CAMPAIGN_ERROR_BUSY && !is_over(send) && await_event(send, IDLE_MS) >= 0)
			continue;
		if (error.kind == CAMPAIGN_ERROR_BUSY) /* over, or complained of */
			return -1;
		if (error.kind != CAMPAIGN_ERROR_REJECT) {
			tool_complain("%s", error.message);
			return -1;
		}
		tool_complain("%s: %s", place, error.message);
		send->unusable++;
		return 0;
	}
	send->submitted++;
	return 0;
}

static int submit_all(struct send *send)
{
	struct duplicate_command command;
	struct fault fault;
	int told;

	while (!is_over(send)) {
		campaign_pool_reset(send->pool);
		switch (input_next(send->input, send->pool, &command, &fault)) {
		case INPUT_COMMAND:
			if (submit(send, &command) < 0)
				return -1;
			break;
		case INPUT_BAD:
			send->unusable++;
			tool_complain("%s", fault.msg);
			break;
		case INPUT_IDLE:
			if (await_event(send, IDLE_MS) < 0)
				return -1;
			break;
		case INPUT_END:
			return 0;
		}
		while ((told = await_event(send, 0)) > 0)
			campaign_pool_reset(send->pool);
		if (told < 0)
			return -1;
	}
	return -1;
}

/* Waits until every command is settled; all that is not, when the waiting ends early, is named. */
static void await_all(struct send *send, int submitted)
{
	while (submitted == 0 && campaign_client_in_flight(send->client) > 0 && !is_over(send)) {
		campaign_pool_reset(send->pool);
		if (await_event(send, 10 * IDLE_MS) < 0)
			submitted = -1;
	}
	send->abandoned = true;
	campaign_client_abandon(send->client);
	while (await_event(send, 0) > 0)
		campaign_pool_reset(send->pool);
}

/* Brokers may come back, and a new topic get its leaders, within the time that a result is waited for. */
static int subscribe(struct send *send, struct campaign_error *error)
{
	int64_t deadline_ms = clock_monotonic_ms() + send->timeout_ms;

	while (campaign_client_subscribe(send->client, CAMPAIGN_FROM_NOW, 0, error) < 0)
		if (error->kind != CAMPAIGN_ERROR_AWAY || tool_stopping() || clock_monotonic_ms() >= deadline_ms)
			return -1;
	return 0;
}

static int open_client(struct send *send, const struct config *config, struct campaign_error *error)
{
	send->client = tool_client_new(config, error);
	if (send->client == NULL)
		return -1;
	return send->wait ? subscribe(send, error) : 0;
}

static int run(struct send *send)
{
	bool interrupted;
	int rc;

	if (send->single) {
		if (send->command.head.has_expiry)
			send->command.head.expires_at_ms = clock_wall_ms() + send->expires_in_ms;
		rc = submit(send, &send->command);
	} else {
		rc = submit_all(send);
	}
	await_all(send, rc);
	interrupted = rc != 0;
	tool_wipe_progress();
	if (!interrupted && send->refused + send->missing + send->unpublished + send->unusable == 0)
		return TOOL_OK;
	if (send->submitted + send->unusable == 0) /* out of reach, and said so */
		return TOOL_FAILED;
	tool_complain("%ld sent: %ld succeeded, %ld refused, %ld without %s, %ld not acknowledged; %ld unusable%s", send->submitted,
		      send->wait ? send->succeeded : send->published, send->refused, send->missing,
		      send->wait ? "a result" : "an acknowledgement", send->unpublished, send->unusable,
		      interrupted ? "; ended before the end of the input" : "");
	return TOOL_FAILED;
}

int send_run(const struct config *config, int argc, char **argv)
{
	struct send send = { .pool = campaign_pool_new(), .timeout_ms = TIMEOUT_MS };
	struct campaign_error error;
	struct fault fault;
	int rc = parse_options(&send, argc, argv);

	if (rc != 0) {
		if (rc > 0)
			fputs(send_help, stdout);
		rc = rc > 0 ? TOOL_OK : TOOL_USAGE;
	} else if (apikey_digest(send.api_key_file, send.key_digest, &send.has_key, &fault) < 0) {
		tool_complain("%s", fault.msg);
		rc = TOOL_USAGE;
	} else if (open_client(&send, config, &error) < 0) {
		tool_complain("%s", error.message);
		rc = TOOL_FAILED;
	} else {
		rc = run(&send);
	}
	campaign_client_free(send.client);
	input_free(send.input);
	campaign_pool_free(send.pool);
	free(send.lead_ids);
	return rc;
}
