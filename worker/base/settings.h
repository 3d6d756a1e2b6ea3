/* The settings: the struct that they are stored in, and the one table that says what each is. It drives the command line, the
 * environment (CAMPAIGN_...), the file, --help, the README's table and the example file. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/base/arena.h"
#include "worker/base/log.h"
#include "worker/base/properties.h"

#define ENV_PREFIX "CAMPAIGN_"
#define ENV_PROPERTY "CAMPAIGN_KAFKA_"

enum program { FOR_WORKER = 1, FOR_PRODUCER = 2 };

struct config {
	enum program program;
	/* NULL: empty, or not a setting of this program. */
	const char *brokers, *group, *instance, *commands, *results, *dead_letters, *database, *database_schema, *schemas;
	int lanes, batch, batch_ms, memory, drain_ms, breaker;
	int batch_bytes; /* follows from memory: of commands in a batch, received and decoded; of those waiting; of librdkafka's queue */
	int lock_timeout_ms, statement_timeout_ms, audience_leads_max, dead_letter_bytes;
	enum log_format log_format;
	enum log_level log_level;
	struct property *properties;
	size_t property_count;
	void *storage; /* owned by config_load */
};

enum setting_kind {
	SETTING_TEXT,     /* min to max bytes, no control characters */
	SETTING_TOPIC,    /* a legal topic name */
	SETTING_NUMBER,   /* min to max */
	SETTING_SIZE,     /* the same in bytes, or with KiB or MiB */
	SETTING_WORD,     /* one of words, stored as its index */
	/* Not stored in struct config: */
	SETTING_OUR_FILE, /* the settings file itself */
	SETTING_KAFKA_FILE,
	SETTING_PROPERTY, /* name=value, repeatable, only by its letter */
};

struct setting {
	const char *name;
	char letter; /* short option, or 0 */
	enum setting_kind kind;
	int who;
	const char *form, *standard; /* what a value looks like; the default, NULL for the host's name */
	const char *sample;          /* for the example file where the default says nothing, or NULL */
	long min, max;
	const char *const *words;
	bool secret;
	size_t place; /* in struct config */
	const char *help;
};

extern const struct setting setting_table[];
extern const size_t setting_count;

/* NULL: there is none, or it has no name but only a letter. */
const struct setting *setting_find(const char *name, size_t len);
/* The name of that program's setting (FOR_WORKER | FOR_PRODUCER: of either's) that is nearly this one, for "did you mean";
 * NULL if none is. */
const char *setting_nearest(enum program program, const char *name);
/* The environment variable of the setting of that name. */
char *setting_variable(struct arena *arena, const char *name);

#endif
