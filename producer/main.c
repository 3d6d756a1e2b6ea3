/* campaign-producer: publishes duplicate-campaign commands and shows results. */
#include <stdio.h>
#include <string.h>

#include "worker/base/config.h"
#include "worker/base/config_text.h"
#include "worker/base/log.h"
#include "worker/base/streams.h"
#include "producer/tool.h"

static const struct {
	const char *name;
	int (*run)(const struct config *config, int argc, char **argv);
	const char *help;
} commands[] = {
	{ "send", send_run, send_help },
	{ "watch", watch_run, watch_help },
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_help(void)
{
	puts("campaign-producer [settings] send|watch ...\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		puts(commands[i].help);
	puts("Exit codes: 0 all succeeded; 1 something was refused, missing, unusable or out of reach; 2 wrong usage or settings.\n");
	config_print_help(FOR_PRODUCER);
}

static bool asks_for(int argc, char **argv, const char *option)
{
	return argc > 1 && strcmp(argv[1], option) == 0;
}

static int run(int argc, char **argv)
{
	const struct subcommand subcommands[] = { { "send", send_options }, { "watch", watch_options }, { 0 } };
	struct config config = { 0 };
	struct fault fault;
	int rc = TOOL_USAGE;

	if (asks_for(argc, argv, "--help")) {
		print_help();
		return TOOL_OK;
	}
	if (asks_for(argc, argv, "--version")) {
		puts("campaign-producer " VERSION);
		return TOOL_OK;
	}
	if (config_load(&config, FOR_PRODUCER, subcommands, &argc, argv, &fault) < 0) {
		tool_complain("%s", fault.msg);
		config_free(&config);
		return TOOL_USAGE;
	}
	log_init(config.log_format, config.log_level);
	tool_catch_signals();
	for (size_t i = 0; i < COMMAND_COUNT && argc > 1; i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			rc = commands[i].run(&config, argc - 1, argv + 1);
			config_free(&config);
			return rc;
		}
	tool_complain("a command is wanted: send or watch (--help)");
	config_free(&config);
	return rc;
}

int main(int argc, char **argv)
{
	int status;

	streams_open();
	status = run(argc, argv);
	log_tell_suppressed(true);
	return streams_close("campaign-producer", status);
}
