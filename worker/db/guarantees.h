/* The guarantees of a server and a database on which the promises rest. */
#ifndef GUARANTEES_H
#define GUARANTEES_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/base/fault.h"
#include "worker/db/connection.h"

#define GUARANTEES_VERSION_MIN 150000 /* as connection_server_version returns it */

struct guarantee {
	const char *condition; /* SQL, true or false */
	const char *broken;    /* the message where it is false */
	enum fault_kind kind;
};

extern const struct guarantee guarantees[];
extern const size_t guarantee_count;

/* *yes: whether a condition of SQL is true. */
int guarantees_ask(struct connection *connection, const char *condition, bool *yes, struct fault *fault) MUST_CHECK;
/* Checks the version and, by one statement, all guarantees; the first that does not hold is the fault. */
int guarantees_check(struct connection *connection, struct fault *fault) MUST_CHECK;

/* Names without a schema are from now on looked for in pg_catalog and in this schema (NULL: public), whether it exists or not. */
int guarantees_use_schema(struct connection *connection, const char *schema, struct fault *fault) MUST_CHECK;
int guarantees_find_schema(struct connection *connection, bool *there, struct fault *fault) MUST_CHECK; /* and may be used */
/* *any: whether the schema has a table of migrations. FAULT_FATAL: it is another program's. */
int guarantees_find_migrations(struct connection *connection, bool *any, struct fault *fault) MUST_CHECK;
/* missing: the lowest version of a migration that this program knows and the schema lacks; 0 if it lacks none. FAULT_FATAL: the
 * schema cannot be used, or holds another program's migrations. */
int guarantees_find_missing_migration(struct connection *connection, int *missing, struct fault *fault) MUST_CHECK;
int guarantees_check_migrations(struct connection *connection, struct fault *fault) MUST_CHECK; /* FAULT_FATAL: one is missing */

#endif
