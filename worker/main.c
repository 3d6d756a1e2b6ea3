/* campaign-worker: run, check, migrate, topics, resume. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/config.h"
#include "worker/base/config_text.h"
#include "worker/base/log.h"
#include "worker/base/offsets.h"
#include "worker/base/streams.h"
#include "worker/check.h"
#include "worker/db/migrate.h"
#include "worker/duplicate.h"
#include "worker/kafka/topics.h"
#include "worker/resume.h"
#include "worker/run.h"

enum { EXIT_USAGE = 2 };

static const struct operation *const operation = &duplicate_operation; /* what this worker does */

static void print_line(void *arg, const char *line)
{
	(void)arg;
	puts(line);
	streams_flush();
}

static void print_finding(void *arg, bool wrong, const char *line)
{
	(void)arg;
	printf("%s %s\n", wrong ? "WRONG" : "ok   ", line);
	streams_flush();
}

static int complain(const struct fault *fault)
{
	fprintf(stderr, "campaign-worker: %s\n", fault->msg);
	return EXIT_FAILURE;
}

static int migrate_command(const struct config *config)
{
	struct fault fault;

	return migrate_run(config->database, config->database_schema, print_line, NULL, &fault) < 0 ? complain(&fault) : EXIT_SUCCESS;
}

static void print_reasons(const struct contract *contract)
{
	const struct reason *reason;

	puts("| reason | status | code | retry | dead letter | message |\n|---|---|---|---|---|---|");
	for (size_t i = 0; (reason = contract_reason(contract, i)) != NULL; i++)
		printf("| `%s` | %d | `%s` | %s | %s | %s |\n", reason->word, reason->http_status, reason->code,
		       reason->retryable ? "yes" : "no", reason->dead_letter ? "yes" : "no", reason->message);
}

static void print_usage(FILE *to)
{
	fputs("usage: campaign-worker COMMAND [OPTION...]\n"
	      "\n"
	      "commands:\n"
	      "  run       take commands from Kafka, write drafts to PostgreSQL, publish results\n"
	      "  check     connect to everything, say what was found and what is wrong\n"
	      "  migrate   bring the database's schema up to date\n"
	      "  topics    create missing topics [--partitions N] [--results-partitions N] [--replication N]\n"
	      "  resume    let a halted partition go on: --partition P --from OFFSET|earliest\n"
	      "  settings  print the settings as a table (markdown), or as an example file (--example)\n"
	      "  reasons   print why commands are refused, as a table (markdown)\n"
	      "\n", to);
}

static bool parse_number(const char *text, long long least, long long most, long long *number)
{
	char *end;

	errno = 0;
	*number = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *number >= least && *number <= most;
}

static int usage_error(const char *what, const char *value)
{
	const char *nearest = value && strncmp(value, "--", 2) == 0 ? setting_nearest(FOR_WORKER, value + 2) : NULL;

	fprintf(stderr, "campaign-worker: %s%s%s", what, value ? ": " : "", value ? value : "");
	if (nearest)
		fprintf(stderr, "; did you mean --%s?", nearest);
	fputs("\nTry: campaign-worker --help\n", stderr);
	return EXIT_USAGE;
}

static int check_command(const struct config *config)
{
	struct findings findings = { .print = print_finding };

	check_run(config, operation, &findings);
	return findings.wrong_count > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static const struct option topics_options[] = {
	{ "partitions", required_argument, NULL, 'p' },
	{ "results-partitions", required_argument, NULL, 'r' },
	{ "replication", required_argument, NULL, 'f' },
	{ 0 },
};

static int topics_command(const struct config *config, int argc, char **argv)
{
	long long partitions = 12, results = 6, replication = 0;
	struct fault fault;
	struct findings findings = { .print = print_finding };
	int option;

	while ((option = getopt_long(argc, argv, "", topics_options, NULL)) != -1) {
		if (option == 'p' ? !parse_number(optarg, 1, 10000, &partitions) :
		    option == 'r' ? !parse_number(optarg, 1, 10000, &results) :
		    option == 'f' ? !parse_number(optarg, 1, 100, &replication) : true)
			return usage_error("topics: bad option", optarg);
	}
	if (optind < argc)
		return usage_error("topics: not understood", argv[optind]);
	if (topics_create(config, (int)partitions, (int)results, (int)replication, &findings, &fault) < 0)
		return complain(&fault);
	return findings.wrong_count > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static const struct option resume_options[] = {
	{ "partition", required_argument, NULL, 'p' },
	{ "from", required_argument, NULL, 'f' },
	{ 0 },
};

static int resume_command(const struct config *config, int argc, char **argv)
{
	long long partition = -1, from = -1;
	struct fault fault;
	int option;

	while ((option = getopt_long(argc, argv, "", resume_options, NULL)) != -1) {
		if (option == 'f' && strcmp(optarg, "earliest") == 0)
			from = RESUME_EARLIEST;
		else if (option == 'p' ? !parse_number(optarg, 0, INT32_MAX, &partition) :
			 option == 'f' ? !parse_number(optarg, 0, INT64_MAX, &from) : true)
			return usage_error("resume: bad option", optarg);
	}
	if (optind < argc)
		return usage_error("resume: not understood", argv[optind]);
	if (partition < 0 || from == -1)
		return usage_error("resume: both --partition P and --from OFFSET|earliest are needed", NULL);
	return resume_order(config, (int)partition, from, print_line, NULL, &fault) < 0 ? complain(&fault) : EXIT_SUCCESS;
}

static int dispatch(const struct config *config, int argc, char **argv)
{
	const char *command = argv[0];

	if (strcmp(command, "topics") == 0)
		return topics_command(config, argc, argv);
	if (strcmp(command, "resume") == 0)
		return resume_command(config, argc, argv);
	if (strcmp(command, "settings") == 0) {
		if (argc == 2 && strcmp(argv[1], "--example") == 0)
			config_print_example();
		else if (argc == 1)
			config_print_markdown();
		else
			return usage_error("settings: not understood", argv[1]);
		return EXIT_SUCCESS;
	}
	if (argc > 1)
		return usage_error("not understood", argv[1]);
	if (strcmp(command, "reasons") == 0) {
		print_reasons(operation->contract);
		return EXIT_SUCCESS;
	}
	if (strcmp(command, "run") == 0)
		return run_lanes(config, operation);
	if (strcmp(command, "migrate") == 0)
		return migrate_command(config);
	if (strcmp(command, "check") == 0)
		return check_command(config);
	return usage_error("no such command", command);
}

static const struct subcommand subcommands[] = {
	{ "topics", topics_options },
	{ "resume", resume_options },
	{ 0 },
};

static int run(int argc, char **argv)
{
	const struct arguments arguments = { FOR_WORKER, subcommands, argc, argv, 1, NULL };
	struct config config = { 0 };
	struct fault fault;
	int status;

	if (arguments_have(arguments, "--help") || arguments_have(arguments, "-h")) {
		print_usage(stdout);
		config_print_help(FOR_WORKER);
		return EXIT_SUCCESS;
	}
	if (arguments_have(arguments, "--version")) {
		puts("campaign-worker " VERSION);
		return EXIT_SUCCESS;
	}
	if (config_load(&config, FOR_WORKER, subcommands, &argc, argv, &fault) < 0) {
		fprintf(stderr, "campaign-worker: %s\n", fault.msg);
		config_free(&config);
		return EXIT_USAGE;
	}
	log_init(config.log_format, config.log_level);
	if (argc < 2) {
		print_usage(stderr);
		config_free(&config);
		return EXIT_USAGE;
	}
	status = dispatch(&config, argc - 1, argv + 1);
	config_free(&config);
	return status;
}

int main(int argc, char **argv)
{
	int status;

	streams_open();
	status = run(argc, argv);
	log_tell_suppressed(true);
	return streams_close("campaign-worker", status);
}
