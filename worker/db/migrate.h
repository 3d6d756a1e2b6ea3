/* Brings the database's schema up to date (schemas/sql), forward only. */
#ifndef MIGRATE_H
#define MIGRATE_H

#include "worker/base/fault.h"

/* Makes the schema if it is missing, and applies the missing migrations in order, each in a transaction of its own under an
 * advisory lock; print is called with a line for each step. database, schema: as in struct session_settings. FAULT_FATAL:
 * PostgreSQL refused one. FAULT_WAIT: no connection, or it was lost. */
int migrate_run(const char *database, const char *schema, void (*print)(void *arg, const char *line), void *arg, struct fault *fault) MUST_CHECK;

#endif
