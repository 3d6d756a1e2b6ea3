#include "worker/kafka/kafka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/arena.h"
#include "worker/base/kafka_log.h"
#include "worker/base/must.h"

static void on_log(const rd_kafka_t *rk, int severity, const char *facility, const char *text)
{
	struct kafka_line line;

	if (kafka_line_read(severity, facility, text, &line))
		log_event(line.level, line.event, line.msg, "client", rk ? rd_kafka_name(rk) : NULL, (char *)0);
}

static void on_log_nothing(const rd_kafka_t *rk, int severity, const char *facility, const char *text)
{
	(void)rk;
	(void)severity;
	(void)facility;
	(void)text;
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

int kafka_conf_set(struct rd_kafka_conf_s *conf, const char *name, const char *value, struct fault *fault)
{
	return set_property(conf, &(struct property){ name, value, "ours" }, fault);
}

static bool has_zstd(const rd_kafka_conf_t *conf)
{
	char features[512] = "";
	size_t size = sizeof features;

	return rd_kafka_conf_get(conf, "builtin.features", features, &size) == RD_KAFKA_CONF_OK && strstr(features, "zstd");
}

static int set_all(rd_kafka_conf_t *conf, const struct config *config, enum kafka_client client, struct fault *fault)
{
	int kbytes = config->batch_bytes / 1024, message_bytes = config->dead_letter_bytes + DEAD_LETTER_HEADERS_BYTES, rc = 0;
	struct arena *arena = arena_new(0);
	struct property_source source = {
		.brokers = config->brokers,
		.client_id = arena_printf(arena, "campaign-worker-%.100s", config->instance),
		.queue_kbytes = kbytes > 1024 ? kbytes : 1024,
		.message_bytes = message_bytes > 1000000 ? message_bytes : 1000000,
		.zstd = has_zstd(conf),
		.given = config->properties,
		.given_count = config->property_count,
	};
	const struct property *properties;
	size_t count;

	properties = properties_list(&source, client, arena, &count);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = set_property(conf, &properties[i], fault);
	arena_free(arena);
	return rc;
}

struct rd_kafka_conf_s *kafka_conf_new(const struct config *config, enum kafka_client client, struct fault *fault)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	if (set_all(conf, config, client, fault) < 0) {
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	rd_kafka_conf_set_log_cb(conf, client == KAFKA_ADMIN ? on_log_nothing : on_log);
	return conf;
}

struct rd_kafka_s *kafka_new_take(struct rd_kafka_conf_s *conf, enum kafka_client client, struct fault *fault)
{
	char why[256];
	rd_kafka_t *rk;

	rk = rd_kafka_new(client == KAFKA_CONSUMER ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, conf, why, sizeof why);
	if (rk == NULL) {
		/* Without threads for it, rd_kafka_new has freed conf's interceptors (librdkafka 2.8, rd_kafka_new, "Legacy APIs,
		 * sigh"): freeing them again would crash. The process ends soon. */
		if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE)
			rd_kafka_conf_destroy(conf);
		fault_set(fault, FAULT_FATAL, "cannot make a Kafka client: %s", why);
	}
	return rk;
}

const char *kafka_version(void)
{
	return rd_kafka_version_str();
}
