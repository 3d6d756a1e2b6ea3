/* One PostgreSQL connection, non-blocking, and, with rows.c, the only code that includes libpq. It knows nothing of campaigns.
 *
 * Statements are sent one behind the other and answered in that order (libpq's pipeline mode): any number of connection_send, each
 * followed by its connection_receive at some later time, then connection_finish. All values go and come in binary. Nothing is printed.
 *
 * Every failure is a FAULT_WAIT with fault->sqlstate set if the server answered with an error, but for FAULT_STOP (the
 * waiter ended the wait). A connection that was lost, or that was left in the middle of something, is closed: then
 * connection_is_open() is false, and what was sent may or may not have happened. fault->msg never shows a parameter: for errors
 * that quote data (classes 22 and 23, 54, P0001) it names constraint, table and column instead of the server's sentence. */
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
/* A waiter for programs that have nothing else to do: poll(2). */
int connection_wait_blocking(void *arg, int fd, short events, int timeout_ms);
bool connection_is_open(const struct connection *connection);
void connection_close(struct connection *connection);

/* One attempt, at most timeout_ms; where database lists several hosts and there was no answer in this time, as much again
 * for each of them. database as in struct session_settings; keep-alive and time-out settings that it does not
 * give get defaults that notice a dead peer within seconds, and target_session_attrs is read-write. */
int connection_connect(struct connection *connection, const char *database, const char *application, int timeout_ms, struct fault *fault) MUST_CHECK;
int connection_server_version(const struct connection *connection); /* 150020 */

/* Runs statements without parameters (simple protocol, outside a pipeline); rows, if any, are dropped. */
int connection_run(struct connection *connection, const char *sql, struct fault *fault) MUST_CHECK;
/* The first column of the first row of such a statement as text, copied into buf; "" if there is no row or it is null. */
int connection_ask(struct connection *connection, const char *sql, char *buf, size_t size, struct fault *fault) MUST_CHECK;
int connection_prepare(struct connection *connection, const char *name, const char *sql, struct fault *fault) MUST_CHECK;

/* Sends a prepared statement (NULL: a statement's text without parameters). Only queues and tries to write. */
int connection_send(struct connection *connection, const char *prepared, const char *sql, const struct params *params, struct fault *fault) MUST_CHECK;
/* Writes out everything queued and asks the server to answer what it has, without ending the pipeline. */
int connection_flush(struct connection *connection, struct fault *fault) MUST_CHECK;
/* The same, ending the pipeline: the answers may now be received. What cannot be written within that time (-1: however long
 * it takes) is written when the answers are. */
int connection_sync(struct connection *connection, int timeout_ms, struct fault *fault) MUST_CHECK;
/* The next statement's answer; result (if not NULL) receives its rows, to be freed with rows_free. */
int connection_receive(struct connection *connection, struct pg_result **result, struct fault *fault) MUST_CHECK;
/* Drops the answers that were not received and leaves the pipeline. Closes the connection if that is not possible. */
int connection_finish(struct connection *connection, struct fault *fault) MUST_CHECK;
bool connection_in_transaction(const struct connection *connection); /* after connection_finish */

/* Whether the server has warned, since connection_connect or the last call, that a commit may not have been replicated. */
bool connection_commit_was_doubtful(struct connection *connection);

#endif
