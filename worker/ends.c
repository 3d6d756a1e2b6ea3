#include "worker/ends.h"

#include <stdio.h>

#include "worker/base/clock.h"
#include "worker/base/log.h"
#include "worker/standstill.h"

/* The start lies before next while records of the partition are queued, in hand, or dropped unpublished. */
static bool all_is_published(const struct partition *partition, const struct end *end)
{
	return partition->start >= end->next;
}

static void log_open(const struct assignment *assignment, const struct partition *partition, int64_t high, int64_t now_ms)
{
	const struct standstill *standstill = &partition->standstill;
	int64_t lasted_ms = now_ms - standstill->since_ms;
	char msg[512], since[TIME_TEXT_SIZE];

	snprintf(msg, sizeof msg, "a publisher's transaction has been open for %lld s, and every command behind its first record waits: "
		 "kafka-transactions.sh find-hanging looks for it, and kafka-transactions.sh abort --topic %.250s --partition %d "
		 "--start-offset %lld ends it", (long long)lasted_ms / 1000, assignment->topic, (int)partition->id,
		 (long long)standstill->offset);
	log_warn("transaction_open", msg, "topic", assignment->topic, "partition", LOG_INT(partition->id), "offset",
		 LOG_INT(standstill->offset), "highWatermark", LOG_INT(high), "since", clock_format(clock_wall_ms() - lasted_ms, since));
}

static void watch(const struct assignment *assignment, struct partition *partition, const struct end *end, int64_t now_ms)
{
	switch (standstill_observe(&partition->standstill, end->next, end->stable, end->high, now_ms)) {
	case STANDSTILL_LASTS:
		log_open(assignment, partition, end->high, now_ms);
		break;
	case STANDSTILL_OVER:
		log_info("transaction_ended", "the publisher's transaction has ended: the commands behind it are read", "topic",
			 assignment->topic, "partition", LOG_INT(partition->id), "offset", LOG_INT(partition->standstill.offset), "seconds",
			 LOG_INT((now_ms - partition->standstill.since_ms) / 1000));
		break;
	case STANDSTILL_NOTHING:
		break;
	}
}

void ends_look(struct assignment *assignment, const struct consumer *consumer, int64_t now_ms)
{
	for (size_t i = 0; i < assignment->count; i++) {
		struct partition *partition = &assignment->partitions[i];
		struct end end;

		if (partition->state != PARTITION_RUNNING || !consumer_find_end(consumer, partition->id, &end))
			continue;
		if (all_is_published(partition, &end) && end.stable > partition->start)
			assignment_reach_end(assignment, partition, end.stable);
		watch(assignment, partition, &end, now_ms);
	}
}

bool ends_are_near(const struct assignment *assignment, const struct consumer *consumer)
{
	for (size_t i = 0; i < assignment->count; i++) {
		const struct partition *partition = &assignment->partitions[i];
		struct end end;

		if (partition->state == PARTITION_RUNNING && consumer_find_end(consumer, partition->id, &end) &&
		    all_is_published(partition, &end) && end.stable < end.next && end.high > end.next)
			return true;
	}
	return false;
}
