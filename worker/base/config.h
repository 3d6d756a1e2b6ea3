/* Settings: one table (config.c) drives the command line, the environment (CAMPAIGN_...), the file, --help, the README's
 * table and the example file. Precedence: command line, environment, file, default. */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/base/fault.h"
#include "worker/base/log.h"

enum program { FOR_WORKER = 1, FOR_PRODUCER = 2 };

struct property { /* a librdkafka property, passed through */
	const char *name, *value;
	const char *origin; /* where it was given, for messages: "command line", "environment variable X", "file.conf:12" */
};

struct config {
	enum program program;
	/* NULL: empty, or not a setting of this program. */
	const char *brokers, *group, *instance, *commands, *results, *dead_letters, *database, *schemas;
	int lanes, batch, batch_ms, memory, drain_ms, breaker;
	int batch_bytes; /* follows from memory: of commands in a batch, received and decoded; of those waiting; of librdkafka's queue */
	int lock_timeout_ms, statement_timeout_ms, audience_leads_max, dead_letter_bytes;
	enum log_format log_format;
	enum log_level log_level;
	struct property *properties;
	size_t property_count;
	void *storage; /* owned by config.c */
};

/* Reads environment, files and argv. Options of the table that are this program's are taken out of argv: what is left
 * (sub-command, its own flags and operands) is argv[1..*argc-1]; "--" ends the options and stays. A setting or property
 * may be "@path": then its value is the file's first line, of a property that ends in ".pem" the whole file ("@@x" is the
 * literal "@x"). FAULT_FATAL names the setting, its value where that is no secret, and where it stood: unknown, malformed,
 * out of range, given twice in one place, or a librdkafka property that the promises rest on (with the reason).
 * A setting of the other program is an unknown option on the command line (left there), and ignored elsewhere, so that
 * both can share an environment and a file. CAMPAIGN_API_KEY, CAMPAIGN_FAILPOINT..., CAMPAIGN_TEST_... and what Kubernetes
 * sets for services named campaign-worker and campaign-producer are not looked at. */
int config_load(struct config *config, enum program program, int *argc, char **argv, struct fault *fault) MUST_CHECK;
void config_free(struct config *config); /* accepts one that was never loaded but zeroed */

/* The setting of that program whose name is nearly this one, for "did you mean"; NULL if none is. */
const char *config_nearest(enum program program, const char *name);
/* Whether two names differ by a slip of the keyboard: the number of edits, where small numbers are close. */
size_t config_distance(const char *a, const char *b);

/* Writers for --help, the README's table and deploy/campaign-worker.conf.example. */
void config_print_help(enum program program);
void config_print_markdown(void);
void config_print_example(void);

#endif
