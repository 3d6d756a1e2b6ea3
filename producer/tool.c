#include "producer/tool.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "schemas/duplicate.h"
#include "schemas/json.h"
#include "worker/base/clock.h"

#define PROGRESS_EVERY_MS 200

static volatile sig_atomic_t stopping;
static bool progress_shown;
static int64_t progress_next_ms;

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
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0); /* a line is there when it is printed */
}

bool tool_stopping(void)
{
	return stopping;
}

bool tool_print(const char *text)
{
	static bool broken;

	tool_wipe_progress();
	if (!broken && (puts(text) == EOF || ferror(stdout))) {
		broken = true;
		tool_complain("standard output: %s", strerror(errno));
	}
	return !broken;
}

const char *tool_format(const struct command_result *result, bool http, struct arena *arena)
{
	struct http_response response;

	if (!http)
		return result_to_json(&duplicate_contract, result, arena);
	result_to_http(&duplicate_contract, result, arena, &response);
	return http_response_text(&response, arena);
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
