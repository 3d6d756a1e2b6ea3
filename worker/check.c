#include "worker/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "schemas/codec.h"
#include "worker/base/clock.h"
#include "worker/db/rights.h"
#include "worker/kafka/inspection.h"
#include "worker/kafka/kafka.h"
#include "worker/kafka/topics.h"
#include "worker/start.h"

#define TIMEOUT_MS 10000

static void check_schemas(struct findings *findings, const struct config *config, const struct operation *operation)
{
	struct fault fault;
	struct codec *codec = codec_new(operation->contract, config->schemas, NULL, &fault);

	if (codec)
		findings_add(findings, false, "schemas: built-in%s%s", config->schemas ? ", and those in " : "",
		     config->schemas ? config->schemas : "");
	else
		findings_add(findings, true, "schemas: %s", fault.msg);
	codec_free(codec);
}

/* Finds partitions whose committed offset a worker refuses. A lost offset looks like one of a partition that was never read:
 * only the database distinguishes them. */
static void check_halted(struct findings *findings, const char *topic, const struct position *positions, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct position *at = &positions[i];
		char why[512];
		const char *note;
		int64_t start;

		if (partition_start(at, OFFSET_NONE, RESUME_NONE, &start, &note, why, sizeof why) < 0)
			findings_add(findings, true, "topic %s: partition %" PRId32 " is halted: %s; it waits for: "
			     "campaign-worker resume --partition %" PRId32 " --from OFFSET|earliest", topic, at->partition, why,
			     at->partition);
	}
}

static void check_offsets(struct findings *findings, const struct config *config, struct inspection *inspection)
{
	struct position *positions;
	struct fault fault;
	size_t n = inspection_partitions(inspection, &positions, TIMEOUT_MS), committed = 0;

	if (n == 0) /* topics_check has reported why */
		return;
	if (inspection_committed(inspection, positions, n, TIMEOUT_MS, &fault) < 0) {
		findings_add(findings, true, "consumer group %s: its offsets cannot be read: %s", config->group, fault.msg);
		free(positions);
		return;
	}
	for (size_t i = 0; i < n; i++)
		committed += positions[i].committed != OFFSET_NONE;
	findings_add(findings, false, "consumer group %s: offsets of %zu of %zu partitions are committed", config->group, committed, n);
	if (committed > 0 && inspection_ends(inspection, positions, n, TIMEOUT_MS, &fault) < 0)
		findings_add(findings, true, "topic %s: what it holds cannot be asked for: %s", config->commands, fault.msg);
	else if (committed > 0)
		check_halted(findings, config->commands, positions, n);
	free(positions);
}

static void check_group(struct findings *findings, const struct config *config)
{
	struct fault fault;
	struct inspection *inspection = inspection_new(config, &fault);

	if (inspection)
		check_offsets(findings, config, inspection);
	else
		findings_add(findings, true, "consumer group %s: %s", config->group, fault.msg);
	inspection_free(inspection);
}

/* The transactional.id is its own, so that a running worker of this instance is not fenced. */
static void check_transactions(struct findings *findings, const struct config *config)
{
	int64_t start_ms = clock_monotonic_ms();
	struct fault fault;
	char id[256];

	snprintf(id, sizeof id, "%s.%s.check", config->group, config->instance);
	if (inspection_begin_transactions(config, id, TIMEOUT_MS, &fault) < 0)
		findings_add(findings, true, "transactions: %s", fault.msg);
	else
		findings_add(findings, false, "transactions: %s initialised in %" PRId64 " ms", id, clock_monotonic_ms() - start_ms);
}

static void check_kafka(struct findings *findings, const struct config *config)
{
	struct fault fault;

	findings_add(findings, false, "librdkafka %s", kafka_version());
	if (topics_check(config, findings, &fault) < 0) {
		findings_add(findings, true, "Kafka: %s", fault.msg);
		return;
	}
	check_group(findings, config);
	check_transactions(findings, config);
}

static void check_database(struct findings *findings, const struct config *config, const struct operation *operation)
{
	const struct rights_needed needed = { operation->rights, operation->functions };
	const struct session_settings settings = {
		.database = config->database,
		.schema = config->database_schema,
		.application = "campaign-worker check",
		.group = config->group,
		.transactional_id = "",
		.lock_timeout_ms = config->lock_timeout_ms,
		.statement_timeout_ms = config->statement_timeout_ms,
		.idle_in_transaction_ms = TIMEOUT_MS,
		.connect_timeout_ms = TIMEOUT_MS,
	};
	struct fault fault;

	if (rights_report(&settings, &needed, findings, &fault) < 0)
		findings_add(findings, true, "PostgreSQL: %s", fault.msg);
}

void check_run(const struct config *config, const struct operation *operation, struct findings *findings)
{
	check_schemas(findings, config, operation);
	check_kafka(findings, config);
	check_database(findings, config, operation);
}
