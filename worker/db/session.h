/* A PostgreSQL session: a connection whose guarantees are checked, whose settings are made and whose statements are prepared.
 * It knows nothing of campaigns. It is non-blocking: its owner lends a waiter that keeps the consumer alive meanwhile.
 *
 * Faults of this module, and of the modules built on it. FAULT_WAIT: the system's fault. FAULT_STOP: the waiter ended the
 * wait. fault->sqlstate holds the SQLSTATE where there is one. After a FAULT_WAIT, and after any COMMIT whose answer was lost
 * (also a WARNING of class 01000 about synchronous replication), session_connected() may be false. The caller must then claim
 * again with a new epoch before it looks at the state (protocol.txt, rule 2 of the fence). */
#ifndef SESSION_H
#define SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/base/fault.h"
#include "worker/base/waiter.h"
#include "worker/db/connection.h"
#include "worker/db/params.h"

#define SESSION_FENCED "CD001" /* SQLSTATE that partition_fence() raises: FAULT_FENCED */

struct statement {
	const char *name, *sql; /* NULL: the end of a table */
};

struct session_settings {
	const char *database;       /* conninfo or URI; "" or NULL: the PG* variables and libpq's defaults */
	const char *schema;         /* of the tables; NULL: public */
	const char *application;    /* application_name, shown in pg_stat_activity */
	const char *group;          /* consumer group */
	const char *transactional_id; /* written into the owner row: the next owner may have to end our transaction */
	int claim_timeout_ms;       /* lock_timeout of a claim, which waits for the batches of others; 0: none */
	int lock_timeout_ms, statement_timeout_ms, idle_in_transaction_ms, connect_timeout_ms;
	const struct statement *const *statements; /* the tables to prepare, ended by NULL; NULL: none */
};

struct session {
	struct connection *connection;
	struct session_settings settings; /* its texts are copies */
	struct params params;             /* of the statement that is being sent */
	int64_t guarantees_at_ms;         /* when the guarantees are to be looked at again */
	char ended[160];                  /* why the connection before was ended while it was idle; "": it was not */
};

struct session *session_new(const struct session_settings *settings, const struct waiter *waiter); /* texts are copied */
void session_free(struct session *session); /* accepts NULL; closes the connection */

/* Closes the old connection, connects, checks the server, sets the session up and prepares the statements. One attempt.
 * FAULT_FATAL: the server lacks a guarantee (guarantees.h), the connection does not keep its settings, or the database lacks
 * a migration that this program knows. FAULT_WAIT: there is no connection, or the server is a standby. */
int session_connect(struct session *session, struct fault *fault) MUST_CHECK;
bool session_connected(const struct session *session);
/* Between two operations: whether the server has ended the connection meanwhile (an administrator, a time-out). */
bool session_was_ended(struct session *session);
/* Between two operations, every few seconds: looks at the guarantees again, as somebody may have changed the server's settings. */
int session_check_guarantees(struct session *session, int64_t now_ms, struct fault *fault) MUST_CHECK;

/* ---- for the modules built on this one ---- */

int session_not_connected(struct fault *fault); /* returns -1 with FAULT_WAIT */
/* Runs one prepared statement with session->params in a transaction of its own; *rows (to be freed) are its rows, NULL if it
 * failed. FAULT_RETRY: a row stayed locked; FAULT_FENCED: SESSION_FENCED. */
int session_run_one(struct session *session, const char *prepared, struct pg_result **rows, struct fault *fault) MUST_CHECK;
/* Rolls a failed operation back; returns -1. After a FAULT_WAIT the connection is closed instead. */
int session_give_up(struct session *session, struct fault *fault);
/* Call it when the answer to a COMMIT was received. -1, with the connection closed: the commit is perhaps not on the standby. */
int session_confirm_commit(struct session *session, struct fault *fault) MUST_CHECK;
void session_log_doubt(const char *why); /* a COMMIT may or may not have been carried out */

#endif
