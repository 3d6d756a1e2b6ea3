#include "worker/db/connection.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "worker/base/clock.h"
#include "worker/base/must.h"
#include "worker/db/diagnosis.h"

#define BINARY 1
#define HOSTS_MAX 16
#define WAIT_MS 1000 /* longest single wait: after it the waiter may end the operation */

struct connection {
	struct waiter waiter;
	PGconn *conn; /* NULL: not connected */
	bool piped;   /* in pipeline mode */
	bool synced;  /* the pipeline's end was sent */
	bool doubtful;
	char ended[160]; /* the server's words when it ended the connection between two operations */
};

struct connection *connection_new(const struct waiter *waiter)
{
	struct connection *connection = must(calloc(1, sizeof *connection));

	connection->waiter = *waiter;
	return connection;
}

void connection_free(struct connection *connection)
{
	if (connection == NULL)
		return;
	connection_close(connection);
	free(connection);
}

bool connection_is_open(const struct connection *connection)
{
	return connection->conn != NULL;
}

void connection_close(struct connection *connection)
{
	PQfinish(connection->conn);
	connection->conn = NULL;
	connection->piped = connection->synced = false;
}

/* ---- errors ---- */

static int lose(struct connection *connection, struct fault *fault)
{
	connection_close(connection);
	return fault_set(fault, FAULT_WAIT, "the connection to PostgreSQL was lost");
}

/* Makes a fault of an error result, of a statement or of a lost connection, and frees it. */
static int fail(struct connection *connection, PGresult *result, struct fault *fault)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	if (sqlstate == NULL || strlen(sqlstate) != 5) {
		PQclear(result);
		return lose(connection, fault);
	}
	diagnosis_describe(result, sqlstate, fault);
	if (severity && strcmp(severity, "ERROR") != 0)
		connection_close(connection);
	PQclear(result);
	return -1;
}

/* A cancelled wait for synchronous replication gives WARNING 01000: the commit is on this server, perhaps on no other. What
 * the server says when it ends an idle connection comes as a notice, too. */
static void on_notice(void *arg, const PGresult *notice)
{
	struct connection *connection = arg;
	const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
	const char *sentence = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);

	if (severity && sqlstate && strcmp(severity, "WARNING") == 0 && strcmp(sqlstate, "01000") == 0)
		connection->doubtful = true;
	if (severity && sqlstate && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
		snprintf(connection->ended, sizeof connection->ended, "PostgreSQL error %s: %s", sqlstate, sentence ? sentence : "");
}

bool connection_commit_was_doubtful(struct connection *connection)
{
	bool doubtful = connection->doubtful;

	connection->doubtful = false;
	return doubtful;
}

/* ---- waiting ---- */

int connection_wait_blocking(void *arg, int fd, short events, int timeout_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = events };

	(void)arg;
	(void)poll(&pollfd, 1, timeout_ms); /* interrupted or not: the caller checks the socket again */
	return 0;
}

/* The waiter may return early, and PQconnectPoll blocks if the socket is not ready. */
static bool is_ready(const struct connection *connection, short events)
{
	struct pollfd pollfd = { .fd = PQsocket(connection->conn), .events = events };

	return poll(&pollfd, 1, 0) > 0;
}

static int wait_for(struct connection *connection, short events, int timeout_ms, struct fault *fault)
{
	if (connection->waiter.wait(connection->waiter.arg, PQsocket(connection->conn), events, timeout_ms) == 0)
		return 0;
	connection_close(connection);
	return fault_set(fault, FAULT_STOP, "stopped while waiting for PostgreSQL");
}

/* Writes the queue out for at most timeout_ms (-1: without limit). The server's answers are read meanwhile, because both
 * sides could block otherwise. */
static int write_out(struct connection *connection, int timeout_ms, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
	int left;

	while ((left = PQflush(connection->conn)) == 1) {
		int64_t left_ms = timeout_ms < 0 ? WAIT_MS : deadline_ms - clock_monotonic_ms();

		if (left_ms <= 0)
			return 0;
		if (wait_for(connection, POLLIN | POLLOUT, left_ms < WAIT_MS ? (int)left_ms : WAIT_MS, fault) < 0)
			return -1;
		if (!PQconsumeInput(connection->conn))
			return lose(connection, fault);
	}
	return left == 0 ? 0 : lose(connection, fault);
}

static int next_result(struct connection *connection, PGresult **result, struct fault *fault)
{
	if (write_out(connection, -1, fault) < 0)
		return -1;
	while (PQisBusy(connection->conn)) {
		if (wait_for(connection, POLLIN, WAIT_MS, fault) < 0)
			return -1;
		if (!PQconsumeInput(connection->conn))
			return lose(connection, fault);
	}
	*result = PQgetResult(connection->conn);
	return 0;
}

/* ---- connecting ---- */

static bool is_conninfo(const char *database)
{
	return strchr(database, '=') || strstr(database, "://");
}

/* One of several hosts in the settings, as the settings name it. "" stands for the default. */
struct host {
	char name[256], address[64], port[8];
};

/* host: the only one to connect to; NULL: all of them, as libpq does it. */
static void start_connecting(struct connection *connection, const char *database, const char *application,
			     const struct host *host)
{
	const char *primary = getenv("PGTARGETSESSIONATTRS") ? NULL : "read-write";
	/* Keywords before dbname are defaults, which a conninfo in dbname overrides. Keywords behind dbname override that
	 * conninfo. */
	const char *keywords[] = { "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
				   "target_session_attrs", "fallback_application_name", "dbname", "client_encoding",
				   host ? "host" : NULL, "hostaddr", "port", NULL };
	const char *values[] = { "5", "2", "3", "8000", primary, application, database, "UTF8",
				 host ? host->name : NULL, host ? host->address : NULL, host ? host->port : NULL, NULL };

	connection->conn = must(PQconnectStartParams(keywords, values, 1));
	PQsetNoticeReceiver(connection->conn, on_notice, connection);
}

/* Copies the element at place of a list such as host, or the last one of a shorter list: one port serves all hosts. */
static void copy_element(char *element, size_t size, const char *list, size_t place)
{
	const char *comma;

	while (place-- > 0 && (comma = strchr(list, ',')) != NULL)
		list = comma + 1;
	snprintf(element, size, "%.*s", (int)strcspn(list, ","), list);
}

/* Copies the hosts of the connection's settings (conninfo, environment, service file), at most max; returns how many. */
static size_t list_hosts(PGconn *conn, struct host *hosts, size_t max)
{
	PQconninfoOption *options = must(PQconninfo(conn));
	const char *names = "", *addresses = "", *ports = "";
	size_t count = 1;

	for (PQconninfoOption *o = options; o->keyword; o++) {
		if (o->val && strcmp(o->keyword, "host") == 0)
			names = o->val;
		if (o->val && strcmp(o->keyword, "hostaddr") == 0)
			addresses = o->val;
		if (o->val && strcmp(o->keyword, "port") == 0)
			ports = o->val;
	}
	for (const char *p = *addresses ? addresses : names; *p; p++)
		count += *p == ',';
	for (size_t i = 0; i < count && i < max; i++) {
		copy_element(hosts[i].name, sizeof hosts[i].name, names, i);
		copy_element(hosts[i].address, sizeof hosts[i].address, addresses, i);
		copy_element(hosts[i].port, sizeof hosts[i].port, ports, i);
	}
	PQconninfoFree(options);
	return count < max ? count : max;
}

static int poll_connection(struct connection *connection, int timeout_ms, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	while (PQstatus(connection->conn) != CONNECTION_BAD && state != PGRES_POLLING_FAILED) {
		short events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		int64_t left_ms = deadline_ms - clock_monotonic_ms();

		if (state == PGRES_POLLING_OK)
			return 0;
		if (left_ms <= 0) {
			connection_close(connection);
			return fault_set(fault, FAULT_WAIT, "cannot connect to PostgreSQL: no answer within %d ms", timeout_ms);
		}
		if (wait_for(connection, events, left_ms < WAIT_MS ? (int)left_ms : WAIT_MS, fault) < 0)
			return -1;
		if (is_ready(connection, events))
			state = PQconnectPoll(connection->conn);
	}
	fault_set(fault, FAULT_WAIT, "cannot connect to PostgreSQL: %s", PQerrorMessage(connection->conn));
	connection_close(connection);
	return -1;
}

/* libpq goes on to the next host when one refuses. It waits for ever for a silent one, and gives up where one accepts and then hangs
 * up, as a proxy does in front of a server that is gone. So each host is tried alone then, from the last: the hosts behind such a
 * one have not been tried. */
static int try_hosts(struct connection *connection, const char *database, const char *application, int timeout_ms,
		     struct fault *fault)
{
	struct host hosts[HOSTS_MAX];
	struct fault alone;
	size_t count;

	start_connecting(connection, database, application, NULL);
	count = list_hosts(connection->conn, hosts, HOSTS_MAX);
	if (poll_connection(connection, timeout_ms, fault) == 0)
		return 0;
	if (count == 1)
		return -1;
	alone = *fault; /* which tells of all hosts */
	while (count > 0 && alone.kind == FAULT_WAIT) {
		start_connecting(connection, database, application, &hosts[--count]);
		if (poll_connection(connection, timeout_ms, &alone) == 0)
			return 0;
	}
	if (alone.kind != FAULT_WAIT)
		*fault = alone;
	return -1;
}

int connection_connect(struct connection *connection, const char *database, const char *application, int timeout_ms,
		       struct fault *fault)
{
	connection_close(connection);
	connection->doubtful = false;
	connection->ended[0] = '\0';
	if (database == NULL)
		database = "";
	if (is_conninfo(database)) {
		PQconninfoOption *options = PQconninfoParse(database, NULL);

		/* libpq's sentence would quote the setting, and with it perhaps a password. */
		if (options == NULL)
			return fault_set(fault, FAULT_FATAL, "the database setting is no conninfo or URI that libpq understands");
		PQconninfoFree(options);
	}
	if (try_hosts(connection, database, application, timeout_ms, fault) < 0)
		return -1;
	return PQsetnonblocking(connection->conn, 1) == 0 ? 0 : lose(connection, fault);
}

struct connection *connection_open_beside(const struct connection *first, const char *database, const char *application,
					  int timeout_ms, struct fault *fault)
{
	struct connection *second = connection_new(&first->waiter);
	const char *address = PQhostaddr(first->conn); /* "": a socket in the file system */
	struct host host;

	snprintf(host.name, sizeof host.name, "%s", PQhost(first->conn));
	snprintf(host.address, sizeof host.address, "%s", address ? address : "");
	snprintf(host.port, sizeof host.port, "%s", PQport(first->conn));
	start_connecting(second, database ? database : "", application, &host);
	if (poll_connection(second, timeout_ms, fault) == 0 && PQsetnonblocking(second->conn, 1) == 0)
		return second;
	connection_free(second);
	return NULL;
}

bool connection_was_ended(struct connection *connection, char *why, size_t size)
{
	bool open = true;

	while (open && is_ready(connection, POLLIN)) {
		open = PQconsumeInput(connection->conn) == 1;
		(void)PQisBusy(connection->conn); /* reads the notices that have come */
	}
	if (open)
		return false;
	snprintf(why, size, "%s", connection->ended[0] ? connection->ended : "the connection to PostgreSQL was lost");
	connection_close(connection);
	return true;
}

int connection_backend_pid(const struct connection *connection)
{
	return PQbackendPID(connection->conn);
}

int connection_server_version(const struct connection *connection)
{
	return PQserverVersion(connection->conn);
}

/* ---- simple statements ---- */

/* Reads all results of the text that was sent; *rows receives the first one that has rows. */
static int read_all(struct connection *connection, PGresult **rows, struct fault *fault)
{
	PGresult *result;
	bool failed = false;

	for (;;) {
		if (next_result(connection, &result, fault) < 0)
			return -1;
		if (result == NULL)
			return failed ? -1 : 0;
		if (PQresultStatus(result) == PGRES_TUPLES_OK && rows && *rows == NULL) {
			*rows = result;
		} else if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK) {
			PQclear(result);
		} else {
			failed = true;
			fail(connection, result, fault);
			if (!connection_is_open(connection))
				return -1;
		}
	}
}

int connection_run(struct connection *connection, const char *sql, struct fault *fault)
{
	if (!PQsendQuery(connection->conn, sql))
		return lose(connection, fault);
	return read_all(connection, NULL, fault);
}

int connection_ask_begin(struct connection *connection, const char *sql, struct fault *fault)
{
	return PQsendQuery(connection->conn, sql) ? write_out(connection, -1, fault) : lose(connection, fault);
}

int connection_ask_await(struct connection *connection, int timeout_ms, bool *answered, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + timeout_ms, left_ms;

	while (PQisBusy(connection->conn)) {
		left_ms = deadline_ms - clock_monotonic_ms();
		*answered = false;
		if (left_ms <= 0)
			return 0;
		if (wait_for(connection, POLLIN, left_ms < WAIT_MS ? (int)left_ms : WAIT_MS, fault) < 0)
			return -1;
		if (!PQconsumeInput(connection->conn))
			return lose(connection, fault);
	}
	*answered = true;
	return 0;
}

int connection_ask_end(struct connection *connection, char *buf, size_t size, struct fault *fault)
{
	PGresult *rows = NULL;

	if (read_all(connection, &rows, fault) < 0) {
		PQclear(rows);
		return -1;
	}
	snprintf(buf, size, "%s", PQntuples(rows) > 0 ? PQgetvalue(rows, 0, 0) : "");
	PQclear(rows);
	return 0;
}

int connection_ask(struct connection *connection, const char *sql, char *buf, size_t size, struct fault *fault)
{
	if (connection_ask_begin(connection, sql, fault) < 0)
		return -1;
	return connection_ask_end(connection, buf, size, fault);
}

int connection_prepare(struct connection *connection, const char *name, const char *sql, struct fault *fault)
{
	if (!PQsendPrepare(connection->conn, name, sql, 0, NULL))
		return lose(connection, fault);
	return read_all(connection, NULL, fault);
}

/* ---- the pipeline ---- */

int connection_send(struct connection *connection, const char *prepared, const char *sql, const struct params *params,
		    struct fault *fault)
{
	int count = params ? params->count : 0;
	const char **values = must(calloc((size_t)count + 1, sizeof *values));
	int *lengths = must(calloc(2 * (size_t)count + 1, sizeof *lengths)), *formats = lengths + count;
	bool sent;

	for (int i = 0; i < count; i++) {
		values[i] = params->data + params->places[i].start;
		lengths[i] = (int)params->places[i].length;
		formats[i] = BINARY;
	}
	sent = connection->piped || PQenterPipelineMode(connection->conn);
	if (sent) {
		connection->piped = true;
		sent = prepared ? PQsendQueryPrepared(connection->conn, prepared, count, values, lengths, formats, BINARY) :
				  PQsendQueryParams(connection->conn, sql, count, NULL, values, lengths, formats, BINARY);
	}
	free(values);
	free(lengths);
	return sent ? 0 : lose(connection, fault);
}

int connection_flush(struct connection *connection, struct fault *fault)
{
	if (!PQsendFlushRequest(connection->conn))
		return lose(connection, fault);
	return write_out(connection, -1, fault);
}

int connection_sync(struct connection *connection, int timeout_ms, struct fault *fault)
{
	if (!PQpipelineSync(connection->conn))
		return lose(connection, fault);
	connection->synced = true;
	return write_out(connection, timeout_ms, fault);
}

int connection_receive(struct connection *connection, PGresult **result, struct fault *fault)
{
	PGresult *first, *end;

	if (next_result(connection, &first, fault) < 0)
		return -1;
	if (first == NULL)
		return lose(connection, fault);
	if (PQresultStatus(first) != PGRES_TUPLES_OK && PQresultStatus(first) != PGRES_COMMAND_OK)
		return fail(connection, first, fault);
	if (next_result(connection, &end, fault) < 0) {
		PQclear(first);
		return -1;
	}
	if (end) { /* rows were followed by an error */
		PQclear(first);
		return fail(connection, end, fault);
	}
	if (result)
		*result = first;
	else
		PQclear(first);
	return 0;
}

int connection_finish(struct connection *connection, struct fault *fault)
{
	bool ended = false, failed = false;

	if (!connection->piped)
		return 0;
	if (!connection->synced && connection_sync(connection, -1, fault) < 0)
		return -1;
	for (int nulls = 0; !ended && nulls < 2;) {
		PGresult *result;

		if (next_result(connection, &result, fault) < 0)
			return -1;
		nulls = result ? 0 : nulls + 1;
		ended = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
		if (result && PQresultStatus(result) == PGRES_FATAL_ERROR)
			failed = fail(connection, result, fault) < 0;
		else
			PQclear(result);
		if (!connection_is_open(connection))
			return -1;
		if (PQstatus(connection->conn) == CONNECTION_BAD)
			return lose(connection, fault);
	}
	if (!ended || !PQexitPipelineMode(connection->conn))
		return lose(connection, fault);
	connection->piped = connection->synced = false;
	return failed ? -1 : 0;
}

bool connection_in_transaction(const struct connection *connection)
{
	return PQtransactionStatus(connection->conn) != PQTRANS_IDLE;
}
