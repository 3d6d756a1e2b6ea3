#include "worker/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "schemas/codec.h"
#include "worker/base/clock.h"
#include "worker/kafka/inspection.h"
#include "worker/kafka/kafka.h"
#include "worker/start.h"
#include "worker/db/store.h"
#include "worker/kafka/topics.h"

#define TIMEOUT_MS 10000

struct check {
	void (*say)(void *arg, bool wrong, const char *line);
	void *arg;
	int wrong_count;
};

static void pass_on(void *arg, bool wrong, const char *line)
{
	struct check *check = arg;

	check->wrong_count += wrong;
	check->say(check->arg, wrong, line);
}

static void tell(struct check *check, bool wrong, const char *fmt, ...) PRINTF(3, 4);

static void tell(struct check *check, bool wrong, const char *fmt, ...)
{
	char line[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	pass_on(check, wrong, line);
}

static void check_schemas(struct check *check, const struct config *config)
{
	struct fault fault;
	struct codec *codec = codec_new(config->schemas, &fault);

	if (codec)
		tell(check, false, "schemas: built-in%s%s", config->schemas ? ", and those in " : "",
		     config->schemas ? config->schemas : "");
	else
		tell(check, true, "schemas: %s", fault.msg);
	codec_free(codec);
}

/* Partitions whose committed offset a worker refuses. One whose offset is lost looks like one that was never read: only the
 * database tells them apart. */
static void check_halted(struct check *check, const char *topic, const struct position *positions, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct position *at = &positions[i];
		char why[512];
		const char *note;
		int64_t start;

		if (partition_start(at, OFFSET_NONE, RESUME_NONE, &start, &note, why, sizeof why) < 0)
			tell(check, true, "topic %s: partition %" PRId32 " is halted: %s; it waits for: "
			     "campaign-worker resume --partition %" PRId32 " --from OFFSET|earliest", topic, at->partition, why,
			     at->partition);
	}
}

static void check_offsets(struct check *check, const struct config *config, struct inspection *inspection)
{
	struct position *positions;
	struct fault fault;
	size_t n = inspection_partitions(inspection, &positions, TIMEOUT_MS), committed = 0;

	if (n == 0) /* topics_check has said why */
		return;
	if (inspection_committed(inspection, positions, n, TIMEOUT_MS, &fault) < 0) {
		tell(check, true, "consumer group %s: its offsets cannot be read: %s", config->group, fault.msg);
		free(positions);
		return;
	}
	for (size_t i = 0; i < n; i++)
		committed += positions[i].committed != OFFSET_NONE;
	tell(check, false, "consumer group %s: offsets of %zu of %zu partitions are committed", config->group, committed, n);
	if (committed > 0 && inspection_ends(inspection, positions, n, TIMEOUT_MS, &fault) < 0)
		tell(check, true, "topic %s: what it holds cannot be asked for: %s", config->commands, fault.msg);
	else if (committed > 0)
		check_halted(check, config->commands, positions, n);
	free(positions);
}

static void check_group(struct check *check, const struct config *config)
{
	struct fault fault;
	struct inspection *inspection = inspection_new(config, &fault);

	if (inspection)
		check_offsets(check, config, inspection);
	else
		tell(check, true, "consumer group %s: %s", config->group, fault.msg);
	inspection_free(inspection);
}

/* A transactional.id of its own: a worker that runs under this instance is not disturbed. */
static void check_transactions(struct check *check, const struct config *config)
{
	int64_t start_ms = clock_monotonic_ms();
	struct fault fault;
	char id[256];

	snprintf(id, sizeof id, "%s.%s.check", config->group, config->instance);
	if (inspection_begin_transactions(config, id, TIMEOUT_MS, &fault) < 0)
		tell(check, true, "transactions: %s", fault.msg);
	else
		tell(check, false, "transactions: %s initialised in %" PRId64 " ms", id, clock_monotonic_ms() - start_ms);
}

static void check_kafka(struct check *check, const struct config *config)
{
	struct fault fault;

	tell(check, false, "librdkafka %s", kafka_version());
	if (topics_check(config, pass_on, check, &fault) < 0) {
		tell(check, true, "Kafka: %s", fault.msg);
		return;
	}
	check_group(check, config);
	check_transactions(check, config);
}

static void check_database(struct check *check, const struct config *config)
{
	const struct store_settings settings = {
		.database = config->database,
		.application = "campaign-worker check",
		.group = config->group,
		.transactional_id = "",
		.lock_timeout_ms = config->lock_timeout_ms,
		.statement_timeout_ms = config->statement_timeout_ms,
		.idle_in_transaction_ms = TIMEOUT_MS,
		.connect_timeout_ms = TIMEOUT_MS,
		.audience_leads_max = config->audience_leads_max,
	};
	struct fault fault;

	if (store_check(&settings, pass_on, check, &fault) < 0)
		tell(check, true, "PostgreSQL: %s", fault.msg);
}

int check_run(const struct config *config, void (*say)(void *arg, bool wrong, const char *line), void *arg)
{
	struct check check = { .say = say, .arg = arg };

	check_schemas(&check, config);
	check_kafka(&check, config);
	check_database(&check, config);
	return check.wrong_count;
}
