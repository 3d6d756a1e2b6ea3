/* Our structs to Avro bytes. In our own schemas a nullable field is the union of null and its type, in this order. */
#ifndef ENCODE_H
#define ENCODE_H

#include <stddef.h>

#include "worker/base/arena.h"
#include "worker/base/fault.h"

struct encoder;
struct writer_schema;

struct encoder *encoder_new(void);
void encoder_free(struct encoder *encoder); /* accepts NULL */

/* src is the struct of schema's type. In the arena, behind `header` bytes that are left for the framing; size counts them,
 * and is at most size_max. FAULT_REJECT: a value does not fit the schema, or no reader would take it. */
int encoder_write(struct encoder *encoder, struct writer_schema *schema, const void *src, size_t header, size_t size_max,
		  struct arena *arena, void **value, size_t *size, struct fault *fault) MUST_CHECK;

#endif
