/* campaign-producer watch: results as they come. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "producer/campaign.h"
#include "producer/tool.h"

#define WAIT_MS 100 /* how often a request to stop is looked for */

const char watch_help[] =
	"watch [options]               results as JSON lines {\"partition\":..,\"offset\":..,\"result\":{..}}\n"
	"  --trace-id ID               only results of this traceId\n"
	"  --account-group ID          only those of this account group\n"
	"  --status N                  only those with this HTTP status\n"
	"  --code CODE                 only those with this error code\n"
	"  --from WHERE                beginning, now (default), or a time as YYYY-MM-DDTHH:MM:SS[.mmm]Z\n"
	"  --until-end                 stop at the end that the topic has when this starts\n"
	"  --count N                   stop after N results; with --until-end, exit code 1 if there are fewer\n"
	"  --http                      print the HTTP status, headers and body, and a line break, instead\n"
	"Results that cannot be decoded are named on standard error. Partitions added meanwhile are read, too.\n";

struct watch {
	const char *trace_id, *account_group_id, *code;
	int64_t status; /* 0: any */
	int64_t count;  /* 0: no limit */
	enum campaign_from from;
	int64_t from_ms;
	bool until_end, http;
};

enum { TRACE_ID = 256, ACCOUNT_GROUP, STATUS, CODE, FROM, UNTIL_END, COUNT, HTTP, HELP };

const struct option watch_options[] = {
	{ "trace-id", required_argument, NULL, TRACE_ID },
	{ "account-group", required_argument, NULL, ACCOUNT_GROUP },
	{ "status", required_argument, NULL, STATUS },
	{ "code", required_argument, NULL, CODE },
	{ "from", required_argument, NULL, FROM },
	{ "until-end", no_argument, NULL, UNTIL_END },
	{ "count", required_argument, NULL, COUNT },
	{ "http", no_argument, NULL, HTTP },
	{ "help", no_argument, NULL, HELP },
	{ 0 }
};

static bool parse_from(struct watch *watch, const char *value)
{
	char text[TIME_TEXT_SIZE];
	size_t len = strlen(value);

	watch->from = CAMPAIGN_FROM_TIME;
	if (strcmp(value, "beginning") == 0)
		watch->from = CAMPAIGN_FROM_BEGINNING;
	else if (strcmp(value, "now") == 0)
		watch->from = CAMPAIGN_FROM_NOW;
	else if (len == strlen("YYYY-MM-DDTHH:MM:SSZ") && value[len - 1] == 'Z')
		snprintf(text, sizeof text, "%.*s.000Z", (int)len - 1, value);
	else if (len < sizeof text)
		memcpy(text, value, len + 1);
	else
		return false;
	return watch->from != CAMPAIGN_FROM_TIME || (clock_parse(text, &watch->from_ms) == 0 && watch->from_ms >= 0);
}

static bool take_option(struct watch *watch, int option, const char *value)
{
	switch (option) {
	case TRACE_ID:
		watch->trace_id = value;
		return true;
	case ACCOUNT_GROUP:
		watch->account_group_id = value;
		return true;
	case STATUS:
		return tool_parse_integer(value, 100, 599, &watch->status);
	case CODE:
		watch->code = value;
		return true;
	case FROM:
		return parse_from(watch, value);
	case UNTIL_END:
		return watch->until_end = true;
	case COUNT:
		return tool_parse_integer(value, 1, INT64_MAX, &watch->count);
	default: /* HTTP */
		return watch->http = true;
	}
}

/* 0, 1 when help was asked for, -1 after a complaint. */
static int parse_options(struct watch *watch, int argc, char **argv)
{
	int option, index;

	while ((option = getopt_long(argc, argv, "", watch_options, &index)) != -1) {
		if (option == HELP)
			return 1;
		if (option == '?')
			return -1;
		if (!take_option(watch, option, optarg)) {
			tool_complain("watch: --%s %s is not understood (watch --help)", watch_options[index].name, optarg);
			return -1;
		}
	}
	if (optind == argc)
		return 0;
	tool_complain("watch: what is %s? (watch --help)", argv[optind]);
	return -1;
}

static bool same(const char *wanted, const char *value)
{
	return wanted == NULL || (value && strcmp(wanted, value) == 0);
}

static bool matches(const struct watch *watch, const struct command_result *result)
{
	return same(watch->trace_id, result->trace_id) && same(watch->account_group_id, result->account_group_id) &&
	       same(watch->code, result->error_code) && (watch->status == 0 || watch->status == result->http_status);
}

static bool print(const struct watch *watch, const struct campaign_event *event, struct campaign_pool *pool)
{
	const char *text = tool_format(event->result, watch->http, pool);

	char *line;
	bool printed;

	if (watch->http)
		return tool_print(text);
	must_be(asprintf(&line, "{\"partition\":%d,\"offset\":%lld,\"result\":%s}", (int)event->partition,
			 (long long)event->offset, text) >= 0);
	printed = tool_print(line);
	free(line);
	return printed;
}

static int follow(const struct watch *watch, struct campaign_client *client, struct campaign_pool *pool)
{
	struct campaign_event event;
	struct campaign_error error;
	int64_t printed = 0;

	while (!tool_stopping() && !(watch->until_end && campaign_client_caught_up(client))) {
		log_tell_suppressed(false);
		campaign_pool_reset(pool);
		if (campaign_client_watch(client, WAIT_MS, &event, &error) < 0) {
			tool_complain("%s", error.message);
			return TOOL_FAILED;
		}
		if (watch->until_end && event.is_new)
			continue;
		if (event.kind == CAMPAIGN_UNREADABLE)
			tool_complain("%s, partition %d, offset %lld: %s", event.topic, (int)event.partition,
				      (long long)event.offset, event.message);
		if (event.kind != CAMPAIGN_RESULT || !matches(watch, event.result))
			continue;
		if (!print(watch, &event, pool))
			return TOOL_FAILED;
		if (++printed == watch->count)
			return TOOL_OK;
	}
	return watch->count && !tool_stopping() ? TOOL_FAILED : TOOL_OK;
}

int watch_run(const struct config *config, int argc, char **argv)
{
	struct watch watch = { .from = CAMPAIGN_FROM_NOW };
	struct campaign_client *client = NULL;
	struct campaign_pool *pool;
	struct campaign_error error;
	int rc = parse_options(&watch, argc, argv);

	if (rc > 0)
		fputs(watch_help, stdout);
	if (rc != 0)
		return rc > 0 ? TOOL_OK : TOOL_USAGE;
	client = tool_client_new(config, &error);
	if (client == NULL || campaign_client_subscribe(client, watch.from, watch.from_ms, &error) < 0) {
		tool_complain("%s", error.message);
		campaign_client_free(client);
		return TOOL_FAILED;
	}
	log_info("watching", "results published from now on will be seen", "topic", config->results);
	pool = campaign_pool_new();
	rc = follow(&watch, client, pool);
	campaign_pool_free(pool);
	campaign_client_free(client);
	return rc;
}
