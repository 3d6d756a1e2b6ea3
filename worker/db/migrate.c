/* Applies what is missing of schemas/sql, forward only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/db/pg.h"
#include "worker/sql/sql.h"
#include "worker/db/store.h"

#define CONNECT_TIMEOUT_MS 10000
#define LOCK_KEY "7163051408331046932" /* of the advisory lock: any number that nobody else uses in this database */

static int is_applied(struct pg *pg, const struct migration *migration, bool *applied, struct fault *fault)
{
	char sql[128], answer[8];

	if (pg_ask(pg, "SELECT to_regclass('public.schema_migrations')", answer, sizeof answer, fault) < 0)
		return -1;
	*applied = false;
	if (answer[0] == '\0')
		return 0;
	snprintf(sql, sizeof sql, "SELECT 1 FROM public.schema_migrations WHERE version = %d", migration->version);
	if (pg_ask(pg, sql, answer, sizeof answer, fault) < 0)
		return -1;
	*applied = answer[0] != '\0';
	return 0;
}

static int record(struct pg *pg, const struct migration *migration, struct fault *fault)
{
	char sql[256];

	snprintf(sql, sizeof sql, "INSERT INTO public.schema_migrations (version, name) VALUES (%d, '%s')", migration->version,
		 migration->name);
	return pg_run(pg, sql, fault);
}

/* In its transaction, behind the lock that makes migrators queue up: whoever comes later finds it applied. */
static int apply(struct pg *pg, const struct migration *migration, bool *applied, struct fault *fault)
{
	bool already;

	*applied = false;
	if (pg_run(pg, "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(" LOCK_KEY ")", fault) < 0 ||
	    is_applied(pg, migration, &already, fault) < 0)
		return -1;
	if (already)
		return pg_run(pg, "ROLLBACK", fault);
	if (pg_run(pg, migration->sql, fault) < 0 || record(pg, migration, fault) < 0 || pg_run(pg, "COMMIT", fault) < 0)
		return -1;
	*applied = true;
	return 0;
}

static int apply_missing(struct pg *pg, void (*say)(void *arg, const char *line), void *arg, struct fault *fault)
{
	char line[256];
	bool any = false, applied;

	for (size_t i = 0; i < migration_count; i++) {
		struct fault cause;

		if (apply(pg, &migrations[i], &applied, &cause) < 0) {
			fault_set(fault, pg_connected(pg) ? FAULT_FATAL : FAULT_WAIT, "migration %s was not applied: %s",
				  migrations[i].name, cause.msg);
			strcpy(fault->sqlstate, cause.sqlstate);
			return -1;
		}
		any |= applied;
		snprintf(line, sizeof line, "applied %s", migrations[i].name);
		if (applied)
			say(arg, line);
	}
	if (!any) {
		snprintf(line, sizeof line, "nothing to do: at %s", migrations[migration_count - 1].name);
		say(arg, line);
	}
	return 0;
}

int store_migrate(const char *database, void (*say)(void *arg, const char *line), void *arg, struct fault *fault)
{
	struct waiter waiter = { pg_wait_blocking, NULL };
	struct pg *pg = pg_new(&waiter);
	int done = -1;

	if (pg_connect(pg, database, "campaign-worker migrate", CONNECT_TIMEOUT_MS, fault) == 0 &&
	    pg_run(pg, "SET client_min_messages = warning; SET lock_timeout = 0; SET statement_timeout = 0", fault) == 0)
		done = apply_missing(pg, say, arg, fault);
	pg_free(pg);
	return done;
}
