/* The rows of an answer, in PostgreSQL's binary formats. */
#ifndef ROWS_H
#define ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/arena.h"

struct pg_result; /* libpq's PGresult */

int rows_count(const struct pg_result *result);
bool rows_is_null(const struct pg_result *result, int row, int column);
const char *rows_text(const struct pg_result *result, int row, int column, size_t *size); /* NULL: null */
/* The elements of a text[] (arena), NULL where null; a null array has none. */
size_t rows_texts(const struct pg_result *result, int row, int column, struct arena *arena, const char ***texts);
bool rows_bool(const struct pg_result *result, int row, int column);      /* nulls are 0 */
int32_t rows_int4(const struct pg_result *result, int row, int column);
int64_t rows_int8(const struct pg_result *result, int row, int column);
int64_t rows_time_ms(const struct pg_result *result, int row, int column); /* of a timestamptz: since the Unix epoch */
void rows_free(struct pg_result *result); /* accepts NULL */

#endif
