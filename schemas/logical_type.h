/* Logical types of an Avro schema's fields. They change neither the encoding nor the fingerprint, and avro-c does not keep
 * them: they are read from the schema's text. */
#ifndef LOGICAL_TYPE_H
#define LOGICAL_TYPE_H

#include <stdint.h>

#include "worker/base/fault.h"

struct logical_types;

/* json is a schema whose fingerprint could be computed. Freed by logical_types_free, which accepts NULL. */
struct logical_types *logical_types_read(const char *json);
void logical_types_free(struct logical_types *types);

/* How many units of a time field are a millisecond: 1 where it is timestamp-millis or says nothing, 1000 for
 * timestamp-micros, 1000000 for timestamp-nanos. record is the name of the field's record, without a namespace.
 * FAULT_FATAL: it is another logical type, which names no instant. */
int logical_types_units(const struct logical_types *types, const char *record, const char *field, int64_t *units,
			struct fault *fault) MUST_CHECK;

#endif
