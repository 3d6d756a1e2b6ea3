#include "schemas/decode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <avro.h>

#include "schemas/guard.h"
#include "schemas/types.h"
#include "schemas/writer_schema.h"
#include "worker/base/must.h"

struct decoder {
	avro_reader_t reader;
};

static int decode_record(const struct record_type *type, const struct mapping *mapping, avro_value_t *record, char *dest,
			 struct arena *arena);

static int decode_texts(avro_value_t *array, const char ***texts, size_t *count, struct arena *arena)
{
	if (avro_value_get_size(array, count) != 0)
		return -1;
	*texts = arena_array(arena, *count, sizeof **texts);
	for (size_t i = 0; i < *count; i++) {
		avro_value_t item;
		const char *text;
		size_t size; /* counts the NUL */

		if (avro_value_get_by_index(array, i, &item, NULL) != 0 || avro_value_get_string(&item, &text, &size) != 0)
			return -1;
		(*texts)[i] = arena_strndup(arena, text, size - 1);
	}
	return 0;
}

static int decode_text(avro_value_t *value, const char **dest, struct arena *arena)
{
	const char *text;
	size_t size;

	if (avro_value_get_string(value, &text, &size) != 0)
		return -1;
	*dest = arena_strndup(arena, text, size - 1);
	return 0;
}

static int decode_digest(avro_value_t *value, char *dest)
{
	const void *bytes;
	size_t size;

	if (avro_value_get_fixed(value, &bytes, &size) != 0 || size != CAMPAIGN_DIGEST_BYTES)
		return -1;
	memcpy(dest, bytes, size);
	return 0;
}

static int decode_boolean(avro_value_t *value, bool *dest)
{
	int truth;

	if (avro_value_get_boolean(value, &truth) != 0)
		return -1;
	*dest = truth != 0;
	return 0;
}

static int decode_long(avro_value_t *value, int64_t *dest)
{
	int32_t narrow;

	if (avro_value_get_type(value) == AVRO_INT64)
		return avro_value_get_long(value, dest);
	if (avro_value_get_int(value, &narrow) != 0)
		return -1;
	*dest = narrow;
	return 0;
}

/* Into milliseconds, towards the past: a deadline must not move away. */
static int decode_time(avro_value_t *value, int64_t units, int64_t *dest)
{
	int64_t time;

	if (decode_long(value, &time) != 0)
		return -1;
	*dest = time / units - (time % units < 0);
	return 0;
}

static int decode_inner(const struct field *field, const struct mapping *mapping, avro_value_t *value, char *dest,
			struct arena *arena)
{
	if (field->inner->size > 0)
		dest = *(void **)(void *)(dest + field->offset) = arena_alloc(arena, field->inner->size);
	return decode_record(field->inner, mapping->fields, value, dest, arena);
}

static int decode_present(const struct field *field, const struct mapping *mapping, avro_value_t *value, char *dest,
			  struct arena *arena)
{
	void *at = dest + field->offset, *beside = dest + field->companion;

	if (field->companion && field->type != FIELD_TEXTS)
		*(bool *)beside = true;
	switch (field->type) {
	case FIELD_TEXT:
		return decode_text(value, at, arena);
	case FIELD_TEXTS:
		return decode_texts(value, at, beside, arena);
	case FIELD_DIGEST:
		return decode_digest(value, at);
	case FIELD_BOOLEAN:
		return decode_boolean(value, at);
	case FIELD_INT:
		return avro_value_get_int(value, (int32_t *)at);
	case FIELD_LONG:
		return decode_long(value, at);
	case FIELD_TIME:
		return decode_time(value, mapping->units, at);
	case FIELD_RECORD:
		return decode_inner(field, mapping, value, dest, arena);
	}
	return -1;
}

static int decode_field(const struct field *field, const struct mapping *mapping, avro_value_t *value, char *dest,
			struct arena *arena)
{
	avro_value_t branch;

	if (avro_value_get_type(value) == AVRO_UNION) {
		if (avro_value_get_current_branch(value, &branch) != 0)
			return -1;
		value = &branch;
	}
	if (avro_value_get_type(value) == AVRO_NULL)
		return 0;
	return decode_present(field, mapping, value, dest, arena);
}

static int decode_record(const struct record_type *type, const struct mapping *mapping, avro_value_t *record, char *dest,
			 struct arena *arena)
{
	for (size_t i = 0; i < type->count; i++) {
		avro_value_t value;

		if (mapping[i].index < 0)
			continue;
		if (avro_value_get_by_index(record, (size_t)mapping[i].index, &value, NULL) != 0 ||
		    decode_field(&type->fields[i], &mapping[i], &value, dest, arena) != 0)
			return -1;
	}
	return 0;
}

/* Reads the fields that are ours into schema->value. Others are stepped over: avro-c never sees them. A record must not be
 * refused because memory ran out. */
static int read_fields(struct decoder *decoder, struct writer_schema *schema, const void *data, size_t size)
{
	size_t start = 0;
	int failure = 0;

	avro_reader_memory_set_source(decoder->reader, data, (int64_t)size);
	for (size_t i = 0; i < schema->field_count && failure == 0; i++) {
		avro_value_t value;

		if (schema->wanted[i]) {
			must_be(avro_value_get_by_index(schema->value, i, &value, NULL) == 0);
			failure = avro_value_read(decoder->reader, &value);
		} else {
			failure = avro_skip(decoder->reader, (int64_t)(schema->ends[i] - start));
		}
		start = schema->ends[i];
	}
	must_be(failure != ENOMEM);
	return failure;
}

int decoder_read(struct decoder *decoder, struct writer_schema *schema, const void *data, size_t size, size_t base,
		 struct arena *arena, void *dest, struct fault *fault)
{
	size_t values;
	int failed;

	if (guard_record(schema->schema, data, size, base, schema->ends, &values, fault) < 0)
		return -1;
	failed = read_fields(decoder, schema, data, size) != 0 ||
		 decode_record(schema->type, schema->mapping, schema->value, dest, arena) != 0;
	writer_schema_wear(schema, size, values);
	return failed ? fault_set(fault, FAULT_REJECT, "avro-c refused what the guard let through") : 0;
}

struct decoder *decoder_new(void)
{
	struct decoder *decoder = must(calloc(1, sizeof *decoder));

	decoder->reader = must(avro_reader_memory("", 0));
	return decoder;
}

void decoder_free(struct decoder *decoder)
{
	if (decoder == NULL)
		return;
	avro_reader_free(decoder->reader);
	free(decoder);
}
