/* One record of the commands topic as it was received, and what a batch makes of it. */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/reason.h"
#include "schemas/types.h"

struct header {
	const char *name;
	const void *value; /* NULL: a null value */
	size_t size;
};

struct record {
	const char *topic;
	int32_t partition;
	int64_t offset;
	int64_t timestamp_ms; /* -1: the record has none */
	bool stamped_by_broker; /* LogAppendTime; otherwise the time is the publisher's word */
	const void *key;      /* NULL: a null key */
	size_t key_size;
	const void *value;    /* NULL: a tombstone */
	size_t value_size;
	const struct header *headers;
	size_t header_count;
};

/* What becomes of a record; filled in this order by lane, codec, command and execution, published by the publisher. */
struct job {
	struct record record;
	struct command_head *command; /* the operation's struct, which begins with it (arena); set before anything else is */
	bool executable;       /* passed rules 0 and 1, and is no copy: the store judges it */
	/* The record before it that holds the same command, and gives it its outcome; NULL: it has an outcome of its own. */
	struct job *copy_of;
	bool shared; /* executable, and a copy of another timestamp takes its outcome: it must not be refused by a rate limit */
	bool answerable;       /* a traceId could be read: result is published */
	bool dead_letter;      /* the record goes to the dead-letter topic as well */
	const struct reason *reason; /* NULL: accepted */
	const char *cause;     /* of a dead letter: one line, no payload (arena); NULL otherwise */
	const char *key_public_id; /* of the API key, for the log (arena); NULL: not known */
	struct command_result result;
};

#endif
