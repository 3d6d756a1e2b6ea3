/* The guard against every type and every hostile encoding, on schemas of one field `f`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <avro.h>

#include "schemas/guard.h"
#include "bytes.h"

#define COUNT(array) (sizeof array / sizeof array[0])
#define BYTES(text) text, sizeof text - 1
#define TEN_TRUE "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" /* the largest long */

static avro_schema_t parse(const char *type)
{
	char json[2000];
	avro_schema_t schema;

	snprintf(json, sizeof json, "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"f\",\"type\":%s}]}", type);
	if (avro_schema_from_json_length(json, strlen(json), &schema) != 0)
		fail_msg("%s: %s", json, avro_strerror());
	return schema;
}

/* A copy that is exactly as large as size: AddressSanitizer finds a read beyond it. */
static int guard_copy(avro_schema_t schema, const void *data, size_t size, struct fault *fault)
{
	struct bytes copy = { 0 };
	size_t end = SIZE_MAX, values, before;
	int failed;

	put_raw(&copy, data, size);
	before = allocated_bytes();
	failed = guard_record(schema, copy.data, size, 10, &end, &values, fault);
	assert_int_equal(allocated_bytes(), before);
	if (!failed)
		assert_int_equal(end, size);
	free_bytes(&copy);
	return failed;
}

static const struct {
	const char *type, *data;
	size_t size;
	const char *wanted; /* NULL: let through; else part of the message */
} cases[] = {
	{ "\"null\"", BYTES(""), NULL },
	{ "\"null\"", BYTES("\0"), "byte 10: 1 bytes too many" },
	{ "\"boolean\"", BYTES("\0xyz"), "byte 11: 3 bytes too many" },
	{ "\"boolean\"", BYTES("\0"), NULL },
	{ "\"boolean\"", BYTES("\1"), NULL },
	{ "\"boolean\"", BYTES("\2"), "field f, byte 10: a boolean is neither 0 nor 1" },
	{ "\"boolean\"", BYTES(""), "1 bytes wanted, 0 left" },
	{ "\"int\"", BYTES("\xff\xff\xff\xff\x0f"), NULL }, /* -2^31 */
	{ "\"int\"", BYTES("\xfe\xff\xff\xff\x0f"), NULL }, /* 2^31 - 1 */
	{ "\"int\"", BYTES("\x80\x80\x80\x80\x10"), "an int is out of range: 2147483648" },
	{ "\"int\"", BYTES("\x81\x80\x80\x80\x10"), "an int is out of range: -2147483649" },
	{ "\"int\"", BYTES("\x80"), "a number is cut off" },
	{ "\"long\"", BYTES("\x80\x80\x00"), NULL }, /* zero, needlessly long */
	{ "\"long\"", BYTES(TEN_TRUE), NULL },
	{ "\"long\"", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), NULL },
	{ "\"long\"", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), "more than 64 bits" },
	{ "\"long\"", BYTES("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), "more than 64 bits" },
	{ "\"long\"", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "cut off" },
	{ "\"float\"", BYTES("1234"), NULL },
	{ "\"float\"", BYTES("123"), "4 bytes wanted, 3 left" },
	{ "\"double\"", BYTES("12345678"), NULL },
	{ "\"double\"", BYTES("1234567"), "8 bytes wanted, 7 left" },
	{ "\"bytes\"", BYTES("\x06\0\xff\x80"), NULL },
	{ "\"bytes\"", BYTES("\x08\0\xff\x80"), "a length of 4, 3 bytes left" },
	{ "\"bytes\"", BYTES("\x01"), "a length of -1" },
	{ "\"string\"", BYTES("\x06" "abc"), NULL },
	{ "\"string\"", BYTES("\0"), NULL },
	{ "\"string\"", BYTES("\xd0\x0f"), "field f, byte 10: a length of 1000, 0 bytes left" },
	{ "\"string\"", BYTES("\x80\x80\x80\x80\x08" "x"), "a length of 1073741824" },
	{ "\"string\"", BYTES("\x01"), "a length of -1" },
	{ "\"string\"", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "a length of -9223372036854775808" },
	{ "\"string\"", BYTES(TEN_TRUE), "a length of 9223372036854775807" },
	{ "\"string\"", BYTES("\x06" "a\xff" "c"), "not UTF-8 or has a NUL" },
	{ "\"string\"", BYTES("\x06" "a\0c"), "not UTF-8 or has a NUL" },
	{ "\"string\"", BYTES("\x02\xc3\xa4"), "not UTF-8" }, /* the length cuts a character */
	{ "{\"type\":\"fixed\",\"name\":\"F\",\"size\":3}", BYTES("abc"), NULL },
	{ "{\"type\":\"fixed\",\"name\":\"F\",\"size\":3}", BYTES("ab"), "3 bytes wanted, 2 left" },
	{ "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"B\"]}", BYTES("\x02"), NULL },
	{ "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"B\"]}", BYTES("\x04"), "an enum is out of range: 2, not 0 to 1" },
	{ "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"B\"]}", BYTES("\x01"), "an enum is out of range: -1" },
	{ "[\"null\",\"int\"]", BYTES("\0"), NULL },
	{ "[\"null\",\"int\"]", BYTES("\x02\x02"), NULL },
	{ "[\"null\",\"int\"]", BYTES("\x04\x02"), "a union's branch is out of range: 2, not 0 to 1" },
	{ "[\"null\",\"int\"]", BYTES("\x01"), "a union's branch is out of range: -1" },
	{ "[\"null\",\"int\"]", BYTES("\x80\x80\x80\x80\x20\x02"), "a union's branch is out of range" }, /* 2^32: 0 as an int */
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\0"), NULL },
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\4\2\2\2\2\0"), NULL },
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\3\4\2\2\0"), NULL },
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\3\2\2\2\0"), "a block says 1 bytes and has 2" },
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\3\6\2\2\0"), "a block says 3 bytes and has 2" },
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\3\1\2\2\0"), "a block's size is out of range: -1" },
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\3\x80\x80\4\2\2\0"), "a block's size is out of range" },
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\3\0\2\2\0"), "a block says 0 bytes and has 2" },
	{ "{\"type\":\"array\",\"items\":\"null\"}", BYTES("\3\0\0"), NULL },
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\4\2\2"), "cut off" }, /* no end */
	{ "{\"type\":\"array\",\"items\":\"int\"}", BYTES("\4\2"), "cut off" },
	{ "{\"type\":\"array\",\"items\":\"null\"}", BYTES("\x80\x80\x80\x80\x80\x80\x01\0"), "a block of 2199023255552 values" },
	{ "{\"type\":\"array\",\"items\":\"null\"}", BYTES("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\0"), "a block of" },
	{ "{\"type\":\"array\",\"items\":\"null\"}", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0"),
	  "a block of -9223372036854775808 values" },
	{ "{\"type\":\"array\",\"items\":\"null\"}", BYTES("\x80\xea\x30\x80\xea\x30\0"), "a block of 400000 values" },
	{ "{\"type\":\"map\",\"values\":\"int\"}", BYTES("\2\2k\2\0"), NULL },
	{ "{\"type\":\"map\",\"values\":\"int\"}", BYTES("\4\2k\2\2k\2\0"), NULL },
	{ "{\"type\":\"map\",\"values\":\"int\"}", BYTES("\1\6\2k\2\0"), NULL },
	{ "{\"type\":\"map\",\"values\":\"int\"}", BYTES("\1\4\2k\2\0"), "a block says 2 bytes and has 3" },
	{ "{\"type\":\"map\",\"values\":\"int\"}", BYTES("\2\1\2\0"), "a length of -1" },
	{ "{\"type\":\"map\",\"values\":\"int\"}", BYTES("\2\2\xff\2\0"), "not UTF-8" },
	{ "{\"type\":\"record\",\"name\":\"S\",\"fields\":[{\"name\":\"a\",\"type\":\"int\"},{\"name\":\"b\",\"type\":\"boolean\"}]}",
	  BYTES("\2\1"), NULL },
	{ "{\"type\":\"record\",\"name\":\"S\",\"fields\":[{\"name\":\"a\",\"type\":\"int\"},{\"name\":\"b\",\"type\":\"boolean\"}]}",
	  BYTES("\2\3"), "field f, byte 11: a boolean" },
	{ "[\"null\",\"R\"]", BYTES("\2\2\2\0"), NULL }, /* of itself */
	{ "[\"null\",\"R\"]", BYTES("\2\2\2"), "cut off" },
};

static void judges_every_type(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		avro_schema_t schema = parse(cases[i].type);
		struct fault fault = { 0 };
		int failed = guard_copy(schema, cases[i].data, cases[i].size, &fault);

		if (failed != (cases[i].wanted ? -1 : 0))
			fail_msg("case %zu (%s): %s", i, cases[i].type, failed ? fault.msg : "let through");
		if (failed) {
			assert_int_equal(fault.kind, FAULT_REJECT);
			if (strstr(fault.msg, cases[i].wanted) == NULL)
				fail_msg("case %zu: %s", i, fault.msg);
		}
		avro_schema_decref(schema);
	}
}

/* What is let through, avro-c reads to its last byte; what is cut short nowhere passes. */
static void agrees_with_avro_c(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		avro_schema_t schema = parse(cases[i].type);
		avro_value_iface_t *class = avro_generic_class_from_schema(schema);
		avro_reader_t reader = avro_reader_memory(cases[i].data, (int64_t)cases[i].size);
		avro_value_t value;
		struct fault fault;

		avro_generic_value_new(class, &value);
		if (cases[i].wanted == NULL) {
			assert_int_equal(avro_value_read(reader, &value), 0);
			assert_int_not_equal(avro_skip(reader, 1), 0);
			for (size_t size = 0; size < cases[i].size; size++)
				assert_int_equal(guard_copy(schema, cases[i].data, size, &fault), -1);
		}
		avro_reader_free(reader);
		avro_value_decref(&value);
		avro_value_iface_decref(class);
		avro_schema_decref(schema);
	}
}

static void bounds_depth(void **state)
{
	avro_schema_t schema = parse("[\"null\",\"R\"]");
	struct bytes bytes = { 0 };
	struct fault fault;

	(void)state;
	for (int i = 0; i < 10; i++)
		put_long(&bytes, 1);
	put_long(&bytes, 0);
	assert_int_equal(guard_copy(schema, bytes.data, bytes.size, &fault), 0);
	free_bytes(&bytes);
	bytes = (struct bytes){ malloc(1000000), 1000000 };
	memset(bytes.data, 2, bytes.size);
	assert_int_equal(guard_copy(schema, bytes.data, bytes.size, &fault), -1);
	assert_non_null(strstr(fault.msg, "nested deeper than 64 values"));
	free_bytes(&bytes);
	avro_schema_decref(schema);
}

static void bounds_strings_and_values(void **state)
{
	avro_schema_t strings = parse("{\"type\":\"array\",\"items\":\"string\"}");
	avro_schema_t nulls = parse("{\"type\":\"array\",\"items\":\"null\"}");
	struct bytes bytes = { 0 };
	struct fault fault;
	char *text = malloc(GUARD_STRING_MAX + 2);

	(void)state;
	memset(text, 'x', GUARD_STRING_MAX + 1);
	for (size_t size = GUARD_STRING_MAX; size <= GUARD_STRING_MAX + 1; size++) {
		text[size] = '\0';
		put_long(&bytes, 1);
		put_text(&bytes, text);
		put_long(&bytes, 0);
		assert_int_equal(guard_copy(strings, bytes.data, bytes.size, &fault), size > GUARD_STRING_MAX ? -1 : 0);
		free_bytes(&bytes);
		text[size] = 'x';
	}
	assert_non_null(strstr(fault.msg, "a string of 65537 bytes, at most 65536"));
	free(text);
	for (size_t n = GUARD_VALUES_MAX - 1; n <= GUARD_VALUES_MAX; n++) { /* the array is a value too */
		put_long(&bytes, (int64_t)n / 2); /* in two blocks */
		put_long(&bytes, (int64_t)(n - n / 2));
		put_long(&bytes, 0);
		assert_int_equal(guard_copy(nulls, bytes.data, bytes.size, &fault), n == GUARD_VALUES_MAX ? -1 : 0);
		free_bytes(&bytes);
	}
	assert_non_null(strstr(fault.msg, "at most 100000 in a record"));
	avro_schema_decref(strings);
	avro_schema_decref(nulls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_every_type),
		cmocka_unit_test(agrees_with_avro_c),
		cmocka_unit_test(bounds_depth),
		cmocka_unit_test(bounds_strings_and_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
