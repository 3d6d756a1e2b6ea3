#include "worker/kafka/refusals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/kafka/kafka.h"

#define STRATEGY "range" /* worker/base/properties.c */

const char *refusal_of(int err)
{
	switch (err) {
	case RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT:
		return "session.timeout.ms lies outside of what the brokers take (group.min.session.timeout.ms to "
		       "group.max.session.timeout.ms)";
	case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
		return "transaction.timeout.ms is longer than the brokers take (transaction.max.timeout.ms)";
	case RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL:
		return "the consumer group has members with another assignment strategy than " STRATEGY ", so they are no workers: stop "
		       "them, or give the workers a group of their own (setting group)";
	default:
		return NULL;
	}
}

/* The number that a broker has for that setting; -1: not known. */
static int64_t read_setting(const rd_kafka_ConfigEntry_t **entries, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0 && rd_kafka_ConfigEntry_value(entries[i]))
			return strtoll(rd_kafka_ConfigEntry_value(entries[i]), NULL, 10);
	return -1;
}

static void compare_session(rd_kafka_t *rk, rd_kafka_event_t *event, struct findings *findings)
{
	const rd_kafka_ConfigResource_t **resources;
	const rd_kafka_ConfigEntry_t **entries;
	int64_t session_ms, least_ms, most_ms;
	char value[32];
	size_t n = 0, size = sizeof value;

	if (rd_kafka_event_error(event) || rd_kafka_conf_get(rd_kafka_conf(rk), "session.timeout.ms", value, &size) != RD_KAFKA_CONF_OK)
		return;
	resources = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
	if (n != 1 || rd_kafka_ConfigResource_error(resources[0]))
		return;
	session_ms = strtoll(value, NULL, 10);
	entries = rd_kafka_ConfigResource_configs(resources[0], &n);
	least_ms = read_setting(entries, n, "group.min.session.timeout.ms");
	most_ms = read_setting(entries, n, "group.max.session.timeout.ms");
	if (least_ms < 0 || most_ms < 0 || (session_ms >= least_ms && session_ms <= most_ms))
		return;
	findings_add(findings, true, "session.timeout.ms: %" PRId64 " lies outside of what the brokers take, %" PRId64 " to %" PRId64
		     " (group.min.session.timeout.ms, group.max.session.timeout.ms)", session_ms, least_ms, most_ms);
}

static void check_session(rd_kafka_t *rk, struct findings *findings, int timeout_ms)
{
	rd_kafka_queue_t *answers = rd_kafka_queue_new(rk);
	rd_kafka_ConfigResource_t *broker;
	rd_kafka_event_t *event;
	char id[16];

	snprintf(id, sizeof id, "%d", (int)rd_kafka_controllerid(rk, timeout_ms)); /* any broker would do */
	broker = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_BROKER, id);
	rd_kafka_DescribeConfigs(rk, &broker, 1, NULL, answers);
	event = rd_kafka_queue_poll(answers, timeout_ms);
	if (event) {
		compare_session(rk, event, findings);
		rd_kafka_event_destroy(event);
	}
	rd_kafka_ConfigResource_destroy(broker);
	rd_kafka_queue_destroy(answers);
}

static void check_strategy(rd_kafka_t *rk, const char *name, struct findings *findings, int timeout_ms)
{
	const struct rd_kafka_group_list *list = NULL;

	(void)rd_kafka_list_groups(rk, name, &list, timeout_ms);
	for (int i = 0; list && i < list->group_cnt; i++) {
		const struct rd_kafka_group_info *group = &list->groups[i];

		if (group->member_cnt > 0 && *group->protocol && strcmp(group->protocol, STRATEGY) != 0)
			findings_add(findings, true, "consumer group %s: %s (%d, the first is client %s, strategy %s)", name,
				     refusal_of(RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL), group->member_cnt,
				     group->members[0].client_id, group->protocol);
	}
	if (list)
		rd_kafka_group_list_destroy(list);
}

void refusals_check(const struct config *config, struct findings *findings, int timeout_ms)
{
	struct fault fault;
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_CONSUMER, &fault);
	rd_kafka_t *rk;

	if (conf == NULL || kafka_conf_set(conf, "group.id", config->group, &fault) < 0) {
		if (conf)
			rd_kafka_conf_destroy(conf);
		return; /* the group's inspection says so */
	}
	rk = kafka_new_take(conf, KAFKA_CONSUMER, &fault);
	if (rk == NULL)
		return;
	check_session(rk, findings, timeout_ms);
	check_strategy(rk, config->group, findings, timeout_ms);
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}
