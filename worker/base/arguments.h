/* The command line of a program: its settings, and the options of its sub-command, in any order. The value of an option is
 * whatever stands behind it, also a text that begins with '-'. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdbool.h>

#include "worker/base/settings.h"

struct option; /* of getopt.h */

struct subcommand {
	const char *name;             /* NULL ends a table of them */
	const struct option *options; /* its own, as getopt_long takes them; NULL: none */
};

struct arguments {
	enum program program;
	const struct subcommand *subcommands; /* NULL: none has options of its own */
	int argc;
	char **argv;
	int next; /* of argv, to be read; begin with 1 */
	const struct subcommand *subcommand; /* NULL: not met yet */
};

struct argument {
	const struct setting *setting; /* NULL: no setting of this program */
	const char *value;             /* of the setting; NULL: it is missing */
	char **texts;                  /* as they stand in argv: an option, and its value if that stands behind it */
	int count;
};

/* The next argument; false at the end, and at "--", which ends the options. */
bool arguments_next(struct arguments *arguments, struct argument *argument);

/* Whether that option stands among the arguments, and not as another one's value. */
bool arguments_have(struct arguments arguments, const char *option);

#endif
