#include "worker/db/blockers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/must.h"
#include "worker/sql/sql.h"

#define CONNECT_MS 1000

struct blockers {
	struct connection *connection;
	const char *database;
};

struct blockers *blockers_new(const char *database, const struct waiter *waiter)
{
	struct blockers *blockers = must(calloc(1, sizeof *blockers));

	blockers->connection = connection_new(waiter);
	blockers->database = database;
	return blockers;
}

void blockers_free(struct blockers *blockers)
{
	if (blockers == NULL)
		return;
	connection_free(blockers->connection);
	free(blockers);
}

void blockers_close(struct blockers *blockers)
{
	connection_close(blockers->connection);
}

static void take_field(const char **text, char *field, size_t size)
{
	size_t length = strcspn(*text, "\x1f");

	snprintf(field, size, "%.*s", (int)length, *text);
	*text += length + ((*text)[length] != '\0');
}

bool blockers_find(struct blockers *blockers, const struct session *session, struct blocker *blocker)
{
	int pid = connection_backend_pid(session->connection);
	char sql[96], row[512];
	const char *text = row;
	struct fault fault;

	if (pid == 0 || (!connection_is_open(blockers->connection) &&
			 connection_connect(blockers->connection, blockers->database, "campaign-worker blockers", CONNECT_MS, &fault) < 0))
		return false;
	/* Meanwhile that session's statement comes as far as the lock. */
	snprintf(sql, sizeof sql, "SET campaign.waiting = %d; SELECT pg_sleep(0.03)", pid);
	if (connection_run(blockers->connection, sql, &fault) < 0 ||
	    connection_ask(blockers->connection, sql_blockers, row, sizeof row, &fault) < 0 || row[0] == '\0')
		return false;
	take_field(&text, blocker->table, sizeof blocker->table);
	take_field(&text, blocker->pid, sizeof blocker->pid);
	take_field(&text, blocker->application, sizeof blocker->application);
	take_field(&text, blocker->user, sizeof blocker->user);
	take_field(&text, blocker->since, sizeof blocker->since);
	return true;
}
