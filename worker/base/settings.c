#include "worker/base/settings.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "worker/base/distance.h"

#define BOTH (FOR_WORKER | FOR_PRODUCER)
#define MEMORY_MIN (16L * 1024 * 1024)

static const char *const log_formats[] = { "text", "json", NULL };
static const char *const log_levels[] = { "debug", "info", "warn", "error", NULL };

#define AT(field) offsetof(struct config, field)

const struct setting setting_table[] = {
	{ "brokers", 'b', SETTING_TEXT, BOTH, "HOST:PORT,...", "localhost:9092", NULL, 1, 4096, NULL, false, AT(brokers),
	  "Kafka brokers to begin with" },
	{ "group", 0, SETTING_TEXT, FOR_WORKER, "NAME", "campaign-duplicator", NULL, 1, 120, NULL, false, AT(group),
	  "consumer group; workers of one group share the partitions" },
	{ "instance", 0, SETTING_TEXT, FOR_WORKER, "NAME", NULL, "campaign-worker-0", 1, 100, NULL, false, AT(instance),
	  "name of this worker: unique in the group and the same after a restart (a StatefulSet's ordinal, a host name), so "
	  "that a restart ends its predecessor's transaction at once" },
	{ "commands", 0, SETTING_TOPIC, BOTH, "TOPIC", "campaigns.duplicate.commands.v1", NULL, 0, 0, NULL, false, AT(commands),
	  "topic of commands" },
	{ "results", 0, SETTING_TOPIC, BOTH, "TOPIC", "campaigns.duplicate.results.v1", NULL, 0, 0, NULL, false, AT(results),
	  "topic of results" },
	{ "dead-letters", 0, SETTING_TOPIC, BOTH, "TOPIC", "campaigns.duplicate.dead-letters.v1", NULL, 0, 0, NULL, false,
	  AT(dead_letters),
	  "topic of dead letters" },
	{ "database", 0, SETTING_TEXT, FOR_WORKER, "CONNINFO", "", "host=db.example dbname=campaigns user=campaign_worker", 0,
	  8192, NULL,
	  true, AT(database),
	  "PostgreSQL as libpq's conninfo or URI; what it leaves out comes from the PG* variables and ~/.pgpass" },
	{ "database-schema", 0, SETTING_TEXT, FOR_WORKER, "NAME", "public", NULL, 1, 63, NULL, false, AT(database_schema),
	  "schema of the worker's tables in that database; migrate creates it. No search_path of the login or the conninfo counts" },
	{ "schemas", 0, SETTING_TEXT, BOTH, "FOLDER", "", "/etc/campaign-worker/schemas", 0, 4096, NULL, false, AT(schemas),
	  "folder with further Avro writer schemas (*.avsc; 4711.avsc is also the one with that registry id); those built in are always known" },
	{ "lanes", 0, SETTING_NUMBER, FOR_WORKER, "N", "1", NULL, 1, 64, NULL, false, AT(lanes),
	  "independent lanes: each a thread with a consumer, a producer and a PostgreSQL connection of its own" },
	{ "batch", 0, SETTING_NUMBER, FOR_WORKER, "N", "500", NULL, 1, 10000, NULL, false, AT(batch),
	  "most commands in one transaction; fewer are taken when fewer are ready" },
	{ "batch-ms", 0, SETTING_NUMBER, FOR_WORKER, "MS", "250", NULL, 1, 60000, NULL, false, AT(batch_ms),
	  "time that PostgreSQL should need for a batch: fewer commands are taken when the last ones took longer" },
	{ "memory", 0, SETTING_SIZE, FOR_WORKER, "BYTES", "32MiB", NULL, MEMORY_MIN, 1024L * 1024 * 1024, NULL, false, AT(memory),
	  "about what a lane takes of memory, whatever the backlog: bounds the commands that are fetched ahead and in a batch" },
	{ "drain-ms", 0, SETTING_NUMBER, FOR_WORKER, "MS", "25000", NULL, 100, 3600000, NULL, false, AT(drain_ms),
	  "after SIGTERM, time to finish the batch and leave the group" },
	{ "breaker", 0, SETTING_NUMBER, FOR_WORKER, "N", "5", NULL, 1, 1000000, NULL, false, AT(breaker),
	  "when that many commands in a row fail in the database for one cause, stop answering and probe with one at a time" },
	{ "lock-timeout-ms", 0, SETTING_NUMBER, FOR_WORKER, "MS", "2000", NULL, 10, 600000, NULL, false, AT(lock_timeout_ms),
	  "a partition waits three times that for rows that another session has locked; then the command is refused" },
	{ "statement-timeout-ms", 0, SETTING_NUMBER, FOR_WORKER, "MS", "30000", NULL, 100, 3600000, NULL, false,
	  AT(statement_timeout_ms),
	  "longest run of one statement" },
	{ "audience-leads-max", 0, SETTING_NUMBER, FOR_WORKER, "N", "50000", NULL, 1, 10000000, NULL, false,
	  AT(audience_leads_max),
	  "largest audience that may be duplicated whole, without leadIds" },
	{ "dead-letter-bytes", 0, SETTING_SIZE, FOR_WORKER, "BYTES", "900000", NULL, 1024, 16L * 1024 * 1024, NULL, false,
	  AT(dead_letter_bytes), "longer records are cut to this in the dead-letter topic; below the broker's limit" },
	{ "log-format", 0, SETTING_WORD, BOTH, "text|json", "text", NULL, 0, 0, log_formats, false, AT(log_format),
	  "the log on stderr: text (key=value) or json, a line an event" },
	{ "log-level", 0, SETTING_WORD, BOTH, "debug|info|warn|error", "info", NULL, 0, 0, log_levels, false, AT(log_level),
	  "least level that is logged: debug, info, warn or error" },
	{ "config", 0, SETTING_OUR_FILE, BOTH, "FILE", "", NULL, 1, 4096, NULL, false, 0,
	  "file of settings: lines `name = value`, librdkafka properties as `kafka.<property> = value`, # comments" },
	{ "kafka-file", 'F', SETTING_KAFKA_FILE, BOTH, "FILE", "", "/etc/campaign-worker/kafka.properties", 1, 4096, NULL,
	  false, 0,
	  "file of librdkafka properties as kcat's: lines `property=value`, # comments" },
	{ "librdkafka", 'X', SETTING_PROPERTY, BOTH, "PROPERTY=VALUE", "", NULL, 0, 0, NULL, false, 0,
	  "any librdkafka property but those that the promises rest on; repeatable; in the environment "
	  ENV_PROPERTY "SASL_PASSWORD for sasl.password" },
};

const size_t setting_count = sizeof setting_table / sizeof setting_table[0];

const char *setting_nearest(enum program program, const char *name)
{
	const char *nearest = NULL;
	size_t least = strlen(name) < 5 ? 2 : 3;

	for (const struct setting *setting = setting_table; setting < setting_table + setting_count; setting++) {
		size_t distance = distance_between(name, setting->name);

		if (setting->kind != SETTING_PROPERTY && (setting->who & (int)program) && distance < least) {
			least = distance;
			nearest = setting->name;
		}
	}
	return nearest;
}

const struct setting *setting_find(const char *name, size_t len)
{
	for (const struct setting *setting = setting_table; setting < setting_table + setting_count; setting++)
		if (setting->kind != SETTING_PROPERTY && strlen(setting->name) == len && memcmp(setting->name, name, len) == 0)
			return setting;
	return NULL;
}

char *setting_variable(struct arena *arena, const char *name)
{
	char *variable = arena_printf(arena, ENV_PREFIX "%s", name);

	for (char *p = variable; *p; p++)
		*p = *p == '-' || *p == '.' ? '_' : (char)toupper((unsigned char)*p);
	return variable;
}
