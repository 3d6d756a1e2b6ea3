/* The campaign store in PostgreSQL: the only module that runs the rules' SQL. One connection (pg.h), non-blocking: whoever
 * calls lends a waiter that keeps the consumer alive meanwhile.
 *
 * Faults: FAULT_RETRY lock timeout, deadlock, serialization failure, statement timeout, a lost race for a traceId: nothing
 * written. FAULT_REJECT classes 22, 23, 54 and P0001 from the statement or the commit: nothing written. FAULT_FENCED our
 * epoch is gone (SQLSTATE CD001). FAULT_WAIT everything else; after it, and after any COMMIT whose answer was lost (also
 * a WARNING of class 01000 about synchronous replication), store_connected() may be false, and the caller must claim again
 * with a new epoch before it looks at the state (protocol.txt, rule 2 of the fence). FAULT_STOP the waiter ended the wait.
 * fault->sqlstate holds the SQLSTATE where there is one. */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/arena.h"
#include "worker/base/fault.h"
#include "worker/base/offsets.h"
#include "worker/base/waiter.h"
#include "schemas/record.h"

struct store;

struct store_settings {
	const char *database;       /* conninfo or URI; "" or NULL: the PG* variables and libpq's defaults */
	const char *application;    /* application_name, shown in pg_stat_activity */
	const char *group;          /* consumer group */
	const char *transactional_id; /* written into the owner row, for whoever has to end our transaction */
	int lock_timeout_ms, statement_timeout_ms, idle_in_transaction_ms, connect_timeout_ms;
	int audience_leads_max;     /* largest audience that may be duplicated whole */
};

struct store *store_new(const struct store_settings *settings, const struct waiter *waiter); /* settings are copied */
void store_free(struct store *store); /* accepts NULL; closes the connection */

/* Connects (closing what was there), sets the session up, refuses (FAULT_FATAL) a server without the guarantees (fsync,
 * full_page_writes, synchronous_commit, encoding UTF8, version 15, not a standby...), a connection that does not keep its
 * settings, and a database that lacks a migration this binary knows; prepares the statements. One attempt: FAULT_WAIT if
 * it failed. */
int store_connect(struct store *store, struct fault *fault) MUST_CHECK;
bool store_connected(const struct store *store);

/* One partition's row of partition_owner. */
struct claim {
	int32_t partition;
	int64_t epoch;            /* out: ours from now on */
	int64_t confirmed_offset; /* out: results below it are published; OFFSET_NONE: never claimed before */
	int64_t resume_from;      /* out: where a person told us to resume, RESUME_EARLIEST, or RESUME_NONE */
	char previous_transactional_id[256]; /* out: of the last owner; "" if none */
	bool refused;             /* out: the row belongs to another consumer group, named in other_group; not claimed */
	char other_group[256];
};

/* Claims all n partitions in one READ COMMITTED transaction of its own: epoch = epoch + 1 (rules 1 and 3 of the fence). */
int store_claim(struct store *store, const char *cluster_id, const char *topic, struct claim *claims, size_t n,
		struct fault *fault) MUST_CHECK;

/* After the resumed offset has been committed to the group: clears the order and sets confirmed_offset, if the epoch is
 * still ours (FAULT_FENCED otherwise). */
int store_resumed(struct store *store, const char *cluster_id, const char *topic, const struct claim *claim, int64_t offset,
		  struct fault *fault) MUST_CHECK;

/* How many of these partitions have an order to resume waiting. -1 with a fault. */
int store_resume_orders(struct store *store, const char *cluster_id, const char *topic, const int32_t *partitions, size_t n,
			struct fault *fault) MUST_CHECK;

/* Records an order to resume (campaign-worker resume): offset or RESUME_EARLIEST; the partition passes to this group.
 * The row is created if there is none. */
int store_order_resume(struct store *store, const char *cluster_id, const char *topic, int32_t partition, int64_t from,
		       const char *who, struct fault *fault) MUST_CHECK;

/* The fence of one batch: for each of its partitions our epoch and the offset of the batch's first record. */
struct fence {
	const char *cluster_id, *topic;
	const struct fence_partition {
		int32_t partition;
		int64_t epoch, start_offset;
	} *partitions; /* ascending */
	size_t count;
};

/* Outside of a batch: results below these offsets are published (FAULT_FENCED if an epoch is not ours any more). */
int store_confirm(struct store *store, const struct fence *fence, struct fault *fault) MUST_CHECK;

enum store_end {
	STORE_COMMIT,
	STORE_COMMIT_UNLOCKED, /* without the rate limits' locks first: only commands that are charged wait for them */
	STORE_ROLLBACK,        /* a probe: judge, write nothing */
};

/* One transaction: fence, lock the rate-limit rows, the set-based statement for the executable ones of jobs (no two of one
 * (accountGroupId, traceId)), end. On success each executable job has its result (result.processed_at_ms for all jobs, by
 * PostgreSQL's clock; data or error) and reason. Text is in the arena. On failure no result was touched.
 *
 * In two halves, between which PostgreSQL works alone, and nothing else may be asked of the store: store_send says what is
 * to be done (jobs and their commands stay as they are until then) and waits no longer than its bytes take to be written;
 * what fails is told by store_receive, with the same jobs. */
void store_send(struct store *store, const struct fence *fence, struct job **jobs, size_t n, enum store_end end,
		struct arena *arena);
int store_receive(struct store *store, struct job **jobs, size_t n, struct arena *arena, struct fault *fault) MUST_CHECK;
int store_execute(struct store *store, const struct fence *fence, struct job **jobs, size_t n, enum store_end end,
		  struct arena *arena, struct fault *fault) MUST_CHECK;

/* Whether this very command's draft is there, deleted or not. Waits for no row's lock. Any failure is FAULT_WAIT. */
int store_find_draft(struct store *store, const struct job *job, bool *found, struct fault *fault) MUST_CHECK;

/* What `check` says: lines such as "PostgreSQL 15.18, primary, UTF8". say is called once per line; wrong: it is a finding
 * that must be mended. 0 if the connection could be made (findings or not). */
int store_check(const struct store_settings *settings, void (*say)(void *arg, bool wrong, const char *line), void *arg,
		struct fault *fault) MUST_CHECK;

/* Which kind an SQLSTATE is when the statement raised it. Exposed for its test. */
enum fault_kind store_classify(const char *sqlstate);

/* migrate.c: applies what is missing, in order, each in a transaction of its own under an advisory lock; say is called with
 * a line for each step. */
int store_migrate(const char *database, void (*say)(void *arg, const char *line), void *arg, struct fault *fault) MUST_CHECK;

#endif
