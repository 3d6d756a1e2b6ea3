/* Parsing Canonical Form and CRC-64-AVRO (Avro specification, "Parsing Canonical Form for Schemas" and "Schema
 * Fingerprints"). On jansson, not on avro-c: the form needs the text, which avro-c does not keep, and what avro-c cannot
 * be trusted to parse (a `fixed` of size -1, nesting without end) is refused here first. */
#include "schemas/fingerprint.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "worker/base/must.h"

#define DEPTH_MAX 32            /* of types in types */
#define FIXED_MAX (1024 * 1024) /* bytes */
#define FULLNAME_MAX 512        /* bytes */
#define EMPTY_FINGERPRINT UINT64_C(0xc15d213aa4d7a795)

struct form {
	FILE *out; /* memory; a write that fails is found when it is closed */
	int depth;
	struct fault *fault;
};

static int put_type(struct form *form, const json_t *type, const char *space);

static bool is_primitive(const char *name)
{
	static const char *const names[] = { "null", "boolean", "int", "long", "float", "double", "bytes", "string" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Names and symbols; '.' only where dots is set. Nothing of this needs an escape in JSON. */
static bool is_name(const char *name, bool dots)
{
	const char *legal = "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.";

	return *name != '\0' && name[strspn(name, legal)] == '\0' && (dots || strchr(name, '.') == NULL);
}

/* name as a full name: with a dot it is one, else the namespace (may be "") goes before it. */
static int fullname(struct form *form, const char *name, const char *space, char full[FULLNAME_MAX])
{
	bool bare = strchr(name, '.') != NULL || *space == '\0';

	if (!is_name(name, true) || (*space && !is_name(space, true)))
		return fault_set(form->fault, FAULT_FATAL, "a name or namespace in it is malformed");
	if (snprintf(full, FULLNAME_MAX, "%s%s%s", bare ? "" : space, bare ? "" : ".", name) >= FULLNAME_MAX)
		return fault_set(form->fault, FAULT_FATAL, "a name in it is too long");
	return 0;
}

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)); /* NULL if absent or no string */
}

static int put_name(struct form *form, const char *name, const char *space)
{
	char full[FULLNAME_MAX];

	if (!is_primitive(name)) {
		if (fullname(form, name, space, full) < 0)
			return -1;
		name = full;
	}
	fprintf(form->out, "\"%s\"", name);
	return 0;
}

static int put_union(struct form *form, const json_t *branches, const char *space)
{
	size_t i;
	const json_t *branch;

	fputc('[', form->out);
	json_array_foreach(branches, i, branch) {
		if (i > 0)
			fputc(',', form->out);
		if (put_type(form, branch, space) < 0)
			return -1;
	}
	fputc(']', form->out);
	return 0;
}

static int put_fields(struct form *form, const json_t *fields, const char *space)
{
	size_t i;
	const json_t *field;

	if (!json_is_array(fields))
		return fault_set(form->fault, FAULT_FATAL, "a record in it has no fields");
	fputs(",\"fields\":[", form->out);
	json_array_foreach(fields, i, field) {
		const char *name = text_of(field, "name");

		if (name == NULL || !is_name(name, false))
			return fault_set(form->fault, FAULT_FATAL, "a field in it has no well-formed name");
		fprintf(form->out, "%s{\"name\":\"%s\",\"type\":", i > 0 ? "," : "", name);
		if (put_type(form, json_object_get(field, "type"), space) < 0)
			return -1;
		fputc('}', form->out);
	}
	fputc(']', form->out);
	return 0;
}

static int put_symbols(struct form *form, const json_t *symbols)
{
	size_t i;
	const json_t *symbol;

	if (!json_is_array(symbols))
		return fault_set(form->fault, FAULT_FATAL, "an enum in it has no symbols");
	fputs(",\"symbols\":[", form->out);
	json_array_foreach(symbols, i, symbol) {
		const char *name = json_string_value(symbol);

		if (name == NULL || !is_name(name, false))
			return fault_set(form->fault, FAULT_FATAL, "an enum in it has a malformed symbol");
		fprintf(form->out, "%s\"%s\"", i > 0 ? "," : "", name);
	}
	fputc(']', form->out);
	return 0;
}

static int put_size(struct form *form, const json_t *size)
{
	json_int_t bytes = json_integer_value(size); /* 0 if absent or no integer */

	if (bytes < 1 || bytes > FIXED_MAX)
		return fault_set(form->fault, FAULT_FATAL, "a fixed in it has no size of 1 to %d", FIXED_MAX);
	fprintf(form->out, ",\"size\":%" JSON_INTEGER_FORMAT, bytes);
	return 0;
}

/* record, enum or fixed: its full name, and its namespace for what is named within. */
static int put_named(struct form *form, const json_t *schema, const char *type, const char *space)
{
	const char *name = text_of(schema, "name"), *own_space = text_of(schema, "namespace");
	char full[FULLNAME_MAX], within[FULLNAME_MAX];
	int failed;

	if (name == NULL)
		return fault_set(form->fault, FAULT_FATAL, "a %s in it has no name", type);
	if (fullname(form, name, own_space ? own_space : space, full) < 0)
		return -1;
	strcpy(within, full);
	*(strrchr(within, '.') ? strrchr(within, '.') : within) = '\0';
	fprintf(form->out, "{\"name\":\"%s\",\"type\":\"%s\"", full, type);
	if (strcmp(type, "record") == 0)
		failed = put_fields(form, json_object_get(schema, "fields"), within);
	else if (strcmp(type, "enum") == 0)
		failed = put_symbols(form, json_object_get(schema, "symbols"));
	else
		failed = put_size(form, json_object_get(schema, "size"));
	fputc('}', form->out);
	return failed;
}

static int put_collection(struct form *form, const char *type, const char *key, const json_t *element, const char *space)
{
	fprintf(form->out, "{\"type\":\"%s\",\"%s\":", type, key);
	if (put_type(form, element, space) < 0)
		return -1;
	fputc('}', form->out);
	return 0;
}

static int put_object(struct form *form, const json_t *schema, const char *space)
{
	const char *type = text_of(schema, "type");

	if (type == NULL)
		return fault_set(form->fault, FAULT_FATAL, "a type is missing in it");
	if (strcmp(type, "record") == 0 || strcmp(type, "enum") == 0 || strcmp(type, "fixed") == 0)
		return put_named(form, schema, type, space);
	if (strcmp(type, "array") == 0)
		return put_collection(form, type, "items", json_object_get(schema, "items"), space);
	if (strcmp(type, "map") == 0)
		return put_collection(form, type, "values", json_object_get(schema, "values"), space);
	return put_name(form, type, space); /* attributes of a primitive (logicalType) are not part of the form */
}

static int put_type(struct form *form, const json_t *type, const char *space)
{
	int failed;

	if (form->depth == DEPTH_MAX)
		return fault_set(form->fault, FAULT_FATAL, "it nests deeper than %d types", DEPTH_MAX);
	form->depth++;
	if (json_is_string(type))
		failed = put_name(form, json_string_value(type), space);
	else if (json_is_array(type))
		failed = put_union(form, type, space);
	else if (json_is_object(type))
		failed = put_object(form, type, space);
	else
		failed = fault_set(form->fault, FAULT_FATAL, "a type is missing in it");
	form->depth--;
	return failed;
}

static uint64_t crc64_avro(const char *text, size_t len)
{
	uint64_t sum = EMPTY_FINGERPRINT;

	for (size_t i = 0; i < len; i++) {
		sum ^= (uint8_t)text[i];
		for (int bit = 0; bit < 8; bit++)
			sum = sum >> 1 ^ (EMPTY_FINGERPRINT & -(sum & 1));
	}
	return sum;
}

int schema_fingerprint(const char *schema_json, uint64_t *fingerprint, char **canonical, struct fault *fault)
{
	json_error_t error;
	json_t *schema = json_loads(schema_json, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	struct form form = { .fault = fault };
	char *text = NULL;
	size_t len = 0;
	int failed;

	if (schema == NULL)
		return fault_set(fault, FAULT_FATAL, "no JSON: line %d, column %d: %s", error.line, error.column, error.text);
	form.out = must(open_memstream(&text, &len));
	failed = put_type(&form, schema, "");
	json_decref(schema);
	must_be(fclose(form.out) == 0);
	if (failed) {
		free(text);
		return -1;
	}
	*fingerprint = crc64_avro(text, len);
	if (canonical)
		*canonical = text;
	else
		free(text);
	return 0;
}
