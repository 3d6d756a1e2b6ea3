/* Bytes to structs and back: the only place that knows Avro.
 *
 * Framings, told apart by the first bytes: Confluent (00, 4-byte big-endian schema id) and Avro single-object encoding
 * (C3 01, 8-byte little-endian CRC-64-AVRO fingerprint of the writer schema's Parsing Canonical Form; Avro specification,
 * "Single-object encoding"). Single-object encoding is written.
 * A value is walked by a guard before avro-c sees it (lengths, counts, ranges, UTF-8, trailing bytes), decoded with the
 * writer's schema, mapped to our fields by index, and missing fields get their defaults here: avro-c's resolvers do not
 * fill defaults.
 * A codec is not thread-safe: one per lane. Make them one after another: avro-c's error text, which refused schemas write
 * to, is shared between threads. */
#ifndef CODEC_H
#define CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "worker/base/arena.h"
#include "schemas/command.h"
#include "worker/base/fault.h"

#define RECORD_SIZE_MAX ((size_t)1024 * 1024) /* bytes of a command record's value that are looked at */

struct codec;

/* folder: further writer schemas (*.avsc, of the command or the result; one named by a number, such as 4711.avsc, is also
 * the schema with that id in Confluent's framing), or NULL. Built-in ones are always known. A file that does not parse, or
 * that is no usable command or result (a field we need is absent or of another type), is a FAULT_FATAL that names it. */
struct codec *codec_new(const char *folder, struct fault *fault) MUST_CHECK;
void codec_free(struct codec *codec); /* accepts NULL */

/* Lets Confluent-framed records with this schema id be decoded by that schema text. (A registry client calls this; the
 * tests do.) FAULT_FATAL as above. */
int codec_add_schema_id(struct codec *codec, uint32_t id, const char *schema_json, struct fault *fault) MUST_CHECK;

/* Decodes a command's value into command (strings in arena, lead_ids in the order received, digest not yet computed).
 * -1 with FAULT_REJECT: reason is REASON_UNDECODABLE, REASON_TOO_LARGE, REASON_TOMBSTONE or REASON_UNKNOWN_SCHEMA, and
 * fault->msg says what is wrong and at which byte, without payload bytes. What stays allocated outside the arena is
 * bounded, whatever was received. */
int codec_decode_command(struct codec *codec, const void *value, size_t size, struct arena *arena, struct duplicate_command *command,
			 enum reason *reason, struct fault *fault) MUST_CHECK;
int codec_decode_result(struct codec *codec, const void *value, size_t size, struct arena *arena, struct command_result *result,
			struct fault *fault) MUST_CHECK;

/* Encode into the arena, framed. -1 with FAULT_REJECT if a value does not fit the schema. */
int codec_encode_command(struct codec *codec, const struct duplicate_command *command, struct arena *arena, const void **value,
			 size_t *size, struct fault *fault) MUST_CHECK;
int codec_encode_result(struct codec *codec, const struct command_result *result, struct arena *arena, const void **value,
			size_t *size, struct fault *fault) MUST_CHECK;

/* CRC-64-AVRO of the Parsing Canonical Form of a schema text; canonical (if not NULL) receives the form, to be freed. */
int schema_fingerprint(const char *schema_json, uint64_t *fingerprint, char **canonical, struct fault *fault) MUST_CHECK;

/* The built-in schema texts (schemas/avro/). */
extern const char command_schema_json[], result_schema_json[];

#endif
