/* Framed bytes to structs and back.
 * A codec is not thread-safe: one per lane. Make them one after another: avro-c's error text, which refused schemas write
 * to, is shared between threads. */
#ifndef CODEC_H
#define CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "schemas/contract.h"
#include "schemas/types.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"

#define RECORD_SIZE_MAX ((size_t)1024 * 1024) /* bytes of a command record's value that are looked at */

struct codec;

/* Who knows the schemas that are known neither here nor in the folder, such as a schema registry. */
struct schema_source {
	/* The schema with that id (Confluent's framing), as a string to be freed; *json stays NULL if there is no such id. -1
	 * with FAULT_WAIT: it cannot be told now. Asked again for each record whose schema was not found: what it may ask
	 * others, and how often, is its own to bound. */
	int (*find)(void *arg, uint32_t id, char **json, struct fault *fault);
	void *arg;
};

/* folder: further writer schemas (*.avsc, of the command or the result; one named by a number, such as 4711.avsc, is also
 * the schema with that id in Confluent's framing), or NULL. Built-in ones are always known. A file that does not parse, or
 * that is no usable command or result (a field we need is absent or of another type), is a FAULT_FATAL that names it.
 * contract and source (NULL: none) are borrowed. */
struct codec *codec_new(const struct contract *contract, const char *folder, const struct schema_source *source,
			struct fault *fault) MUST_CHECK;
void codec_free(struct codec *codec); /* accepts NULL */
const struct contract *codec_contract(const struct codec *codec);

/* Decodes a command's value into the contract's struct (texts in arena, in the order received, digest not yet computed).
 * -1 with FAULT_REJECT: reason is reason_undecodable, reason_too_large, reason_tombstone or reason_unknown_schema, and
 * fault->msg says what is wrong and at which byte, without payload bytes. -1 with FAULT_WAIT: the schema's source cannot tell
 * now, so nothing is known of the record. What stays allocated outside the arena is bounded, whatever was received. */
int codec_decode_command(struct codec *codec, const void *value, size_t size, struct arena *arena, struct command_head *command,
			 const struct reason **reason, struct fault *fault) MUST_CHECK;
int codec_decode_result(struct codec *codec, const void *value, size_t size, struct arena *arena, struct command_result *result,
			struct fault *fault) MUST_CHECK;

/* Encode into the arena, framed. -1 with FAULT_REJECT if a value does not fit the schema. */
int codec_encode_command(struct codec *codec, const struct command_head *command, struct arena *arena, const void **value,
			 size_t *size, struct fault *fault) MUST_CHECK;
int codec_encode_result(struct codec *codec, const struct command_result *result, struct arena *arena, const void **value,
			size_t *size, struct fault *fault) MUST_CHECK;

#endif
