#include "worker/check.h"

#include <inttypes.h>

#include "schemas/codec.h"
#include "worker/base/clock.h"
#include "worker/base/identity.h"
#include "worker/check_group.h"
#include "worker/check_stable.h"
#include "worker/db/rights.h"
#include "worker/kafka/inspection.h"
#include "worker/kafka/kafka.h"
#include "worker/kafka/topics.h"

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

/* The transactional.id is its own, so that a running worker of this instance is not fenced. */
static void check_transactions(struct findings *findings, const struct config *config)
{
	int64_t start_ms = clock_monotonic_ms();
	struct fault fault;
	char id[TRANSACTIONAL_ID_SIZE];

	identity_transactional_id(id, config->group, config->instance, "check");
	if (inspection_begin_transactions(config, id, TIMEOUT_MS, &fault) < 0)
		findings_add(findings, true, "transactions: %s", fault.msg);
	else
		findings_add(findings, false, "transactions: %s initialised in %" PRId64 " ms", id, clock_monotonic_ms() - start_ms);
}

/* Whether Kafka answers. */
static bool check_kafka(struct findings *findings, const struct config *config)
{
	struct fault fault;

	findings_add(findings, false, "librdkafka %s", kafka_version());
	if (topics_check(config, findings, &fault) < 0) {
		findings_add(findings, true, "Kafka: %s", fault.msg);
		return false;
	}
	check_stable(findings, config, TIMEOUT_MS);
	check_transactions(findings, config);
	return true;
}

/* Whether nothing is wrong with it. */
static bool check_database(struct findings *findings, const struct config *config, const struct operation *operation)
{
	int wrong_before = findings->wrong_count;
	const struct rights_needed needed = { operation->rights, operation->functions };
	const struct session_settings settings = {
		.database = config->database,
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
	return findings->wrong_count == wrong_before;
}

void check_run(const struct config *config, const struct operation *operation, struct findings *findings)
{
	bool answers, sound;

	check_schemas(findings, config, operation);
	answers = check_kafka(findings, config);
	sound = check_database(findings, config, operation);
	if (answers)
		check_group(findings, config, sound, TIMEOUT_MS);
}
