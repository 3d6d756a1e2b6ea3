/* A batch's transaction: fence, lock what the operation wants locked, judge and write everything in one statement, end.
 *
 * Faults. FAULT_RETRY: lock timeout, deadlock, serialization failure, statement timeout, a lost race for a traceId, a refusal
 * that copies cannot share: nothing was written. FAULT_REJECT: whatever else the statements or the commit raised, while the
 * connection lives: nothing was written; whose fault it is, an experiment tells (worker/breaker.h). FAULT_FENCED: our epoch is
 * gone. FAULT_WAIT: no statement's own fault: what the fence raised, a disk or server that is full, read-only or shutting
 * down, an outcome that is not known, a lost connection (worker/db/session.h). */
#ifndef EXECUTION_H
#define EXECUTION_H

#include <stdbool.h>
#include <stddef.h>

#include "schemas/record.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"
#include "worker/db/ownership.h"
#include "worker/db/session.h"

struct execution;

/* What is executed (borrowed): worker/db/binding.h says what the statements are given and answer. */
struct execution_settings {
	const struct contract *contract;
	const char *lock_sql;    /* NULL: nothing is locked */
	const char *execute_sql;
	const char *written_sql; /* $1 text account group, $2 text trace, $3 bytea[] digest: bigint, how often that work is there */
	int limit;
};

/* The table of statements that the session has to prepare. */
#define EXECUTION_STATEMENTS 4
void execution_statements(const struct execution_settings *settings, struct statement statements[EXECUTION_STATEMENTS]);

struct execution *execution_new(struct session *session, const struct execution_settings *settings); /* session is borrowed */
void execution_free(struct execution *execution);         /* accepts NULL */

#define EXECUTION_SHARED_LIMIT "CD003" /* raise_shared_limit() */

enum execution_end {
	EXECUTION_COMMIT,
	EXECUTION_COMMIT_UNLOCKED, /* without the locks first: only commands that are charged wait for them */
	EXECUTION_ROLLBACK,        /* a probe: judge, write nothing */
};

/* One transaction: fence, locks, the set-based statement for the executable ones of jobs (no two of one
 * (accountGroupId, traceId)), end. On success each executable job has its result (result.processed_at_ms for all jobs, by
 * PostgreSQL's clock; data or error) and reason. Text is in the arena. On failure no result was touched.
 *
 * In two halves, between which PostgreSQL works alone, and nothing else may be asked of the session: execution_send says what is
 * to be done (jobs and their commands stay as they are until then) and waits no longer than its bytes take to be written;
 * what fails is told by execution_receive, with the same jobs.
 *
 * A program that owns no partition may explain commands: EXECUTION_ROLLBACK with a fence of no partitions. */
void execution_send(struct execution *execution, const struct fence *fence, struct job **jobs, size_t n, enum execution_end end,
		    struct arena *arena);
int execution_receive(struct execution *execution, struct job **jobs, size_t n, struct arena *arena,
		      struct fault *fault) MUST_CHECK;

/* Whether execution_receive failed last because the connection was lost: the server closed it, or cannot be reached. */
bool execution_was_lost(const struct execution *execution);
/* Closes the connection: the next one finds what has changed in the schema. */
void execution_disconnect(struct execution *execution);

/* Whether this very command's work is there, also where it was undone since. Waits for no row's lock. Every failure
 * is a FAULT_WAIT. */
int execution_find_written(struct execution *execution, const struct job *job, bool *found, struct fault *fault) MUST_CHECK;

/* Whether that fault is a lock that was not given in time (lock_not_available). */
bool execution_is_locked(const struct fault *fault);

/* Which kind an SQLSTATE is when the statement raised it. Exposed for its test. */
enum fault_kind execution_classify(const char *sqlstate);

#endif
