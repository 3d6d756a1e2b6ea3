/* The schemas that records were written with, as far as they are known: each with the way from its fields to ours. Built-in
 * ones, those of a folder, and those that a registry's ids stand for. avro-c's types are named, not defined, here. */
#ifndef WRITER_SCHEMA_H
#define WRITER_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/contract.h"
#include "worker/base/fault.h"

struct mapping { /* of one of our fields */
	int index;              /* in the writer's record; -1: absent */
	int64_t units;          /* of a time: as many are a millisecond */
	struct mapping *fields; /* of a record: of its fields */
};

struct writer_schema {
	struct writer_schema *next;
	const struct record_type *type; /* the contract's command or result */
	uint64_t fingerprint;
	bool by_id_only; /* another schema of this fingerprint has other units of time: only an id says that it is this one */
	struct avro_obj_t *schema;
	struct avro_value_iface *class;
	struct avro_value *value; /* reused */
	size_t wear;              /* of value */
	struct mapping *mapping;  /* of type's fields */
	size_t field_count; /* of the writer's outermost record */
	bool *wanted;       /* for each of them: whether it is one of ours */
	size_t *ends;       /* for each of them: where it ends in the bytes being decoded */
};

struct writer_schemas;

/* folder: NULL, or where *.avsc are; one named by a number, such as 4711.avsc, is also the schema with that id. A file that
 * does not parse, or that is no usable command or result, is a FAULT_FATAL that names it. */
struct writer_schemas *writer_schemas_new(const struct contract *contract, const char *folder, struct fault *fault) MUST_CHECK;
void writer_schemas_free(struct writer_schemas *schemas); /* accepts NULL */

/* Makes id stand for that schema text. FAULT_FATAL as above, or if it stands for another one already. */
int writer_schemas_add_id(struct writer_schemas *schemas, uint32_t id, const char *json, struct fault *fault) MUST_CHECK;

struct writer_schema *writer_schemas_find_id(const struct writer_schemas *schemas, uint32_t id); /* NULL: not known */
struct writer_schema *writer_schemas_find_fingerprint(const struct writer_schemas *schemas, uint64_t fingerprint);
/* What is written: the built-in schema of the contract's command or result. */
struct writer_schema *writer_schemas_built_in(const struct writer_schemas *schemas, const struct record_type *type);

/* Notes that value held so many bytes and values: what it keeps is bounded, whatever was received. */
void writer_schema_wear(struct writer_schema *schema, size_t bytes, size_t values);

#endif
