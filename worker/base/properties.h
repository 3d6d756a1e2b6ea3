/* librdkafka's properties as plain data: which ones every client of ours gets, which the promises rest on, and which nobody
 * may set. Whoever makes a client applies properties_list to it; librdkafka itself is not known here. */
#ifndef PROPERTIES_H
#define PROPERTIES_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/base/arena.h"
#include "worker/base/fault.h"

enum kafka_client {
	KAFKA_CONSUMER, /* of the worker's group */
	KAFKA_TRANSACTIONAL_PRODUCER,
	KAFKA_PRODUCER,
	KAFKA_ADMIN,
	KAFKA_READER, /* of a whole topic, in no group */
};

struct property {
	const char *name, *value;
	const char *origin; /* where it was given, for messages: "command line", "environment variable X", "file.conf:12" */
};

/* What a client's properties follow from. */
struct property_source {
	const char *brokers, *client_id;
	int queue_kbytes;   /* of a KAFKA_CONSUMER: records fetched ahead */
	int message_bytes;  /* of a producer: the largest record */
	bool zstd;          /* whether librdkafka was built with it */
	const struct property *given; /* by the user */
	size_t given_count;
};

/* The client's properties in the order in which they are set: our defaults, the user's over them, the values that the
 * promises rest on last. The array is the arena's, the texts are borrowed. group.id and transactional.id are not in it. */
const struct property *properties_list(const struct property_source *source, enum kafka_client client, struct arena *arena,
				       size_t *count);

/* FAULT_FATAL, with the name and the origin, if that is not the name of a property, if the value is empty, or if the property
 * is one that nobody may set (with the reason). */
int property_check(const struct property *property, struct fault *fault) MUST_CHECK;

#define DEAD_LETTER_HEADERS_BYTES 100000 /* of a dead letter's record, beside what was received */

/* What a worker's settings need of its clients. */
struct property_needs {
	int batch;       /* commands */
	int batch_bytes; /* of their records */
};

/* FAULT_FATAL, with the name, the origin and the reason, if a value that was given cannot work with the others or with the needs.
 * needs NULL: a client that publishes one record at a time. Values that brokers refuse are told when they do. */
int properties_check(const struct property *given, size_t count, const struct property_needs *needs, struct fault *fault) MUST_CHECK;

/* Those that nobody may set, for a table: NULL behind the last. Neighbours may have the same reason. */
const char *property_refused(size_t index, const char **reason);

/* FAULT_FATAL for a name that librdkafka does not know, naming the property that it resembles. documentation: what
 * rd_kafka_conf_properties_show prints; it is changed. version: librdkafka's. */
int property_unknown(const struct property *property, const char *version, char *documentation, struct fault *fault);

#endif
