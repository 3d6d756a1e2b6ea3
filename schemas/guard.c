#include "schemas/guard.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <avro.h>

#include "worker/base/utf8.h"

struct walk {
	const uint8_t *data;
	size_t size, pos;
	size_t base;
	size_t values; /* so far */
	int depth;
	const char *field; /* of the outermost record */
	struct fault *fault;
};

static int walk_value(struct walk *walk, avro_schema_t schema);

static int refuse(struct walk *walk, size_t at, const char *fmt, ...) PRINTF(3, 4);

static int refuse(struct walk *walk, size_t at, const char *fmt, ...)
{
	char what[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	return fault_set(walk->fault, FAULT_REJECT, "field %s, byte %zu: %s", walk->field, walk->base + at, what);
}

static size_t left(const struct walk *walk)
{
	return walk->size - walk->pos;
}

static int walk_bytes(struct walk *walk, size_t n)
{
	if (n > left(walk))
		return refuse(walk, walk->pos, "%zu bytes wanted, %zu left", n, left(walk));
	walk->pos += n;
	return 0;
}

/* Variable-length zig-zag. Needlessly long forms within ten bytes are let through, as every Avro library does. */
static int walk_long(struct walk *walk, int64_t *value)
{
	size_t start = walk->pos;
	uint64_t raw = 0;

	for (int shift = 0; shift < 70; shift += 7) {
		uint8_t byte;

		if (left(walk) == 0)
			return refuse(walk, start, "a number is cut off");
		byte = walk->data[walk->pos++];
		if (shift == 63 && byte > 1)
			break;
		raw |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*value = (int64_t)(raw >> 1 ^ -(raw & 1));
			return 0;
		}
	}
	return refuse(walk, start, "a number has more than 64 bits");
}

static int walk_range(struct walk *walk, int64_t least, int64_t most, const char *what, int64_t *value)
{
	size_t start = walk->pos;

	if (walk_long(walk, value) < 0)
		return -1;
	if (*value < least || *value > most)
		return refuse(walk, start, "%s is out of range: %" PRId64 ", not %" PRId64 " to %" PRId64, what, *value, least,
			      most);
	return 0;
}

static int walk_boolean(struct walk *walk)
{
	size_t start = walk->pos;

	if (walk_bytes(walk, 1) < 0)
		return -1;
	if (walk->data[start] > 1)
		return refuse(walk, start, "a boolean is neither 0 nor 1");
	return 0;
}

/* bytes, and strings, which must be text */
static int walk_block_of_bytes(struct walk *walk, bool text)
{
	size_t start = walk->pos;
	int64_t len;

	if (walk_long(walk, &len) < 0)
		return -1;
	if (len < 0 || (uint64_t)len > left(walk))
		return refuse(walk, start, "a length of %" PRId64 ", %zu bytes left", len, left(walk));
	if (text && (size_t)len > GUARD_STRING_MAX)
		return refuse(walk, start, "a string of %" PRId64 " bytes, at most %zu", len, GUARD_STRING_MAX);
	if (text && !utf8_is_text((const char *)walk->data + walk->pos, (size_t)len))
		return refuse(walk, start, "a string is not UTF-8 or has a NUL");
	walk->pos += (size_t)len;
	return 0;
}

/* An array or, with keys, a map: blocks of a count, if negative followed by the block's size in bytes, and that
 * many elements; a count of zero ends it. */
static int walk_blocks(struct walk *walk, avro_schema_t element, bool keys)
{
	for (;;) {
		size_t start = walk->pos, block = 0;
		int64_t count, bytes = -1;

		if (walk_long(walk, &count) < 0)
			return -1;
		if (count == 0)
			return 0;
		if (count < 0) {
			if (count < -(int64_t)GUARD_VALUES_MAX)
				return refuse(walk, start, "a block of %" PRId64 " values", count);
			if (walk_range(walk, 0, (int64_t)left(walk), "a block's size", &bytes) < 0)
				return -1;
			count = -count;
			block = walk->pos;
		}
		if ((uint64_t)count > GUARD_VALUES_MAX - walk->values)
			return refuse(walk, start, "a block of %" PRId64 " values, at most %zu in a record", count,
				      GUARD_VALUES_MAX);
		while (count-- > 0)
			if ((keys && walk_block_of_bytes(walk, true) < 0) || walk_value(walk, element) < 0)
				return -1;
		if (bytes >= 0 && walk->pos - block != (size_t)bytes)
			return refuse(walk, start, "a block says %" PRId64 " bytes and has %zu", bytes, walk->pos - block);
	}
}

static int walk_union(struct walk *walk, avro_schema_t schema)
{
	int64_t branch;

	if (walk_range(walk, 0, (int64_t)avro_schema_union_size(schema) - 1, "a union's branch", &branch) != 0)
		return -1;
	return walk_value(walk, avro_schema_union_branch(schema, (int)branch));
}

static int walk_fields(struct walk *walk, avro_schema_t schema)
{
	size_t n = avro_schema_record_size(schema);

	for (size_t i = 0; i < n; i++)
		if (walk_value(walk, avro_schema_record_field_get_by_index(schema, (int)i)) != 0)
			return -1;
	return 0;
}

static int walk_typed(struct walk *walk, avro_schema_t schema)
{
	int64_t number;

	switch (avro_typeof(schema)) {
	case AVRO_NULL:
		return 0;
	case AVRO_BOOLEAN:
		return walk_boolean(walk);
	case AVRO_INT32:
		return walk_range(walk, INT32_MIN, INT32_MAX, "an int", &number);
	case AVRO_INT64:
		return walk_long(walk, &number);
	case AVRO_FLOAT:
		return walk_bytes(walk, sizeof(float));
	case AVRO_DOUBLE:
		return walk_bytes(walk, sizeof(double));
	case AVRO_BYTES:
		return walk_block_of_bytes(walk, false);
	case AVRO_STRING:
		return walk_block_of_bytes(walk, true);
	case AVRO_FIXED:
		return walk_bytes(walk, (size_t)avro_schema_fixed_size(schema));
	case AVRO_ENUM:
		return walk_range(walk, 0, avro_schema_enum_number_of_symbols(schema) - 1, "an enum", &number);
	case AVRO_UNION:
		return walk_union(walk, schema);
	case AVRO_ARRAY:
		return walk_blocks(walk, avro_schema_array_items(schema), false);
	case AVRO_MAP:
		return walk_blocks(walk, avro_schema_map_values(schema), true);
	case AVRO_RECORD:
		return walk_fields(walk, schema);
	case AVRO_LINK:
		return walk_value(walk, avro_schema_link_target(schema));
	default:
		return refuse(walk, walk->pos, "its schema has a type that is not known");
	}
}

static int walk_value(struct walk *walk, avro_schema_t schema)
{
	int failed;

	if (walk->values == GUARD_VALUES_MAX)
		return refuse(walk, walk->pos, "more than %zu values", GUARD_VALUES_MAX);
	if (walk->depth == GUARD_DEPTH_MAX)
		return refuse(walk, walk->pos, "nested deeper than %d values", GUARD_DEPTH_MAX);
	walk->values++;
	walk->depth++;
	failed = walk_typed(walk, schema);
	walk->depth--;
	return failed;
}

int guard_record(struct avro_obj_t *schema, const void *data, size_t size, size_t base, size_t *ends, size_t *values,
		 struct fault *fault)
{
	struct walk walk = { .data = data, .size = size, .base = base, .fault = fault };
	size_t n = avro_schema_record_size(schema);

	for (size_t i = 0; i < n; i++) {
		walk.field = avro_schema_record_field_name(schema, (int)i);
		if (walk_value(&walk, avro_schema_record_field_get_by_index(schema, (int)i)) != 0)
			return -1;
		ends[i] = walk.pos;
	}
	if (walk.pos != size)
		return fault_set(fault, FAULT_REJECT, "byte %zu: %zu bytes too many", base + walk.pos, size - walk.pos);
	*values = walk.values;
	return 0;
}
