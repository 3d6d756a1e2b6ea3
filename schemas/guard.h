/* A walk over the bytes of an Avro record before avro-c reads them: lengths against what is left, block counts and byte
 * sizes, ranges of boolean, int, enum and union, varints of at most 64 bits, UTF-8 without NUL, depth, number of values
 * and trailing bytes. What passes here cannot make avro-c fail, leak or allocate more than a small multiple of the
 * record's size plus GUARD_VALUES_MAX values. Allocates nothing itself. */
#ifndef GUARD_H
#define GUARD_H

#include <stddef.h>

#include "worker/base/fault.h"

#define GUARD_VALUES_MAX ((size_t)100000)      /* values in one record, the elements of its arrays and maps included */
#define GUARD_STRING_MAX ((size_t)64 * 1024) /* bytes of one string */
#define GUARD_DEPTH_MAX 64                   /* values in values */

struct avro_obj_t; /* avro-c's avro_schema_t points to one */

/* schema is the writer's: a record, trusted. data lies at byte `base` of what was received (for messages). ends has room
 * for an offset for each field of the record: where it ends in data. values receives the number of values.
 * -1 with FAULT_REJECT: names the field and the byte, shows nothing of the payload but lengths and counts. */
int guard_record(struct avro_obj_t *schema, const void *data, size_t size, size_t base, size_t *ends, size_t *values,
		 struct fault *fault) MUST_CHECK;

#endif
