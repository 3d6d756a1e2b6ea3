#include "worker/db/pooler.h"

#include <stdlib.h>
#include <string.h>

#define PID_SIZE 16
#define TRIALS 4         /* connections that are made beside: one address may be several poolers' */
#define CROWDED_MS 1000  /* a pooler that has no session for a client within that time has none */

/* A pooler that takes the session last used gives the other connection ours (A B); one that takes them in turn gives us
 * another one for a second statement (A A), or, if it has two, for a statement behind one of the other's. */
static const char turns[] = "AABABBA";

static int ask_pid(struct connection *connection, char pid[PID_SIZE], struct fault *fault)
{
	return connection_ask(connection, "SELECT pg_catalog.pg_backend_pid()", pid, PID_SIZE, fault);
}

static int refuse(struct fault *fault)
{
	return fault_set(fault, FAULT_FATAL, "a pooler gives each transaction another session of PostgreSQL (pgbouncer: pool_mode = "
			 "transaction or statement): connect directly, or through a pool in session mode");
}

/* *crowded: the other connection gets no session while ours has one, which is therefore its own. A pooler that shares sessions
 * would have let the other connection go first. */
static int ask_other(struct connection *ours, struct connection *other, char ours_now[PID_SIZE], char other_now[PID_SIZE],
		     bool *crowded, struct fault *fault)
{
	bool answered;

	*crowded = false;
	if (connection_ask_begin(other, "SELECT pg_catalog.pg_backend_pid()", fault) < 0 ||
	    connection_ask_await(other, CROWDED_MS, &answered, fault) < 0)
		return -1;
	if (!answered) {
		if (ask_pid(ours, ours_now, fault) < 0 || connection_ask_await(other, 0, &answered, fault) < 0)
			return -1;
		*crowded = !answered;
	}
	return *crowded ? 0 : connection_ask_end(other, other_now, PID_SIZE, fault);
}

/* Lets two connections take turns: each must keep the session that it had, and they must not meet. */
static int take_turns(struct connection *ours, struct connection *other, const char *pid, bool *crowded, struct fault *fault)
{
	char ours_now[PID_SIZE], other_now[PID_SIZE] = "", other_pid[PID_SIZE] = "";

	strcpy(ours_now, pid);
	for (const char *turn = turns; *turn && !*crowded; turn++) {
		if (*turn == 'A' ? ask_pid(ours, ours_now, fault) < 0 :
				   ask_other(ours, other, ours_now, other_now, crowded, fault) < 0)
			return -1;
		if (other_pid[0] == '\0')
			strcpy(other_pid, other_now);
		if (strcmp(ours_now, pid) != 0 || strcmp(other_now, other_pid) != 0 || strcmp(other_now, pid) == 0)
			return refuse(fault);
	}
	return 0;
}

static int try_beside(struct connection *connection, const char *database, const char *application, int timeout_ms,
		      const char *pid, bool *crowded, struct fault *fault)
{
	struct connection *other = connection_open_beside(connection, database, application, timeout_ms, fault);
	int done = other ? take_turns(connection, other, pid, crowded, fault) : -1;

	connection_free(other);
	return done;
}

int pooler_check(struct connection *connection, const char *database, const char *application, int timeout_ms, struct fault *fault)
{
	char pid[PID_SIZE];
	bool crowded = false;

	if (ask_pid(connection, pid, fault) < 0)
		return -1;
	if (atoi(pid) == connection_backend_pid(connection))
		return 0;
	for (int i = 0; i < TRIALS && !crowded; i++)
		if (try_beside(connection, database, application, timeout_ms, pid, &crowded, fault) < 0)
			return -1;
	return 0;
}
