#include "worker/kafka/positions.h"

#include <stdio.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/log.h"
#include "worker/kafka/kafka.h"
#include "worker/kafka/mark.h"

#define ALONE_MS 300 /* for one partition, after the request for all has failed */

int positions_fetch_committed(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms,
			      struct fault *fault)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_resp_err_t err;

	for (size_t i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, topic, positions[i].partition);
	err = rd_kafka_committed(rk, list, timeout_ms);
	for (size_t i = 0; i < n && !err; i++) {
		/* An offset of a pending transaction comes as an error of that partition alone. */
		err = list->elems[i].err;
		positions[i].committed = list->elems[i].offset >= 0 ? list->elems[i].offset : OFFSET_NONE;
		positions[i].foreign = positions[i].committed != OFFSET_NONE && !mark_is_set(&list->elems[i]);
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (err)
		return fault_set(fault, FAULT_RETRY, "committed offsets of %s: %s", topic, rd_kafka_err2str(err));
	return 0;
}

/* Sets the first and last stable offsets of partitions, one request for each; a partition without an answer is unknown.
 * rd_kafka_query_watermark_offsets is not used: it overlooks its time-out when a leader hangs (2.0.2). Returns the error of a
 * whole request, if any. */
static rd_kafka_resp_err_t find_ends(rd_kafka_t *rk, const char *topic, struct position *positions, size_t n, int timeout_ms)
{
	static const int64_t wanted[] = { RD_KAFKA_OFFSET_BEGINNING, RD_KAFKA_OFFSET_END };
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

	for (size_t i = 0; i < n; i++) {
		rd_kafka_topic_partition_list_add(list, topic, positions[i].partition);
		positions[i].unknown = false;
	}
	for (int end = 0; end < 2 && !err; end++) {
		for (size_t i = 0; i < n; i++)
			list->elems[i].offset = wanted[end];
		err = rd_kafka_offsets_for_times(rk, list, timeout_ms);
		for (size_t i = 0; i < n; i++) {
			positions[i].unknown |= err || list->elems[i].err || list->elems[i].offset < 0;
			*(end ? &positions[i].high : &positions[i].low) = list->elems[i].offset;
		}
	}
	rd_kafka_topic_partition_list_destroy(list);
	return err;
}

int positions_find_ends(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms,
			struct fault *fault)
{
	rd_kafka_resp_err_t err = find_ends(rk, topic, positions, n, timeout_ms);

	if (err)
		return fault_set(fault, FAULT_WAIT, "first and last offsets of %s: %s", topic, rd_kafka_err2str(err));
	return 0;
}

void positions_find_ends_patiently(struct rd_kafka_s *rk, const char *topic, struct position *positions, size_t n, int timeout_ms)
{
	if (find_ends(rk, topic, positions, n, timeout_ms)) /* one leader that hangs fails the request for all */
		for (size_t i = 0; i < n; i++)
			(void)find_ends(rk, topic, &positions[i], 1, ALONE_MS);
	for (size_t i = 0; i < n; i++)
		if (positions[i].unknown)
			log_warn("leader_unknown", "the partition's leader does not answer: it is tried again", "topic", topic,
				 "partition", LOG_INT(positions[i].partition));
}

int positions_count_partitions(struct rd_kafka_s *rk, const char *name, int timeout_ms)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
	const struct rd_kafka_metadata *metadata;
	int count = 0;

	if (topic == NULL)
		return 0;
	if (rd_kafka_metadata(rk, 0, topic, &metadata, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR) {
		if (metadata->topic_cnt == 1)
			count = metadata->topics[0].partition_cnt;
		rd_kafka_metadata_destroy(metadata);
	}
	rd_kafka_topic_destroy(topic);
	return count;
}

int positions_query(const struct config *config, char *cluster_id, size_t size, struct position *position, int timeout_ms,
		    struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_ADMIN, fault);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TRANSPORT;
	rd_kafka_t *rk;
	char *id;

	if (conf == NULL || (rk = kafka_new_take(conf, KAFKA_ADMIN, fault)) == NULL)
		return -1;
	id = rd_kafka_clusterid(rk, timeout_ms);
	if (id) {
		snprintf(cluster_id, size, "%s", id);
		rd_kafka_mem_free(rk, id);
		err = find_ends(rk, config->commands, position, 1, timeout_ms);
		if (!err && position->unknown)
			err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	}
	rd_kafka_destroy(rk);
	if (err)
		return fault_set(fault, FAULT_WAIT, "%s [%d]: %s", config->commands, position->partition, rd_kafka_err2str(err));
	return 0;
}
