/* Submits a command and prints its result: example BROKERS COMMANDS RESULTS ACCOUNT-GROUP CAMPAIGN AUDIENCE API-KEY
 * cc example.c $(pkg-config --cflags --libs campaign) */
#include <campaign/campaign.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int ask(const struct campaign_options *options, const struct duplicate_command *command, struct campaign_error *error)
{
	struct campaign_client *client = campaign_client_new(options, error);
	struct campaign_pool *pool = campaign_pool_new();
	struct campaign_event event;
	int rc = -1;

	if (client && campaign_client_subscribe(client, CAMPAIGN_FROM_NOW, 0, error) == 0)
		rc = campaign_client_submit(client, command, NULL, 30000, error);
	while (rc == 0 && campaign_client_in_flight(client) > 0) {
		rc = campaign_client_await(client, 100, &event, error);
		if (rc == 0 && event.kind == CAMPAIGN_RESULT)
			puts(campaign_result_to_json(event.result, pool));
		else if (rc == 0 && event.kind == CAMPAIGN_MISSING)
			fprintf(stderr, "no result within 30 s: submit it again under traceId %s\n", event.trace_id);
	}
	campaign_pool_free(pool);
	campaign_client_free(client);
	return rc;
}

int main(int argc, char **argv)
{
	struct duplicate_command command = { .head = { .has_key = true, .issued_at_ms = (int64_t)time(NULL) * 1000 } };
	struct campaign_error error = { .message = "seven arguments are wanted" };
	char trace_id[CAMPAIGN_TRACE_ID_SIZE];

	if (argc == 8 && campaign_key_digest(argv[7], strlen(argv[7]), command.head.key_digest, &error) == 0) {
		struct campaign_options options = { .brokers = argv[1], .commands = argv[2], .results = argv[3] };

		campaign_trace_id(trace_id);
		command.head.trace_id = trace_id;
		command.head.account_group_id = argv[4];
		command.campaign_id = argv[5];
		command.audience_id = argv[6];
		if (ask(&options, &command, &error) == 0)
			return 0;
	}
	fprintf(stderr, "%s\n", error.message);
	return 1;
}
