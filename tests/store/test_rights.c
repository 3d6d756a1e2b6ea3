/* What check says, and migrations from several places at once. */
#include "store_fixture.h"

#include <sys/wait.h>

#include "worker/db/rights.h"
#include "worker/duplicate.h"
#include "worker/sql/sql.h"

/* ---- check ---- */

struct found {
	int lines, wrong;
	char text[4096];
};

static void find(void *arg, bool wrong, const char *line)
{
	struct found *found = arg;

	found->lines++;
	found->wrong += wrong;
	strncat(found->text, line, sizeof found->text - strlen(found->text) - 2);
	strcat(found->text, "\n");
}

static struct found check_store(const char *database)
{
	struct session_settings settings = settings_of("group");
	struct found found = { 0 };
	struct findings findings = { find, &found, 0 };
	const struct rights_needed needed = { duplicate_operation.rights, duplicate_operation.functions };
	struct fault fault;

	settings.database = database;
	if (rights_report(&settings, &needed, &findings, &fault) < 0)
		fail_msg("%s", fault.msg);
	return found;
}

static void test_check_says_what_is_there(void **state)
{
	struct found found = check_store(fx.worker);

	(void)state;
	if (found.wrong > 0)
		fail_msg("%s", found.text);
	assert_non_null(strstr(found.text, "primary, UTF8"));
	assert_non_null(strstr(found.text, "has the rights"));
	run_sql("REVOKE UPDATE (rate_tat_us) ON api_key_account_groups FROM campaign_worker");
	found = check_store(fx.worker);
	assert_int_equal(found.wrong, 1);
	assert_non_null(strstr(found.text, "lacks UPDATE on api_key_account_groups (column rate_tat_us)"));
	run_sql("GRANT UPDATE (rate_tat_us) ON api_key_account_groups TO campaign_worker");
	run_sql("ALTER ROLE %s SET synchronous_commit = off", fx.login);
	found = check_store(fx.worker);
	assert_non_null(strstr(found.text, "synchronous_commit is off"));
	run_sql("ALTER ROLE %s RESET synchronous_commit", fx.login);
}

/* Until the server has read its settings again. */
static void set_synchronous_standbys(const char *names)
{
	run_sql("ALTER SYSTEM SET synchronous_standby_names = '%s'", names);
	run_sql("SELECT pg_reload_conf()");
	for (int i = 0; i < 100 && strcmp(ask("SHOW synchronous_standby_names"), names) != 0; i++)
		clock_sleep_ms(20);
}

static void test_local_commits_where_there_are_synchronous_standbys(void **state)
{
	struct found alone, with_standby;
	struct fault fault;

	(void)state;
	run_sql("ALTER ROLE %s SET synchronous_commit = local", fx.login);
	alone = check_store(fx.worker);
	run_sql("SET synchronous_commit = local");
	set_synchronous_standbys("standby");
	with_standby = check_store(fx.worker);
	assert_int_equal(session_connect(fx.session, &fault), -1);
	run_sql("ALTER SYSTEM RESET synchronous_standby_names");
	set_synchronous_standbys("");
	run_sql("RESET synchronous_commit");
	run_sql("ALTER ROLE %s RESET synchronous_commit", fx.login);
	assert_int_equal(alone.wrong, 0);
	assert_int_equal(with_standby.wrong, 1);
	assert_non_null(strstr(with_standby.text, "synchronous_commit is local"));
	assert_fault(&fault, FAULT_FATAL, "");
	reconnect();
}

/* Every right that campaign_worker has been granted, as "SELECT (id) ON campaigns", one by one. */
static void test_check_misses_no_right(void **state)
{
	PGresult *granted = PQexec(fx.admin,
		"SELECT format('%s (%I) ON %I', p.privilege_type, a.attname, c.relname) FROM pg_class c, pg_attribute a, "
		"aclexplode(a.attacl) p WHERE c.relnamespace = 'public'::regnamespace AND a.attrelid = c.oid "
		"AND p.grantee = 'campaign_worker'::regrole "
		"UNION ALL SELECT format('%s ON %I', p.privilege_type, c.relname) FROM pg_class c, aclexplode(c.relacl) p "
		"WHERE c.relnamespace = 'public'::regnamespace AND p.grantee = 'campaign_worker'::regrole "
		"AND c.relname <> 'schema_migrations' "
		"UNION ALL SELECT format('%s ON FUNCTION %s', p.privilege_type, f.oid::regprocedure) FROM pg_proc f, "
		"aclexplode(f.proacl) p WHERE f.pronamespace = 'public'::regnamespace AND p.grantee = 'campaign_worker'::regrole "
		"AND (f.proname, f.pronargs) <> ('partition_fence', 6)"); /* an earlier version's */

	(void)state;
	assert_true(PQntuples(granted) > 60);
	for (int i = 0; i < PQntuples(granted); i++) {
		const char *right = PQgetvalue(granted, i, 0);
		struct found found;

		run_sql("REVOKE %s FROM campaign_worker", right);
		found = check_store(fx.worker);
		run_sql("GRANT %s TO campaign_worker", right);
		if (found.wrong != 1)
			fail_msg("%s: %s", right, found.text);
	}
	PQclear(granted);
}

/* ---- migrations ---- */

static void test_migrations_decide_whether_the_worker_starts(void **state)
{
	struct fault fault;

	(void)state;
	run_sql("INSERT INTO schema_migrations (version, name) VALUES (999, '999-of-a-newer-program')");
	reconnect();
	run_sql("DELETE FROM schema_migrations WHERE version = 999");
	run_sql("UPDATE schema_migrations SET version = 1000 WHERE version = 1");
	assert_int_equal(session_connect(fx.session, &fault), -1);
	assert_fault(&fault, FAULT_FATAL, "");
	assert_non_null(strstr(fault.msg, "001-"));
	assert_int_equal(check_store(fx.worker).wrong, 1);
	run_sql("UPDATE schema_migrations SET version = 1 WHERE version = 1000");
	reconnect();
}

static void print_line(void *arg, const char *line)
{
	fprintf(arg, "%s\n", line);
}

/* A process that migrates and writes what was said, or the fault, to a file. */
static pid_t spawn_migrator(const char *conninfo, FILE *out)
{
	pid_t pid = fork();
	struct fault fault;
	int done;

	if (pid != 0)
		return pid;
	done = migrate_run(conninfo, print_line, out, &fault);
	if (done < 0)
		fprintf(out, "fault: %s\n", fault.msg);
	fflush(out);
	_exit(done < 0);
}

static void test_migrations_race(void **state)
{
	const char *last = migrations[migration_count - 1].name;
	char names[2][64], line[512];
	FILE *out = tmpfile();
	int applied = 0, applied_last = 0, nothing = 0;

	(void)state;
	for (int d = 0; d < 2; d++) {
		snprintf(names[d], sizeof names[d], "store_test_%d_%d", (int)getpid(), d);
		create_database(names[d]);
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 8; i++) {
			char *conninfo = conninfo_with(names[i % 2], NULL);

			assert_true(spawn_migrator(conninfo, out) > 0);
			free(conninfo);
		}
		for (int i = 0; i < 8; i++) {
			int status;

			assert_true(wait(&status) > 0);
			assert_int_equal(status, 0);
		}
	}
	rewind(out);
	while (fgets(line, sizeof line, out)) {
		applied += strcmp(line, "applied 001-campaign-store\n") == 0;
		applied_last += strcmp(line, arena_printf(fx.arena, "applied %s\n", last)) == 0;
		nothing += strcmp(line, arena_printf(fx.arena, "nothing to do: at %s\n", last)) == 0;
	}
	fclose(out);
	assert_int_equal(applied, 2);
	assert_int_equal(applied_last, 2);
	assert_in_range(nothing, 16 - 2 * migration_count, 14); /* each of a database's may be applied by another one */
	drop_database(names[0]);
	drop_database(names[1]);
}

static void count_line(void *arg, const char *line)
{
	(void)line;
	++*(int *)arg;
}

/* The roles exist: a login that is a member of campaign_owner and owns the database is enough. */
static void test_migrator_without_createrole(void **state)
{
	char name[64], login[64], *conninfo;
	struct fault fault;
	int lines = 0;

	(void)state;
	snprintf(name, sizeof name, "store_test_%d_own", (int)getpid());
	snprintf(login, sizeof login, "store_test_owner_%d", (int)getpid());
	run_sql("DROP ROLE IF EXISTS %s", login);
	run_sql("CREATE ROLE %s LOGIN PASSWORD '" PASSWORD "' IN ROLE campaign_owner", login);
	create_database(name);
	run_sql("ALTER DATABASE %s OWNER TO %s", name, login);
	conninfo = conninfo_with(name, login);
	if (migrate_run(conninfo, count_line, &lines, &fault) < 0)
		fail_msg("%s", fault.msg);
	assert_int_equal(lines, (int)migration_count);
	free(conninfo);
	drop_database(name);
	/* And a stranger is told what is missing. */
	run_sql("REVOKE campaign_owner FROM %s", login);
	create_database(name);
	conninfo = conninfo_with(name, login);
	assert_int_equal(migrate_run(conninfo, count_line, &lines, &fault), -1);
	assert_fault(&fault, FAULT_FATAL, "42501");
	assert_non_null(strstr(fault.msg, arena_printf(fx.arena, "GRANT campaign_owner TO %s", login)));
	free(conninfo);
	drop_database(name);
	run_sql("DROP ROLE %s", login);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_check_says_what_is_there),
		STORE_TEST(test_local_commits_where_there_are_synchronous_standbys),
		STORE_TEST(test_check_misses_no_right),
		STORE_TEST(test_migrations_decide_whether_the_worker_starts),
		STORE_TEST(test_migrations_race),
		STORE_TEST(test_migrator_without_createrole),
	};

	return run_store_tests("rights", tests, COUNT(tests));
}
