/* What may be said of an error of PostgreSQL. Its sentence may quote the data that caused it; the names in it are the schema's.
 * Only connection.c, rows.c and this module include libpq. */
#ifndef DIAGNOSIS_H
#define DIAGNOSIS_H

#include "worker/base/fault.h"

struct pg_result;

/* Makes a FAULT_WAIT of an error result that has an SQLSTATE. The message names schema, table, column, constraint and function.
 * It quotes PostgreSQL's sentence only where that speaks of the system or of our own statements' names. */
void diagnosis_describe(const struct pg_result *error, const char *sqlstate, struct fault *fault);

#endif
