/* Our records as tables. One table says of each field where it lies in a struct and how it is read and written as Avro, as
 * JSON, as a parameter or column of SQL, and whether it is part of the digest: a field is added in one place.
 * An operation's tables stand in its own file (schemas/duplicate.c). */
#ifndef FIELD_H
#define FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_type {    /* struct's member         Avro               JSON     SQL parameter          SQL column */
	FIELD_TEXT,    /* const char *            string             string   text                   text */
	FIELD_TEXTS,   /* const char **, size_t   array of string    array    text, joined by commas - */
	FIELD_DIGEST,  /* uint8_t[CAMPAIGN_DIGEST_BYTES]   fixed of 32 bytes  hex      bytea                  - */
	FIELD_BOOLEAN, /* bool                    boolean            boolean  boolean                boolean */
	FIELD_INT,     /* int32_t                 int                number   integer                integer */
	FIELD_LONG,    /* int64_t                 long               number   bigint                 bigint */
	FIELD_TIME,    /* int64_t, milliseconds   long               text     bigint                 timestamptz */
	FIELD_RECORD,  /* a struct, or members    record             object   -                      - */
};

struct record_type;

struct field {
	const char *name;
	enum field_type type;
	size_t offset;    /* of the member; of a record without a struct of its own: of the pointer that is NULL if it is null */
	size_t companion; /* member beside it: the has_ of a nullable number or digest, the count of texts; 0: none */
	const struct record_type *inner; /* of a record */
	bool nullable;    /* may be null, and may be absent from a writer's schema: then it is null */
	bool negative_is_null; /* of a time: its Avro type has no null, and -1 stands for it */
	bool id;          /* is refused unless it is a well-formed id */
	bool parameter;   /* of the operation's statement */
	/* The place in the digest, from 1, without gaps; 0: no part of it. Drafts keep the digest, so a place is never changed,
	 * and a field that came later than version 1 is `added`: nullable, and summed only where it is not null, so that the
	 * commands of before keep theirs. */
	int digest;
	bool added;
};

struct record_type {
	const char *name; /* of the Avro record */
	const struct field *fields; /* in the Avro schema's order */
	size_t count;
	size_t size; /* of the struct; 0: the members lie in the struct that the record is in */
};

#define AT(struct_, member) .offset = offsetof(struct struct_, member)
#define BESIDE(struct_, member) .companion = offsetof(struct struct_, member)
#define FIELDS(table) .fields = (table), .count = sizeof (table) / sizeof (table)[0]

/* Of a command: of the years 1970 to 9999. */
static inline bool field_time_is_possible(int64_t ms)
{
	return ms >= 0 && ms <= INT64_C(253402300799999);
}

static inline bool field_is_null(const struct field *field, const void *base)
{
	if (!field->nullable)
		return false;
	if (field->companion && field->type != FIELD_TEXTS)
		return !*(const bool *)((const char *)base + field->companion);
	return *(const void *const *)(const void *)((const char *)base + field->offset) == NULL;
}

#endif
