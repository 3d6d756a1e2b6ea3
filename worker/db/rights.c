#include "worker/db/rights.h"

#include <stdio.h>
#include <string.h>

#include "worker/db/guarantees.h"
#include "worker/sql/sql.h"

/* What every operation needs. The role campaign_worker has it (schemas/sql). */
static const struct right rights[] = {
	{ "SELECT", "schema_migrations", "version" },
	{ "SELECT", "partition_owner", "cluster_id, topic, partition, group_id, epoch, transactional_id, "
		    "previous_transactional_id, confirmed_offset, executed_offset, resume_from, claimed_at" },
	{ "INSERT", "partition_owner", "cluster_id, topic, partition, group_id, epoch, transactional_id, resume_from, "
		    "executed_offset" },
	{ "UPDATE", "partition_owner", "group_id, epoch, transactional_id, previous_transactional_id, confirmed_offset, "
		    "executed_offset, resume_from, claimed_at" },
	{ "INSERT", "partition_resumes", "cluster_id, topic, partition, group_id, previous_group_id, "
		    "previous_confirmed_offset, resume_from, ordered_by" },
	{ "SELECT", "partition_resumes", "id, cluster_id, topic, partition, ordered_by, ordered_at" },
	{ "UPDATE", "partition_resumes", "refused_at, refused_because" },
	{ NULL, NULL, NULL },
};

static const char *const functions[] = {
	"partition_fence(text, text, text, integer[], bigint[], bigint[], bigint[])",
	"partition_moved_from(text, text, text, integer)",
	NULL,
};

struct report {
	struct connection *connection;
	struct findings *findings;
};

static int report_server(struct report *report, struct fault *fault)
{
	char line[512];

	if (connection_ask(report->connection,
		   "SELECT format('PostgreSQL %s, %s, %s, database %s, user %s%s', current_setting('server_version'), "
		   "CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END, current_setting('server_encoding'), "
		   "current_database(), current_user, CASE WHEN current_setting('is_superuser') = 'on' "
		   "THEN ' (a superuser: a role with campaign_worker is enough)' ELSE '' END)", line, sizeof line, fault) < 0)
		return -1;
	findings_add(report->findings, false, "%s", line);
	if (connection_server_version(report->connection) < GUARANTEES_VERSION_MIN)
		findings_add(report->findings, true, "PostgreSQL is too old: the worker needs 15 or newer");
	if (connection_ask(report->connection,
		   "SELECT format('fsync %s, full_page_writes %s, synchronous_commit %s, synchronous standbys: %s', "
		   "current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), "
		   "coalesce(nullif(current_setting('synchronous_standby_names'), ''), 'none (a failover may lose commits)'))",
		   line, sizeof line, fault) < 0)
		return -1;
	findings_add(report->findings, false, "%s", line);
	return 0;
}

static int report_guarantees(struct report *report, struct fault *fault)
{
	bool yes;

	for (size_t i = 0; i < guarantee_count; i++) {
		if (guarantees_ask(report->connection, guarantees[i].condition, &yes, fault) < 0)
			return -1;
		if (!yes)
			findings_add(report->findings, true, "%s", guarantees[i].broken);
	}
	return 0;
}

/* *complete: no migration is missing. */
static int report_migrations(struct report *report, bool *complete, struct fault *fault)
{
	char line[256], newest[16];
	int missing;

	if (guarantees_find_missing_migration(report->connection, &missing, fault) < 0)
		return -1;
	*complete = missing == 0;
	if (missing > 0) {
		snprintf(line, sizeof line, "the database lacks migration %s: run campaign-worker migrate", migrations[missing - 1].name);
		findings_add(report->findings, true, "%s", line);
		return 0;
	}
	if (connection_ask(report->connection, "SELECT max(version) FROM public.schema_migrations", newest, sizeof newest, fault) < 0)
		return -1;
	snprintf(line, sizeof line, "migrations complete: the database is at %s, this program at %zu", newest, migration_count);
	findings_add(report->findings, false, "%s", line);
	return 0;
}

/* sql: returns the missing right, as "SELECT on api_keys (column permissions)", or nothing. *all: set to false if one is
 * missing. */
static int report_lacking(struct report *report, const char *sql, bool *all, struct fault *fault)
{
	char lacking[640], line[768];

	if (connection_ask(report->connection, sql, lacking, sizeof lacking, fault) < 0)
		return -1;
	if (lacking[0] == '\0')
		return 0;
	*all = false;
	snprintf(line, sizeof line, "the user lacks %s: grant it the role campaign_worker", lacking);
	findings_add(report->findings, true, "%s", line);
	return 0;
}

static int report_tables(struct report *report, const struct right *right, bool *all, struct fault *fault)
{
	char sql[1024];

	for (; right && right->privilege; right++) {
		snprintf(sql, sizeof sql,
			 "SELECT '%s on %s (column ' || string_agg(c, ', ') || ')' FROM unnest(string_to_array('%s', ', ')) AS c "
			 "WHERE NOT has_column_privilege('public.%s', c, '%s')", right->privilege, right->table, right->columns,
			 right->table, right->privilege);
		if (report_lacking(report, sql, all, fault) < 0)
			return -1;
	}
	return 0;
}

static int report_functions(struct report *report, const char *const *function, bool *all, struct fault *fault)
{
	char sql[512];

	for (; function && *function; function++) {
		snprintf(sql, sizeof sql, "SELECT 'EXECUTE on %s' WHERE NOT has_function_privilege('public.%s', 'EXECUTE')", *function,
			 *function);
		if (report_lacking(report, sql, all, fault) < 0)
			return -1;
	}
	return 0;
}

static int report_rights(struct report *report, const struct rights_needed *needed, struct fault *fault)
{
	bool all = true;

	if (report_tables(report, rights, &all, fault) < 0 || report_tables(report, needed->rights, &all, fault) < 0 ||
	    report_functions(report, functions, &all, fault) < 0 || report_functions(report, needed->functions, &all, fault) < 0)
		return -1;
	if (all)
		findings_add(report->findings, false, "the user has the rights that the worker needs");
	return 0;
}

int rights_report(const struct session_settings *settings, const struct rights_needed *needed, struct findings *findings,
		  struct fault *fault)
{
	struct waiter waiter = { connection_wait_blocking, NULL };
	struct report report = { connection_new(&waiter), findings };
	bool complete = false;
	int done = -1;

	if (connection_connect(report.connection, settings->database, settings->application, settings->connect_timeout_ms, fault) == 0 &&
	    report_server(&report, fault) == 0 && report_guarantees(&report, fault) == 0 &&
	    report_migrations(&report, &complete, fault) == 0)
		done = complete ? report_rights(&report, needed, fault) : 0;
	connection_free(report.connection);
	return done;
}
