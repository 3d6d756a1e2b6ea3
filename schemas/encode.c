#include "schemas/encode.h"

#include <stdlib.h>
#include <string.h>

#include <avro.h>

#include "schemas/guard.h"
#include "schemas/types.h"
#include "schemas/writer_schema.h"
#include "worker/base/must.h"
#include "worker/base/utf8.h"

struct encoder {
	avro_writer_t writer;
	size_t values; /* elements of arrays */
	struct fault *fault;
};

static int encode_record(struct encoder *encoder, const struct record_type *type, const struct mapping *mapping,
			 avro_value_t *record, const char *src);

/* What avro-c would write and no reader would take is refused. */
static int encode_text(struct encoder *encoder, const struct field *field, avro_value_t *value, const char *text)
{
	size_t len = text ? strlen(text) : 0;

	if (text == NULL)
		return fault_set(encoder->fault, FAULT_REJECT, "field %s is missing", field->name);
	if (len > GUARD_STRING_MAX)
		return fault_set(encoder->fault, FAULT_REJECT, "field %s has %zu bytes, at most %zu", field->name, len,
				 GUARD_STRING_MAX);
	if (!utf8_is_text(text, len))
		return fault_set(encoder->fault, FAULT_REJECT, "field %s is not UTF-8", field->name);
	must_be(avro_value_set_string_len(value, (char *)text, len + 1) == 0); /* counts the NUL */
	return 0;
}

static int encode_texts(struct encoder *encoder, const struct field *field, avro_value_t *array, const char *const *texts,
			size_t count)
{
	for (size_t i = 0; i < count; i++) {
		avro_value_t item;

		encoder->values++;
		must_be(avro_value_append(array, &item, NULL) == 0);
		if (encode_text(encoder, field, &item, texts[i]) < 0)
			return -1;
	}
	return 0;
}

static int encode_present(struct encoder *encoder, const struct field *field, const struct mapping *mapping,
			  avro_value_t *value, const char *src)
{
	const void *at = src + field->offset, *beside = src + field->companion;

	switch (field->type) {
	case FIELD_TEXT:
		return encode_text(encoder, field, value, *(const char *const *)at);
	case FIELD_TEXTS:
		return encode_texts(encoder, field, value, *(const char *const *const *)at, *(const size_t *)beside);
	case FIELD_DIGEST:
		must_be(avro_value_set_fixed(value, (void *)at, CAMPAIGN_DIGEST_BYTES) == 0);
		return 0;
	case FIELD_BOOLEAN:
		must_be(avro_value_set_boolean(value, *(const bool *)at) == 0);
		return 0;
	case FIELD_INT:
		must_be(avro_value_set_int(value, *(const int32_t *)at) == 0);
		return 0;
	case FIELD_LONG:
	case FIELD_TIME:
		must_be(avro_value_set_long(value, *(const int64_t *)at) == 0);
		return 0;
	case FIELD_RECORD:
		return encode_record(encoder, field->inner, mapping->fields, value,
				     field->inner->size > 0 ? *(const char *const *)at : src);
	}
	return -1;
}

static int encode_field(struct encoder *encoder, const struct field *field, const struct mapping *mapping, avro_value_t *value,
			const char *src)
{
	bool null = field_is_null(field, src);
	avro_value_t branch;

	if (!field->nullable)
		return encode_present(encoder, field, mapping, value, src);
	must_be(avro_value_set_branch(value, null ? 0 : 1, &branch) == 0);
	return null ? 0 : encode_present(encoder, field, mapping, &branch, src);
}

static int encode_record(struct encoder *encoder, const struct record_type *type, const struct mapping *mapping,
			 avro_value_t *record, const char *src)
{
	for (size_t i = 0; i < type->count; i++) {
		avro_value_t value;

		must_be(avro_value_get_by_index(record, (size_t)mapping[i].index, &value, NULL) == 0);
		if (encode_field(encoder, &type->fields[i], &mapping[i], &value, src) < 0)
			return -1;
	}
	return 0;
}

static int write_value(struct encoder *encoder, avro_value_t *from, size_t header, size_t size_max, struct arena *arena,
		       void **value, size_t *size)
{
	size_t body;

	must_be(avro_value_sizeof(from, &body) == 0);
	*size = header + body;
	if (*size > size_max)
		return fault_set(encoder->fault, FAULT_REJECT, "the value has %zu bytes, at most %zu", *size, size_max);
	*value = arena_alloc(arena, *size);
	avro_writer_memory_set_dest(encoder->writer, (char *)*value + header, (int64_t)body);
	must_be(avro_value_write(encoder->writer, from) == 0);
	return 0;
}

int encoder_write(struct encoder *encoder, struct writer_schema *schema, const void *src, size_t header, size_t size_max,
		  struct arena *arena, void **value, size_t *size, struct fault *fault)
{
	int failed;

	encoder->values = 0;
	encoder->fault = fault;
	must_be(avro_value_reset(schema->value) == 0);
	failed = encode_record(encoder, schema->type, schema->mapping, schema->value, src);
	if (!failed)
		failed = write_value(encoder, schema->value, header, size_max, arena, value, size);
	writer_schema_wear(schema, failed ? size_max : *size, schema->field_count + encoder->values);
	return failed;
}

struct encoder *encoder_new(void)
{
	struct encoder *encoder = must(calloc(1, sizeof *encoder));

	encoder->writer = must(avro_writer_memory("", 0));
	return encoder;
}

void encoder_free(struct encoder *encoder)
{
	if (encoder == NULL)
		return;
	avro_writer_free(encoder->writer);
	free(encoder);
}
