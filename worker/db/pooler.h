/* Finds poolers that give each transaction, or each statement, another session of PostgreSQL. */
#ifndef POOLER_H
#define POOLER_H

#include "worker/base/fault.h"
#include "worker/db/connection.h"

/* Checks that a new connection has a session of its own; leaves nothing behind in a session that is shared. A direct
 * connection costs one question. Behind a pooler, further connections are made to the same server for some milliseconds.
 * FAULT_FATAL: the session is shared. FAULT_WAIT: that could not be found out. database, application, timeout_ms: as the
 * connection was made with. */
int pooler_check(struct connection *connection, const char *database, const char *application, int timeout_ms,
		 struct fault *fault) MUST_CHECK;

#endif
