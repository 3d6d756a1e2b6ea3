/* A session with PostgreSQL: connected, with the guarantees that the promises rest on, set up, its statements prepared. It knows
 * nothing of campaigns; non-blocking: whoever calls lends a waiter that keeps the consumer alive meanwhile.
 *
 * Faults of this and of what is built on it: FAULT_WAIT for whatever is the system's; after it, and after any COMMIT whose answer
 * was lost (also a WARNING of class 01000 about synchronous replication), session_connected() may be false, and the caller must
 * claim again with a new epoch before it looks at the state (protocol.txt, rule 2 of the fence). FAULT_STOP: the waiter ended
 * the wait. fault->sqlstate holds the SQLSTATE where there is one. */
#ifndef SESSION_H
#define SESSION_H

#include <stdbool.h>

#include "worker/base/fault.h"
#include "worker/base/waiter.h"
#include "worker/db/connection.h"
#include "worker/db/params.h"

struct statement {
	const char *name, *sql; /* NULL: the end of a table */
};

struct session_settings {
	const char *database;       /* conninfo or URI; "" or NULL: the PG* variables and libpq's defaults */
	const char *application;    /* application_name, shown in pg_stat_activity */
	const char *group;          /* consumer group */
	const char *transactional_id; /* written into the owner row, for whoever has to end our transaction */
	int lock_timeout_ms, statement_timeout_ms, idle_in_transaction_ms, connect_timeout_ms;
	const struct statement *const *statements; /* the tables to prepare, ended by NULL; NULL: none */
};

struct session {
	struct connection *connection;
	struct session_settings settings; /* its texts are copies */
	struct params params;             /* of the statement that is being sent */
};

struct session *session_new(const struct session_settings *settings, const struct waiter *waiter); /* texts are copied */
void session_free(struct session *session); /* accepts NULL; closes the connection */

/* Connects (closing what was there), sets the session up, refuses (FAULT_FATAL) a server without the guarantees (fsync,
 * full_page_writes, synchronous_commit, encoding UTF8, version 15, not a standby...), a connection that does not keep its
 * settings, and a database that lacks a migration this binary knows; prepares the statements. One attempt: FAULT_WAIT if
 * it failed. */
int session_connect(struct session *session, struct fault *fault) MUST_CHECK;
bool session_connected(const struct session *session);

/* ---- for the modules that are built on it ---- */

int session_not_connected(struct fault *fault); /* -1 with FAULT_WAIT */
/* One prepared statement with session->params, in a transaction of its own, and its rows (to be freed). */
int session_run_one(struct session *session, const char *prepared, struct pg_result **rows, struct fault *fault) MUST_CHECK;
/* Ends what a failed operation left open; -1. A connection that saw a fault of the system's is not used again. */
int session_give_up(struct session *session, struct fault *fault);
/* The answer to a COMMIT was received: -1 if it was "committed here, perhaps not on the standby". */
int session_confirm_commit(struct session *session, struct fault *fault) MUST_CHECK;
void session_log_doubt(const char *why); /* whether a COMMIT was carried out */

#endif
