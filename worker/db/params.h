/* Parameters of a statement in PostgreSQL's binary formats. This module knows no libpq. */
#ifndef PARAMS_H
#define PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum param_type { PARAM_BOOL = 16, PARAM_INT4 = 23, PARAM_INT8 = 20, PARAM_TEXT = 25, PARAM_BYTEA = 17 }; /* OIDs of pg_type */

/* Parameters of one statement, in one buffer. params_reset keeps its memory for the next statement. */
struct params {
	char *data;
	size_t size, capacity;
	int count, place_capacity;
	struct {
		size_t start, length;
	} *places; /* of each parameter, in data */
	size_t array; /* where the open array's header is */
	int32_t elements; /* of the open array */
};

void params_reset(struct params *params);
void params_free(struct params *params);
void params_add_text(struct params *params, const char *text);
void params_add_int4(struct params *params, int32_t value);
void params_add_int8(struct params *params, int64_t value);
/* An array: begin, elements, end. NULL elements are SQL nulls. */
void params_array_begin(struct params *params, enum param_type type);
void params_array_bool(struct params *params, bool value);
void params_array_int4(struct params *params, int32_t value);
void params_array_int8(struct params *params, int64_t value);
void params_array_null(struct params *params);
void params_array_text(struct params *params, const char *text);
void params_array_bytes(struct params *params, const void *bytes, size_t size); /* of text and bytea; NULL: null */
/* Adds one text element: n strings joined with commas. */
void params_array_joined(struct params *params, const char *const *strings, size_t n);
void params_array_end(struct params *params);

#endif
