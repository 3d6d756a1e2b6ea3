/* One PostgreSQL connection, non-blocking, and the only code that includes libpq. It knows nothing of campaigns.
 *
 * Statements are sent one behind the other and answered in that order (libpq's pipeline mode): any number of pg_send, each
 * followed by its pg_receive at some later time, then pg_finish. All values go and come in binary. Nothing is printed.
 *
 * Every failure is a FAULT_WAIT with fault->sqlstate set if the server answered with an error, but for FAULT_STOP (the
 * waiter ended the wait). A connection that was lost, or that was left in the middle of something, is closed: then
 * pg_connected() is false, and what was sent may or may not have happened. fault->msg never shows a parameter: for errors
 * that quote data (classes 22 and 23, 54, P0001) it names constraint, table and column instead of the server's sentence. */
#ifndef PG_H
#define PG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/arena.h"
#include "worker/base/fault.h"
#include "worker/base/waiter.h"

struct pg;
struct pg_result;

struct pg *pg_new(const struct waiter *waiter);
void pg_free(struct pg *pg); /* accepts NULL */
/* A waiter for programs that have nothing else to do: poll(2). */
int pg_wait_blocking(void *arg, int fd, short events, int timeout_ms);
bool pg_connected(const struct pg *pg);
void pg_close(struct pg *pg);

/* One attempt, at most timeout_ms; where database lists several hosts and there was no answer in this time, as much again
 * for each of them. database as in struct store_settings; keep-alive and time-out settings that it does not
 * give get defaults that notice a dead peer within seconds, and target_session_attrs is read-write. */
int pg_connect(struct pg *pg, const char *database, const char *application, int timeout_ms, struct fault *fault) MUST_CHECK;
int pg_server_version(const struct pg *pg); /* 150020 */

/* Runs statements without parameters (simple protocol, outside a pipeline); rows, if any, are dropped. */
int pg_run(struct pg *pg, const char *sql, struct fault *fault) MUST_CHECK;
/* The first column of the first row of such a statement as text, copied into buf; "" if there is no row or it is null. */
int pg_ask(struct pg *pg, const char *sql, char *buf, size_t size, struct fault *fault) MUST_CHECK;
int pg_prepare(struct pg *pg, const char *name, const char *sql, struct fault *fault) MUST_CHECK;

/* Parameters of one statement, kept in one buffer; pg_params_reset lets the memory be used again. */
#define PG_PARAMS_MAX 12

enum pg_type { PG_INT4 = 23, PG_INT8 = 20, PG_TEXT = 25, PG_BYTEA = 17 }; /* OIDs of pg_type */

struct pg_params {
	char *data;
	size_t size, capacity;
	int count;
	size_t start[PG_PARAMS_MAX], length[PG_PARAMS_MAX];
	size_t array; /* where the open array's header is */
	int32_t elements;
};

void pg_params_reset(struct pg_params *params);
void pg_params_free(struct pg_params *params);
void pg_add_text(struct pg_params *params, const char *text);
void pg_add_int4(struct pg_params *params, int32_t value);
void pg_add_int8(struct pg_params *params, int64_t value);
/* An array: begin, elements, end. NULL elements are SQL nulls. */
void pg_array_begin(struct pg_params *params, enum pg_type type);
void pg_array_int4(struct pg_params *params, int32_t value);
void pg_array_int8(struct pg_params *params, int64_t value);
void pg_array_null(struct pg_params *params);
void pg_array_text(struct pg_params *params, const char *text);
void pg_array_bytes(struct pg_params *params, const void *bytes, size_t size); /* of text and bytea; NULL: null */
/* One text element that joins n strings with commas. */
void pg_array_joined(struct pg_params *params, const char *const *strings, size_t n);
void pg_array_end(struct pg_params *params);

/* Sends a prepared statement (NULL: a statement's text without parameters). Only queues and tries to write. */
int pg_send(struct pg *pg, const char *prepared, const char *sql, const struct pg_params *params, struct fault *fault) MUST_CHECK;
/* Writes out everything queued and asks the server to answer what it has, without ending the pipeline. */
int pg_flush(struct pg *pg, struct fault *fault) MUST_CHECK;
/* The same, ending the pipeline: the answers may now be received. What cannot be written within that time (-1: however long
 * it takes) is written when the answers are. */
int pg_sync(struct pg *pg, int timeout_ms, struct fault *fault) MUST_CHECK;
/* The next statement's answer; result (if not NULL) receives its rows, to be freed with pg_result_free. */
int pg_receive(struct pg *pg, struct pg_result **result, struct fault *fault) MUST_CHECK;
/* Drops the answers that were not received and leaves the pipeline. Closes the connection if that is not possible. */
int pg_finish(struct pg *pg, struct fault *fault) MUST_CHECK;
bool pg_in_transaction(const struct pg *pg); /* after pg_finish */

/* Whether the server has warned, since pg_connect or the last call, that a commit may not have been replicated. */
bool pg_commit_was_doubtful(struct pg *pg);

int pg_rows(const struct pg_result *result);
bool pg_is_null(const struct pg_result *result, int row, int column);
const char *pg_text(const struct pg_result *result, int row, int column, size_t *size); /* NULL: null */
/* The elements of a text[] (arena), NULL where null; a null array has none. */
size_t pg_texts(const struct pg_result *result, int row, int column, struct arena *arena, const char ***texts);
bool pg_bool(const struct pg_result *result, int row, int column);      /* nulls are 0 */
int32_t pg_int4(const struct pg_result *result, int row, int column);
int64_t pg_int8(const struct pg_result *result, int row, int column);
int64_t pg_time_ms(const struct pg_result *result, int row, int column); /* of a timestamptz: since the Unix epoch */
void pg_result_free(struct pg_result *result); /* accepts NULL */

#endif
