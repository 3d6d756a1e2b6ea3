#include "worker/db/guarantees.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/sql/sql.h"

/* What the promises rest on, as conditions of SQL, and what to say where one does not hold. A standby is not for a person
 * to mend: after a failover the right server will be found. */
const struct guarantee guarantees[] = {
	{ "NOT pg_is_in_recovery()", "PostgreSQL is a standby: the worker needs the primary", FAULT_WAIT },
	{ "current_setting('server_encoding') = 'UTF8'", "the database's encoding is not UTF8", FAULT_FATAL },
	{ "current_setting('fsync') = 'on'", "fsync is off: PostgreSQL may lose commits", FAULT_FATAL },
	{ "current_setting('full_page_writes') = 'on'", "full_page_writes is off: PostgreSQL may lose commits", FAULT_FATAL },
	{ "current_setting('synchronous_commit') <> 'off'", "synchronous_commit is off: PostgreSQL may lose commits", FAULT_FATAL },
	{ "current_setting('synchronous_commit') <> 'local' OR current_setting('synchronous_standby_names') = ''",
	  "synchronous_commit is local, though there are synchronous standbys: a failover may lose commits", FAULT_FATAL },
};

const size_t guarantee_count = sizeof guarantees / sizeof guarantees[0];

int guarantees_ask(struct connection *connection, const char *condition, bool *yes, struct fault *fault)
{
	char sql[512], answer[8];

	snprintf(sql, sizeof sql, "SELECT %s", condition);
	if (connection_ask(connection, sql, answer, sizeof answer, fault) < 0)
		return -1;
	*yes = strcmp(answer, "t") == 0;
	return 0;
}

int guarantees_check(struct connection *connection, struct fault *fault)
{
	bool yes;

	if (connection_server_version(connection) < GUARANTEES_VERSION_MIN)
		return fault_set(fault, FAULT_FATAL, "PostgreSQL %d.%d is too old: the worker needs 15 or newer",
				 connection_server_version(connection) / 10000, connection_server_version(connection) % 10000);
	for (size_t i = 0; i < guarantee_count; i++) {
		if (guarantees_ask(connection, guarantees[i].condition, &yes, fault) < 0)
			return -1;
		if (!yes)
			return fault_set(fault, guarantees[i].kind, "%s", guarantees[i].broken);
	}
	return 0;
}

/* missing: the lowest version that this program knows and the database lacks; 0 if it lacks none. */
int guarantees_find_missing_migration(struct connection *connection, int *missing, struct fault *fault)
{
	char sql[256], answer[16];
	bool any;

	if (guarantees_ask(connection, "to_regclass('public.schema_migrations') IS NOT NULL", &any, fault) < 0)
		return -1;
	*missing = 1;
	if (!any)
		return 0;
	snprintf(sql, sizeof sql,
		 "SELECT min(v) FROM generate_series(1, %zu) AS v WHERE NOT EXISTS "
		 "(SELECT FROM public.schema_migrations AS m WHERE m.version = v)", migration_count);
	if (connection_ask(connection, sql, answer, sizeof answer, fault) < 0)
		return -1;
	*missing = atoi(answer);
	return 0;
}

int guarantees_check_migrations(struct connection *connection, struct fault *fault)
{
	int missing;

	if (guarantees_find_missing_migration(connection, &missing, fault) < 0)
		return -1;
	if (missing > 0)
		return fault_set(fault, FAULT_FATAL, "the database lacks migration %s: run campaign-worker migrate",
				 migrations[missing - 1].name);
	return 0;
}
