#include "worker/check_group.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/identity.h"
#include "worker/base/must.h"
#include "worker/db/connection.h"
#include "worker/db/ownership.h"
#include "worker/kafka/inspection.h"
#include "worker/start.h"

/* What Kafka and PostgreSQL say of the commands topic's partitions. */
struct inspected {
	const struct config *config;
	struct findings *findings;
	bool database_is_sound;
	int timeout_ms;
	struct inspection *inspection;
	char cluster_id[128];
	struct position *positions;
	struct claim *claims; /* looked at, not claimed */
	size_t count;
};

static int look(struct inspected *inspected, struct session *session, struct fault *fault)
{
	if (session_connect(session, fault) < 0)
		return -1;
	return ownership_look(session, inspected->cluster_id, inspected->config->commands, inspected->claims, inspected->count, fault);
}

/* Reads behind the committed offsets, so that a batch in between never looks like a stranger's. */
static int look_at_owners(struct inspected *inspected, struct fault *fault)
{
	static const struct statement *const statements[] = { ownership_statements, NULL };
	const struct config *config = inspected->config;
	const struct session_settings settings = {
		.database = config->database,
		.schema = config->database_schema,
		.application = "campaign-worker check",
		.group = config->group,
		.lock_timeout_ms = config->lock_timeout_ms,
		.statement_timeout_ms = config->statement_timeout_ms,
		.idle_in_transaction_ms = config->lock_timeout_ms,
		.connect_timeout_ms = inspected->timeout_ms,
		.statements = statements,
	};
	struct waiter waiter = { connection_wait_blocking, NULL };
	struct session *session = session_new(&settings, &waiter);
	int status;

	status = look(inspected, session, fault);
	session_free(session);
	return status;
}

/* Until more is known, as far as Kafka tells. */
static void make_claims(struct inspected *inspected)
{
	inspected->claims = must(calloc(inspected->count, sizeof *inspected->claims));
	for (size_t i = 0; i < inspected->count; i++)
		inspected->claims[i] = (struct claim){
			.partition = inspected->positions[i].partition,
			.owned = { .confirmed = OFFSET_NONE, .executed = EXECUTED_UNKNOWN, .resume_from = RESUME_NONE },
		};
}

/* Decides as a worker would. */
static bool would_halt(const struct inspected *inspected, size_t i, char *why, size_t size)
{
	const char *note;
	int64_t start;

	if (inspected->claims[i].refused)
		partition_describe_refusal(&inspected->claims[i].owned, inspected->cluster_id, why, size);
	else if (partition_start(&inspected->positions[i], &inspected->claims[i].owned, &start, &note, why, size) == 0)
		return false;
	return true;
}

static void report_halted(const struct inspected *inspected)
{
	for (size_t i = 0; i < inspected->count; i++) {
		int32_t id = inspected->positions[i].partition;
		char why[768];

		if (would_halt(inspected, i, why, sizeof why))
			findings_add(inspected->findings, true, "topic %s: partition %" PRId32 " is halted: %s; it waits for: "
				     "campaign-worker resume --partition %" PRId32 " --from OFFSET|earliest", inspected->config->commands, id,
				     why, id);
	}
}

static int inspect(struct inspected *inspected, struct fault *fault)
{
	struct inspection *inspection = inspected->inspection;
	size_t n = inspected->count, committed = 0;

	if (inspection_committed(inspection, inspected->positions, n, inspected->timeout_ms, fault) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		committed += inspected->positions[i].committed != OFFSET_NONE;
	findings_add(inspected->findings, false, "consumer group %s: offsets of %zu of %zu partitions are committed",
		     inspected->config->group, committed, n);
	if (inspection_ends(inspection, inspected->positions, n, inspected->timeout_ms, fault) < 0 ||
	    inspection_cluster_id(inspection, inspected->cluster_id, sizeof inspected->cluster_id, inspected->timeout_ms, fault) < 0)
		return -1;
	return inspected->database_is_sound ? look_at_owners(inspected, fault) : 0;
}

/* ---- members ---- */

/* A worker of an earlier version is known by the rows that it owns. */
static bool is_worker(const struct inspected *inspected, const char *client_id)
{
	if (identity_is_worker(client_id))
		return true;
	for (size_t i = 0; i < inspected->count; i++) {
		const char *owner = identity_client_of(inspected->claims[i].transactional_id, inspected->config->group);

		if (owner && strcmp(owner, client_id) == 0)
			return true;
	}
	return false;
}

static void report_members(const struct inspected *inspected)
{
	const char *group = inspected->config->group;
	struct group_member *members;
	struct fault fault;
	size_t n, workers = 0;

	if (inspection_members(inspected->inspection, &members, &n, inspected->timeout_ms, &fault) < 0) {
		findings_add(inspected->findings, true, "consumer group %s: %s", group, fault.msg);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (is_worker(inspected, members[i].client_id))
			workers++;
		else
			findings_add(inspected->findings, true, "consumer group %s: its member %s at %s is no campaign-worker: it takes partitions "
				     "and commits offsets of commands that nobody executes; give it a group of its own", group,
				     members[i].client_id, members[i].host);
	}
	findings_add(inspected->findings, false, "consumer group %s: %zu of its members are lanes of campaign-workers", group, workers);
	free(members);
}

void check_group(struct findings *findings, const struct config *config, bool database_is_sound, int timeout_ms)
{
	struct inspected inspected = {
		.config = config, .findings = findings, .database_is_sound = database_is_sound, .timeout_ms = timeout_ms,
	};
	struct fault fault;

	inspected.inspection = inspection_new(config, &fault);
	if (inspected.inspection == NULL) {
		findings_add(findings, true, "consumer group %s: %s", config->group, fault.msg);
		return;
	}
	inspected.count = inspection_partitions(inspected.inspection, &inspected.positions, timeout_ms);
	if (inspected.count > 0) { /* else topics_check has reported why */
		make_claims(&inspected);
		if (inspect(&inspected, &fault) == 0)
			report_halted(&inspected);
		else
			findings_add(findings, true, "consumer group %s: whether its partitions can be read is not known: %s", config->group,
				     fault.msg);
		report_members(&inspected);
	}
	free(inspected.positions);
	free(inspected.claims);
	inspection_free(inspected.inspection);
}
