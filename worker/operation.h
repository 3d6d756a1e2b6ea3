/* An operation: what one kind of command means. Its messages are its contract's; what it does is its statements' (worker/sql
 * says what is asked of them). The rest of the worker handles commands without knowing what they do. */
#ifndef OPERATION_H
#define OPERATION_H

#include "schemas/contract.h"
#include "worker/base/config.h"
#include "worker/sql/sql.h"

struct operation {
	const struct contract *contract;
	const char *lock_sql;    /* run before the statement, in its transaction; NULL: nothing is locked */
	const char *execute_sql; /* judges and executes a batch */
	const char *written_sql; /* how many of these digests' work an account group has under a traceId */
	const struct right *rights;       /* that its statements need, and the functions that they call; `check` asks for them. */
	const char *const *functions;     /* Both end with NULL. */
	int (*limit)(const struct config *config); /* the number that the statement is given */
};

#endif
