#include "worker/check_stable.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/must.h"
#include "worker/kafka/inspection.h"

#define AGAIN_MS 5000

/* The last stable offsets and high watermarks of the commands topic's partitions. */
struct look {
	struct position *stable, *high;
	size_t count;
};

/* The high watermarks are asked for last: records between the two stood behind an open transaction. */
static int look_at(struct inspection *inspection, struct look *look, int timeout_ms, struct fault *fault)
{
	if (inspection_ends(inspection, look->stable, look->count, timeout_ms, fault) < 0)
		return -1;
	return inspection_watermarks(inspection, look->high, look->count, timeout_ms, fault);
}

static bool is_open(const struct look *look, size_t i)
{
	return look->stable[i].high < look->high[i].high;
}

static size_t count_open(const struct look *look)
{
	size_t n = 0;

	for (size_t i = 0; i < look->count; i++)
		n += is_open(look, i);
	return n;
}

static void report(struct findings *findings, const char *topic, const struct look *before, const struct look *now)
{
	size_t reported = 0;

	for (size_t i = 0; i < now->count; i++) {
		int32_t partition = now->stable[i].partition;
		int64_t offset = now->stable[i].high;

		if (!is_open(now, i) || !is_open(before, i) || before->stable[i].high != offset)
			continue;
		findings_add(findings, true, "topic %s: partition %" PRId32 ": a publisher's transaction is open at offset %" PRId64
			     " for %d s or longer, and every command from there to %" PRId64 " waits: kafka-transactions.sh find-hanging "
			     "looks for it, and kafka-transactions.sh abort --topic %s --partition %" PRId32 " --start-offset %" PRId64
			     " ends it", topic, partition, offset, AGAIN_MS / 1000, now->high[i].high, topic, partition, offset);
		reported++;
	}
	if (reported == 0)
		findings_add(findings, false, "topic %s: no publisher's transaction stays open", topic);
}

static struct position *copy(const struct position *positions, size_t n)
{
	return memcpy(must(calloc(n + 1, sizeof *positions)), positions, n * sizeof *positions);
}

static int look_twice(struct findings *findings, const char *topic, struct inspection *inspection, struct look *look, int timeout_ms,
		      struct fault *fault)
{
	struct look before;
	int looked;

	if (look_at(inspection, look, timeout_ms, fault) < 0)
		return -1;
	before = (struct look){ copy(look->stable, look->count), copy(look->high, look->count), look->count };
	if (count_open(look) > 0)
		clock_sleep_ms(AGAIN_MS);
	looked = count_open(look) > 0 ? look_at(inspection, look, timeout_ms, fault) : 0;
	if (looked == 0)
		report(findings, topic, &before, look);
	free(before.stable);
	free(before.high);
	return looked;
}

void check_stable(struct findings *findings, const struct config *config, int timeout_ms)
{
	struct fault fault;
	struct inspection *inspection = inspection_new(config, &fault);
	struct look look = { 0 };

	if (inspection == NULL) {
		findings_add(findings, true, "topic %s: %s", config->commands, fault.msg);
		return;
	}
	look.count = inspection_partitions(inspection, &look.stable, timeout_ms);
	if (look.count > 0) { /* else topics_check has reported why */
		look.high = copy(look.stable, look.count);
		if (look_twice(findings, config->commands, inspection, &look, timeout_ms, &fault) < 0)
			findings_add(findings, true, "topic %s: whether a transaction holds up its readers is not known: %s", config->commands,
				     fault.msg);
	}
	free(look.stable);
	free(look.high);
	inspection_free(inspection);
}
