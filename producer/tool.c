#include "producer/tool.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/base/clock.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "worker/base/streams.h"

#define PROGRESS_EVERY_MS 200

static volatile sig_atomic_t stopping;
static bool progress_shown;
static int64_t progress_next_ms;

static void on_log(void *log_arg, const struct campaign_log_line *line)
{
	static const enum log_level levels[] = {
		[CAMPAIGN_LOG_DEBUG] = LEVEL_DEBUG, [CAMPAIGN_LOG_INFO] = LEVEL_INFO,
		[CAMPAIGN_LOG_WARN] = LEVEL_WARN,   [CAMPAIGN_LOG_ERROR] = LEVEL_ERROR,
	};

	(void)log_arg;
	log_event(levels[line->level], line->event, line->message, "client", line->client, "topic", line->topic, "partition",
		  line->topic ? LOG_INT(line->partition) : NULL, (char *)0);
}

struct campaign_client *tool_client_new(const struct config *config, struct campaign_error *error)
{
	struct campaign_property *properties = must(calloc(config->property_count + 1, sizeof *properties));
	struct campaign_options options = {
		.brokers = config->brokers, .commands = config->commands, .results = config->results, .schemas = config->schemas,
		.client_id = "campaign-producer", .properties = properties, .property_count = config->property_count, .log = on_log,
	};
	struct campaign_client *client;

	for (size_t i = 0; i < config->property_count; i++) {
		const struct property *given = &config->properties[i];

		properties[i] = (struct campaign_property){ given->name, given->value, given->origin };
	}
	client = campaign_client_new(&options, error);
	free(properties);
	return client;
}

static void ask_to_stop(int signal_number)
{
	(void)signal_number;
	stopping = 1;
}

void tool_catch_signals(void)
{
	struct sigaction stop = { .sa_handler = ask_to_stop, .sa_flags = (int)SA_RESETHAND };

	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
}

bool tool_stopping(void)
{
	return stopping;
}

bool tool_print(const char *text)
{
	tool_wipe_progress();
	puts(text);
	return streams_flush(); /* a line is there when it is printed */
}

const char *tool_format(const struct command_result *result, bool http, struct campaign_pool *pool)
{
	struct campaign_response response;

	if (!http)
		return campaign_result_to_json(result, pool);
	campaign_result_to_http(result, pool, &response);
	return campaign_response_text(&response, pool);
}

void tool_complain(const char *fmt, ...)
{
	va_list ap;

	tool_wipe_progress();
	fputs("campaign-producer: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void tool_progress(const char *fmt, ...)
{
	int64_t now_ms = clock_monotonic_ms();
	va_list ap;

	if (now_ms < progress_next_ms || !isatty(STDERR_FILENO))
		return;
	progress_next_ms = now_ms + PROGRESS_EVERY_MS;
	progress_shown = true;
	fputs("\r\033[K", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
}

void tool_wipe_progress(void)
{
	if (progress_shown)
		fputs("\r\033[K", stderr);
	progress_shown = false;
}

bool tool_parse_integer(const char *text, int64_t least, int64_t most, int64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *value >= least && *value <= most;
}
