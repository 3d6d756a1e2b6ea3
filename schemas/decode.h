/* Avro bytes to our structs. A value is walked by a guard before avro-c sees it (lengths, counts, ranges, UTF-8, trailing
 * bytes), decoded with the writer's schema and mapped to our fields by index. A field that the writer's schema lacks is null:
 * avro-c's resolvers do not fill defaults. */
#ifndef DECODE_H
#define DECODE_H

#include <stddef.h>

#include "worker/base/arena.h"
#include "worker/base/fault.h"

struct decoder;
struct writer_schema;

struct decoder *decoder_new(void);
void decoder_free(struct decoder *decoder); /* accepts NULL */

/* data lies at byte `base` of what was received (for messages). dest is the zeroed struct of schema's type; its texts are in
 * the arena. FAULT_REJECT says what is wrong and at which byte, without payload bytes. */
int decoder_read(struct decoder *decoder, struct writer_schema *schema, const void *data, size_t size, size_t base,
		 struct arena *arena, void *dest, struct fault *fault) MUST_CHECK;

#endif
