#include "schemas/logical_type.h"

#include <string.h>

#include <jansson.h>

#include "worker/base/must.h"

static const struct unit {
	const char *name;
	int64_t in_ms;
} units_known[] = { { "timestamp-millis", 1 }, { "timestamp-micros", 1000 }, { "timestamp-nanos", 1000000 } };

struct logical_types *logical_types_read(const char *json)
{
	return (struct logical_types *)must(json_loads(json, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL));
}

void logical_types_free(struct logical_types *types)
{
	json_decref((json_t *)types);
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static bool is_record(const json_t *schema, const char *name)
{
	const char *full = text_of(schema, "name"), *dot = strrchr(full, '.');

	return strcmp(text_of(schema, "type"), "record") == 0 && strcmp(dot ? dot + 1 : full, name) == 0;
}

/* The definition of a record: the first of that name, as the outermost record comes first. */
static const json_t *find_record(const json_t *schema, const char *name)
{
	static const char *const within[] = { "fields", "type", "items", "values" };
	const json_t *found = NULL, *element;
	size_t i;

	if (is_record(schema, name))
		return schema;
	json_array_foreach(schema, i, element)
		if ((found = find_record(element, name)) != NULL)
			return found;
	for (i = 0; i < sizeof within / sizeof within[0] && found == NULL; i++)
		if (json_object_get(schema, within[i]))
			found = find_record(json_object_get(schema, within[i]), name);
	return found;
}

static const json_t *find_field(const json_t *record, const char *name)
{
	const json_t *field;
	size_t i;

	json_array_foreach(json_object_get(record, "fields"), i, field)
		if (strcmp(text_of(field, "name"), name) == 0)
			return field;
	return NULL;
}

static bool is_integer(const json_t *type)
{
	const char *name = text_of(type, "type");

	return strcmp(name, "long") == 0 || strcmp(name, "int") == 0;
}

/* Of a type, or of the branch of a union that is a number; "" if there is none. */
static const char *logical_type_of(const json_t *type)
{
	const json_t *branch;
	size_t i;

	json_array_foreach(type, i, branch)
		if (is_integer(branch))
			return text_of(branch, "logicalType");
	return text_of(type, "logicalType");
}

int logical_types_units(const struct logical_types *types, const char *record, const char *field, int64_t *units,
			struct fault *fault)
{
	const json_t *found = find_field(find_record((const json_t *)types, record), field);
	const char *name = logical_type_of(json_object_get(found, "type")), *beside = text_of(found, "logicalType");

	*units = 1;
	/* A frequent slip, which Avro's libraries ignore: what the publisher then writes is anybody's guess. */
	if (*name == '\0' && *beside && strcmp(beside, units_known[0].name) != 0)
		return fault_set(fault, FAULT_FATAL, "field %s of record %s has its logicalType %.64s beside its type and not in it",
				 field, record, beside);
	if (*name == '\0')
		return 0;
	for (size_t i = 0; i < sizeof units_known / sizeof units_known[0]; i++)
		if (strcmp(units_known[i].name, name) == 0) {
			*units = units_known[i].in_ms;
			return 0;
		}
	return fault_set(fault, FAULT_FATAL, "field %s of record %s has logicalType %.64s: timestamp-millis, -micros or -nanos is wanted",
			 field, record, name);
}
