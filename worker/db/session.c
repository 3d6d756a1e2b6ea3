#include "worker/db/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/log.h"
#include "worker/base/must.h"
#include "worker/db/guarantees.h"
#include "worker/db/pooler.h"
#include "worker/db/rows.h"

#define GUARANTEES_MS 3000

static char *copy_text(const char *text)
{
	return must(strdup(text ? text : ""));
}

struct session *session_new(const struct session_settings *settings, const struct waiter *waiter)
{
	struct session *session = must(calloc(1, sizeof *session));

	session->settings = *settings;
	session->settings.database = copy_text(settings->database);
	session->settings.schema = copy_text(settings->schema ? settings->schema : "public");
	session->settings.application = copy_text(settings->application);
	session->settings.group = copy_text(settings->group);
	session->settings.transactional_id = copy_text(settings->transactional_id);
	session->connection = connection_new(waiter);
	return session;
}

void session_free(struct session *session)
{
	if (session == NULL)
		return;
	connection_free(session->connection);
	params_free(&session->params);
	free((char *)session->settings.database);
	free((char *)session->settings.schema);
	free((char *)session->settings.application);
	free((char *)session->settings.group);
	free((char *)session->settings.transactional_id);
	free(session);
}

bool session_connected(const struct session *session)
{
	return connection_is_open(session->connection);
}

bool session_was_ended(struct session *session)
{
	return connection_is_open(session->connection) &&
	       connection_was_ended(session->connection, session->ended, sizeof session->ended);
}

/* ---- faults ---- */

int session_give_up(struct session *session, struct fault *fault)
{
	struct fault other;

	if (connection_is_open(session->connection) && fault->kind == FAULT_WAIT)
		connection_close(session->connection);
	if (connection_is_open(session->connection) &&
	    (connection_finish(session->connection, &other) < 0 ||
	     (connection_in_transaction(session->connection) && connection_run(session->connection, "ROLLBACK", &other) < 0)))
		connection_close(session->connection);
	return -1;
}

void session_log_doubt(const char *why)
{
	log_warn("commit_in_doubt", why, "next", "the partitions are claimed anew, then the state is looked at again");
}

int session_confirm_commit(struct session *session, struct fault *fault)
{
	if (!connection_commit_was_doubtful(session->connection))
		return 0;
	session_log_doubt("PostgreSQL cannot say whether the commit was replicated");
	connection_close(session->connection);
	return fault_set(fault, FAULT_WAIT, "PostgreSQL cannot say whether the commit was replicated");
}

/* ---- connecting ---- */

/* The settings are statements, because poolers refuse start-up parameters; whatever the role or the database may have set
 * that would end the session, or give a statement another meaning, is among them. Plans are made once for all sizes of tables:
 * every access must be an index look-up (worker/sql/execute.sql), also where the tables were empty when it was planned.
 * work_mem: the statement's own rows stay in memory, also those of commands of a thousand leads each, and a subplan of
 * memberships (1000 rows) is hashed. client_connection_check_interval: a statement that waits for a lock must not run after its
 * client is gone. */
static int set_up_session(struct session *session, struct fault *fault)
{
	const struct session_settings *s = &session->settings;
	char sql[1024];

	snprintf(sql, sizeof sql,
		 "DEALLOCATE ALL; SET TimeZone = 'UTC'; SET client_min_messages = warning;"
		 "SET lock_timeout = %d; SET statement_timeout = %d; SET idle_in_transaction_session_timeout = %d;"
		 "SET idle_session_timeout = 0; %s SET default_transaction_isolation = 'read committed';"
		 "SET client_connection_check_interval = 500; SET plan_cache_mode = force_generic_plan; SET jit = off;"
		 "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_mergejoin = off; SET work_mem = '32MB'",
		 s->lock_timeout_ms, s->statement_timeout_ms, s->idle_in_transaction_ms,
		 connection_server_version(session->connection) >= 170000 ? "SET transaction_timeout = 0;" : "");
	if (guarantees_use_schema(session->connection, s->schema, fault) < 0)
		return -1;
	return connection_run(session->connection, sql, fault);
}

static int refuse_pooler(struct fault *fault)
{
	return fault_set(fault, FAULT_FATAL, "the connection does not keep its settings: a pooler in transaction mode? session pooling is "
			 "needed");
}

/* A pooler that gives each transaction another session loses the settings, and with them every bound on a statement's waiting
 * time. pooler_check may miss one that is spread over many processes. */
static int check_session(struct session *session, struct fault *fault)
{
	char condition[256];
	bool kept;

	snprintf(condition, sizeof condition,
		 "current_setting('plan_cache_mode') = 'force_generic_plan' AND "
		 "(SELECT s.setting::bigint FROM pg_settings AS s WHERE s.name = 'lock_timeout') = %d",
		 session->settings.lock_timeout_ms);
	if (guarantees_ask(session->connection, condition, &kept, fault) < 0)
		return -1;
	return kept ? 0 : refuse_pooler(fault);
}

static int prepare_statements(struct session *session, struct fault *fault)
{
	for (const struct statement *const *table = session->settings.statements; table && *table; table++)
		for (const struct statement *statement = *table; statement->name; statement++)
			if (connection_prepare(session->connection, statement->name, statement->sql, fault) < 0)
				return strcmp(fault->sqlstate, "42P05") == 0 ? refuse_pooler(fault) : -1; /* duplicate_prepared_statement */
	return 0;
}

int session_connect(struct session *session, struct fault *fault)
{
	const struct session_settings *s = &session->settings;
	struct connection *connection = session->connection;

	if (connection_connect(connection, s->database, s->application, s->connect_timeout_ms, fault) < 0)
		return -1;
	session->guarantees_at_ms = clock_monotonic_ms() + GUARANTEES_MS;
	if (pooler_check(connection, s->database, s->application, s->connect_timeout_ms, fault) == 0 &&
	    guarantees_check(connection, fault) == 0 && set_up_session(session, fault) == 0 && check_session(session, fault) == 0 &&
	    guarantees_check_migrations(connection, fault) == 0 && prepare_statements(session, fault) == 0)
		return 0;
	connection_close(connection);
	return -1;
}

int session_check_guarantees(struct session *session, int64_t now_ms, struct fault *fault)
{
	if (now_ms < session->guarantees_at_ms || !connection_is_open(session->connection))
		return 0;
	session->guarantees_at_ms = now_ms + GUARANTEES_MS;
	return guarantees_check(session->connection, fault);
}

/* ---- single transactions ---- */

int session_not_connected(struct fault *fault)
{
	return fault_set(fault, FAULT_WAIT, "there is no connection to PostgreSQL");
}

int session_run_one(struct session *session, const char *prepared, struct pg_result **rows, struct fault *fault)
{
	struct connection *connection = session->connection;

	*rows = NULL;
	(void)connection_commit_was_doubtful(connection);
	if (connection_send(connection, prepared, NULL, &session->params, fault) == 0 &&
	    connection_sync(connection, -1, fault) == 0 && connection_receive(connection, rows, fault) == 0 &&
	    connection_finish(connection, fault) == 0 && session_confirm_commit(session, fault) == 0)
		return 0;
	rows_free(*rows);
	*rows = NULL;
	if (strcmp(fault->sqlstate, "55P03") == 0) /* lock_not_available */
		fault->kind = FAULT_RETRY;
	if (strcmp(fault->sqlstate, SESSION_FENCED) == 0)
		fault->kind = FAULT_FENCED;
	return session_give_up(session, fault);
}
