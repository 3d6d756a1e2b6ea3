#include "worker/base/config.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "worker/base/arena.h"

#define ENV_PREFIX "CAMPAIGN_"
#define ENV_PROPERTY "CAMPAIGN_KAFKA_"
#define FILE_PROPERTY "kafka."
#define SECRET_MAX ((size_t)64 * 1024) /* bytes of a file that a value "@path" names */
#define LINE_MAX_BYTES 8192             /* of a settings file */
#define BOTH (FOR_WORKER | FOR_PRODUCER)
#define MEMORY_MIN (16L * 1024 * 1024)

extern char **environ;

enum kind {
	TEXT,     /* min to max bytes, no control characters */
	TOPIC,    /* a legal topic name */
	NUMBER,   /* min to max */
	SIZE,     /* the same in bytes, or with KiB or MiB */
	WORD,     /* one of words, stored as its index */
	/* Not stored in struct config: */
	OUR_FILE, /* the settings file itself */
	KAFKA_FILE,
	PROPERTY, /* name=value, repeatable, only by its letter */
};

struct setting {
	const char *name;
	char letter; /* short option, or 0 */
	enum kind kind;
	int who;
	const char *form, *standard; /* what a value looks like; the default, NULL for the host's name */
	const char *sample;          /* for the example file where the default says nothing, or NULL */
	long min, max;
	const char *const *words;
	bool secret;
	size_t place; /* in struct config */
	const char *help;
};

static const char *const log_formats[] = { "text", "json", NULL };
static const char *const log_levels[] = { "debug", "info", "warn", "error", NULL };

#define AT(field) offsetof(struct config, field)

static const struct setting settings[] = {
	{ "brokers", 'b', TEXT, BOTH, "HOST:PORT,...", "localhost:9092", NULL, 1, 4096, NULL, false, AT(brokers),
	  "Kafka brokers to begin with" },
	{ "group", 0, TEXT, FOR_WORKER, "NAME", "campaign-duplicator", NULL, 1, 120, NULL, false, AT(group),
	  "consumer group; workers of one group share the partitions" },
	{ "instance", 0, TEXT, FOR_WORKER, "NAME", NULL, "campaign-worker-0", 1, 100, NULL, false, AT(instance),
	  "name of this worker: unique in the group and the same after a restart (a StatefulSet's ordinal, a host name), so "
	  "that a restart ends its predecessor's transaction at once" },
	{ "commands", 0, TOPIC, BOTH, "TOPIC", "campaigns.duplicate.commands.v1", NULL, 0, 0, NULL, false, AT(commands),
	  "topic of commands" },
	{ "results", 0, TOPIC, BOTH, "TOPIC", "campaigns.duplicate.results.v1", NULL, 0, 0, NULL, false, AT(results),
	  "topic of results" },
	{ "dead-letters", 0, TOPIC, BOTH, "TOPIC", "campaigns.duplicate.dead-letters.v1", NULL, 0, 0, NULL, false, AT(dead_letters),
	  "topic of dead letters" },
	{ "database", 0, TEXT, FOR_WORKER, "CONNINFO", "", "host=db.example dbname=campaigns user=campaign_worker", 0, 8192, NULL,
	  true, AT(database),
	  "PostgreSQL as libpq's conninfo or URI; what it leaves out comes from the PG* variables and ~/.pgpass" },
	{ "schemas", 0, TEXT, BOTH, "FOLDER", "", "/etc/campaign-worker/schemas", 0, 4096, NULL, false, AT(schemas),
	  "folder with further Avro writer schemas (*.avsc; 4711.avsc is also the one with that registry id); those built in are always known" },
	{ "lanes", 0, NUMBER, FOR_WORKER, "N", "1", NULL, 1, 64, NULL, false, AT(lanes),
	  "independent lanes: each a thread with a consumer, a producer and a PostgreSQL connection of its own" },
	{ "batch", 0, NUMBER, FOR_WORKER, "N", "500", NULL, 1, 10000, NULL, false, AT(batch),
	  "most commands in one transaction; fewer are taken when fewer are ready" },
	{ "batch-ms", 0, NUMBER, FOR_WORKER, "MS", "250", NULL, 1, 60000, NULL, false, AT(batch_ms),
	  "time that PostgreSQL should need for a batch: fewer commands are taken when the last ones took longer" },
	{ "memory", 0, SIZE, FOR_WORKER, "BYTES", "32MiB", NULL, MEMORY_MIN, 1024L * 1024 * 1024, NULL, false, AT(memory),
	  "about what a lane takes of memory, whatever the backlog: bounds the commands that are fetched ahead and in a batch" },
	{ "drain-ms", 0, NUMBER, FOR_WORKER, "MS", "25000", NULL, 100, 3600000, NULL, false, AT(drain_ms),
	  "after SIGTERM, time to finish the batch and leave the group" },
	{ "breaker", 0, NUMBER, FOR_WORKER, "N", "5", NULL, 1, 1000000, NULL, false, AT(breaker),
	  "when that many commands in a row fail in the database for one cause, stop answering and probe with one at a time" },
	{ "lock-timeout-ms", 0, NUMBER, FOR_WORKER, "MS", "2000", NULL, 10, 600000, NULL, false, AT(lock_timeout_ms),
	  "longest wait for a row that another session has locked; tried three times" },
	{ "statement-timeout-ms", 0, NUMBER, FOR_WORKER, "MS", "30000", NULL, 100, 3600000, NULL, false, AT(statement_timeout_ms),
	  "longest run of one statement" },
	{ "audience-leads-max", 0, NUMBER, FOR_WORKER, "N", "50000", NULL, 1, 10000000, NULL, false, AT(audience_leads_max),
	  "largest audience that may be duplicated whole, without leadIds" },
	{ "dead-letter-bytes", 0, SIZE, FOR_WORKER, "BYTES", "900000", NULL, 1024, 16L * 1024 * 1024, NULL, false,
	  AT(dead_letter_bytes), "longer records are cut to this in the dead-letter topic; below the broker's limit" },
	{ "log-format", 0, WORD, BOTH, "text|json", "text", NULL, 0, 0, log_formats, false, AT(log_format),
	  "the log on stderr: text (key=value) or json, a line an event" },
	{ "log-level", 0, WORD, BOTH, "debug|info|warn|error", "info", NULL, 0, 0, log_levels, false, AT(log_level),
	  "least level that is logged: debug, info, warn or error" },
	{ "config", 0, OUR_FILE, BOTH, "FILE", "", NULL, 1, 4096, NULL, false, 0,
	  "file of settings: lines `name = value`, librdkafka properties as `kafka.<property> = value`, # comments" },
	{ "kafka-file", 'F', KAFKA_FILE, BOTH, "FILE", "", "/etc/campaign-worker/kafka.properties", 1, 4096, NULL, false, 0,
	  "file of librdkafka properties as kcat's: lines `property=value`, # comments" },
	{ "librdkafka", 'X', PROPERTY, BOTH, "PROPERTY=VALUE", "", NULL, 0, 0, NULL, false, 0,
	  "any librdkafka property but those that the promises rest on; repeatable; in the environment "
	  ENV_PROPERTY "SASL_PASSWORD for sasl.password" },
};

#define SETTING_COUNT (sizeof settings / sizeof settings[0])

/* librdkafka properties (global, topic-level and their aliases) that nobody may set, with the reason. */
static const struct refused {
	const char *name, *reason;
} refused[] = {
#define BROKERS "the setting brokers says which"
	{ "bootstrap.servers", BROKERS },
	{ "metadata.broker.list", BROKERS },
	{ "group.id", "the setting group says which" },
#define OFFSETS "offsets are committed only in the transaction that publishes the results"
	{ "enable.auto.commit", OFFSETS },
	{ "auto.commit.enable", OFFSETS },
	{ "auto.commit.interval.ms", OFFSETS },
	{ "enable.auto.offset.store", OFFSETS },
	{ "offset.store.method", OFFSETS },
	{ "offset.store.path", OFFSETS },
	{ "auto.offset.reset", "a partition whose offset is lost must halt and not be skipped or repeated" },
	{ "isolation.level", "aborted results must stay invisible, and a pending transaction's offsets must be waited for" },
#define ASSIGNOR "the assignment must be eager (range), so that the generation cannot move without a revoke that was served"
	{ "partition.assignment.strategy", ASSIGNOR },
	{ "group.protocol", ASSIGNOR },
	{ "group.protocol.type", ASSIGNOR },
	{ "group.remote.assignor", ASSIGNOR },
	{ "group.instance.id", "static membership keeps the generation in a takeover; the proof of the fence does not cover it" },
	{ "enable.partition.eof", "the program decides which events it handles" },
	{ "enabled_events", "the program decides which events it handles" },
	{ "transactional.id", "it is made of group, instance and lane, so that a restart fences its predecessor" },
#define LOST "an acknowledged result must survive the loss of a broker, and be written once"
	{ "acks", LOST },
	{ "request.required.acks", LOST },
	{ "enable.idempotence", LOST },
	{ "enable.gapless.guarantee", LOST },
	{ "retries", "sending is retried until message.timeout.ms has passed; fewer tries would lose records early" },
	{ "message.send.max.retries", "sending is retried until message.timeout.ms has passed; fewer tries would lose records early" },
#define ORDER "a key's records must stay in order"
	{ "max.in.flight", ORDER },
	{ "max.in.flight.requests.per.connection", ORDER },
	{ "queuing.strategy", ORDER },
	{ "partitioner", "records must lie where Java clients put them (murmur2_random), so that a group's commands stay in order" },
	{ "delivery.report.only.error", "every delivery is counted" },
	{ "allow.auto.create.topics", "a name that is mistyped must be found out; campaign-worker topics makes topics as they must be" },
	{ "test.mock.num.brokers", "a mock cluster keeps none of the promises" },
};

enum rank { FROM_NOWHERE, FROM_FILE, FROM_KAFKA_FILE, FROM_ENVIRONMENT, FROM_COMMAND_LINE };

struct given {
	enum rank rank;
	const char *value, *origin;
};

struct loading {
	struct config *config;
	struct arena *arena;
	struct fault *fault;
	struct given given[SETTING_COUNT];
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

size_t config_distance(const char *a, const char *b)
{
	size_t row[64], len = strlen(b);

	if (len >= 63 || strlen(a) >= 63)
		return SIZE_MAX;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t corner = row[0];

		row[0] = i + 1;
		for (size_t j = 1; j <= len; j++) {
			size_t change = corner + (a[i] != b[j - 1]), insert = row[j - 1] + 1, drop = row[j] + 1;

			corner = row[j];
			row[j] = change < insert ? change : insert;
			row[j] = row[j] < drop ? row[j] : drop;
		}
	}
	return row[len];
}

const char *config_nearest(enum program program, const char *name)
{
	const char *nearest = NULL;
	size_t least = strlen(name) < 5 ? 2 : 3;

	for (const struct setting *setting = settings; setting < settings + SETTING_COUNT; setting++) {
		size_t distance = config_distance(name, setting->name);

		if (setting->kind != PROPERTY && (setting->who & (int)program) && distance < least) {
			least = distance;
			nearest = setting->name;
		}
	}
	return nearest;
}

static const struct setting *setting_find(const char *name, size_t len)
{
	for (const struct setting *setting = settings; setting < settings + SETTING_COUNT; setting++)
		if (setting->kind != PROPERTY && strlen(setting->name) == len && memcmp(setting->name, name, len) == 0)
			return setting;
	return NULL;
}

static int give(struct loading *loading, const struct setting *setting, const char *value, enum rank rank, const char *origin)
{
	struct given *given = &loading->given[setting - settings];

	if (rank < given->rank || !(setting->who & (int)loading->config->program))
		return 0;
	if (rank == given->rank)
		return refuse(loading, setting->name, origin, "given twice (also: %.160s)", given->origin);
	*given = (struct given){ rank, value, origin };
	return 0;
}

static int check_property(struct loading *loading, const char *name, const char *value, const char *origin)
{
	if (name[0] == '\0' || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._")])
		return refuse(loading, "property", origin, "not the name of a librdkafka property");
	if (value[0] == '\0')
		return refuse(loading, name, origin, "has no value");
	for (const struct refused *r = refused; r < refused + sizeof refused / sizeof refused[0]; r++)
		if (strcmp(r->name, name) == 0)
			return refuse(loading, name, origin, "this librdkafka property cannot be set: %s", r->reason);
	return 0;
}

static int give_property(struct loading *loading, const char *name, const char *value, enum rank rank, const char *origin)
{
	struct config *config = loading->config;
	struct property *properties;
	size_t i = 0, n = config->property_count;
	enum rank *ranks;

	if (check_property(loading, name, value, origin) < 0)
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

/* The setting that an argument names, with its value if the argument holds that too; NULL: none of ours. */
static const struct setting *match_option(enum program program, const char *arg, const char **value)
{
	const struct setting *setting = NULL;
	size_t len;

	*value = NULL;
	if (arg[0] != '-' || arg[1] == '\0')
		return NULL;
	if (arg[1] == '-') {
		len = strcspn(arg + 2, "=");
		setting = setting_find(arg + 2, len);
		if (arg[2 + len] == '=')
			*value = arg + 2 + len + 1;
	} else {
		for (size_t i = 0; i < SETTING_COUNT; i++)
			if (settings[i].letter == arg[1])
				setting = &settings[i];
		if (arg[2])
			*value = arg + 2;
	}
	return setting && (setting->who & (int)program) ? setting : NULL;
}

static int load_arguments(struct loading *loading, int *argc, char **argv)
{
	static const char origin[] = "command line";
	const struct setting *setting;
	const char *value;
	int left = 1, i = 1;

	for (; i < *argc && strcmp(argv[i], "--") != 0; i++) {
		setting = match_option(loading->config->program, argv[i], &value);
		if (setting == NULL) {
			argv[left++] = argv[i];
			continue;
		}
		if (value == NULL && ++i < *argc)
			value = argv[i];
		if (value == NULL)
			return refuse(loading, setting->name, origin, "has no value");
		if (setting->kind == PROPERTY ? give_assignment(loading, value, origin) < 0 :
						give(loading, setting, value, FROM_COMMAND_LINE, origin) < 0)
			return -1;
	}
	while (i < *argc)
		argv[left++] = argv[i++];
	argv[left] = NULL;
	*argc = left;
	return 0;
}

/* Variables of this prefix that are not settings: secrets of the producer, test hooks, and what Kubernetes puts into every
 * container for services named campaign-worker and campaign-producer. */
static bool is_left_alone(const char *variable)
{
	static const char *const prefixes[] = { "CAMPAIGN_API_KEY=",  "CAMPAIGN_FAILPOINT", "CAMPAIGN_TEST_",
						"CAMPAIGN_WORKER_", "CAMPAIGN_PRODUCER_" };

	for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
		if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* LOCK_TIMEOUT_MS to lock-timeout-ms, SASL_PASSWORD to sasl.password. */
static char *name_of_variable(struct arena *arena, const char *variable, size_t len, char separator)
{
	char *name = arena_strndup(arena, variable, len);

	for (char *p = name; *p; p++)
		*p = *p == '_' ? separator : (char)tolower((unsigned char)*p);
	return name;
}

static char *variable_of_name(struct arena *arena, const char *name)
{
	char *variable = arena_printf(arena, ENV_PREFIX "%s", name);

	for (char *p = variable; *p; p++)
		*p = *p == '-' || *p == '.' ? '_' : (char)toupper((unsigned char)*p);
	return variable;
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
	nearest = config_nearest(BOTH, name);
	if (nearest)
		return refuse(loading, name, origin, "no such setting; did you mean %s?",
			      variable_of_name(loading->arena, nearest));
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
	if (setting && setting->kind == OUR_FILE)
		return refuse(loading, name, origin, "a settings file cannot name another");
	if (setting)
		return give(loading, setting, value, rank, origin);
	nearest = config_nearest(BOTH, name);
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

static int load_file(struct loading *loading, enum kind kind)
{
	const struct setting *setting = settings;
	const struct given *given;
	FILE *file;
	int result;

	while (setting->kind != kind)
		setting++;
	given = &loading->given[setting - settings];
	if (given->rank == FROM_NOWHERE)
		return 0;
	file = fopen(given->value, "re");
	if (file == NULL)
		return refuse(loading, setting->name, given->origin, "cannot read %.256s: %s", given->value, strerror(errno));
	result = load_lines(loading, kind == OUR_FILE ? FROM_FILE : FROM_KAFKA_FILE, given->value, file);
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
	if (setting->kind == SIZE && strcasecmp(end, "KiB") == 0)
		*number <<= 10;
	else if (setting->kind == SIZE && strcasecmp(end, "MiB") == 0)
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

	if (setting->kind == WORD)
		return store_word(loading, setting, value, origin, place);
	if (setting->kind == NUMBER || setting->kind == SIZE) {
		if (parse_number(setting, value, &number) < 0)
			return refuse(loading, setting->name, origin, "%s is not a whole number from %ld to %ld%s", show,
				      setting->min, setting->max, setting->kind == SIZE ? " (KiB and MiB may follow)" : "");
		*(int *)place = (int)number;
		return 0;
	}
	if (setting->kind == TOPIC && !is_topic(value))
		return refuse(loading, setting->name, origin, "%s is no topic name (1 to 249 of A-Z a-z 0-9 . _ -)", show);
	if (setting->kind == TEXT && !is_text(setting, value))
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
	for (const struct setting *setting = settings; setting < settings + SETTING_COUNT; setting++) {
		const struct given *given = &loading->given[setting - settings];
		const char *value = given->value, *origin = given->origin;

		if (setting->kind >= OUR_FILE || !(setting->who & (int)loading->config->program))
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

int config_load(struct config *config, enum program program, int *argc, char **argv, struct fault *fault)
{
	struct loading loading = { .config = config, .arena = arena_new(0), .fault = fault };

	*config = (struct config){ .program = program, .storage = loading.arena };
	if (load_arguments(&loading, argc, argv) < 0 || load_environment(&loading) < 0 || load_file(&loading, OUR_FILE) < 0 ||
	    load_file(&loading, KAFKA_FILE) < 0 || store_settings(&loading) < 0 || resolve_properties(&loading) < 0 ||
	    check_topics(config, fault) < 0) {
		config_free(config);
		return -1;
	}
	share_memory(config);
	return 0;
}

void config_free(struct config *config)
{
	arena_free(config->storage);
	*config = (struct config){ 0 };
}

/* Prints text in lines of at most width, each but the first after prefix. */
static void print_wrapped(const char *text, size_t width, const char *prefix)
{
	size_t column = 0;

	while (*text) {
		size_t len = strcspn(text, " ");

		if (column > 0 && column + 1 + len > width) {
			printf("\n%s", prefix);
			column = 0;
		}
		column += (size_t)printf("%s%.*s", column > 0 ? " " : "", (int)len, text);
		text += len;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static const char *standard_of(const struct setting *setting)
{
	return setting->standard ? setting->standard : "the host's name";
}

void config_print_help(enum program program)
{
	static const char indent[] = "                                  ";
	char option[80], help[400];

	puts("Settings (on the command line; in the environment as CAMPAIGN_<NAME> with _ for -; in a file):");
	for (const struct setting *setting = settings; setting < settings + SETTING_COUNT; setting++) {
		const char *standard = standard_of(setting);
		int n;

		if (!(setting->who & (int)program))
			continue;
		if (setting->kind == PROPERTY)
			n = snprintf(option, sizeof option, "  -%c %s", setting->letter, setting->form);
		else
			n = snprintf(option, sizeof option, "  %s%c%s--%s %s", setting->letter ? "-" : " ",
				     setting->letter ? setting->letter : ' ', setting->letter ? ", " : "  ", setting->name,
				     setting->form);
		printf(n < (int)sizeof indent - 1 ? "%-34s" : "%s\n%34s", option, "");
		snprintf(help, sizeof help, *standard ? "%s [%s]" : "%s", setting->help, standard);
		print_wrapped(help, 86, indent);
	}
	puts("A value @path is read from that file (secrets); a plain @ is written @@.");
}

void config_print_markdown(void)
{
	struct arena *arena = arena_new(0);

	puts("| setting | default | environment | what it is |\n|---|---|---|---|");
	for (const struct setting *setting = settings; setting < settings + SETTING_COUNT; setting++) {
		char letter[8] = "";

		if (setting->letter)
			snprintf(letter, sizeof letter, ", `-%c`", setting->letter);
		if (setting->kind == PROPERTY)
			printf("| `-%c %s` | | `" ENV_PROPERTY "<PROPERTY>` |", setting->letter, setting->form);
		else
			printf("| `--%s`%s | %s | `%s` |", setting->name, letter, standard_of(setting),
			       variable_of_name(arena, setting->name));
		printf(" %s%s |\n", setting->help, setting->who == FOR_WORKER ? " (worker)" : "");
	}
	puts("\n| librdkafka property | why it cannot be set |\n|---|---|");
	for (const struct refused *r = refused, *end = refused + sizeof refused / sizeof refused[0]; r < end; r++) {
		printf("| `%s`", r->name);
		for (; r + 1 < end && strcmp(r[1].reason, r->reason) == 0; r++)
			printf(", `%s`", r[1].name);
		printf(" | %s |\n", r->reason);
	}
	arena_free(arena);
}

void config_print_example(void)
{
	puts("# Settings of campaign-worker and campaign-producer, at their defaults where they have one. Give this file as\n"
	     "# --config FILE or in CAMPAIGN_CONFIG. The command line and the environment (CAMPAIGN_LANES=2) come before it.\n"
	     "# A value @path is read from that file, for secrets; a plain @ is written @@.");
	for (const struct setting *setting = settings; setting < settings + SETTING_COUNT; setting++) {
		if (setting->kind == OUR_FILE || setting->kind == PROPERTY)
			continue;
		printf("\n# ");
		print_wrapped(setting->help, 116, "# ");
		printf("#%s = %s\n", setting->name, setting->sample ? setting->sample : setting->standard);
	}
	puts("\n# Any librdkafka property but those that the promises rest on, for instance:\n"
	     "#kafka.security.protocol = SASL_SSL\n"
	     "#kafka.sasl.mechanism = SCRAM-SHA-512\n"
	     "#kafka.sasl.username = campaign-worker\n"
	     "#kafka.sasl.password = @/etc/campaign-worker/kafka-password");
}
