#include "worker/db/guarantees.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/db/identifier.h"
#include "worker/sql/sql.h"

/* No person has to act on a standby: after a failover the worker finds the primary. */
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

/* The place of the first guarantee that does not hold; guarantee_count if all of them hold. */
static int find_broken(struct connection *connection, size_t *place, struct fault *fault)
{
	char sql[2048] = "SELECT CASE", answer[16];

	for (size_t i = 0; i < guarantee_count; i++) {
		size_t used = strlen(sql);

		snprintf(sql + used, sizeof sql - used, " WHEN (%s) IS NOT TRUE THEN %zu", guarantees[i].condition, i);
	}
	snprintf(sql + strlen(sql), sizeof sql - strlen(sql), " ELSE %zu END", guarantee_count);
	if (connection_ask(connection, sql, answer, sizeof answer, fault) < 0)
		return -1;
	*place = (size_t)atoi(answer);
	return 0;
}

int guarantees_check(struct connection *connection, struct fault *fault)
{
	size_t place;

	if (connection_server_version(connection) < GUARANTEES_VERSION_MIN)
		return fault_set(fault, FAULT_FATAL, "PostgreSQL %d.%d is too old: the worker needs 15 or newer",
				 connection_server_version(connection) / 10000, connection_server_version(connection) % 10000);
	if (find_broken(connection, &place, fault) < 0)
		return -1;
	return place == guarantee_count ? 0 : fault_set(fault, guarantees[place].kind, "%s", guarantees[place].broken);
}

int guarantees_use_schema(struct connection *connection, const char *schema, struct fault *fault)
{
	char sql[512], quoted[IDENTIFIER_QUOTED_SIZE];

	snprintf(sql, sizeof sql, "SET search_path = pg_catalog, %s, pg_temp", identifier_quote(schema ? schema : "public", quoted));
	return connection_run(connection, sql, fault);
}

int guarantees_find_schema(struct connection *connection, bool *there, struct fault *fault)
{
	return guarantees_ask(connection, "cardinality(current_schemas(false)) > 1", there, fault);
}

int guarantees_find_migrations(struct connection *connection, bool *any, struct fault *fault)
{
	bool foreign;

	if (guarantees_ask(connection, "to_regclass('schema_migrations') IS NOT NULL", any, fault) < 0 ||
	    guarantees_ask(connection, "NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('schema_migrations') "
			   "AND attname = 'applied_by')", &foreign, fault) < 0)
		return -1;
	if (*any && foreign)
		return fault_set(fault, FAULT_FATAL, "the table schema_migrations is another program's: choose a schema of its own for "
				 "campaign-worker (--database-schema)");
	return 0;
}

int guarantees_find_missing_migration(struct connection *connection, int *missing, struct fault *fault)
{
	char sql[256], answer[16];
	bool there, any;

	if (guarantees_find_schema(connection, &there, fault) < 0)
		return -1;
	if (!there)
		return fault_set(fault, FAULT_FATAL, "the schema that database-schema names does not exist, or the user may not use it: "
				 "run campaign-worker migrate, and grant the user the role campaign_worker");
	if (guarantees_find_migrations(connection, &any, fault) < 0)
		return -1;
	*missing = 1;
	if (!any)
		return 0;
	snprintf(sql, sizeof sql,
		 "SELECT min(v) FROM generate_series(1, %zu) AS v WHERE NOT EXISTS "
		 "(SELECT FROM schema_migrations AS m WHERE m.version = v)", migration_count);
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
