#include "worker/db/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/db/connection.h"
#include "worker/db/pooler.h"
#include "worker/sql/sql.h"

#define APPLICATION "campaign-worker migrate"
#define CONNECT_TIMEOUT_MS 10000
#define LOCK_KEY "7163051408331046932" /* of the advisory lock: any number that nobody else uses in this database */

static int is_applied(struct connection *connection, const struct migration *migration, bool *applied, struct fault *fault)
{
	char sql[128], answer[8];

	if (connection_ask(connection, "SELECT to_regclass('public.schema_migrations')", answer, sizeof answer, fault) < 0)
		return -1;
	*applied = false;
	if (answer[0] == '\0')
		return 0;
	snprintf(sql, sizeof sql, "SELECT 1 FROM public.schema_migrations WHERE version = %d", migration->version);
	if (connection_ask(connection, sql, answer, sizeof answer, fault) < 0)
		return -1;
	*applied = answer[0] != '\0';
	return 0;
}

static int record(struct connection *connection, const struct migration *migration, struct fault *fault)
{
	char sql[256];

	snprintf(sql, sizeof sql, "INSERT INTO public.schema_migrations (version, name) VALUES (%d, '%s')", migration->version,
		 migration->name);
	return connection_run(connection, sql, fault);
}

/* The lock makes migrators wait for each other: the later one finds the migration applied. */
static int apply(struct connection *connection, const struct migration *migration, bool *applied, struct fault *fault)
{
	bool already;

	*applied = false;
	if (connection_run(connection, "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(" LOCK_KEY ")", fault) < 0 ||
	    is_applied(connection, migration, &already, fault) < 0)
		return -1;
	if (already)
		return connection_run(connection, "ROLLBACK", fault);
	if (connection_run(connection, migration->sql, fault) < 0 || record(connection, migration, fault) < 0 ||
	    connection_run(connection, "COMMIT", fault) < 0)
		return -1;
	*applied = true;
	return 0;
}

static int apply_missing(struct connection *connection, void (*print)(void *arg, const char *line), void *arg,
			 struct fault *fault)
{
	char line[256];
	bool any = false, applied;

	for (size_t i = 0; i < migration_count; i++) {
		struct fault cause;

		if (apply(connection, &migrations[i], &applied, &cause) < 0) {
			fault_set(fault, connection_is_open(connection) ? FAULT_FATAL : FAULT_WAIT, "migration %s was not applied: %s",
				  migrations[i].name, cause.msg);
			strcpy(fault->sqlstate, cause.sqlstate);
			return -1;
		}
		any |= applied;
		snprintf(line, sizeof line, "applied %s", migrations[i].name);
		if (applied)
			print(arg, line);
	}
	if (!any) {
		snprintf(line, sizeof line, "nothing to do: at %s", migrations[migration_count - 1].name);
		print(arg, line);
	}
	return 0;
}

int migrate_run(const char *database, void (*print)(void *arg, const char *line), void *arg, struct fault *fault)
{
	struct waiter waiter = { connection_wait_blocking, NULL };
	struct connection *connection = connection_new(&waiter);
	int done = -1;

	if (connection_connect(connection, database, APPLICATION, CONNECT_TIMEOUT_MS, fault) == 0 &&
	    pooler_check(connection, database, APPLICATION, CONNECT_TIMEOUT_MS, fault) == 0 &&
	    connection_run(connection, "SET client_min_messages = warning; SET lock_timeout = 0; SET statement_timeout = 0", fault) == 0)
		done = apply_missing(connection, print, arg, fault);
	connection_free(connection);
	return done;
}
