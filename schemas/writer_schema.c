#include "schemas/writer_schema.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <avro.h>

#include "schemas/fingerprint.h"
#include "schemas/logical_type.h"
#include "schemas/types.h"
#include "worker/base/must.h"

#define SCHEMA_SIZE_MAX ((size_t)256 * 1024) /* bytes of one schema text */
#define RECORDS_MAX 1000                     /* records within records of a writer schema */
/* A reused avro value keeps what its largest arrays and strings took. After this many bytes (a value counted as
 * VALUE_COST) it is made anew, so what is kept is bounded whatever was received. */
#define WEAR_MAX ((size_t)1024 * 1024)
#define VALUE_COST 64

struct schema_id { /* of a schema registry */
	uint32_t id;
	struct writer_schema *schema;
};

struct writer_schemas {
	const struct contract *contract;
	struct writer_schema *first;
	struct schema_id *ids;
	size_t id_count;
};

/* ---- a writer's fields and ours ---- */

struct source { /* of a mapping */
	avro_schema_t record;
	const struct logical_types *logical_types;
};

static struct mapping *map_record(const struct record_type *type, const struct source *source, struct fault *fault);

static bool type_matches(const struct field *field, avro_schema_t schema)
{
	avro_type_t type = avro_typeof(schema);

	switch (field->type) {
	case FIELD_TEXT:
		return type == AVRO_STRING;
	case FIELD_TEXTS:
		return type == AVRO_ARRAY && avro_typeof(avro_schema_array_items(schema)) == AVRO_STRING;
	case FIELD_DIGEST:
		return type == AVRO_FIXED && avro_schema_fixed_size(schema) == CAMPAIGN_DIGEST_BYTES;
	case FIELD_BOOLEAN:
		return type == AVRO_BOOLEAN;
	case FIELD_INT:
		return type == AVRO_INT32;
	case FIELD_LONG:
	case FIELD_TIME: /* the specification promotes int to long */
		return type == AVRO_INT64 || type == AVRO_INT32;
	case FIELD_RECORD:
		return type == AVRO_RECORD;
	}
	return false;
}

static avro_schema_t follow_link(avro_schema_t schema)
{
	return avro_typeof(schema) == AVRO_LINK ? avro_schema_link_target(schema) : schema;
}

/* A field's type in the writer's schema: ours, or a union of that and, where ours is nullable, null. Sets *schema to what
 * a value that is not null has; false if it is no such type. */
static bool find_match(const struct field *field, avro_schema_t *schema)
{
	avro_schema_t type = follow_link(*schema), found = NULL;
	size_t n;

	if (avro_typeof(type) != AVRO_UNION) {
		*schema = type;
		return type_matches(field, type);
	}
	n = avro_schema_union_size(type);
	for (size_t i = 0; i < n; i++) {
		avro_schema_t branch = follow_link(avro_schema_union_branch(type, (int)i));

		if (avro_typeof(branch) == AVRO_NULL && field->nullable)
			continue;
		if (found || !type_matches(field, branch))
			return false;
		found = branch;
	}
	*schema = found;
	return found != NULL;
}

static int map_field(const struct field *field, const struct source *source, struct mapping *mapping, struct fault *fault)
{
	avro_schema_t record = source->record, type;

	mapping->index = avro_schema_record_field_get_index(record, field->name);
	if (mapping->index < 0)
		return field->nullable ? 0 :
		       fault_set(fault, FAULT_FATAL, "record %s lacks field %s", avro_schema_name(record), field->name);
	type = avro_schema_record_field_get_by_index(record, mapping->index);
	if (!find_match(field, &type))
		return fault_set(fault, FAULT_FATAL, "field %s of record %s has a type that cannot be read as ours",
				 field->name, avro_schema_name(record));
	if (field->type == FIELD_TIME)
		return logical_types_units(source->logical_types, avro_schema_name(record), field->name, &mapping->units, fault);
	if (field->type != FIELD_RECORD)
		return 0;
	mapping->fields = map_record(field->inner, &(struct source){ type, source->logical_types }, fault);
	return mapping->fields ? 0 : -1;
}

static void free_mapping(const struct record_type *type, struct mapping *mapping)
{
	for (size_t i = 0; mapping && i < type->count; i++)
		if (mapping[i].fields)
			free_mapping(type->fields[i].inner, mapping[i].fields);
	free(mapping);
}

static struct mapping *map_record(const struct record_type *type, const struct source *source, struct fault *fault)
{
	struct mapping *mapping = must(calloc(type->count, sizeof *mapping));

	for (size_t i = 0; i < type->count; i++)
		if (map_field(&type->fields[i], source, &mapping[i], fault) < 0) {
			free_mapping(type, mapping);
			return NULL;
		}
	return mapping;
}

/* The first of our times that two schemas of one fingerprint give in different units; NULL: there is none. */
static const struct field *find_other_units(const struct record_type *type, const struct mapping *a, const struct mapping *b)
{
	const struct field *found = NULL;

	for (size_t i = 0; i < type->count && found == NULL; i++) {
		if (a[i].units != b[i].units)
			found = &type->fields[i];
		else if (a[i].fields)
			found = find_other_units(type->fields[i].inner, a[i].fields, b[i].fields);
	}
	return found;
}

/* Records within records without end, or doubling at every level, would overflow avro-c's stack or the memory. (Unions,
 * arrays and maps are made when they are filled.) */
static bool is_finite(avro_schema_t schema, int *budget)
{
	size_t n;

	schema = follow_link(schema);
	if (avro_typeof(schema) != AVRO_RECORD)
		return true;
	if ((*budget)-- == 0)
		return false;
	n = avro_schema_record_size(schema);
	for (size_t i = 0; i < n; i++)
		if (!is_finite(avro_schema_record_field_get_by_index(schema, (int)i), budget))
			return false;
	return true;
}

static int find_type(const struct contract *contract, avro_schema_t schema, const struct record_type **type,
		     struct fault *fault)
{
	const struct record_type *const types[] = { contract->command, contract->result };
	int budget = RECORDS_MAX;

	if (avro_typeof(schema) != AVRO_RECORD)
		return fault_set(fault, FAULT_FATAL, "it is no record");
	if (!is_finite(schema, &budget))
		return fault_set(fault, FAULT_FATAL, "it has more than %d records within records", RECORDS_MAX);
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (strcmp(avro_schema_name(schema), types[i]->name) == 0) {
			*type = types[i];
			return 0;
		}
	return fault_set(fault, FAULT_FATAL, "it is record %s, neither %s nor %s", avro_schema_name(schema), types[0]->name,
			 types[1]->name);
}

/* ---- one schema ---- */

static void new_value(struct writer_schema *schema)
{
	must_be(avro_generic_value_new(schema->class, schema->value) == 0);
	schema->wear = 0;
}

void writer_schema_wear(struct writer_schema *schema, size_t bytes, size_t values)
{
	schema->wear += bytes + values * VALUE_COST;
	if (schema->wear > WEAR_MAX) {
		avro_value_decref(schema->value);
		new_value(schema);
	}
}

static void free_schema(struct writer_schema *schema)
{
	if (schema->class) {
		avro_value_decref(schema->value);
		avro_value_iface_decref(schema->class);
	}
	if (schema->schema)
		avro_schema_decref(schema->schema);
	free_mapping(schema->type, schema->mapping);
	free(schema->value);
	free(schema->wanted);
	free(schema->ends);
	free(schema);
}

static void prepare(struct writer_schema *schema)
{
	schema->class = must(avro_generic_class_from_schema(schema->schema));
	schema->value = must(calloc(1, sizeof *schema->value));
	new_value(schema);
	schema->field_count = avro_schema_record_size(schema->schema);
	schema->wanted = must(calloc(schema->field_count, sizeof *schema->wanted));
	schema->ends = must(calloc(schema->field_count, sizeof *schema->ends));
	for (size_t i = 0; i < schema->type->count; i++)
		if (schema->mapping[i].index >= 0)
			schema->wanted[schema->mapping[i].index] = true;
}

struct writer_schema *writer_schemas_find_fingerprint(const struct writer_schemas *schemas, uint64_t fingerprint)
{
	struct writer_schema *schema = schemas->first;

	while (schema && (schema->fingerprint != fingerprint || schema->by_id_only))
		schema = schema->next;
	return schema;
}

static int parse(const struct writer_schemas *schemas, const char *json, struct writer_schema *schema, struct fault *fault)
{
	struct source source;
	struct logical_types *logical_types;

	/* avro_strerror is shared between threads: its text is never used */
	if (avro_schema_from_json_length(json, strlen(json), &schema->schema) != 0) {
		schema->schema = NULL;
		return fault_set(fault, FAULT_FATAL, "avro-c does not accept it");
	}
	if (find_type(schemas->contract, schema->schema, &schema->type, fault) < 0)
		return -1;
	logical_types = logical_types_read(json);
	source = (struct source){ schema->schema, logical_types };
	schema->mapping = map_record(schema->type, &source, fault);
	logical_types_free(logical_types);
	return schema->mapping ? 0 : -1;
}

/* The known schema that reads what schema reads; NULL: there is none. other: the time that a schema of the same fingerprint has
 * in other units, so that records have to name schema by an id. */
static struct writer_schema *find_same(const struct writer_schemas *schemas, const struct writer_schema *schema, bool by_id,
				       const struct field **other)
{
	struct writer_schema *known = schemas->first;

	*other = NULL;
	for (; known; known = known->next) {
		const struct field *field;

		if (known->fingerprint != schema->fingerprint || (known->by_id_only && !by_id))
			continue;
		field = find_other_units(schema->type, known->mapping, schema->mapping);
		if (field == NULL)
			return known;
		if (!known->by_id_only)
			*other = field;
	}
	return NULL;
}

static void add(struct writer_schemas *schemas, struct writer_schema *schema)
{
	prepare(schema);
	schema->next = schemas->first;
	schemas->first = schema;
}

/* The schema of a text; an existing one if it differs only in what does not matter. by_id: an id stands for it. The message
 * of a fault does not yet say where the text is from. */
static struct writer_schema *add_schema(struct writer_schemas *schemas, const char *json, bool by_id, struct fault *fault)
{
	struct writer_schema *schema, *same = NULL;
	const struct field *other = NULL;
	uint64_t fingerprint;

	if (strlen(json) > SCHEMA_SIZE_MAX) {
		fault_set(fault, FAULT_FATAL, "it has more than %zu bytes", SCHEMA_SIZE_MAX);
		return NULL;
	}
	if (schema_fingerprint(json, &fingerprint, NULL, fault) < 0)
		return NULL;
	schema = must(calloc(1, sizeof *schema));
	schema->fingerprint = fingerprint;
	if (parse(schemas, json, schema, fault) == 0 && (same = find_same(schemas, schema, by_id, &other)) == NULL) {
		schema->by_id_only = other != NULL;
		if (other == NULL || by_id) {
			add(schemas, schema);
			return schema;
		}
		fault_set(fault, FAULT_FATAL, "field %s has another unit of time than in a schema of the same fingerprint that is known, "
			  "and no record says which of the two it was written with", other->name);
	}
	free_schema(schema);
	return same;
}

static int blame(struct fault *fault, const char *origin)
{
	struct fault cause = *fault;

	return fault_set(fault, FAULT_FATAL, "Avro schema %s: %s", origin, cause.msg);
}

/* The whole file as a string to be freed. */
static char *read_text(const char *path, struct fault *fault)
{
	FILE *file = fopen(path, "re");
	char *text = must(malloc(SCHEMA_SIZE_MAX + 2));
	size_t len = 0;

	if (file)
		len = fread(text, 1, SCHEMA_SIZE_MAX + 1, file);
	if (file == NULL || ferror(file)) {
		fault_set(fault, FAULT_FATAL, "%s", strerror(errno));
		free(text);
		text = NULL;
	} else {
		text[len] = '\0';
		if (strlen(text) != len) {
			fault_set(fault, FAULT_FATAL, "it has a NUL");
			free(text);
			text = NULL;
		}
	}
	if (file)
		fclose(file);
	return text;
}

/* ---- ids ---- */

struct writer_schema *writer_schemas_find_id(const struct writer_schemas *schemas, uint32_t id)
{
	for (size_t i = 0; i < schemas->id_count; i++)
		if (schemas->ids[i].id == id)
			return schemas->ids[i].schema;
	return NULL;
}

static int add_id(struct writer_schemas *schemas, uint32_t id, struct writer_schema *schema, struct fault *fault)
{
	struct writer_schema *known = writer_schemas_find_id(schemas, id);

	if (known && known != schema)
		return fault_set(fault, FAULT_FATAL, "the id already stands for another schema");
	if (known)
		return 0;
	schemas->ids = must(reallocarray(schemas->ids, schemas->id_count + 1, sizeof *schemas->ids));
	schemas->ids[schemas->id_count++] = (struct schema_id){ id, schema };
	return 0;
}

int writer_schemas_add_id(struct writer_schemas *schemas, uint32_t id, const char *json, struct fault *fault)
{
	struct writer_schema *schema = add_schema(schemas, json, true, fault);
	char origin[sizeof "id 4294967295"];

	snprintf(origin, sizeof origin, "id %" PRIu32, id);
	return schema && add_id(schemas, id, schema, fault) == 0 ? 0 : blame(fault, origin);
}

/* ---- a folder ---- */

/* "4711.avsc" is the schema with that id in a schema registry. */
static bool names_id(const char *name, uint32_t *id)
{
	char *end;
	unsigned long long number = strtoull(name, &end, 10);

	*id = (uint32_t)number;
	return name[0] >= '0' && name[0] <= '9' && strcmp(end, ".avsc") == 0 && number <= UINT32_MAX;
}

static int add_file(struct writer_schemas *schemas, const char *folder, const char *name, struct fault *fault)
{
	struct writer_schema *schema = NULL;
	char *path, *text;
	int failed = 0;
	uint32_t id;
	bool by_id = names_id(name, &id);

	must_be(asprintf(&path, "%s/%s", folder, name) >= 0);
	text = read_text(path, fault);
	if (text)
		schema = add_schema(schemas, text, by_id, fault);
	if (schema == NULL || (by_id && add_id(schemas, id, schema, fault) < 0))
		failed = blame(fault, path);
	free(text);
	free(path);
	return failed;
}

static int is_schema_file(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && strcmp(dot, ".avsc") == 0 && entry->d_name[0] != '.';
}

static int add_folder(struct writer_schemas *schemas, const char *folder, struct fault *fault)
{
	struct dirent **files;
	int n = scandir(folder, &files, is_schema_file, alphasort), failed = 0;

	if (n < 0)
		return fault_set(fault, FAULT_FATAL, "folder of Avro schemas %s: %s", folder, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (!failed)
			failed = add_file(schemas, folder, files[i]->d_name, fault);
		free(files[i]);
	}
	free(files);
	return failed;
}

/* ---- all of them ---- */

static int add_built_in(struct writer_schemas *schemas, const struct record_type *type, const char *json, struct fault *fault)
{
	return add_schema(schemas, json, false, fault) ? 0 : blame(fault, type->name);
}

/* The first that were added are the built-in ones. */
struct writer_schema *writer_schemas_built_in(const struct writer_schemas *schemas, const struct record_type *type)
{
	struct writer_schema *schema = schemas->first, *found = NULL;

	for (; schema; schema = schema->next)
		if (schema->type == type)
			found = schema;
	return found;
}

struct writer_schemas *writer_schemas_new(const struct contract *contract, const char *folder, struct fault *fault)
{
	struct writer_schemas *schemas = must(calloc(1, sizeof *schemas));

	schemas->contract = contract;
	if (add_built_in(schemas, contract->command, contract->command_schema, fault) < 0 ||
	    add_built_in(schemas, contract->result, contract->result_schema, fault) < 0 ||
	    (folder && add_folder(schemas, folder, fault) < 0)) {
		writer_schemas_free(schemas);
		return NULL;
	}
	return schemas;
}

void writer_schemas_free(struct writer_schemas *schemas)
{
	if (schemas == NULL)
		return;
	while (schemas->first) {
		struct writer_schema *schema = schemas->first;

		schemas->first = schema->next;
		free_schema(schema);
	}
	free(schemas->ids);
	free(schemas);
}
