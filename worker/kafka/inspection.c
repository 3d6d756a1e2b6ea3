#include "worker/kafka/inspection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/clock.h"
#include "worker/base/must.h"
#include "worker/kafka/kafka.h"
#include "worker/kafka/positions.h"
#include "worker/kafka/refusals.h"

#define AGAIN_MS 200

struct inspection {
	const struct config *config;
	rd_kafka_t *rk;
};

static rd_kafka_t *make_consumer(const struct config *config, const char *isolation_level, struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_CONSUMER, fault);

	if (conf == NULL)
		return NULL;
	if (kafka_conf_set(conf, "group.id", config->group, fault) < 0 ||
	    kafka_conf_set(conf, "isolation.level", isolation_level, fault) < 0) {
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	return kafka_new_take(conf, KAFKA_CONSUMER, fault);
}

static void free_consumer(rd_kafka_t *rk)
{
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

struct inspection *inspection_new(const struct config *config, struct fault *fault)
{
	rd_kafka_t *rk = make_consumer(config, "read_committed", fault);
	struct inspection *inspection;

	if (rk == NULL)
		return NULL;
	inspection = must(calloc(1, sizeof *inspection));
	*inspection = (struct inspection){ config, rk };
	return inspection;
}

void inspection_free(struct inspection *inspection)
{
	if (inspection)
		free_consumer(inspection->rk);
	free(inspection);
}

/* Asks for all topics: a request for one by name may create it. */
size_t inspection_partitions(struct inspection *inspection, struct position **positions, int timeout_ms)
{
	const struct rd_kafka_metadata *metadata;
	size_t n = 0;

	*positions = NULL;
	if (rd_kafka_metadata(inspection->rk, 1, NULL, &metadata, timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	for (int i = 0; i < metadata->topic_cnt; i++) {
		const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];

		if (strcmp(topic->topic, inspection->config->commands) != 0 || topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		n = (size_t)topic->partition_cnt;
		*positions = must(calloc(n + 1, sizeof **positions));
		for (size_t p = 0; p < n; p++)
			(*positions)[p].partition = topic->partitions[p].id;
	}
	rd_kafka_metadata_destroy(metadata);
	return n;
}

int inspection_committed(struct inspection *inspection, struct position *positions, size_t n, int timeout_ms, struct fault *fault)
{
	return positions_fetch_committed(inspection->rk, inspection->config->commands, positions, n, timeout_ms, fault);
}

static int find_ends_once(const struct inspection *inspection, rd_kafka_t *rk, struct position *positions, size_t n, int timeout_ms,
			  struct fault *fault)
{
	if (positions_find_ends(rk, inspection->config->commands, positions, n, timeout_ms, fault) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (positions[i].unknown)
			return fault_set(fault, FAULT_WAIT, "the leader of partition %d does not answer", (int)positions[i].partition);
	return 0;
}

/* A topic that was made a moment ago, or a partition whose leader moves, has a leader soon. */
static int find_ends(const struct inspection *inspection, rd_kafka_t *rk, struct position *positions, size_t n, int timeout_ms,
		     struct fault *fault)
{
	int64_t now_ms = clock_monotonic_ms(), until_ms = now_ms + timeout_ms;

	while (find_ends_once(inspection, rk, positions, n, (int)(until_ms - now_ms), fault) < 0) {
		now_ms = clock_monotonic_ms() + AGAIN_MS;
		if (now_ms >= until_ms)
			return -1;
		clock_sleep_ms(AGAIN_MS);
	}
	return 0;
}

int inspection_ends(struct inspection *inspection, struct position *positions, size_t n, int timeout_ms, struct fault *fault)
{
	return find_ends(inspection, inspection->rk, positions, n, timeout_ms, fault);
}

int inspection_watermarks(struct inspection *inspection, struct position *positions, size_t n, int timeout_ms, struct fault *fault)
{
	rd_kafka_t *rk = make_consumer(inspection->config, "read_uncommitted", fault);
	int found;

	if (rk == NULL)
		return -1;
	found = find_ends(inspection, rk, positions, n, timeout_ms, fault);
	free_consumer(rk);
	return found;
}

int inspection_cluster_id(struct inspection *inspection, char *id, size_t size, int timeout_ms, struct fault *fault)
{
	char *found = rd_kafka_clusterid(inspection->rk, timeout_ms);

	if (found == NULL)
		return fault_set(fault, FAULT_WAIT, "no Kafka broker tells the cluster's id");
	snprintf(id, size, "%s", found);
	rd_kafka_mem_free(inspection->rk, found);
	return 0;
}

int inspection_members(struct inspection *inspection, struct group_member **members, size_t *n, int timeout_ms, struct fault *fault)
{
	return group_list_members(inspection->rk, inspection->config->group, members, n, timeout_ms, fault);
}

int inspection_begin_transactions(const struct config *config, const char *transactional_id, int timeout_ms, struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_TRANSACTIONAL_PRODUCER, fault);
	rd_kafka_error_t *error;
	rd_kafka_t *rk;
	int failed = 0;

	if (conf == NULL)
		return -1;
	if (kafka_conf_set(conf, "transactional.id", transactional_id, fault) < 0) {
		rd_kafka_conf_destroy(conf);
		return -1;
	}
	rk = kafka_new_take(conf, KAFKA_TRANSACTIONAL_PRODUCER, fault);
	if (rk == NULL)
		return -1;
	error = rd_kafka_init_transactions(rk, timeout_ms);
	if (error)
		failed = fault_set(fault, FAULT_WAIT, "%s cannot be initialised: %s", transactional_id,
				   refusal_of(rd_kafka_error_code(error)) ? refusal_of(rd_kafka_error_code(error)) : rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	rd_kafka_destroy(rk);
	return failed;
}
