#include "worker/base/properties.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/distance.h"

#define CONSUMER (1 << KAFKA_CONSUMER)
#define TRANSACTIONAL (1 << KAFKA_TRANSACTIONAL_PRODUCER)
#define PLAIN (1 << KAFKA_PRODUCER)
#define ADMIN (1 << KAFKA_ADMIN)
#define READER (1 << KAFKA_READER)
#define PRODUCERS (TRANSACTIONAL | PLAIN)
#define CONSUMERS (CONSUMER | READER)
#define ALL (CONSUMERS | PRODUCERS | ADMIN)

struct standard {
	int clients;
	const char *name, *value;
};

/* Ours, unless the user says otherwise. */
static const struct standard standards[] = {
	{ ALL, "socket.nagle.disable", "true" },
	{ ALL, "socket.keepalive.enable", "true" },
	{ ALL, "reconnect.backoff.max.ms", "2000" },
	/* A client that pushes its metrics to the broker (KIP-714) may take a second to close, one time in six: it starts to wait
	 * for the last push when that is over (librdkafka 2.8). A drain and a takeover each close one. */
	{ ALL, "enable.metrics.push", "false" },
	/* A transactional producer's follows transaction.timeout.ms. */
	{ CONSUMERS | PLAIN | ADMIN, "socket.timeout.ms", "10000" },
	/* The least that a broker takes without being told otherwise (group.min.session.timeout.ms). It is how long a group
	 * waits for a member that was killed, also when the same worker is back at once. A member that is taken for dead too
	 * early costs a rebalance and no more: the fence does not rest on it. */
	{ CONSUMERS, "session.timeout.ms", "6000" },
	{ CONSUMERS, "heartbeat.interval.ms", "1000" }, /* members learn of a rebalance by a heartbeat's answer */
	{ CONSUMERS, "fetch.wait.max.ms", "500" }, /* records that arrive meanwhile are sent at once */
	{ CONSUMERS, "fetch.error.backoff.ms", "100" },
	/* A lane's memory: records fetched ahead (with queued.max.messages.kbytes, below), and how soon the fetcher that stopped
	 * at a limit looks again; by itself it does after a second, in which a lane has long taken them all. What a partition
	 * sends at once is small because it is counted compressed: 1 MiB of equal records became 170 MB here. A larger
	 * record comes through all the same. */
	{ CONSUMER, "queued.min.messages", "16000" },
	{ CONSUMERS, "fetch.queue.backoff.ms", "20" },
	{ CONSUMERS, "fetch.message.max.bytes", "131072" },
	{ CONSUMERS, "fetch.max.bytes", "4194304" },
	/* A reader of all results wants more of them ahead than a lane. */
	{ READER, "queued.min.messages", "100000" },
	{ READER, "queued.max.messages.kbytes", "32768" },
	/* A transaction that is cut short holds every read_committed reader back for as long as this. */
	{ TRANSACTIONAL, "transaction.timeout.ms", "10000" },
	/* After a commit the coordinator answers CONCURRENT_TRANSACTIONS for some milliseconds; the default of 100 ms makes
	 * every transaction wait that long. */
	{ TRANSACTIONAL, "retry.backoff.ms", "5" },
	{ TRANSACTIONAL, "linger.ms", "0" },
	{ PRODUCERS, "queue.buffering.max.kbytes", "262144" },
};

/* What the promises rest on; the user cannot set them (refused, below, with the reasons). */
static const struct standard promised[] = {
	{ CONSUMERS, "group.protocol", "classic" }, /* the default so far: the other one has no eager assignment */
	{ CONSUMERS, "enable.auto.commit", "false" },
	{ CONSUMERS, "enable.auto.offset.store", "false" },
	{ CONSUMERS, "auto.offset.reset", "error" },
	{ CONSUMERS, "isolation.level", "read_committed" },
	{ CONSUMERS, "partition.assignment.strategy", "range" },
	{ CONSUMERS, "enable.partition.eof", "true" }, /* the end of a partition whose last records are transaction markers */
	{ PRODUCERS, "enable.idempotence", "true" },
	{ PRODUCERS, "acks", "all" },
	{ PRODUCERS, "partitioner", "murmur2_random" },
	/* What a misspelt name would make has the broker's number of partitions and settings. A producer's default is true. */
	{ ALL, "allow.auto.create.topics", "false" },
};

/* Properties (global, topic-level and their aliases) that nobody may set, with the reason. */
static const struct refused {
	const char *name, *reason;
} refused[] = {
#define BROKERS "the setting brokers says which"
	{ "bootstrap.servers", BROKERS },
	{ "metadata.broker.list", BROKERS },
	{ "group.id", "the setting group says which" },
#define OFFSETS "offsets are committed only in the transaction that publishes the results"
	{ "enable.auto.commit", OFFSETS },
	{ "auto.commit.enable", OFFSETS },
	{ "auto.commit.interval.ms", OFFSETS },
	{ "enable.auto.offset.store", OFFSETS },
	{ "offset.store.method", OFFSETS },
	{ "offset.store.path", OFFSETS },
	{ "auto.offset.reset", "a partition whose offset is lost must halt and not be skipped or repeated" },
	{ "isolation.level", "aborted results must stay invisible, and a pending transaction's offsets must be waited for" },
#define ASSIGNOR "the assignment must be eager (range), so that the generation cannot move without a revoke that was served"
	{ "partition.assignment.strategy", ASSIGNOR },
	{ "group.protocol", ASSIGNOR },
	{ "group.protocol.type", ASSIGNOR },
	{ "group.remote.assignor", ASSIGNOR },
	{ "group.instance.id", "static membership keeps the generation in a takeover; the proof of the fence does not cover it" },
	{ "enable.partition.eof", "the program decides which events it handles" },
	{ "enabled_events", "the program decides which events it handles" },
	{ "transactional.id", "it is made of group, instance and lane, so that a restart fences its predecessor" },
#define LOST "an acknowledged result must survive the loss of a broker, and be written once"
	{ "acks", LOST },
	{ "request.required.acks", LOST },
	{ "enable.idempotence", LOST },
	{ "enable.gapless.guarantee", LOST },
	{ "retries", "sending is retried until message.timeout.ms has passed; fewer tries would lose records early" },
	{ "message.send.max.retries", "sending is retried until message.timeout.ms has passed; fewer tries would lose records early" },
#define ORDER "a key's records must stay in order"
	{ "max.in.flight", ORDER },
	{ "max.in.flight.requests.per.connection", ORDER },
	{ "queuing.strategy", ORDER },
	{ "partitioner", "records must lie where Java clients put them (murmur2_random), so that a group's commands stay in order" },
	{ "delivery.report.only.error", "every delivery is counted" },
	{ "allow.auto.create.topics", "a name that is mistyped must be found out; campaign-worker topics makes topics as they must be" },
	{ "topic.blacklist", "a pattern that is too wide hides the program's own topics" },
	{ "test.mock.num.brokers", "a mock cluster keeps none of the promises" },
};

#define COUNT(table) (sizeof (table) / sizeof (table)[0])

struct list {
	struct property *properties;
	size_t count;
};

static void add(struct list *list, const char *name, const char *value)
{
	list->properties[list->count++] = (struct property){ name, value, "ours" };
}

static void add_standards(struct list *list, const struct standard *standard, size_t n, enum kafka_client client)
{
	for (; n > 0; n--, standard++)
		if (standard->clients & (1 << client))
			add(list, standard->name, standard->value);
}

/* Defaults that follow from the source. */
static void add_derived(struct list *list, const struct property_source *source, enum kafka_client client, struct arena *arena)
{
	bool produces = (1 << client) & PRODUCERS;

	add(list, "client.id", source->client_id);
	if (client == KAFKA_CONSUMER)
		add(list, "queued.max.messages.kbytes", arena_printf(arena, "%d", source->queue_kbytes));
	if (produces)
		add(list, "message.max.bytes", arena_printf(arena, "%d", source->message_bytes));
	/* lz4 and others are silently not used by old clients with new brokers; zstd is. Results are as small at level 1 as at
	 * the default of 3. */
	if (produces && source->zstd) {
		add(list, "compression.codec", "zstd");
		add(list, "compression.level", "1");
	}
}

const struct property *properties_list(const struct property_source *source, enum kafka_client client, struct arena *arena,
				       size_t *count)
{
	size_t room = COUNT(standards) + COUNT(promised) + source->given_count + 8; /* 8: those added one by one */
	struct list list = { .properties = arena_array(arena, room, sizeof *list.properties) };

	add_standards(&list, standards, COUNT(standards), client);
	add_derived(&list, source, client, arena);
	if (source->given_count > 0)
		memcpy(list.properties + list.count, source->given, source->given_count * sizeof *source->given);
	list.count += source->given_count;
	add(&list, "bootstrap.servers", source->brokers);
	add_standards(&list, promised, COUNT(promised), client);
	*count = list.count;
	return list.properties;
}

const char *property_refused(size_t index, const char **reason)
{
	if (index >= COUNT(refused))
		return NULL;
	*reason = refused[index].reason;
	return refused[index].name;
}

static int refuse(const char *name, const char *origin, const char *why, const char *reason, struct fault *fault)
{
	return fault_set(fault, FAULT_FATAL, "%.64s (%.160s): %s%s", name, origin, why, reason);
}

int property_check(const struct property *property, struct fault *fault)
{
	const char *name = property->name, *reason, *origin = property->origin;

	if (name[0] == '\0' || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._")])
		return refuse("property", origin, "not the name of a librdkafka property", "", fault);
	if (property->value[0] == '\0')
		return refuse(name, origin, "has no value", "", fault);
	for (size_t i = 0; i < COUNT(refused); i++)
		if (strcmp(property_refused(i, &reason), name) == 0)
			return refuse(name, origin, "this librdkafka property cannot be set: ", reason, fault);
	return 0;
}

/* Values below which a client of ours works never, or not with what it is for. */
enum least_of { AS_IT_IS, BATCH_RECORDS, BATCH_KBYTES };

static const struct least {
	const char *name;
	enum least_of of; /* other than AS_IT_IS: of a worker */
	long value;
	bool unlimited; /* 0 means no limit */
	const char *reason;
} leasts[] = {
#define BATCH "all results and dead letters of a batch are queued at once (settings batch, memory)"
	{ "queue.buffering.max.messages", BATCH_RECORDS, 0, true, BATCH },
	{ "queue.buffering.max.kbytes", BATCH_KBYTES, 0, false, BATCH },
#define ANSWER "a broker needs longer than that for an answer at times"
	{ "message.timeout.ms", AS_IT_IS, 1000, true, ANSWER },
	{ "delivery.timeout.ms", AS_IT_IS, 1000, true, ANSWER },
	{ "request.timeout.ms", AS_IT_IS, 1000, false, ANSWER },
	{ "socket.timeout.ms", AS_IT_IS, 1000, false, ANSWER },
	{ "transaction.timeout.ms", AS_IT_IS, 2000, false, ANSWER },
	{ "connections.max.idle.ms", AS_IT_IS, 10000, true, "connections would be made anew all the time" },
	{ "receive.message.max.bytes", AS_IT_IS, 2097152, false, "a record of the size that brokers take by default (1 MiB) must fit" },
};

/* What librdkafka itself says of a value that is no number is as good. */
static bool read_number(const char *text, long *number)
{
	char *end;

	errno = 0;
	*number = strtol(text, &end, 10);
	return errno == 0 && end != text && *end == '\0';
}

static long least_value(const struct least *least, const struct property_needs *needs)
{
	switch (least->of) {
	case BATCH_RECORDS:
		return needs ? 2L * needs->batch : 0;
	case BATCH_KBYTES: /* a result has less than 4 KiB */
		return needs ? 4L * needs->batch + 2L * needs->batch_bytes / 1024 : 0;
	case AS_IT_IS:
		break;
	}
	return least->value;
}

static int check_least(const struct property *property, const struct property_needs *needs, struct fault *fault)
{
	char why[96];
	long number;

	for (size_t i = 0; i < COUNT(leasts); i++) {
		const struct least *least = &leasts[i];
		long value = least_value(least, needs);

		if (strcmp(least->name, property->name) != 0 || !read_number(property->value, &number))
			continue;
		if (number >= value || (number == 0 && least->unlimited))
			return 0;
		snprintf(why, sizeof why, "%ld cannot work, at least %ld is needed: ", number, value);
		return refuse(property->name, property->origin, why, least->reason, fault);
	}
	return 0;
}

static const struct property *find_given(const struct property *given, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(given[i].name, name) == 0)
			return &given[i];
	return NULL;
}

static const char *standard_value(const char *name)
{
	for (size_t i = 0; i < COUNT(standards); i++)
		if (strcmp(standards[i].name, name) == 0)
			return standards[i].value;
	return "";
}

static int check_heartbeat(const struct property *given, size_t count, struct fault *fault)
{
	const struct property *session = find_given(given, count, "session.timeout.ms");
	const struct property *heartbeat = find_given(given, count, "heartbeat.interval.ms");
	const struct property *named = session ? session : heartbeat;
	long session_ms, heartbeat_ms;

	if (named == NULL || !read_number(session ? session->value : standard_value("session.timeout.ms"), &session_ms) ||
	    !read_number(heartbeat ? heartbeat->value : standard_value("heartbeat.interval.ms"), &heartbeat_ms) ||
	    session_ms > heartbeat_ms)
		return 0;
	return refuse(named->name, named->origin, "cannot work: ",
		      "session.timeout.ms must be longer than heartbeat.interval.ms, which is 1000 unless it is given", fault);
}

int properties_check(const struct property *given, size_t count, const struct property_needs *needs, struct fault *fault)
{
	for (size_t i = 0; i < count; i++)
		if (check_least(&given[i], needs, fault) < 0)
			return -1;
	return check_heartbeat(given, count, fault);
}

/* The documented property whose name is nearest, NULL if none is near. */
static const char *nearest_of(const char *name, char *documentation)
{
	const char *nearest = NULL;
	size_t least = 4;
	char *save = NULL;

	for (char *line = strtok_r(documentation, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t distance;

		line[strcspn(line, " |")] = '\0';
		distance = distance_between(name, line);
		if (distance < least) {
			least = distance;
			nearest = line;
		}
	}
	return nearest;
}

int property_unknown(const struct property *property, const char *version, char *documentation, struct fault *fault)
{
	const char *near = nearest_of(property->name, documentation);

	return fault_set(fault, FAULT_FATAL, "%s (%s): librdkafka %s has no such property%s%s%s", property->name, property->origin,
			 version, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}
