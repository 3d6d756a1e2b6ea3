#include "worker/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "schemas/codec.h"
#include "worker/base/clock.h"
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

/* The partitions of the commands topic, or NULL (topics_check has said why). */
static rd_kafka_topic_partition_list_t *list_partitions(rd_kafka_t *rk, const char *name)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_partition_list_t *list = NULL;

	if (rd_kafka_metadata(rk, 1, NULL, &metadata, TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	for (int i = 0; i < metadata->topic_cnt; i++) {
		const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];

		if (strcmp(topic->topic, name) != 0 || topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		list = rd_kafka_topic_partition_list_new(topic->partition_cnt);
		for (int p = 0; p < topic->partition_cnt; p++)
			rd_kafka_topic_partition_list_add(list, name, topic->partitions[p].id);
	}
	rd_kafka_metadata_destroy(metadata);
	return list;
}

/* Sets each offset to the first or last one that a read_committed consumer finds. (Not rd_kafka_query_watermark_offsets: 2.0.2
 * waits for a partition without a leader whatever the time-out.) */
static int find_ends(struct check *check, rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list, int64_t wanted)
{
	rd_kafka_resp_err_t err;

	for (int i = 0; i < list->cnt; i++)
		list->elems[i].offset = wanted;
	err = rd_kafka_offsets_for_times(rk, list, TIMEOUT_MS);
	for (int i = 0; i < list->cnt && !err; i++)
		err = list->elems[i].err;
	if (!err)
		return 0;
	tell(check, true, "topic %s: what it holds cannot be asked for: %s", list->elems[0].topic, rd_kafka_err2str(err));
	return -1;
}

/* Partitions whose committed offset a worker refuses. One whose offset is lost looks like one that was never read: only the
 * database tells them apart. */
static void check_halted(struct check *check, rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *committed)
{
	rd_kafka_topic_partition_list_t *low = rd_kafka_topic_partition_list_copy(committed);
	rd_kafka_topic_partition_list_t *high = rd_kafka_topic_partition_list_copy(committed);
	bool known = find_ends(check, rk, low, RD_KAFKA_OFFSET_BEGINNING) == 0 &&
		     find_ends(check, rk, high, RD_KAFKA_OFFSET_END) == 0;

	for (int i = 0; i < committed->cnt && known; i++) {
		const rd_kafka_topic_partition_t *at = &committed->elems[i];
		struct position position = { .partition = at->partition, .committed = at->offset >= 0 ? at->offset : OFFSET_NONE,
					     .low = low->elems[i].offset, .high = high->elems[i].offset };
		char why[512];
		const char *note;
		int64_t start;

		if (partition_start(&position, OFFSET_NONE, RESUME_NONE, &start, &note, why, sizeof why) < 0)
			tell(check, true, "topic %s: partition %" PRId32 " is halted: %s; it waits for: "
			     "campaign-worker resume --partition %" PRId32 " --from OFFSET|earliest", at->topic, at->partition, why,
			     at->partition);
	}
	rd_kafka_topic_partition_list_destroy(low);
	rd_kafka_topic_partition_list_destroy(high);
}

static void check_offsets(struct check *check, const struct config *config, rd_kafka_t *rk)
{
	rd_kafka_topic_partition_list_t *list = list_partitions(rk, config->commands);
	rd_kafka_resp_err_t err;
	int committed = 0;

	if (list == NULL)
		return;
	err = rd_kafka_committed(rk, list, TIMEOUT_MS);
	for (int i = 0; i < list->cnt; i++) {
		committed += list->elems[i].offset >= 0;
		err = err ? err : list->elems[i].err;
	}
	if (err)
		tell(check, true, "consumer group %s: its offsets cannot be read: %s", config->group, rd_kafka_err2str(err));
	else
		tell(check, false, "consumer group %s: offsets of %d of %d partitions are committed", config->group, committed,
		     list->cnt);
	if (!err && committed > 0)
		check_halted(check, rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

static void check_group(struct check *check, const struct config *config)
{
	struct fault fault;
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_CONSUMER, &fault);
	rd_kafka_t *rk = NULL;

	if (conf && kafka_conf_set(conf, "group.id", config->group, &fault) < 0)
		rd_kafka_conf_destroy(conf);
	else if (conf)
		rk = kafka_new_take(conf, KAFKA_CONSUMER, &fault);
	if (rk == NULL) {
		tell(check, true, "consumer group %s: %s", config->group, fault.msg);
		return;
	}
	check_offsets(check, config, rk);
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

/* A transactional.id of its own: a worker that runs under this instance is not disturbed. */
static void check_transactions(struct check *check, const struct config *config)
{
	struct fault fault;
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_TRANSACTIONAL_PRODUCER, &fault);
	int64_t start_ms = clock_monotonic_ms();
	rd_kafka_error_t *error;
	rd_kafka_t *rk = NULL;
	char id[256];

	snprintf(id, sizeof id, "%s.%s.check", config->group, config->instance);
	if (conf && kafka_conf_set(conf, "transactional.id", id, &fault) < 0)
		rd_kafka_conf_destroy(conf);
	else if (conf)
		rk = kafka_new_take(conf, KAFKA_TRANSACTIONAL_PRODUCER, &fault);
	if (rk == NULL) {
		tell(check, true, "transactions: %s", fault.msg);
		return;
	}
	error = rd_kafka_init_transactions(rk, TIMEOUT_MS);
	if (error)
		tell(check, true, "transactions: %s cannot be initialised: %s", id, rd_kafka_error_string(error));
	else
		tell(check, false, "transactions: %s initialised in %" PRId64 " ms", id, clock_monotonic_ms() - start_ms);
	rd_kafka_error_destroy(error);
	rd_kafka_destroy(rk);
}

static void check_kafka(struct check *check, const struct config *config)
{
	struct fault fault;

	tell(check, false, "librdkafka %s", rd_kafka_version_str());
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
