/* Databases that hold other programs' tables, and schemas of one's choice. */
#include "store_fixture.h"

#include "worker/db/rights.h"
#include "worker/duplicate.h"

#define ODD "Camp-aigns \"of\" l'été"
#define ODD_QUOTED "\"Camp-aigns \"\"of\"\" l'été\""

static char name[64], *super; /* a database of the test's own */
static PGconn *conn;

static int open_database(void **state)
{
	(void)state;
	snprintf(name, sizeof name, "store_test_%d_schema", (int)getpid());
	drop_database(name);
	create_database(name);
	super = conninfo_with(name, NULL);
	conn = connect_to(super);
	return 0;
}

static int close_database(void **state)
{
	PQfinish(conn);
	free(super);
	drop_database(name);
	return reset_arena(state);
}

static void migrate(const char *conninfo, const char *schema)
{
	struct fault fault;

	if (migrate_run(conninfo, schema, print_nothing, NULL, &fault) < 0)
		fail_msg("%s", fault.msg);
}

static void assert_answer(const char *wanted, const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_TUPLES_OK || strcmp(PQgetvalue(result, 0, 0), wanted) != 0)
		fail_msg("%s: wanted %s, got %s%s", sql, wanted, PQntuples(result) ? PQgetvalue(result, 0, 0) : "", PQerrorMessage(conn));
	PQclear(result);
}

/* A login that owns nothing of theirs, and is no superuser, migrates beside tables, views and functions of others. */
static void test_others_keep_what_they_have(void **state)
{
	char *migrator = conninfo_with(name, arena_printf(fx.arena, "store_test_migrator_%d", (int)getpid()));

	(void)state;
	run_sql("DROP ROLE IF EXISTS store_test_migrator_%d", (int)getpid());
	run_sql("CREATE ROLE store_test_migrator_%d LOGIN PASSWORD '" PASSWORD "' IN ROLE campaign_owner", (int)getpid());
	run_sql("ALTER DATABASE %s OWNER TO store_test_migrator_%d", name, (int)getpid());
	run_on(conn, "CREATE TABLE theirs (x int); GRANT SELECT, INSERT ON theirs TO PUBLIC, campaign_worker;"
	       "CREATE VIEW seen AS SELECT x FROM theirs; GRANT SELECT ON seen TO PUBLIC;"
	       "CREATE TABLE private (x int); CREATE VIEW hidden AS SELECT x FROM private;"
	       "CREATE TABLE adopted (x int); GRANT SELECT ON adopted TO PUBLIC; ALTER TABLE adopted OWNER TO campaign_owner;"
	       "CREATE MATERIALIZED VIEW kept AS SELECT x FROM theirs; GRANT SELECT ON kept TO PUBLIC; CREATE SEQUENCE counted;"
	       "CREATE FUNCTION partition_fence(x int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
	       "CREATE FUNCTION raise_lost_race(x int) RETURNS int LANGUAGE sql AS 'SELECT 1'");
	migrate(migrator, NULL);
	assert_answer("{postgres=arwdDxt/postgres,=ar/postgres,campaign_worker=ar/postgres}",
		      "SELECT replace(relacl::text, current_user, 'postgres') FROM pg_class WHERE relname = 'theirs'");
	assert_answer("3", "SELECT count(*) FROM pg_class WHERE relname IN ('seen', 'kept', 'adopted') AND relacl::text LIKE '%,=r/%'");
	assert_answer("2", "SELECT count(*) FROM pg_proc WHERE proname IN ('partition_fence', 'raise_lost_race') AND pronargs = 1 "
		      "AND has_function_privilege('public', oid, 'EXECUTE')");
	assert_answer("f", "SELECT has_table_privilege('public', 'campaigns', 'SELECT')");
	run_sql("ALTER DATABASE %s OWNER TO CURRENT_USER", name);
	run_on(conn, "DROP OWNED BY campaign_owner");
	run_sql("DROP ROLE store_test_migrator_%d", (int)getpid());
	free(migrator);
}

static struct session *open_in(const char *schema, struct fault *fault)
{
	struct session_settings settings = settings_of("group");
	struct waiter polling = { wait_with_poll, NULL };
	struct session *session;
	char *database = conninfo_with(name, fx.login);

	settings.database = database;
	settings.schema = schema;
	session = session_new(&settings, &polling);
	free(database);
	if (session_connect(session, fault) == 0)
		return session;
	session_free(session);
	return NULL;
}

static void execute_in(const char *schema)
{
	struct fault fault;
	struct session *session = open_in(schema, &fault);
	struct job *job = COMMAND(.trace = "one");
	struct fence_partition partition = { 0, 0, 100, 100 };
	struct fence fence = { "cluster", "commands", &partition, 1, false };
	struct claim claim;

	if (session == NULL)
		fail_msg("%s", fault.msg);
	claim_partition(session, 0, &claim);
	assert_int_equal(claim.epoch, 1);
	partition.epoch = claim.epoch;
	if (execute(session, &fence, &job, 1, EXECUTION_COMMIT, fx.arena, &fault) < 0)
		fail_msg("%s", fault.msg);
	assert_created(job);
	session_free(session);
}

static void find(void *arg, bool wrong, const char *line)
{
	if (wrong)
		snprintf(arg, 512, "%s", line);
}

static void assert_checked(const char *schema)
{
	struct session_settings settings = settings_of("group");
	char wrong[512] = "", *database = conninfo_with(name, fx.login);
	struct findings findings = { find, wrong, 0 };
	const struct rights_needed needed = { duplicate_operation.rights, duplicate_operation.functions };
	struct fault fault;

	settings.database = database;
	settings.schema = schema;
	if (rights_report(&settings, &needed, &findings, &fault) < 0)
		fail_msg("%s", fault.msg);
	assert_string_equal(wrong, "");
	free(database);
}

/* Two installations, in schemas of any name, and without a schema public. */
static void test_schemas_of_ones_choice(void **state)
{
	static const struct {
		const char *schema, *quoted;
	} schemas[] = { { ODD, ODD_QUOTED }, { "campaigns", "campaigns" } };
	char *seed = read_file("schemas/sql/seed.sql");

	(void)state;
	run_on(conn, "DROP SCHEMA public");
	for (size_t i = 0; i < COUNT(schemas); i++) {
		migrate(super, schemas[i].schema);
		migrate(super, schemas[i].schema);
		run_on(conn, arena_printf(fx.arena, "SET search_path = %s", schemas[i].quoted));
		run_on(conn, seed);
	}
	for (size_t i = 0; i < COUNT(schemas); i++) {
		assert_checked(schemas[i].schema);
		execute_in(schemas[i].schema);
	}
	for (size_t i = 0; i < COUNT(schemas); i++) {
		run_on(conn, arena_printf(fx.arena, "SET search_path = %s", schemas[i].quoted));
		assert_answer("1", "SELECT count(*) FROM campaigns WHERE trace_id = 'one'");
		assert_answer("1", "SELECT max(epoch) FROM partition_owner");
	}
	assert_answer("2", "SELECT count(DISTINCT relnamespace) FROM pg_class WHERE relkind IN ('r', 'v') AND "
		      "relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')");
	free(seed);
}

static void test_schema_that_cannot_be_used(void **state)
{
	struct fault fault;

	(void)state;
	migrate(super, "ours");
	assert_null(open_in("missing", &fault));
	assert_fault(&fault, FAULT_FATAL, "");
	assert_non_null(strstr(fault.msg, "database-schema"));
	run_on(conn, "REVOKE USAGE ON SCHEMA ours FROM campaign_worker");
	assert_null(open_in("ours", &fault));
	assert_fault(&fault, FAULT_FATAL, "");
	/* Another program's tables of the same names: nothing is taken for ours, and nothing is left behind. */
	run_on(conn, "CREATE SCHEMA rails; CREATE TABLE rails.schema_migrations (version varchar PRIMARY KEY)");
	assert_int_equal(migrate_run(super, "rails", print_nothing, NULL, &fault), -1);
	assert_fault(&fault, FAULT_FATAL, "");
	assert_non_null(strstr(fault.msg, "--database-schema"));
	run_on(conn, "CREATE SCHEMA shop; CREATE TABLE shop.campaigns (id int)");
	assert_int_equal(migrate_run(super, "shop", print_nothing, NULL, &fault), -1);
	assert_fault(&fault, FAULT_FATAL, "42P07");
	assert_non_null(strstr(fault.msg, "--database-schema"));
	assert_answer("2", "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('rails'::regnamespace, 'shop'::regnamespace)");
}

/* What was installed before there was a choice goes on in public, whatever the search_path of the database is. */
static void test_installation_of_before(void **state)
{
	char *seed = read_file("schemas/sql/seed.sql");

	(void)state;
	migrate(super, NULL);
	run_on(conn, "ALTER FUNCTION partition_fence(text, text, text, integer[], bigint[], bigint[]) "
	       "SET search_path = pg_catalog, public, pg_temp");
	run_on(conn, seed);
	run_on(conn, arena_printf(fx.arena, "ALTER DATABASE %s SET search_path = elsewhere", name));
	migrate(super, "public");
	assert_checked("public");
	execute_in("public");
	assert_answer("1", "SELECT count(*) FROM pg_class WHERE relname = 'campaigns' AND relkind = 'r'");
	free(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_others_keep_what_they_have, open_database, close_database),
		cmocka_unit_test_setup_teardown(test_schemas_of_ones_choice, open_database, close_database),
		cmocka_unit_test_setup_teardown(test_schema_that_cannot_be_used, open_database, close_database),
		cmocka_unit_test_setup_teardown(test_installation_of_before, open_database, close_database),
	};

	return run_store_tests("schema", tests, COUNT(tests));
}
