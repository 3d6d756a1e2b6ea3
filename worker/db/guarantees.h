/* What a server and a database must be like for the promises to hold. */
#ifndef GUARANTEES_H
#define GUARANTEES_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/base/fault.h"
#include "worker/db/connection.h"

#define GUARANTEES_VERSION_MIN 150000 /* as connection_server_version has it */

struct guarantee {
	const char *condition; /* SQL, true or false */
	const char *broken;    /* what to say where it is false */
	enum fault_kind kind;
};

extern const struct guarantee guarantees[];
extern const size_t guarantee_count;

/* Whether a condition of SQL is true. */
int guarantees_ask(struct connection *connection, const char *condition, bool *yes, struct fault *fault) MUST_CHECK;
/* All of them and the version: the first that does not hold is the fault. */
int guarantees_check(struct connection *connection, struct fault *fault) MUST_CHECK;

/* missing: the lowest version of a migration that this program knows and the database lacks; 0 if it lacks none. */
int guarantees_find_missing_migration(struct connection *connection, int *missing, struct fault *fault) MUST_CHECK;
int guarantees_check_migrations(struct connection *connection, struct fault *fault) MUST_CHECK; /* FAULT_FATAL names it */

#endif
