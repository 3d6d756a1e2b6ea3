#include "worker/db/rows.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <string.h>

#define POSTGRES_EPOCH_MS INT64_C(946684800000) /* 2000-01-01 */

int rows_count(const PGresult *result)
{
	return PQntuples(result);
}

bool rows_is_null(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column);
}

const char *rows_text(const PGresult *result, int row, int column, size_t *size)
{
	if (PQgetisnull(result, row, column))
		return NULL;
	if (size)
		*size = (size_t)PQgetlength(result, row, column);
	return PQgetvalue(result, row, column);
}

static int32_t read4(const char *bytes)
{
	uint32_t big;

	memcpy(&big, bytes, sizeof big);
	return (int32_t)ntohl(big);
}

/* As params_array_begin writes it. */
size_t rows_texts(const PGresult *result, int row, int column, struct arena *arena, const char ***texts)
{
	const char *bytes = PQgetvalue(result, row, column);
	int32_t count;

	*texts = NULL;
	if (PQgetisnull(result, row, column) || read4(bytes) == 0)
		return 0;
	count = read4(bytes + 12);
	bytes += 20;
	*texts = arena_array(arena, (size_t)count, sizeof **texts);
	for (int32_t i = 0; i < count; i++) {
		int32_t size = read4(bytes);

		bytes += 4;
		if (size < 0)
			continue;
		(*texts)[i] = arena_strndup(arena, bytes, (size_t)size);
		bytes += size;
	}
	return (size_t)count;
}

bool rows_bool(const PGresult *result, int row, int column)
{
	return !PQgetisnull(result, row, column) && PQgetvalue(result, row, column)[0] != 0;
}

int32_t rows_int4(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? 0 : read4(PQgetvalue(result, row, column));
}

int64_t rows_int8(const PGresult *result, int row, int column)
{
	uint32_t big[2];

	if (PQgetisnull(result, row, column))
		return 0;
	memcpy(big, PQgetvalue(result, row, column), sizeof big);
	return (int64_t)((uint64_t)ntohl(big[0]) << 32 | ntohl(big[1]));
}

int64_t rows_time_ms(const PGresult *result, int row, int column)
{
	int64_t us = rows_int8(result, row, column), ms = us / 1000;

	if (us % 1000 < 0)
		ms--;
	return POSTGRES_EPOCH_MS + ms;
}

void rows_free(PGresult *result)
{
	PQclear(result);
}
