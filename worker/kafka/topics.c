#include "worker/kafka/topics.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/clock.h"
#include "worker/kafka/kafka.h"

#define DAY_MS INT64_C(86400000)
#define TOPICS 3
#define RULES_MAX 8
#define HEADERS_BYTES 100000   /* of a dead letter, on top of its value */
#define BROKER_MESSAGE_BYTES 1048588 /* Kafka's default of max.message.bytes */

/* A required setting of a topic. */
struct rule {
	const char *name, *why;
	char value[24];
	bool at_least;   /* value is a number; a larger one is as good, and -1 is without limit */
	bool check_only; /* not set on creation: the default is right, and some services refuse it */
};

struct topic {
	const char *name;
	int partitions;  /* wanted; 0: as they are */
	int replication; /* wanted */
	struct rule rules[RULES_MAX];
	size_t rule_count;
	const struct rd_kafka_metadata_topic *found; /* NULL: missing */
};

struct cluster {
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;
	const struct rd_kafka_metadata *metadata;
	char why[256]; /* the last error of a broker connection */
	bool hopeless; /* another try makes no sense: TLS or authentication failed */
	struct findings *findings;
	struct topic topics[TOPICS];
};

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	struct cluster *cluster = opaque;

	(void)rk;
	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		return;
	snprintf(cluster->why, sizeof cluster->why, "%s", reason);
	cluster->hopeless |= err == RD_KAFKA_RESP_ERR__AUTHENTICATION || err == RD_KAFKA_RESP_ERR__SSL;
}

/* Asks for all topics: a request for one by name may create it. */
static int cluster_fetch_metadata(struct cluster *cluster, const char *brokers, struct fault *fault)
{
	int64_t end_ms = clock_monotonic_ms() + TOPICS_TIMEOUT_MS;

	do {
		rd_kafka_resp_err_t err = rd_kafka_metadata(cluster->rk, 1, NULL, &cluster->metadata, 1000);

		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			return 0;
		while (rd_kafka_poll(cluster->rk, 0) > 0)
			;
		if (err != RD_KAFKA_RESP_ERR__TRANSPORT && err != RD_KAFKA_RESP_ERR__TIMED_OUT)
			snprintf(cluster->why, sizeof cluster->why, "%s", rd_kafka_err2str(err));
	} while (!cluster->hopeless && clock_monotonic_ms() < end_ms);
	return fault_set(fault, FAULT_WAIT, "no Kafka broker answers at %.128s%s%s", brokers, cluster->why[0] ? ": " : "",
			 cluster->why);
}

static void cluster_close(struct cluster *cluster)
{
	if (cluster->metadata)
		rd_kafka_metadata_destroy(cluster->metadata);
	if (cluster->queue)
		rd_kafka_queue_destroy(cluster->queue);
	if (cluster->rk)
		rd_kafka_destroy(cluster->rk);
}

static int cluster_open(struct cluster *cluster, const struct config *config, struct fault *fault)
{
	rd_kafka_conf_t *conf = kafka_conf_new(config, KAFKA_ADMIN, fault);

	if (conf == NULL)
		return -1;
	rd_kafka_conf_set_opaque(conf, cluster);
	rd_kafka_conf_set_error_cb(conf, on_error);
	cluster->rk = kafka_new_take(conf, KAFKA_ADMIN, fault);
	if (cluster->rk == NULL)
		return -1;
	cluster->queue = rd_kafka_queue_new(cluster->rk);
	return cluster_fetch_metadata(cluster, config->brokers, fault);
}

static struct rule *add_rule(struct topic *topic, const char *name, int64_t number, const char *why)
{
	struct rule *rule = &topic->rules[topic->rule_count++];

	*rule = (struct rule){ .name = name, .why = why, .at_least = true };
	snprintf(rule->value, sizeof rule->value, "%" PRId64, number);
	return rule;
}

static void add_word(struct topic *topic, const char *name, const char *word, const char *why)
{
	struct rule *rule = add_rule(topic, name, 0, why);

	rule->at_least = false;
	snprintf(rule->value, sizeof rule->value, "%s", word);
}

/* The requirements of each topic (schemas/README.md, "Topics and keys"). */
static void want_topics(struct cluster *cluster, const struct config *config, int replication)
{
	struct topic *commands = &cluster->topics[0], *results = &cluster->topics[1], *dead_letters = &cluster->topics[2];
	int dead_letter_bytes = config->dead_letter_bytes + HEADERS_BYTES;

	commands->name = config->commands;
	results->name = config->results;
	dead_letters->name = config->dead_letters;
	for (struct topic *topic = cluster->topics; topic < cluster->topics + TOPICS; topic++) {
		topic->replication = replication;
		add_word(topic, "cleanup.policy", "delete", "every record counts, not the last one of a key");
		add_rule(topic, "min.insync.replicas", replication >= 3 ? 2 : 1,
			 "an acknowledged record must survive the loss of a broker");
		add_word(topic, "unclean.leader.election.enable", "false", "acknowledged records would be lost");
		topic->rules[topic->rule_count - 1].check_only = true;
	}
	add_rule(commands, "retention.ms", 7 * DAY_MS, "longer than the longest outage");
	add_rule(commands, "retention.bytes", -1, "commands would be deleted before they are executed");
	add_word(commands, "message.timestamp.type", "LogAppendTime", "rate limits are judged at the time a command arrived; a publisher's own time counts as the time when the command is judged");
	add_rule(results, "retention.ms", 7 * DAY_MS, "subscribers catch up after an outage");
	add_rule(dead_letters, "retention.ms", 30 * DAY_MS, "somebody has to look at them");
	add_rule(dead_letters, "max.message.bytes",
		 dead_letter_bytes > BROKER_MESSAGE_BYTES ? dead_letter_bytes : BROKER_MESSAGE_BYTES,
		 "a dead letter of dead-letter-bytes and its headers must fit");
}

static const struct rd_kafka_metadata_topic *find_topic(const struct cluster *cluster, const char *name)
{
	const struct rd_kafka_metadata *metadata = cluster->metadata;

	for (int i = 0; i < metadata->topic_cnt; i++)
		if (strcmp(metadata->topics[i].topic, name) == 0 && metadata->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR)
			return &metadata->topics[i];
	return NULL;
}

static int replication_of(const struct rd_kafka_metadata_topic *found)
{
	int least = INT32_MAX;

	for (int i = 0; i < found->partition_cnt; i++)
		if (found->partitions[i].replica_cnt < least)
			least = found->partitions[i].replica_cnt;
	return least;
}

/* The replication that the caller's 0 stands for. */
static int usual_replication(const struct cluster *cluster)
{
	return cluster->metadata->broker_cnt < 3 ? cluster->metadata->broker_cnt : 3;
}

static const char *config_value(const rd_kafka_ConfigEntry_t **entries, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0)
			return rd_kafka_ConfigEntry_value(entries[i]);
	return NULL;
}

static bool rule_holds(const struct rule *rule, const char *value)
{
	long long number;

	if (!rule->at_least)
		return strcmp(value, rule->value) == 0;
	number = strtoll(value, NULL, 10);
	return number == -1 || (strcmp(rule->value, "-1") != 0 && number >= strtoll(rule->value, NULL, 10));
}

static void compare_settings(struct cluster *cluster, const struct topic *topic, const rd_kafka_ConfigEntry_t **entries,
			     size_t n)
{
	const char *isr = config_value(entries, n, "min.insync.replicas");

	for (const struct rule *rule = topic->rules; rule < topic->rules + topic->rule_count; rule++) {
		const char *value = config_value(entries, n, rule->name);

		if (value && !rule_holds(rule, value))
			findings_add(cluster->findings, true, "topic %s: %s is %s, wanted %s%s: %s", topic->name, rule->name, value,
			     rule->at_least && strcmp(rule->value, "-1") != 0 ? "at least " : "", rule->value, rule->why);
	}
	if (isr && atoi(isr) > replication_of(topic->found))
		findings_add(cluster->findings, true, "topic %s: min.insync.replicas is %s with replication %d: nothing can be written",
		     topic->name, isr, replication_of(topic->found));
}

static void compare_partitions(struct cluster *cluster, const struct topic *topic)
{
	const struct rd_kafka_metadata_topic *found = topic->found;
	int replication = replication_of(found);

	if (topic->partitions && found->partition_cnt != topic->partitions)
		findings_add(cluster->findings, true, "topic %s: has %d partitions, wanted %d", topic->name, found->partition_cnt, topic->partitions);
	if (replication < topic->replication)
		findings_add(cluster->findings, true, "topic %s: replication is %d, wanted %d: the loss of a broker must not lose records",
		     topic->name, replication, topic->replication);
	for (int i = 0; i < found->partition_cnt; i++)
		if (found->partitions[i].leader < 0)
			findings_add(cluster->findings, true, "topic %s: partition %" PRId32 " has no leader", topic->name, found->partitions[i].id);
}

static void describe_topic(struct cluster *cluster, const struct topic *topic, const rd_kafka_ConfigResource_t *resource)
{
	const struct rd_kafka_metadata_topic *found = topic->found;
	const rd_kafka_ConfigEntry_t **entries;
	const char *isr, *stamp, *policy, *retention;
	size_t n;

	if (rd_kafka_ConfigResource_error(resource)) {
		findings_add(cluster->findings, true, "topic %s: %d partitions, replication %d; its settings cannot be read: %s", topic->name,
		     found->partition_cnt, replication_of(found), rd_kafka_ConfigResource_error_string(resource));
		return;
	}
	entries = rd_kafka_ConfigResource_configs(resource, &n);
	isr = config_value(entries, n, "min.insync.replicas");
	stamp = config_value(entries, n, "message.timestamp.type");
	policy = config_value(entries, n, "cleanup.policy");
	retention = config_value(entries, n, "retention.ms");
	findings_add(cluster->findings, false, "topic %s: %d partitions, replication %d, min.insync.replicas %s, %s, %s, retention.ms %s", topic->name,
	     found->partition_cnt, replication_of(found), isr ? isr : "?", stamp ? stamp : "?", policy ? policy : "?",
	     retention ? retention : "?");
	compare_settings(cluster, topic, entries, n);
}

static rd_kafka_event_t *await(struct cluster *cluster, const char *what, struct fault *fault)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(cluster->queue, TOPICS_TIMEOUT_MS * 2 + 1000);

	if (event && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
		return event;
	fault_set(fault, FAULT_WAIT, "cannot %s: %s", what, event ? rd_kafka_event_error_string(event) : "no answer in time");
	if (event)
		rd_kafka_event_destroy(event);
	return NULL;
}

/* Adds the settings of the topics found, and where they differ from the requirements. */
static int compare_topics(struct cluster *cluster, struct fault *fault)
{
	rd_kafka_ConfigResource_t *asked[TOPICS];
	const rd_kafka_ConfigResource_t **resources;
	rd_kafka_AdminOptions_t *options;
	rd_kafka_event_t *event;
	size_t n = 0;

	for (const struct topic *topic = cluster->topics; topic < cluster->topics + TOPICS; topic++)
		if (topic->found)
			asked[n++] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic->name);
	if (n == 0)
		return 0;
	options = rd_kafka_AdminOptions_new(cluster->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_AdminOptions_set_request_timeout(options, TOPICS_TIMEOUT_MS, NULL, 0);
	rd_kafka_DescribeConfigs(cluster->rk, asked, n, options, cluster->queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_ConfigResource_destroy_array(asked, n);
	event = await(cluster, "read the topics' settings", fault);
	if (event == NULL)
		return -1;
	resources = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
	for (const struct topic *topic = cluster->topics; topic < cluster->topics + TOPICS; topic++) {
		for (size_t i = 0; topic->found && i < n; i++)
			if (strcmp(rd_kafka_ConfigResource_name(resources[i]), topic->name) == 0)
				describe_topic(cluster, topic, resources[i]);
		if (topic->found)
			compare_partitions(cluster, topic);
	}
	rd_kafka_event_destroy(event);
	return 0;
}

static rd_kafka_NewTopic_t *new_topic(const struct topic *topic)
{
	rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new(topic->name, topic->partitions, topic->replication, NULL, 0);

	for (const struct rule *rule = topic->rules; new && rule < topic->rules + topic->rule_count; rule++)
		if (!rule->check_only)
			rd_kafka_NewTopic_set_config(new, rule->name, rule->value);
	return new;
}

static void report_created(struct cluster *cluster, const rd_kafka_topic_result_t *result)
{
	const char *name = rd_kafka_topic_result_name(result);
	rd_kafka_resp_err_t err = rd_kafka_topic_result_error(result);

	if (err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		findings_add(cluster->findings, false, "topic %s: created by somebody else at this moment", name);
	else if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		findings_add(cluster->findings, true, "topic %s: cannot be created: %s", name, rd_kafka_topic_result_error_string(result));
	for (const struct topic *topic = cluster->topics; !err && topic < cluster->topics + TOPICS; topic++)
		if (strcmp(topic->name, name) == 0)
			findings_add(cluster->findings, false, "topic %s: created, %d partitions, replication %d", name, topic->partitions,
			     topic->replication);
}

static int create_missing(struct cluster *cluster, struct fault *fault)
{
	rd_kafka_NewTopic_t *missing[TOPICS];
	const rd_kafka_topic_result_t **results;
	rd_kafka_AdminOptions_t *options;
	rd_kafka_event_t *event;
	size_t n = 0;

	for (const struct topic *topic = cluster->topics; topic < cluster->topics + TOPICS; topic++) {
		if (topic->found)
			continue;
		missing[n] = new_topic(topic);
		if (missing[n++] == NULL) {
			rd_kafka_NewTopic_destroy_array(missing, n - 1);
			return fault_set(fault, FAULT_FATAL, "topic %s: %d partitions, replication %d: not possible", topic->name,
					 topic->partitions, topic->replication);
		}
	}
	if (n == 0)
		return 0;
	options = rd_kafka_AdminOptions_new(cluster->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_AdminOptions_set_request_timeout(options, TOPICS_TIMEOUT_MS, NULL, 0);
	rd_kafka_AdminOptions_set_operation_timeout(options, TOPICS_TIMEOUT_MS, NULL, 0);
	rd_kafka_CreateTopics(cluster->rk, missing, n, options, cluster->queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_NewTopic_destroy_array(missing, n);
	event = await(cluster, "create the topics", fault);
	if (event == NULL)
		return -1;
	results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
	for (size_t i = 0; i < n; i++)
		report_created(cluster, results[i]);
	rd_kafka_event_destroy(event);
	return 0;
}

static void find_topics(struct cluster *cluster)
{
	for (struct topic *topic = cluster->topics; topic < cluster->topics + TOPICS; topic++)
		topic->found = find_topic(cluster, topic->name);
}

int topics_create(const struct config *config, int partitions, int results_partitions, int replication,
		  struct findings *findings, struct fault *fault)
{
	struct cluster cluster = { .findings = findings };
	int result = -1;

	if (cluster_open(&cluster, config, fault) == 0) {
		want_topics(&cluster, config, replication ? replication : usual_replication(&cluster));
		for (int i = 0; i < TOPICS; i++)
			cluster.topics[i].partitions = i == 0 ? partitions : results_partitions;
		find_topics(&cluster);
		if (create_missing(&cluster, fault) == 0 && compare_topics(&cluster, fault) == 0)
			result = 0;
	}
	cluster_close(&cluster);
	return result;
}

static void report_cluster(struct cluster *cluster)
{
	static const char *const internal[] = { "__consumer_offsets", "__transaction_state" };
	char *id = rd_kafka_clusterid(cluster->rk, 1000);
	int brokers = cluster->metadata->broker_cnt, wanted = usual_replication(cluster);

	findings_add(cluster->findings, false, "Kafka cluster %s: %d broker%s%s", id ? id : "?", brokers, brokers == 1 ? "" : "s",
	     brokers < 3 ? " (fewer than three: not for production)" : "");
	free(id);
	for (int i = 0; i < 2; i++) {
		const struct rd_kafka_metadata_topic *found = find_topic(cluster, internal[i]);

		if (found && replication_of(found) < wanted)
			findings_add(cluster->findings, true, "Kafka's own topic %s: replication is %d, wanted %d", internal[i],
			     replication_of(found), wanted);
	}
}

int topics_check(const struct config *config, struct findings *findings, struct fault *fault)
{
	struct cluster cluster = { .findings = findings };
	int result = -1;

	if (cluster_open(&cluster, config, fault) == 0) {
		report_cluster(&cluster);
		want_topics(&cluster, config, usual_replication(&cluster));
		find_topics(&cluster);
		for (const struct topic *topic = cluster.topics; topic < cluster.topics + TOPICS; topic++)
			if (topic->found == NULL)
				findings_add(findings, true, "topic %s: missing, or not to be seen by this user", topic->name);
		if (compare_topics(&cluster, fault) == 0)
			result = 0;
	}
	cluster_close(&cluster);
	return result;
}
