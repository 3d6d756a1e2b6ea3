#include "worker/base/arguments.h"

#include <getopt.h>
#include <string.h>

/* The setting that an argument names, with its value if the argument holds that too; NULL: none of ours. */
static const struct setting *match_setting(enum program program, const char *arg, const char **value)
{
	const struct setting *setting = NULL;
	size_t len;

	*value = NULL;
	if (arg[1] == '-') {
		len = strcspn(arg + 2, "=");
		setting = setting_find(arg + 2, len);
		if (arg[2 + len] == '=')
			*value = arg + 2 + len + 1;
	} else {
		for (size_t i = 0; i < setting_count; i++)
			if (setting_table[i].letter == arg[1])
				setting = &setting_table[i];
		if (arg[2])
			*value = arg + 2;
	}
	return setting && (setting->who & (int)program) ? setting : NULL;
}

/* Whether getopt_long takes the next argument as the value of this one. A name may be cut short; one that could be several
 * options' is an error there. */
static bool takes_next(const struct subcommand *subcommand, const char *arg)
{
	const struct option *found = NULL;
	size_t len = strlen(arg) - 2;

	if (arg[1] != '-' || strchr(arg, '=') || subcommand == NULL || subcommand->options == NULL)
		return false;
	for (const struct option *option = subcommand->options; option->name; option++)
		if (strncmp(option->name, arg + 2, len) == 0 && (found == NULL || strlen(option->name) == len))
			found = option;
	return found && found->has_arg == required_argument;
}

static const struct subcommand *find_subcommand(const struct subcommand *subcommands, const char *name)
{
	static const struct subcommand other = { "", NULL };

	for (; subcommands && subcommands->name; subcommands++)
		if (strcmp(subcommands->name, name) == 0)
			return subcommands;
	return &other;
}

bool arguments_next(struct arguments *arguments, struct argument *argument)
{
	char **texts = arguments->argv + arguments->next;
	int left = arguments->argc - arguments->next;
	bool more = false;

	if (left <= 0 || strcmp(texts[0], "--") == 0)
		return false;
	*argument = (struct argument){ .texts = texts };
	if (texts[0][0] != '-' || texts[0][1] == '\0') {
		if (arguments->subcommand == NULL)
			arguments->subcommand = find_subcommand(arguments->subcommands, texts[0]);
	} else {
		argument->setting = match_setting(arguments->program, texts[0], &argument->value);
		more = argument->setting ? argument->value == NULL : takes_next(arguments->subcommand, texts[0]);
	}
	argument->count = more && left > 1 ? 2 : 1;
	if (argument->setting && argument->count == 2)
		argument->value = texts[1];
	arguments->next += argument->count;
	return true;
}

bool arguments_have(struct arguments arguments, const char *option)
{
	struct argument argument;

	while (arguments_next(&arguments, &argument))
		if (argument.setting == NULL && strcmp(argument.texts[0], option) == 0)
			return true;
	return false;
}
