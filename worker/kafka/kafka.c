#include "worker/kafka/kafka.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/log.h"

#define CONSUMER (1 << KAFKA_CONSUMER)
#define TRANSACTIONAL (1 << KAFKA_TRANSACTIONAL_PRODUCER)
#define PLAIN (1 << KAFKA_PRODUCER)
#define ADMIN (1 << KAFKA_ADMIN)
#define PRODUCERS (TRANSACTIONAL | PLAIN)
#define ALL (CONSUMER | PRODUCERS | ADMIN)

/* Ours, unless the user says otherwise. */
static const struct standard {
	int clients;
	const char *name, *value;
} standards[] = {
	{ ALL, "socket.nagle.disable", "true" },
	{ ALL, "socket.keepalive.enable", "true" },
	{ ALL, "reconnect.backoff.max.ms", "2000" },
	/* A client that pushes its metrics to the broker (KIP-714) may take a second to close, one time in six: it starts to wait
	 * for the last push when that is over (librdkafka 2.8). A drain and a takeover each close one. */
	{ ALL, "enable.metrics.push", "false" },
	/* A transactional producer's follows transaction.timeout.ms. */
	{ CONSUMER | PLAIN | ADMIN, "socket.timeout.ms", "10000" },
	/* The least that a broker takes without being told otherwise (group.min.session.timeout.ms). It is how long a group
	 * waits for a member that was killed, also when the same worker is back at once. A member that is taken for dead too
	 * early costs a rebalance and no more: the fence does not rest on it. */
	{ CONSUMER, "session.timeout.ms", "6000" },
	{ CONSUMER, "heartbeat.interval.ms", "1000" }, /* members learn of a rebalance by a heartbeat's answer */
	{ CONSUMER, "fetch.wait.max.ms", "500" }, /* records that arrive meanwhile are sent at once */
	{ CONSUMER, "fetch.error.backoff.ms", "100" },
	/* A lane's memory: records fetched ahead (with queued.max.messages.kbytes, below), and how soon the fetcher that stopped
	 * at a limit looks again; by itself it does after a second, in which a lane has long taken them all. What a partition
	 * sends at once is small because it is counted compressed: 1 MiB of equal records became 170 MB here. A larger
	 * record comes through all the same. */
	{ CONSUMER, "queued.min.messages", "16000" },
	{ CONSUMER, "fetch.queue.backoff.ms", "20" },
	{ CONSUMER, "fetch.message.max.bytes", "131072" },
	{ CONSUMER, "fetch.max.bytes", "4194304" },
	/* A transaction that is cut short holds every read_committed reader back for as long as this. */
	{ TRANSACTIONAL, "transaction.timeout.ms", "10000" },
	/* After a commit the coordinator answers CONCURRENT_TRANSACTIONS for some milliseconds; the default of 100 ms makes
	 * every transaction wait that long. */
	{ TRANSACTIONAL, "retry.backoff.ms", "5" },
	{ TRANSACTIONAL, "linger.ms", "0" },
	{ PRODUCERS, "queue.buffering.max.kbytes", "262144" },
};

/* What the promises rest on (config.c refuses them from the user, with the reasons). */
static const struct standard promised[] = {
	{ CONSUMER, "enable.auto.commit", "false" },
	{ CONSUMER, "enable.auto.offset.store", "false" },
	{ CONSUMER, "auto.offset.reset", "error" },
	{ CONSUMER, "isolation.level", "read_committed" },
	{ CONSUMER, "partition.assignment.strategy", "range" },
	{ CONSUMER, "enable.partition.eof", "false" },
	{ PRODUCERS, "enable.idempotence", "true" },
	{ PRODUCERS, "acks", "all" },
	{ PRODUCERS, "partitioner", "murmur2_random" },
	/* What a misspelt name would make has the broker's number of partitions and settings. A producer's default is true. */
	{ ALL, "allow.auto.create.topics", "false" },
};

static enum log_level level_of(int level)
{
	return level <= 2 ? LEVEL_ERROR : level <= 4 ? LEVEL_WARN : level <= 6 ? LEVEL_INFO : LEVEL_DEBUG;
}

/* librdkafka's severities are about its own work: a refused connection is an error there, and a warning here because it is
 * tried again. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	char event[48] = "kafka_";
	size_t n = strlen(event);
	const char *end;

	/* Every client is given all of the user's properties. */
	if (strcmp(facility, "CONFWARN") == 0 && strstr(text, "property and will be ignored by this"))
		return;
	for (; *facility && n < sizeof event - 1; facility++)
		event[n++] = (char)tolower((unsigned char)*facility);
	event[n] = '\0';
	if (strncmp(text, "[thrd:", 6) == 0 && (end = strstr(text, "]: ")) != NULL)
		text = end + 3;
	log_event(level_of(level), event, text, "client", rk ? rd_kafka_name(rk) : NULL, (char *)0);
}

static void on_log_nothing(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	(void)rk;
	(void)level;
	(void)facility;
	(void)text;
}

/* The property whose name is nearest, out of librdkafka's own documentation of them (in text, to be freed); NULL if none
 * is near. */
static const char *nearest_property(const char *name, char **text)
{
	const char *nearest = NULL;
	size_t size, least = 4;
	FILE *file = open_memstream(text, &size);
	char *save = NULL;

	if (file == NULL)
		return NULL;
	rd_kafka_conf_properties_show(file);
	fclose(file);
	for (char *line = strtok_r(*text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t distance;

		line[strcspn(line, " |")] = '\0';
		distance = config_distance(name, line);
		if (distance < least) {
			least = distance;
			nearest = line;
		}
	}
	return nearest;
}

static int set_property(rd_kafka_conf_t *conf, const char *name, const char *value, const char *origin, struct fault *fault)
{
	char why[256], *text = NULL;
	const char *nearest;
	rd_kafka_conf_res_t res = rd_kafka_conf_set(conf, name, value, why, sizeof why);

	if (res == RD_KAFKA_CONF_OK)
		return 0;
	if (res == RD_KAFKA_CONF_INVALID)
		return fault_set(fault, FAULT_FATAL, "%s (%s): %s", name, origin, why);
	nearest = nearest_property(name, &text);
	fault_set(fault, FAULT_FATAL, "%s (%s): librdkafka %s has no such property%s%s%s", name, origin, rd_kafka_version_str(),
		  nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
	free(text);
	return -1;
}

int kafka_conf_set(struct rd_kafka_conf_s *conf, const char *name, const char *value, struct fault *fault)
{
	return set_property(conf, name, value, "ours", fault);
}

static int set_standards(rd_kafka_conf_t *conf, const struct standard *standard, size_t n, enum kafka_client client,
			 struct fault *fault)
{
	for (; n > 0; n--, standard++)
		if ((standard->clients & (1 << client)) && kafka_conf_set(conf, standard->name, standard->value, fault) < 0)
			return -1;
	return 0;
}

/* lz4 and others are silently not used by old clients with new brokers; zstd is. */
static bool has_zstd(const rd_kafka_conf_t *conf)
{
	char features[512] = "";
	size_t size = sizeof features;

	return rd_kafka_conf_get(conf, "builtin.features", features, &size) == RD_KAFKA_CONF_OK && strstr(features, "zstd");
}

/* Defaults that follow from settings. */
static int set_derived(rd_kafka_conf_t *conf, const struct config *config, enum kafka_client client, struct fault *fault)
{
	bool consumes = client == KAFKA_CONSUMER, produces = (1 << client) & PRODUCERS;
	int kbytes = config->batch_bytes / 1024, message_bytes = config->dead_letter_bytes + 100000;
	const char *program = config->program == FOR_PRODUCER ? "campaign-producer" : "campaign-worker";
	char client_id[128], number[16];

	snprintf(client_id, sizeof client_id, "%s%s%.100s", program, config->instance ? "-" : "",
		 config->instance ? config->instance : "");
	if (kafka_conf_set(conf, "client.id", client_id, fault) < 0)
		return -1;
	snprintf(number, sizeof number, "%d", kbytes > 1024 ? kbytes : 1024);
	if (consumes && kafka_conf_set(conf, "queued.max.messages.kbytes", number, fault) < 0)
		return -1;
	snprintf(number, sizeof number, "%d", message_bytes > 1000000 ? message_bytes : 1000000);
	if (produces && kafka_conf_set(conf, "message.max.bytes", number, fault) < 0)
		return -1;
	if (!produces || !has_zstd(conf))
		return 0;
	/* Results are as small at level 1 as at the default of 3. */
	return kafka_conf_set(conf, "compression.codec", "zstd", fault) < 0 ? -1 : kafka_conf_set(conf, "compression.level", "1", fault);
}

static int set_all(rd_kafka_conf_t *conf, const struct config *config, enum kafka_client client, struct fault *fault)
{
	const struct property *property = config->properties;

	if (set_standards(conf, standards, sizeof standards / sizeof standards[0], client, fault) < 0 ||
	    set_derived(conf, config, client, fault) < 0)
		return -1;
	for (; property < config->properties + config->property_count; property++)
		if (set_property(conf, property->name, property->value, property->origin, fault) < 0)
			return -1;
	if (kafka_conf_set(conf, "bootstrap.servers", config->brokers, fault) < 0)
		return -1;
	return set_standards(conf, promised, sizeof promised / sizeof promised[0], client, fault);
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
		rd_kafka_conf_destroy(conf);
		fault_set(fault, FAULT_FATAL, "cannot make a Kafka client: %s", why);
	}
	return rk;
}

const char *kafka_version(void)
{
	return rd_kafka_version_str();
}
