/* A non-blocking PostgreSQL connection. Only this module and rows.c include libpq. It knows nothing of campaigns.
 *
 * Statements are sent one after the other and answered in that order (libpq's pipeline mode): any number of connection_send,
 * later one connection_receive for each, then connection_finish. All values are binary. Nothing is printed.
 *
 * A failure is FAULT_WAIT, or FAULT_STOP if the waiter ended the wait. fault->sqlstate is set if the server answered with an
 * error. A connection that was lost, or that was left in the middle of an operation, is closed: connection_is_open() is
 * false, and the statements that were sent may or may not have been executed. fault->msg never shows a parameter: for errors
 * that quote data (classes 22, 23 and 54, P0001) it names constraint, table and column instead of the server's sentence. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/fault.h"
#include "worker/base/waiter.h"
#include "worker/db/params.h"

struct connection;
struct pg_result;

struct connection *connection_new(const struct waiter *waiter);
void connection_free(struct connection *connection); /* accepts NULL */
/* A waiter's function for programs that have no other work meanwhile: poll(2). */
int connection_wait_blocking(void *arg, int fd, short events, int timeout_ms);
bool connection_is_open(const struct connection *connection);
void connection_close(struct connection *connection);

/* Makes one attempt of at most timeout_ms. Where database lists several hosts and none answered in that time, each of them is
 * tried for timeout_ms again. database: as in struct session_settings. Keep-alive and time-out settings that it does not give
 * get defaults that detect a dead peer within seconds, and target_session_attrs is read-write. FAULT_FATAL: database is
 * neither a conninfo nor a URI. */
int connection_connect(struct connection *connection, const char *database, const char *application, int timeout_ms,
		       struct fault *fault) MUST_CHECK;
int connection_server_version(const struct connection *connection); /* 150020: 15.20 */

/* Runs statements without parameters (simple protocol, outside a pipeline); their rows, if any, are dropped. */
int connection_run(struct connection *connection, const char *sql, struct fault *fault) MUST_CHECK;
/* Runs such a statement and copies the first column of its first row into buf, as text; "" if there is no row or it is null. */
int connection_ask(struct connection *connection, const char *sql, char *buf, size_t size, struct fault *fault) MUST_CHECK;
int connection_prepare(struct connection *connection, const char *name, const char *sql, struct fault *fault) MUST_CHECK;

/* Queues a prepared statement (NULL: the text sql, without parameters) and tries to write it. Does not wait. */
int connection_send(struct connection *connection, const char *prepared, const char *sql, const struct params *params,
		    struct fault *fault) MUST_CHECK;
/* Writes the queue out and asks the server for its answers so far, without ending the pipeline. */
int connection_flush(struct connection *connection, struct fault *fault) MUST_CHECK;
/* Writes the queue out and ends the pipeline: the answers may now be received. Waits for the socket at most timeout_ms (-1:
 * without limit); connection_receive writes the rest. */
int connection_sync(struct connection *connection, int timeout_ms, struct fault *fault) MUST_CHECK;
/* Receives the next statement's answer; result (if not NULL) receives its rows, to be freed with rows_free. */
int connection_receive(struct connection *connection, struct pg_result **result, struct fault *fault) MUST_CHECK;
/* Drops the answers that were not received and leaves the pipeline; closes the connection if that is not possible. -1 also for
 * an error among them: the implicit COMMIT at a pipeline's end may fail when every statement has succeeded. */
int connection_finish(struct connection *connection, struct fault *fault) MUST_CHECK;
bool connection_in_transaction(const struct connection *connection); /* after connection_finish */

/* Whether the server has warned, since connection_connect or the last call, that a commit may not have been replicated. */
bool connection_commit_was_doubtful(struct connection *connection);

#endif
