#include "worker/db/rows.h"

#include <arpa/inet.h>
#include <string.h>

#include <libpq-fe.h>

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

bool rows_bool(const PGresult *result, int row, int column)
{
	return !PQgetisnull(result, row, column) && PQgetvalue(result, row, column)[0] != 0;
}

int32_t rows_int4(const PGresult *result, int row, int column)
{
	uint32_t big;

	if (PQgetisnull(result, row, column))
		return 0;
	memcpy(&big, PQgetvalue(result, row, column), sizeof big);
	return (int32_t)ntohl(big);
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
