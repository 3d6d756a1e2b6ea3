#include "producer/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/clock.h"
#include "worker/base/kafka_log.h"
#include "worker/base/must.h"

#define SPREAD_MS 2000 /* until every broker knows a new topic */

static void on_log(const rd_kafka_t *rk, int severity, const char *facility, const char *text)
{
	static const enum campaign_log_level levels[] = {
		[LEVEL_DEBUG] = CAMPAIGN_LOG_DEBUG, [LEVEL_INFO] = CAMPAIGN_LOG_INFO,
		[LEVEL_WARN] = CAMPAIGN_LOG_WARN,   [LEVEL_ERROR] = CAMPAIGN_LOG_ERROR,
	};
	const struct options *options = rk ? rd_kafka_opaque(rk) : NULL;
	struct campaign_log_line told;
	struct kafka_line line;

	if (options == NULL || !kafka_line_read(severity, facility, text, &line))
		return;
	told = (struct campaign_log_line){ levels[line.level], line.event, line.msg, rd_kafka_name(rk), NULL, 0 };
	options_log(options, &told);
}

static int refuse_unknown(const struct property *property, struct fault *fault)
{
	char *documentation = NULL;
	size_t size;
	FILE *file = must(open_memstream(&documentation, &size));

	rd_kafka_conf_properties_show(file);
	fclose(file);
	property_unknown(property, rd_kafka_version_str(), documentation, fault);
	free(documentation);
	return -1;
}

static int set_property(rd_kafka_conf_t *conf, const struct property *property, struct fault *fault)
{
	char why[256];

	switch (rd_kafka_conf_set(conf, property->name, property->value, why, sizeof why)) {
	case RD_KAFKA_CONF_OK:
		return 0;
	case RD_KAFKA_CONF_INVALID:
		return fault_set(fault, FAULT_FATAL, "%s (%s): %s", property->name, property->origin, why);
	default:
		return refuse_unknown(property, fault);
	}
}

static int set_properties(rd_kafka_conf_t *conf, const struct options *options, enum kafka_client client, struct fault *fault)
{
	char features[512] = "";
	size_t size = sizeof features, count;
	struct arena *arena = arena_new(0);
	struct property_source source = {
		.brokers = options->brokers,
		.client_id = options->client_id,
		.message_bytes = 1000000,
		.given = options->properties,
		.given_count = options->property_count,
	};
	const struct property *properties;
	int rc = 0;

	source.zstd = rd_kafka_conf_get(conf, "builtin.features", features, &size) == RD_KAFKA_CONF_OK && strstr(features, "zstd");
	properties = properties_list(&source, client, arena, &count);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = set_property(conf, &properties[i], fault);
	arena_free(arena);
	return rc;
}

struct rd_kafka_s *connection_open(const struct options *options, enum kafka_client client, struct fault *fault)
{
	rd_kafka_type_t type = client == KAFKA_READER ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk = NULL;
	char why[256];

	if (set_properties(conf, options, client, fault) == 0) {
		rd_kafka_conf_set_log_cb(conf, on_log);
		rd_kafka_conf_set_opaque(conf, (void *)(uintptr_t)options);
		if (client == KAFKA_PRODUCER)
			rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR);
		rk = rd_kafka_new(type, conf, why, sizeof why);
		if (rk == NULL)
			fault_set(fault, FAULT_FATAL, "cannot make a Kafka client: %s", why);
	}
	if (rk == NULL)
		rd_kafka_conf_destroy(conf);
	return rk;
}

/* The topic's number of partitions, or why it cannot be used: 0 when it may only need a moment (its leaders are being
 * elected), -1 with a fault. FAULT_RETRY: there is no such topic, as far as that broker knows. */
static int32_t find_partitions(rd_kafka_t *rk, rd_kafka_topic_t *topic, const char *brokers, int timeout_ms, struct fault *fault)
{
	const struct rd_kafka_metadata *metadata;
	const char *name = rd_kafka_topic_name(topic);
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, topic, &metadata, timeout_ms);
	int32_t count = 0;

	if (err)
		return fault_set(fault, FAULT_WAIT, "no answer from the brokers %s: %s", brokers, rd_kafka_err2str(err));
	err = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	if (!err)
		count = metadata->topics[0].partition_cnt;
	rd_kafka_metadata_destroy(metadata);
	switch (err) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
	case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		return count;
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		return fault_set(fault, FAULT_RETRY, "topic %s does not exist at %s (`campaign-worker topics` creates it)", name,
				 brokers);
	default:
		return fault_set(fault, FAULT_FATAL, "topic %s: %s", name, rd_kafka_err2str(err));
	}
}

int32_t connection_count_partitions(struct rd_kafka_s *rk, struct rd_kafka_topic_s *topic, const char *brokers,
				    struct fault *fault)
{
	int64_t deadline_ms = clock_monotonic_ms() + LOOKUP_MS, left_ms = LOOKUP_MS;
	int32_t count = 0;

	for (; left_ms > 0; left_ms = deadline_ms - clock_monotonic_ms()) {
		count = find_partitions(rk, topic, brokers, (int)left_ms, fault);
		if (count > 0 || (count < 0 && (fault->kind != FAULT_RETRY || left_ms < LOOKUP_MS - SPREAD_MS)))
			break;
		clock_sleep_ms(100);
	}
	if (count == 0)
		return fault_set(fault, FAULT_WAIT, "topic %s has no leader", rd_kafka_topic_name(topic));
	if (count < 0 && fault->kind == FAULT_RETRY)
		fault->kind = FAULT_FATAL;
	return count;
}
