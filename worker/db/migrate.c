#include "worker/db/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/db/connection.h"
#include "worker/db/guarantees.h"
#include "worker/db/identifier.h"
#include "worker/db/pooler.h"
#include "worker/sql/sql.h"

#define APPLICATION "campaign-worker migrate"
#define CONNECT_TIMEOUT_MS 10000
#define LOCK_KEY "7163051408331046932" /* of the advisory lock: any number that nobody else uses in this database */

struct migrator {
	struct connection *connection;
	char schema[IDENTIFIER_QUOTED_SIZE];
	void (*print)(void *arg, const char *line);
	void *arg;
};

static int is_applied(struct migrator *migrator, const struct migration *migration, bool *applied, struct fault *fault)
{
	char condition[128];

	if (guarantees_find_migrations(migrator->connection, applied, fault) < 0)
		return -1;
	snprintf(condition, sizeof condition, "EXISTS (SELECT FROM schema_migrations WHERE version = %d)", migration->version);
	return *applied ? guarantees_ask(migrator->connection, condition, applied, fault) : 0;
}

/* The schema is named here, and nowhere in a migration. */
static int record(struct migrator *migrator, const struct migration *migration, struct fault *fault)
{
	char sql[512];

	snprintf(sql, sizeof sql, "INSERT INTO %s.schema_migrations (version, name) VALUES (%d, '%s')", migrator->schema,
		 migration->version, migration->name);
	return connection_run(migrator->connection, sql, fault);
}

/* The lock makes migrators wait for each other: the later one finds the schema made and the migration applied. */
static int begin(struct migrator *migrator, struct fault *fault)
{
	return connection_run(migrator->connection,
			      "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(" LOCK_KEY ")", fault);
}

/* What is created is created here. The schema exists, or pg_temp would be the first. */
static int enter_schema(struct migrator *migrator, struct fault *fault)
{
	char sql[512];

	snprintf(sql, sizeof sql, "SET LOCAL search_path = %s, pg_temp", migrator->schema);
	return connection_run(migrator->connection, sql, fault);
}

static int apply(struct migrator *migrator, const struct migration *migration, bool *applied, struct fault *fault)
{
	struct connection *connection = migrator->connection;
	bool already;

	*applied = false;
	if (begin(migrator, fault) < 0 || enter_schema(migrator, fault) < 0 || is_applied(migrator, migration, &already, fault) < 0)
		return -1;
	if (already)
		return connection_run(connection, "ROLLBACK", fault);
	if (connection_run(connection, migration->sql, fault) < 0 || record(migrator, migration, fault) < 0 ||
	    connection_run(connection, "COMMIT", fault) < 0)
		return -1;
	*applied = true;
	return 0;
}

static int explain(const struct migrator *migrator, const struct migration *migration, const struct fault *cause, struct fault *fault)
{
	bool taken = strcmp(cause->sqlstate, "42P07") == 0; /* duplicate_table */

	fault_set(fault, connection_is_open(migrator->connection) ? FAULT_FATAL : FAULT_WAIT, "migration %s was not applied: %s%s",
		  migration->name, cause->msg,
		  taken ? ": if it is another program's, choose a schema of its own for campaign-worker (--database-schema)" : "");
	strcpy(fault->sqlstate, cause->sqlstate);
	return -1;
}

static int apply_missing(struct migrator *migrator, struct fault *fault)
{
	char line[256];
	bool any = false, applied;

	for (size_t i = 0; i < migration_count; i++) {
		struct fault cause;

		if (apply(migrator, &migrations[i], &applied, &cause) < 0)
			return explain(migrator, &migrations[i], &cause, fault);
		any |= applied;
		snprintf(line, sizeof line, "applied %s", migrations[i].name);
		if (applied)
			migrator->print(migrator->arg, line);
	}
	if (!any) {
		snprintf(line, sizeof line, "nothing to do: at %s", migrations[migration_count - 1].name);
		migrator->print(migrator->arg, line);
	}
	return 0;
}

static int make_schema(struct migrator *migrator, struct fault *fault)
{
	char sql[512];
	bool there;

	if (begin(migrator, fault) < 0 || guarantees_find_schema(migrator->connection, &there, fault) < 0)
		return -1;
	snprintf(sql, sizeof sql, "CREATE SCHEMA %s", migrator->schema);
	if (there || connection_run(migrator->connection, sql, fault) == 0)
		return connection_run(migrator->connection, "COMMIT", fault);
	if (strcmp(fault->sqlstate, "42P06") == 0) /* duplicate_schema: it is there, and not found */
		fault_set(fault, FAULT_FATAL, "the user may not use the schema %s: GRANT USAGE, CREATE ON SCHEMA %s",
			  migrator->schema, migrator->schema);
	if (connection_is_open(migrator->connection))
		fault->kind = FAULT_FATAL;
	return -1;
}

/* No time-out of the role or the database ends a migration. */
static int set_up(struct connection *connection, struct fault *fault)
{
	if (connection_server_version(connection) >= 170000 && connection_run(connection, "SET transaction_timeout = 0", fault) < 0)
		return -1;
	return connection_run(connection, "SET client_min_messages = warning; SET lock_timeout = 0; SET statement_timeout = 0; "
			      "SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0", fault);
}

int migrate_run(const char *database, const char *schema, void (*print)(void *arg, const char *line), void *arg, struct fault *fault)
{
	struct waiter waiter = { connection_wait_blocking, NULL };
	struct connection *connection = connection_new(&waiter);
	struct migrator migrator = { .connection = connection, .print = print, .arg = arg };
	int done = -1;

	identifier_quote(schema ? schema : "public", migrator.schema);
	if (connection_connect(connection, database, APPLICATION, CONNECT_TIMEOUT_MS, fault) == 0 &&
	    pooler_check(connection, database, APPLICATION, CONNECT_TIMEOUT_MS, fault) == 0 && set_up(connection, fault) == 0 &&
	    guarantees_use_schema(connection, schema, fault) == 0 && make_schema(&migrator, fault) == 0)
		done = apply_missing(&migrator, fault);
	connection_free(connection);
	return done;
}
