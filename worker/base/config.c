#include "worker/base/config.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <regex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "worker/base/arena.h"
#include "worker/base/must.h"

#define FILE_PROPERTY "kafka."
#define SECRET_MAX ((size_t)64 * 1024) /* bytes of a file that a value "@path" names */
#define LINE_MAX_BYTES 8192             /* of a settings file */

extern char **environ;

enum rank { FROM_NOWHERE, FROM_FILE, FROM_KAFKA_FILE, FROM_ENVIRONMENT, FROM_COMMAND_LINE };

struct given {
	enum rank rank;
	const char *value, *origin;
};

struct loading {
	struct config *config;
	struct arena *arena;
	struct fault *fault;
	struct given *given; /* of setting_table[] */
	enum rank *ranks; /* of config->properties */
};

static int refuse(struct loading *loading, const char *name, const char *origin, const char *fmt, ...) PRINTF(4, 5);

static int refuse(struct loading *loading, const char *name, const char *origin, const char *fmt, ...)
{
	char why[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	return fault_set(loading->fault, FAULT_FATAL, "%.64s (%.160s): %s", name, origin, why);
}

static int give(struct loading *loading, const struct setting *setting, const char *value, enum rank rank, const char *origin)
{
	struct given *given = &loading->given[setting - setting_table];

	if (rank < given->rank || !(setting->who & (int)loading->config->program))
		return 0;
	if (rank == given->rank)
		return refuse(loading, setting->name, origin, "given twice (also: %.160s)", given->origin);
	*given = (struct given){ rank, value, origin };
	return 0;
}

static int give_property(struct loading *loading, const char *name, const char *value, enum rank rank, const char *origin)
{
	struct config *config = loading->config;
	struct property *properties;
	size_t i = 0, n = config->property_count;
	enum rank *ranks;

	if (property_check(&(struct property){ name, value, origin }, loading->fault) < 0)
		return -1;
	while (i < n && strcmp(config->properties[i].name, name) != 0)
		i++;
	if (i < n && loading->ranks[i] == rank)
		return refuse(loading, name, origin, "given twice (also: %.160s)", config->properties[i].origin);
	if (i < n && loading->ranks[i] > rank)
		return 0;
	if (i == n) {
		properties = arena_array(loading->arena, n + 1, sizeof *properties);
		ranks = arena_array(loading->arena, n + 1, sizeof *ranks);
		if (n > 0) {
			memcpy(properties, config->properties, n * sizeof *properties);
			memcpy(ranks, loading->ranks, n * sizeof *ranks);
		}
		config->properties = properties;
		config->property_count = n + 1;
		loading->ranks = ranks;
	}
	config->properties[i] = (struct property){ name, value, origin };
	loading->ranks[i] = rank;
	return 0;
}

/* "name=value" of -X; the value may be a secret, so nothing of a malformed one is shown. */
static int give_assignment(struct loading *loading, const char *text, const char *origin)
{
	const char *equals = strchr(text, '=');

	if (equals == NULL)
		return refuse(loading, "-X", origin, "wanted property=value");
	return give_property(loading, arena_strndup(loading->arena, text, (size_t)(equals - text)), equals + 1,
			     FROM_COMMAND_LINE, origin);
}

static int load_arguments(struct loading *loading, const struct subcommand *subcommands, int *argc, char **argv)
{
	static const char origin[] = "command line";
	struct arguments arguments = { loading->config->program, subcommands, *argc, argv, 1, NULL };
	struct argument argument;
	int left = 1;

	while (arguments_next(&arguments, &argument)) {
		const struct setting *setting = argument.setting;

		for (int i = 0; setting == NULL && i < argument.count; i++)
			argv[left++] = argument.texts[i];
		if (setting == NULL)
			continue;
		if (argument.value == NULL)
			return refuse(loading, setting->name, origin, "has no value");
		if (setting->kind == SETTING_PROPERTY ? give_assignment(loading, argument.value, origin) < 0 :
						give(loading, setting, argument.value, FROM_COMMAND_LINE, origin) < 0)
			return -1;
	}
	while (arguments.next < *argc)
		argv[left++] = argv[arguments.next++];
	argv[left] = NULL;
	*argc = left;
	return 0;
}

/* What Kubernetes puts into every container for each Service of the namespace, here for one called campaign-something
 * ("Discovering services"). A setting's variable must not have such a form (tests/unit/test_config.c). */
static bool is_service_link(const char *variable)
{
	static const char links[] = "^CAMPAIGN(_[A-Z0-9_]*)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|"
				    "PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|"
				    "^CAMPAIGN(_[A-Z0-9_]*)?_PORT=(tcp|udp|sctp)://";
	regex_t pattern;
	bool matches;

	must_be(regcomp(&pattern, links, REG_EXTENDED | REG_NOSUB) == 0);
	matches = regexec(&pattern, variable, 0, NULL, 0) == 0;
	regfree(&pattern);
	return matches;
}

/* Variables of this prefix that are not settings: secrets of the producer, test hooks, links of services. */
static bool is_left_alone(const char *variable)
{
	static const char *const prefixes[] = { "CAMPAIGN_API_KEY=", "CAMPAIGN_FAILPOINT", "CAMPAIGN_TEST_" };

	for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
		if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return is_service_link(variable);
}

/* LOCK_TIMEOUT_MS to lock-timeout-ms, SASL_PASSWORD to sasl.password. */
static char *name_of_variable(struct arena *arena, const char *variable, size_t len, char separator)
{
	char *name = arena_strndup(arena, variable, len);

	for (char *p = name; *p; p++)
		*p = *p == '_' ? separator : (char)tolower((unsigned char)*p);
	return name;
}

static int load_variable(struct loading *loading, const char *variable)
{
	const char *equals = strchr(variable, '='), *nearest;
	size_t len = equals ? (size_t)(equals - variable) : 0, prefix = strlen(ENV_PREFIX), property = strlen(ENV_PROPERTY);
	const struct setting *setting;
	char *name, *origin;

	if (len < prefix || strncmp(variable, ENV_PREFIX, prefix) != 0 || is_left_alone(variable))
		return 0;
	origin = arena_printf(loading->arena, "environment variable %.*s", (int)len, variable);
	name = name_of_variable(loading->arena, variable + prefix, len - prefix, '-');
	setting = setting_find(name, strlen(name));
	if (setting)
		return give(loading, setting, equals + 1, FROM_ENVIRONMENT, origin);
	if (len > property && strncmp(variable, ENV_PROPERTY, property) == 0)
		return give_property(loading, name_of_variable(loading->arena, variable + property, len - property, '.'),
				     equals + 1, FROM_ENVIRONMENT, origin);
	nearest = setting_nearest(FOR_WORKER | FOR_PRODUCER, name);
	if (nearest)
		return refuse(loading, name, origin, "no such setting; did you mean %s?",
			      setting_variable(loading->arena, nearest));
	return refuse(loading, name, origin, "no such setting (variables that begin with " ENV_PREFIX " are settings)");
}

static int load_environment(struct loading *loading)
{
	for (char **variable = environ; *variable; variable++)
		if (load_variable(loading, *variable) < 0)
			return -1;
	return 0;
}

static char *trim(char *s)
{
	size_t len;

	while (isspace((unsigned char)*s))
		s++;
	for (len = strlen(s); len > 0 && isspace((unsigned char)s[len - 1]);)
		s[--len] = '\0';
	return s;
}

static int load_line(struct loading *loading, enum rank rank, const char *name, const char *value, const char *origin)
{
	const struct setting *setting = setting_find(name, strlen(name));
	const char *nearest;

	if (rank == FROM_KAFKA_FILE)
		return give_property(loading, name, value, rank, origin);
	if (strncmp(name, FILE_PROPERTY, strlen(FILE_PROPERTY)) == 0)
		return give_property(loading, name + strlen(FILE_PROPERTY), value, rank, origin);
	if (setting && setting->kind == SETTING_OUR_FILE)
		return refuse(loading, name, origin, "a settings file cannot name another");
	if (setting)
		return give(loading, setting, value, rank, origin);
	nearest = setting_nearest(FOR_WORKER | FOR_PRODUCER, name);
	if (nearest)
		return refuse(loading, name, origin, "no such setting; did you mean %s?", nearest);
	return refuse(loading, name, origin, "no such setting%s",
		      strchr(name, '.') ? " (librdkafka properties begin with " FILE_PROPERTY " here)" : "");
}

static int load_lines(struct loading *loading, enum rank rank, const char *path, FILE *file)
{
	char buf[LINE_MAX_BYTES], *line, *equals;
	const char *origin;

	for (int number = 1; fgets(buf, sizeof buf, file); number++) {
		origin = arena_printf(loading->arena, "%s:%d", path, number);
		if (strlen(buf) == sizeof buf - 1)
			return refuse(loading, "line", origin, "longer than %d bytes", LINE_MAX_BYTES - 2);
		line = trim(buf);
		if (*line == '\0' || *line == '#')
			continue;
		equals = strchr(line, '=');
		if (equals == NULL || equals == line)
			return refuse(loading, "line", origin, "wanted name = value");
		line = arena_strndup(loading->arena, line, strlen(line));
		equals = strchr(line, '=');
		*equals = '\0';
		if (load_line(loading, rank, trim(line), trim(equals + 1), origin) < 0)
			return -1;
	}
	if (ferror(file))
		return refuse(loading, path, "file", "%s", strerror(errno));
	return 0;
}

static int load_file(struct loading *loading, enum setting_kind kind)
{
	const struct setting *setting = setting_table;
	const struct given *given;
	FILE *file;
	int result;

	while (setting->kind != kind)
		setting++;
	given = &loading->given[setting - setting_table];
	if (given->rank == FROM_NOWHERE)
		return 0;
	file = fopen(given->value, "re");
	if (file == NULL)
		return refuse(loading, setting->name, given->origin, "cannot read %.256s: %s", given->value, strerror(errno));
	result = load_lines(loading, kind == SETTING_OUR_FILE ? FROM_FILE : FROM_KAFKA_FILE, given->value, file);
	fclose(file);
	return result;
}

static ssize_t read_secret(const char *path, char *buf, size_t size)
{
	FILE *file = fopen(path, "re");
	size_t n;

	if (file == NULL)
		return -1;
	errno = 0;
	n = fread(buf, 1, size, file);
	if (n == size)
		errno = EFBIG;
	fclose(file);
	return errno ? -1 : (ssize_t)n;
}

/* Replaces "@path" by what the file says. The path is not shown: it may be a secret that happens to begin with @. */
static int resolve(struct loading *loading, const char *name, const char **value, const char *origin, bool whole)
{
	char text[SECRET_MAX + 1];
	ssize_t n;

	if ((*value)[0] != '@')
		return 0;
	if ((*value)[1] == '@') {
		++*value;
		return 0;
	}
	n = read_secret(*value + 1, text, SECRET_MAX);
	if (n < 0)
		return refuse(loading, name, origin, "the value begins with @, but that file cannot be read: %s (a plain @ is written @@)",
			      strerror(errno));
	if (memchr(text, '\0', (size_t)n))
		return refuse(loading, name, origin, "the file named by the value is not text");
	text[n] = '\0';
	if (!whole)
		text[strcspn(text, "\n")] = '\0';
	*value = arena_printf(loading->arena, "%s", trim(text));
	if ((*value)[0] == '\0')
		return refuse(loading, name, origin, "the file named by the value is empty");
	return 0;
}

/* A value as a message may show it. */
static const char *shown(struct arena *arena, const struct setting *setting, const char *value)
{
	char *text;

	if (setting->secret)
		return "the value";
	text = arena_printf(arena, "\"%.80s\"", value);
	for (char *p = text; *p; p++)
		if (iscntrl((unsigned char)*p))
			*p = '?';
	return text;
}

static int parse_number(const struct setting *setting, const char *value, long *number)
{
	char *end;

	if (!isdigit((unsigned char)value[0]))
		return -1;
	errno = 0;
	*number = strtol(value, &end, 10);
	if (errno || *number > LONG_MAX >> 20)
		return -1;
	if (setting->kind == SETTING_SIZE && strcasecmp(end, "KiB") == 0)
		*number <<= 10;
	else if (setting->kind == SETTING_SIZE && strcasecmp(end, "MiB") == 0)
		*number <<= 20;
	else if (*end)
		return -1;
	return *number >= setting->min && *number <= setting->max ? 0 : -1;
}

static bool is_topic(const char *value)
{
	size_t len = strlen(value);

	return len > 0 && len <= 249 && strcmp(value, ".") != 0 && strcmp(value, "..") != 0 &&
	       strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static bool is_text(const struct setting *setting, const char *value)
{
	size_t len = strlen(value);

	for (const char *p = value; *p; p++)
		if (iscntrl((unsigned char)*p))
			return false;
	return len >= (size_t)setting->min && len <= (size_t)setting->max;
}

static int store_word(struct loading *loading, const struct setting *setting, const char *value, const char *origin, void *place)
{
	for (int i = 0; setting->words[i]; i++) {
		if (strcmp(setting->words[i], value) == 0) {
			*(int *)place = i;
			return 0;
		}
	}
	return refuse(loading, setting->name, origin, "%s is none of %s", shown(loading->arena, setting, value), setting->form);
}

static int store_value(struct loading *loading, const struct setting *setting, const char *value, const char *origin)
{
	const char *show = shown(loading->arena, setting, value);
	void *place = (char *)loading->config + setting->place;
	long number;

	if (setting->kind == SETTING_WORD)
		return store_word(loading, setting, value, origin, place);
	if (setting->kind == SETTING_NUMBER || setting->kind == SETTING_SIZE) {
		if (parse_number(setting, value, &number) < 0)
			return refuse(loading, setting->name, origin, "%s is not a whole number from %ld to %ld%s", show,
				      setting->min, setting->max, setting->kind == SETTING_SIZE ? " (KiB and MiB may follow)" : "");
		*(int *)place = (int)number;
		return 0;
	}
	if (setting->kind == SETTING_TOPIC && !is_topic(value))
		return refuse(loading, setting->name, origin, "%s is no topic name (1 to 249 of A-Z a-z 0-9 . _ -)", show);
	if (setting->kind == SETTING_TEXT && !is_text(setting, value))
		return refuse(loading, setting->name, origin, "%s is not %ld to %ld bytes of text without control characters",
			      show, setting->min, setting->max);
	*(const char **)place = *value ? value : NULL;
	return 0;
}

static const char *host_name(struct arena *arena)
{
	char name[101] = "";

	gethostname(name, sizeof name - 1);
	return arena_strndup(arena, name, strlen(name));
}

static int store_settings(struct loading *loading)
{
	for (const struct setting *setting = setting_table; setting < setting_table + setting_count; setting++) {
		const struct given *given = &loading->given[setting - setting_table];
		const char *value = given->value, *origin = given->origin;

		if (setting->kind >= SETTING_OUR_FILE || !(setting->who & (int)loading->config->program))
			continue;
		if (given->rank == FROM_NOWHERE) {
			value = setting->standard ? setting->standard : host_name(loading->arena);
			origin = "default";
		} else if (resolve(loading, setting->name, &value, origin, false) < 0) {
			return -1;
		}
		if (store_value(loading, setting, value, origin) < 0)
			return -1;
	}
	return 0;
}

static int resolve_properties(struct loading *loading)
{
	struct config *config = loading->config;

	for (struct property *p = config->properties; p < config->properties + config->property_count; p++) {
		size_t len = strlen(p->name);
		bool pem = len > 4 && strcmp(p->name + len - 4, ".pem") == 0;

		if (resolve(loading, p->name, &p->value, p->origin, pem) < 0)
			return -1;
	}
	return 0;
}

/* Results read as commands would be answered for ever. */
static int check_topics(const struct config *config, struct fault *fault)
{
	const char *const topics[] = { config->commands, config->results, config->dead_letters };
	const char *const names[] = { "commands", "results", "dead-letters" };

	for (int i = 0; i < 3; i++)
		for (int j = i + 1; j < 3; j++)
			if (strcmp(topics[i], topics[j]) == 0)
				return fault_set(fault, FAULT_FATAL, "%s and %s are the same topic, %s", names[i], names[j],
						 topics[i]);
	return 0;
}

/* Those bytes are there several times at once: with librdkafka, waiting, in two batches (as received and decoded), as
 * parameters, in libpq's buffer; and a lane without commands takes some 12 MiB, libraries included. Measured (tests/bench,
 * memory). */
static void share_memory(struct config *config)
{
	config->batch_bytes = config->memory / 20;
}

static int check_values(const struct config *config, struct fault *fault)
{
	const struct property_needs needs = { config->batch, config->batch_bytes };

	return properties_check(config->properties, config->property_count, config->program == FOR_WORKER ? &needs : NULL, fault);
}

static int load(struct loading *loading, const struct subcommand *subcommands, int *argc, char **argv)
{
	if (load_arguments(loading, subcommands, argc, argv) < 0 || load_environment(loading) < 0 ||
	    load_file(loading, SETTING_OUR_FILE) < 0 || load_file(loading, SETTING_KAFKA_FILE) < 0 ||
	    store_settings(loading) < 0 || resolve_properties(loading) < 0)
		return -1;
	share_memory(loading->config);
	return check_topics(loading->config, loading->fault) < 0 ? -1 : check_values(loading->config, loading->fault);
}

int config_load(struct config *config, enum program program, const struct subcommand *subcommands, int *argc, char **argv,
		struct fault *fault)
{
	struct loading loading = { .config = config, .arena = arena_new(0), .fault = fault };

	*config = (struct config){ .program = program, .storage = loading.arena };
	loading.given = arena_array(loading.arena, setting_count, sizeof *loading.given);
	if (load(&loading, subcommands, argc, argv) == 0)
		return 0;
	config_free(config);
	return -1;
}

void config_free(struct config *config)
{
	arena_free(config->storage);
	*config = (struct config){ 0 };
}
