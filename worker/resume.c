#include "worker/resume.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "worker/db/connection.h"
#include "worker/db/ownership.h"
#include "worker/kafka/positions.h"

#define KAFKA_MS 10000

/* The person who gives the order, as user@host, for partition_resumes. */
static void describe_person(char *who, size_t size)
{
	const struct passwd *user = getpwuid(getuid());
	char host[128] = "";

	gethostname(host, sizeof host - 1);
	snprintf(who, size, "%s@%s", user ? user->pw_name : "?", host);
}

static int record(const struct config *config, const char *cluster_id, int32_t partition, int64_t from, struct fault *fault)
{
	static const struct statement *const statements[] = { ownership_statements, NULL };
	struct session_settings settings = {
		.database = config->database, .schema = config->database_schema, .application = "campaign-worker resume", .group = config->group, .transactional_id = "",
		.lock_timeout_ms = config->lock_timeout_ms, .statement_timeout_ms = config->statement_timeout_ms,
		.idle_in_transaction_ms = config->lock_timeout_ms, .connect_timeout_ms = 5000,
		.statements = statements,
	};
	struct waiter waiter = { connection_wait_blocking, NULL };
	struct session *session = session_new(&settings, &waiter);
	char who[256];
	int status;

	describe_person(who, sizeof who);
	status = session_connect(session, fault);
	if (status == 0)
		status = ownership_order_resume(session, cluster_id, config->commands, partition, from, who, fault);
	session_free(session);
	return status;
}

int resume_order(const struct config *config, int32_t partition, int64_t from, void (*print)(void *arg, const char *line), void *arg,
		 struct fault *fault)
{
	char cluster_id[128], line[512], offset[32] = "earliest";
	struct position position = { .partition = partition };
	int64_t start;

	if (positions_query(config, cluster_id, sizeof cluster_id, &position, KAFKA_MS, fault) < 0)
		return -1;
	start = from == RESUME_EARLIEST ? position.low : from;
	if (start < position.low || start > position.high)
		return fault_set(fault, FAULT_FATAL, "%s [%d] holds offsets %" PRId64 " to %" PRId64 "; %" PRId64 " is not among them",
				 config->commands, partition, position.low, position.high, start);
	if (record(config, cluster_id, partition, from, fault) < 0)
		return -1;
	if (from != RESUME_EARLIEST)
		snprintf(offset, sizeof offset, "%" PRId64, from);
	snprintf(line, sizeof line, "recorded: %s [%d] goes on from %s (it holds %" PRId64 " to %" PRId64
		 "); the worker that holds it takes this up within seconds", config->commands, partition, offset, position.low,
		 position.high);
	print(arg, line);
	return 0;
}
