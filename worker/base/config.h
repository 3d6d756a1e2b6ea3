/* Loads the settings (worker/base/settings.h). Precedence: command line, environment, file, default. */
#ifndef CONFIG_H
#define CONFIG_H

#include "worker/base/arguments.h"
#include "worker/base/fault.h"
#include "worker/base/settings.h"

/* Reads environment, files and argv. Options of the table that are this program's are taken out of argv: what is left
 * (sub-command, its own flags with their values, and operands) is argv[1..*argc-1]; "--" ends the options and stays.
 * subcommands: those whose own options take values; NULL: none. A setting or property
 * may be "@path": then its value is the file's first line, of a property that ends in ".pem" the whole file ("@@x" is the
 * literal "@x"). FAULT_FATAL names the setting, its value where that is no secret, and where it stood: unknown, malformed,
 * out of range, given twice in one place, or a librdkafka property that the promises rest on (with the reason).
 * A setting of the other program is an unknown option on the command line (left there), and ignored elsewhere, so that
 * both can share an environment and a file. CAMPAIGN_API_KEY, CAMPAIGN_FAILPOINT..., CAMPAIGN_TEST_... and what Kubernetes
 * sets for services called campaign-something are not looked at. */
int config_load(struct config *config, enum program program, const struct subcommand *subcommands, int *argc, char **argv,
		struct fault *fault) MUST_CHECK;
void config_free(struct config *config); /* accepts one that was never loaded but zeroed */

#endif
