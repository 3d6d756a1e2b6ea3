/* The work that PostgreSQL does for a folder grows with the leads of the command, and not with the folder's lists: counted in
 * pages that the statement touches, and not by a clock. */
#include "store_fixture.h"

#define LISTS 200
#define LEADS 10000

static void make_audiences(void)
{
	run_sql("INSERT INTO leads SELECT '" AG "', 'L' || lpad(g::text, 6, '0') FROM generate_series(1, %d) AS g", LEADS);
	run_sql("INSERT INTO audiences (account_group_id, id, kind, name, lead_count) VALUES ('" AG "', 'big', 'list', 'x', %d), "
		"('" AG "', 'many', 'folder', 'x', 0), ('" AG "', 'few', 'folder', 'x', 0), ('" AG "', 'same', 'folder', 'x', 0), "
		"('" AG "', 'empty', 'folder', 'x', 0)", LEADS);
	run_sql("INSERT INTO audience_leads SELECT '" AG "', 'big', 'L' || lpad(g::text, 6, '0') FROM generate_series(1, %d) AS g", LEADS);
	/* few: two lists; many: 200 lists; same: 200 lists of the last 100 leads; empty: 199 empty lists, the last one holds all. */
	run_sql("INSERT INTO audiences (account_group_id, id, kind, parent_id, name, lead_count) "
		"SELECT '" AG "', f || lpad(g::text, 4, '0'), 'list', f, 'x', CASE f WHEN 'few' THEN 1 ELSE g %% 3 * 1000 END "
		"FROM unnest(ARRAY['many', 'few', 'same', 'empty']) AS f, generate_series(1, CASE f WHEN 'few' THEN 2 ELSE %d END) AS g", LISTS);
	run_sql("INSERT INTO audience_leads SELECT '" AG "', 'many' || lpad((1 + (g - 1) / %d)::text, 4, '0'), 'L' || lpad(g::text, 6, '0') "
		"FROM generate_series(1, %d) AS g", LEADS / LISTS, LEADS);
	run_sql("INSERT INTO audience_leads SELECT '" AG "', 'few000' || 1 + g %% 2, 'L' || lpad(g::text, 6, '0') "
		"FROM generate_series(1, %d) AS g", LEADS);
	run_sql("INSERT INTO audience_leads SELECT '" AG "', 'same' || lpad(l::text, 4, '0'), 'L' || lpad(g::text, 6, '0') "
		"FROM generate_series(%d, %d) AS g, generate_series(1, %d) AS l", LEADS - 99, LEADS, LISTS);
	run_sql("INSERT INTO audience_leads SELECT '" AG "', 'empty0%d', 'L' || lpad(g::text, 6, '0') FROM generate_series(1, %d) AS g",
		LISTS, LEADS);
	run_sql("VACUUM ANALYZE audience_leads");
	run_sql("VACUUM ANALYZE audiences");
}

/* As the worker's session plans (worker/db/session.c). */
static PGconn *open_planner(void)
{
	PGconn *conn = connect_to(fx.super);
	char *sql = calloc(1, strlen(sql_execute) + 64);

	run_on(conn, "SET search_path = pg_catalog, public, pg_temp; SET plan_cache_mode = force_generic_plan; SET jit = off; "
		     "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_mergejoin = off; SET work_mem = '32MB'");
	sprintf(sql, "PREPARE e AS %s", sql_execute);
	run_on(conn, sql);
	free(sql);
	return conn;
}

/* The pages that the statement touches for n leads from first on (0: the whole audience). */
static long pages_of(PGconn *conn, const char *audience, int first, int n)
{
	char sql[2048];
	const char *buffers = NULL;
	PGresult *plan;
	long hit = 0, read = 0;

	snprintf(sql, sizeof sql,
		 "BEGIN; SET LOCAL client_min_messages = error; DROP TABLE IF EXISTS pg_temp.wanted; CREATE TEMP TABLE wanted AS SELECT "
		 "string_agg('L' || lpad(g::text, 6, '0'), ',' ORDER BY g) AS leads FROM generate_series(%d, %d) AS g", first, first + n - 1);
	run_on(conn, sql);
	snprintf(sql, sizeof sql,
		 "DO $do$ DECLARE line text; leads text := (SELECT quote_nullable(w.leads) FROM pg_temp.wanted AS w); BEGIN "
		 "CREATE TEMP TABLE plan (line text) ON COMMIT DROP; "
		 "FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) EXECUTE e(ARRAY[''n''], ARRAY[sha256(''d'')], ARRAY[-1::bigint], "
		 "50000, ARRAY[''t''], ARRAY[''" AG "''], ARRAY[''" RUNNING "''], ARRAY[NULL::text], ARRAY[''%s''], ARRAY[' || leads || '::text], "
		 "ARRAY[sha256(''demo-key-full'')], ARRAY[NULL::bigint], ARRAY[false], ARRAY[2147483647])' LOOP INSERT INTO plan VALUES (line); END LOOP; END $do$",
		 audience);
	run_on(conn, sql);
	plan = PQexec(conn, "SELECT line FROM plan WHERE line LIKE '%Buffers: shared%' LIMIT 1");
	assert_int_equal(PQntuples(plan), 1);
	buffers = PQgetvalue(plan, 0, 0);
	if (strstr(buffers, "hit="))
		hit = atol(strstr(buffers, "hit=") + 4);
	if (strstr(buffers, "read="))
		read = atol(strstr(buffers, "read=") + 5);
	PQclear(plan);
	run_on(conn, "ROLLBACK");
	return hit + read;
}

static void test_folders_touch_no_more_than_lists(void **state)
{
	static const char *const folders[] = { "few", "many", "same", "empty" };
	static const int counts[] = { 25, 100 };
	PGconn *conn;

	(void)state;
	make_audiences();
	conn = open_planner();
	for (size_t i = 0; i < COUNT(counts); i++) {
		int first = LEADS - counts[i] + 1; /* in the last list */
		long list = pages_of(conn, "big", first, counts[i]);

		for (size_t j = 0; j < COUNT(folders); j++) {
			long folder = pages_of(conn, folders[j], first, counts[i]);

			if (folder > 3 * list + 50)
				fail_msg("%d leads of folder %s touch %ld pages, of a list %ld", counts[i], folders[j], folder, list);
		}
	}
	for (size_t j = 0; j < 2; j++) {
		long list = pages_of(conn, "big", 1, LEADS), folder = pages_of(conn, folders[j], 1, LEADS);

		if (folder > 2 * list)
			fail_msg("%d leads of folder %s touch %ld pages, of a list %ld", LEADS, folders[j], folder, list);
	}
	PQfinish(conn);
}

static const char *digest_of(const struct job *job)
{
	return ask("SELECT md5(selected_leads::text) || cardinality(selected_leads) FROM campaigns WHERE account_group_id = '%s' AND trace_id = '%s'",
		   job->command->account_group_id, job->command->trace_id);
}

/* Whatever way is chosen, the same leads are found. */
static void test_folders_find_what_is_theirs(void **state)
{
	static const char *const whole[] = { "few", "many", "empty" };
	struct job *job;

	(void)state;
	job = execute_one(COMMAND(.audience = "many", .leads = "L000001 L009999 L005000"));
	assert_created(job);
	assert_string_equal(leads_of(job), "L000001 L005000 L009999");
	assert_refused(execute_one(COMMAND(.audience = "same", .leads = "L000001 L009999")), "lead_not_in_audience", NULL);
	assert_refused(execute_one(COMMAND(.audience = "few", .leads = "L000001 L000002 nobody")), "lead_not_in_audience", NULL);
	assert_created(execute_one(COMMAND(.audience = "few", .leads = "L000001 L000002 L009999")));
	assert_created(execute_one(COMMAND(.audience = "empty", .leads = "L000001")));
	job = execute_one(COMMAND(.audience = "big"));
	assert_created(job);
	for (size_t i = 0; i < COUNT(whole); i++) { /* the lists' leads lie in turns, in a row, and in one of many */
		struct job *folder = execute_one(COMMAND(.audience = whole[i]));

		assert_created(folder);
		assert_string_equal(digest_of(folder), digest_of(job));
	}
	job = execute_one(COMMAND(.audience = "same"));
	assert_created(job);
	assert_int_equal(job->result.campaign->selected_lead_count, 100);
	run_sql("UPDATE audiences SET ready = false WHERE id = 'many0200'");
	job = execute_one(COMMAND(.audience = "many", .leads = "L000001"));
	assert_refused(job, "audience_populating", NULL);
	assert_non_null(strstr(job->result.error_details, "many0200"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_folders_touch_no_more_than_lists),
		STORE_TEST(test_folders_find_what_is_theirs),
	};

	return run_store_tests("folders", tests, COUNT(tests));
}
