#include "worker/db/pg.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"

#define BINARY 1
#define HOSTS_MAX 16
#define WAIT_MS 1000 /* between two looks at the waiter's opinion */
#define POSTGRES_EPOCH_MS INT64_C(946684800000) /* 2000-01-01 */

struct pg {
	struct waiter waiter;
	PGconn *conn; /* NULL: not connected */
	bool piped;   /* in pipeline mode */
	bool synced;  /* the pipeline's end was sent */
	bool doubtful;
};

struct pg *pg_new(const struct waiter *waiter)
{
	struct pg *pg = calloc(1, sizeof *pg);

	if (pg == NULL)
		abort();
	pg->waiter = *waiter;
	return pg;
}

void pg_free(struct pg *pg)
{
	if (pg == NULL)
		return;
	pg_close(pg);
	free(pg);
}

bool pg_connected(const struct pg *pg)
{
	return pg->conn != NULL;
}

void pg_close(struct pg *pg)
{
	PQfinish(pg->conn);
	pg->conn = NULL;
	pg->piped = pg->synced = false;
}

/* ---- errors ---- */

static int lose(struct pg *pg, struct fault *fault)
{
	pg_close(pg);
	return fault_set(fault, FAULT_WAIT, "the connection to PostgreSQL was lost");
}

/* Sentences of these errors quote the data that caused them. */
static bool quotes_data(const char *sqlstate)
{
	return strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 || strncmp(sqlstate, "54", 2) == 0 ||
	       strcmp(sqlstate, "P0001") == 0;
}

static void describe(const PGresult *result, const char *sqlstate, struct fault *fault)
{
	static const struct {
		int field;
		const char *label;
	} names[] = { { PG_DIAG_CONSTRAINT_NAME, "constraint" }, { PG_DIAG_TABLE_NAME, "table" }, { PG_DIAG_COLUMN_NAME, "column" } };
	const char *sentence = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	char text[256] = "";

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const char *name = PQresultErrorField(result, names[i].field);
		size_t used = strlen(text);

		if (name)
			snprintf(text + used, sizeof text - used, " %s %s", names[i].label, name);
	}
	if (quotes_data(sqlstate))
		fault_set(fault, FAULT_WAIT, "PostgreSQL error %s%s%s", sqlstate, text[0] ? " at" : "", text);
	else
		fault_set(fault, FAULT_WAIT, "PostgreSQL error %s: %s", sqlstate, sentence ? sentence : "");
	strcpy(fault->sqlstate, sqlstate);
}

/* An error result: of the statement, or of a connection that is gone. Frees it. */
static int fail(struct pg *pg, PGresult *result, struct fault *fault)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	if (sqlstate == NULL || strlen(sqlstate) != 5) {
		PQclear(result);
		return lose(pg, fault);
	}
	describe(result, sqlstate, fault);
	if (severity && strcmp(severity, "ERROR") != 0)
		pg_close(pg);
	PQclear(result);
	return -1;
}

/* WARNING 01000 is what a cancelled wait for synchronous replication says: committed here, perhaps nowhere else. */
static void on_notice(void *arg, const PGresult *notice)
{
	struct pg *pg = arg;
	const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(notice, PG_DIAG_SQLSTATE);

	if (severity && sqlstate && strcmp(severity, "WARNING") == 0 && strcmp(sqlstate, "01000") == 0)
		pg->doubtful = true;
}

bool pg_commit_was_doubtful(struct pg *pg)
{
	bool doubtful = pg->doubtful;

	pg->doubtful = false;
	return doubtful;
}

/* ---- waiting ---- */

int pg_wait_blocking(void *arg, int fd, short events, int timeout_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = events };

	(void)arg;
	(void)poll(&pollfd, 1, timeout_ms); /* interrupted or not: the caller looks at the socket again */
	return 0;
}

static int wait_for(struct pg *pg, short events, int timeout_ms, struct fault *fault)
{
	if (pg->waiter.wait(pg->waiter.arg, PQsocket(pg->conn), events, timeout_ms) == 0)
		return 0;
	pg_close(pg);
	return fault_set(fault, FAULT_STOP, "stopped while waiting for PostgreSQL");
}

/* Until everything queued is written, or the time is over (-1: never). What the server sends meanwhile is read, or both
 * sides could block. */
static int write_out(struct pg *pg, int timeout_ms, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
	int left;

	while ((left = PQflush(pg->conn)) == 1) {
		int64_t left_ms = timeout_ms < 0 ? WAIT_MS : deadline_ms - clock_monotonic_ms();

		if (left_ms <= 0)
			return 0;
		if (wait_for(pg, POLLIN | POLLOUT, left_ms < WAIT_MS ? (int)left_ms : WAIT_MS, fault) < 0)
			return -1;
		if (!PQconsumeInput(pg->conn))
			return lose(pg, fault);
	}
	return left == 0 ? 0 : lose(pg, fault);
}

static int next_result(struct pg *pg, PGresult **result, struct fault *fault)
{
	if (write_out(pg, -1, fault) < 0)
		return -1;
	while (PQisBusy(pg->conn)) {
		if (wait_for(pg, POLLIN, WAIT_MS, fault) < 0)
			return -1;
		if (!PQconsumeInput(pg->conn))
			return lose(pg, fault);
	}
	*result = PQgetResult(pg->conn);
	return 0;
}

/* ---- connecting ---- */

static bool is_conninfo(const char *database)
{
	return strchr(database, '=') || strstr(database, "://");
}

/* Where the settings list several hosts: one of them, as the settings name it. "" stands for the default. */
struct host {
	char name[256], address[64], port[8];
};

/* host: NULL for all of them, in libpq's way. */
static void start_connecting(struct pg *pg, const char *database, const char *application, const struct host *host)
{
	const char *primary = getenv("PGTARGETSESSIONATTRS") ? NULL : "read-write";
	/* What stands before dbname are defaults, which a conninfo in dbname overrides; what stands behind it overrides that. */
	const char *keywords[] = { "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
				   "target_session_attrs", "fallback_application_name", "dbname", "client_encoding",
				   host ? "host" : NULL, "hostaddr", "port", NULL };
	const char *values[] = { "5", "2", "3", "8000", primary, application, database, "UTF8",
				 host ? host->name : NULL, host ? host->address : NULL, host ? host->port : NULL, NULL };

	pg->conn = PQconnectStartParams(keywords, values, 1);
	if (pg->conn == NULL)
		abort();
	PQsetNoticeReceiver(pg->conn, on_notice, pg);
}

/* The element at place of a list such as host; the last one if there are fewer, as one port serves all hosts. */
static void copy_element(char *element, size_t size, const char *list, size_t place)
{
	const char *comma;

	while (place-- > 0 && (comma = strchr(list, ',')) != NULL)
		list = comma + 1;
	snprintf(element, size, "%.*s", (int)strcspn(list, ","), list);
}

/* The hosts that the settings of the connection list, wherever they come from; at most max of them. */
static size_t list_hosts(PGconn *conn, struct host *hosts, size_t max)
{
	PQconninfoOption *options = PQconninfo(conn);
	const char *names = "", *addresses = "", *ports = "";
	size_t count = 1;

	if (options == NULL)
		abort();
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

/* The waiter may return early, and libpq blocks if it is polled before the socket is ready. */
static bool is_ready(const struct pg *pg, short events)
{
	struct pollfd pollfd = { .fd = PQsocket(pg->conn), .events = events };

	return poll(&pollfd, 1, 0) > 0;
}

/* *late: it was not refused, there was no answer. */
static int poll_connection(struct pg *pg, int timeout_ms, bool *late, struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	*late = false;
	while (PQstatus(pg->conn) != CONNECTION_BAD && state != PGRES_POLLING_FAILED) {
		short events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		int64_t left_ms = deadline_ms - clock_monotonic_ms();

		if (state == PGRES_POLLING_OK)
			return 0;
		if (left_ms <= 0) {
			*late = true;
			pg_close(pg);
			return fault_set(fault, FAULT_WAIT, "cannot connect to PostgreSQL: no answer within %d ms", timeout_ms);
		}
		if (wait_for(pg, events, left_ms < WAIT_MS ? (int)left_ms : WAIT_MS, fault) < 0)
			return -1;
		if (is_ready(pg, events))
			state = PQconnectPoll(pg->conn);
	}
	fault_set(fault, FAULT_WAIT, "cannot connect to PostgreSQL: %s", PQerrorMessage(pg->conn));
	pg_close(pg);
	return -1;
}

/* libpq goes on to the next host when one refuses, but waits for ever for one that is silent. When the time is up, each is
 * tried alone, from the last: those behind the silent one have not been tried. */
static int try_hosts(struct pg *pg, const char *database, const char *application, int timeout_ms, struct fault *fault)
{
	struct host hosts[HOSTS_MAX];
	size_t count;
	bool late;

	start_connecting(pg, database, application, NULL);
	count = list_hosts(pg->conn, hosts, HOSTS_MAX);
	if (poll_connection(pg, timeout_ms, &late, fault) == 0)
		return 0;
	if (!late || count == 1)
		return -1;
	while (count > 0 && fault->kind != FAULT_STOP) {
		start_connecting(pg, database, application, &hosts[--count]);
		if (poll_connection(pg, timeout_ms, &late, fault) == 0)
			return 0;
	}
	return -1;
}

int pg_connect(struct pg *pg, const char *database, const char *application, int timeout_ms, struct fault *fault)
{
	pg_close(pg);
	pg->doubtful = false;
	if (database == NULL)
		database = "";
	if (is_conninfo(database)) {
		PQconninfoOption *options = PQconninfoParse(database, NULL);

		/* libpq's sentence would quote the text, and with it perhaps a password. */
		if (options == NULL)
			return fault_set(fault, FAULT_FATAL, "the database setting is no conninfo or URI that libpq understands");
		PQconninfoFree(options);
	}
	if (try_hosts(pg, database, application, timeout_ms, fault) < 0)
		return -1;
	return PQsetnonblocking(pg->conn, 1) == 0 ? 0 : lose(pg, fault);
}

int pg_server_version(const struct pg *pg)
{
	return PQserverVersion(pg->conn);
}

/* ---- simple statements ---- */

/* Reads to the end of what was sent; *rows receives the last result that has rows. */
static int read_all(struct pg *pg, PGresult **rows, struct fault *fault)
{
	PGresult *result;
	bool failed = false;

	for (;;) {
		if (next_result(pg, &result, fault) < 0)
			return -1;
		if (result == NULL)
			return failed ? -1 : 0;
		if (PQresultStatus(result) == PGRES_TUPLES_OK && rows && *rows == NULL) {
			*rows = result;
		} else if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK) {
			PQclear(result);
		} else {
			failed = true;
			fail(pg, result, fault);
			if (!pg_connected(pg))
				return -1;
		}
	}
}

int pg_run(struct pg *pg, const char *sql, struct fault *fault)
{
	if (!PQsendQuery(pg->conn, sql))
		return lose(pg, fault);
	return read_all(pg, NULL, fault);
}

int pg_ask(struct pg *pg, const char *sql, char *buf, size_t size, struct fault *fault)
{
	PGresult *rows = NULL;

	if (!PQsendQuery(pg->conn, sql))
		return lose(pg, fault);
	if (read_all(pg, &rows, fault) < 0) {
		PQclear(rows);
		return -1;
	}
	snprintf(buf, size, "%s", PQntuples(rows) > 0 ? PQgetvalue(rows, 0, 0) : "");
	PQclear(rows);
	return 0;
}

int pg_prepare(struct pg *pg, const char *name, const char *sql, struct fault *fault)
{
	if (!PQsendPrepare(pg->conn, name, sql, 0, NULL))
		return lose(pg, fault);
	return read_all(pg, NULL, fault);
}

/* ---- the pipeline ---- */

int pg_send(struct pg *pg, const char *prepared, const char *sql, const struct pg_params *params, struct fault *fault)
{
	const char *values[PG_PARAMS_MAX];
	int lengths[PG_PARAMS_MAX], formats[PG_PARAMS_MAX], count = params ? params->count : 0;
	bool sent;

	for (int i = 0; i < count; i++) {
		values[i] = params->data + params->start[i];
		lengths[i] = (int)params->length[i];
		formats[i] = BINARY;
	}
	if (!pg->piped && !PQenterPipelineMode(pg->conn))
		return lose(pg, fault);
	pg->piped = true;
	sent = prepared ? PQsendQueryPrepared(pg->conn, prepared, count, values, lengths, formats, BINARY) :
			  PQsendQueryParams(pg->conn, sql, count, NULL, values, lengths, formats, BINARY);
	return sent ? 0 : lose(pg, fault);
}

int pg_flush(struct pg *pg, struct fault *fault)
{
	if (!PQsendFlushRequest(pg->conn))
		return lose(pg, fault);
	return write_out(pg, -1, fault);
}

int pg_sync(struct pg *pg, int timeout_ms, struct fault *fault)
{
	if (!PQpipelineSync(pg->conn))
		return lose(pg, fault);
	pg->synced = true;
	return write_out(pg, timeout_ms, fault);
}

int pg_receive(struct pg *pg, PGresult **result, struct fault *fault)
{
	PGresult *first, *end;

	if (next_result(pg, &first, fault) < 0)
		return -1;
	if (first == NULL)
		return lose(pg, fault);
	if (PQresultStatus(first) != PGRES_TUPLES_OK && PQresultStatus(first) != PGRES_COMMAND_OK)
		return fail(pg, first, fault);
	if (next_result(pg, &end, fault) < 0) {
		PQclear(first);
		return -1;
	}
	if (end) { /* rows were followed by an error */
		PQclear(first);
		return fail(pg, end, fault);
	}
	if (result)
		*result = first;
	else
		PQclear(first);
	return 0;
}

int pg_finish(struct pg *pg, struct fault *fault)
{
	bool ended = false;

	if (!pg->piped)
		return 0;
	if (!pg->synced && pg_sync(pg, -1, fault) < 0)
		return -1;
	for (int nulls = 0; !ended && nulls < 2;) {
		PGresult *result;

		if (next_result(pg, &result, fault) < 0)
			return -1;
		nulls = result ? 0 : nulls + 1;
		ended = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
		PQclear(result);
		if (PQstatus(pg->conn) == CONNECTION_BAD)
			return lose(pg, fault);
	}
	if (!ended || !PQexitPipelineMode(pg->conn))
		return lose(pg, fault);
	pg->piped = pg->synced = false;
	return 0;
}

bool pg_in_transaction(const struct pg *pg)
{
	return PQtransactionStatus(pg->conn) != PQTRANS_IDLE;
}

/* ---- parameters, in PostgreSQL's binary formats ---- */

void pg_params_reset(struct pg_params *params)
{
	params->size = 0;
	params->count = 0;
}

void pg_params_free(struct pg_params *params)
{
	free(params->data);
	*params = (struct pg_params){ 0 };
}

static void append(struct pg_params *params, const void *bytes, size_t size)
{
	if (params->size + size > params->capacity) {
		params->capacity = 2 * (params->size + size) + 256;
		params->data = realloc(params->data, params->capacity);
		if (params->data == NULL)
			abort();
	}
	if (size > 0)
		memcpy(params->data + params->size, bytes, size);
	params->size += size;
}

static void append4(struct pg_params *params, int32_t value)
{
	uint32_t big = htonl((uint32_t)value);

	append(params, &big, sizeof big);
}

static void append8(struct pg_params *params, int64_t value)
{
	append4(params, (int32_t)((uint64_t)value >> 32));
	append4(params, (int32_t)((uint64_t)value & UINT32_MAX));
}

static void begin(struct pg_params *params)
{
	if (params->count == PG_PARAMS_MAX)
		abort();
	params->start[params->count] = params->size;
}

static void end(struct pg_params *params)
{
	params->length[params->count] = params->size - params->start[params->count];
	params->count++;
}

void pg_add_text(struct pg_params *params, const char *text)
{
	begin(params);
	append(params, text, strlen(text));
	end(params);
}

void pg_add_int4(struct pg_params *params, int32_t value)
{
	begin(params);
	append4(params, value);
	end(params);
}

void pg_add_int8(struct pg_params *params, int64_t value)
{
	begin(params);
	append8(params, value);
	end(params);
}

/* An array's header: dimensions, whether nulls may occur, element type; then per dimension: length, first index. */
void pg_array_begin(struct pg_params *params, enum pg_type type)
{
	begin(params);
	params->array = params->size;
	params->elements = 0;
	append4(params, 1);
	append4(params, 1);
	append4(params, type);
	append4(params, 0);
	append4(params, 1);
}

void pg_array_int4(struct pg_params *params, int32_t value)
{
	append4(params, 4);
	append4(params, value);
	params->elements++;
}

void pg_array_int8(struct pg_params *params, int64_t value)
{
	append4(params, 8);
	append8(params, value);
	params->elements++;
}

void pg_array_null(struct pg_params *params)
{
	append4(params, -1);
	params->elements++;
}

void pg_array_bytes(struct pg_params *params, const void *bytes, size_t size)
{
	if (bytes == NULL) {
		pg_array_null(params);
		return;
	}
	append4(params, (int32_t)size);
	append(params, bytes, size);
	params->elements++;
}

void pg_array_text(struct pg_params *params, const char *text)
{
	pg_array_bytes(params, text, text ? strlen(text) : 0);
}

static void patch4(struct pg_params *params, size_t at, int32_t value)
{
	uint32_t big = htonl((uint32_t)value);

	memcpy(params->data + at, &big, sizeof big);
}

void pg_array_joined(struct pg_params *params, const char *const *strings, size_t n)
{
	size_t at = params->size;

	append4(params, 0);
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			append(params, ",", 1);
		append(params, strings[i], strlen(strings[i]));
	}
	patch4(params, at, (int32_t)(params->size - at - 4));
	params->elements++;
}

void pg_array_end(struct pg_params *params)
{
	patch4(params, params->array + 12, params->elements);
	if (params->elements == 0) { /* an empty array has no dimension */
		patch4(params, params->array, 0);
		params->size = params->array + 12;
	}
	end(params);
}

/* ---- results, in binary ---- */

int pg_rows(const PGresult *result)
{
	return PQntuples(result);
}

bool pg_is_null(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column);
}

const char *pg_text(const PGresult *result, int row, int column, size_t *size)
{
	if (PQgetisnull(result, row, column))
		return NULL;
	if (size)
		*size = (size_t)PQgetlength(result, row, column);
	return PQgetvalue(result, row, column);
}

static int32_t read4(const char *bytes)
{
	uint32_t big;

	memcpy(&big, bytes, sizeof big);
	return (int32_t)ntohl(big);
}

/* As pg_array_begin writes it. */
size_t pg_texts(const PGresult *result, int row, int column, struct arena *arena, const char ***texts)
{
	const char *bytes = PQgetvalue(result, row, column);
	int32_t count;

	if (PQgetisnull(result, row, column) || read4(bytes) == 0)
		return 0;
	count = read4(bytes + 12);
	bytes += 20;
	*texts = arena_array(arena, (size_t)count, sizeof **texts);
	for (int32_t i = 0; i < count; i++) {
		int32_t size = read4(bytes);

		bytes += 4;
		if (size < 0)
			continue;
		(*texts)[i] = arena_strndup(arena, bytes, (size_t)size);
		bytes += size;
	}
	return (size_t)count;
}

bool pg_bool(const PGresult *result, int row, int column)
{
	return !PQgetisnull(result, row, column) && PQgetvalue(result, row, column)[0] != 0;
}

int32_t pg_int4(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? 0 : read4(PQgetvalue(result, row, column));
}

int64_t pg_int8(const PGresult *result, int row, int column)
{
	uint32_t big[2];

	if (PQgetisnull(result, row, column))
		return 0;
	memcpy(big, PQgetvalue(result, row, column), sizeof big);
	return (int64_t)((uint64_t)ntohl(big[0]) << 32 | ntohl(big[1]));
}

int64_t pg_time_ms(const PGresult *result, int row, int column)
{
	int64_t us = pg_int8(result, row, column), ms = us / 1000;

	if (us % 1000 < 0)
		ms--;
	return POSTGRES_EPOCH_MS + ms;
}

void pg_result_free(PGresult *result)
{
	PQclear(result);
}
