#include "worker/parking.h"

#include <stdlib.h>

#include "worker/base/must.h"

#define NARROWER 8 /* each try has that part of the commands */
#define LIMIT_MAX 1000000 /* more than any batch */
#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 1000
#define TELL_MS 3000

void parking_init(struct parking *parking, int64_t patience_ms)
{
	*parking = (struct parking){ .patience_ms = patience_ms };
}

void parking_clear(struct parking *parking)
{
	free(parking->entries);
	parking->entries = NULL;
	parking->count = 0;
}

struct parked *parking_find(const struct parking *parking, int32_t partition)
{
	for (size_t i = 0; i < parking->count; i++)
		if (parking->entries[i].partition == partition)
			return &parking->entries[i];
	return NULL;
}

void parking_doubt(struct parking *parking, int32_t partition, size_t limit, int64_t now_ms)
{
	if (parking_find(parking, partition))
		return;
	parking->entries = must(reallocarray(parking->entries, parking->count + 1, sizeof *parking->entries));
	parking->entries[parking->count++] = (struct parked){ .partition = partition, .limit = limit, .retry_at_ms = now_ms };
}

struct parked *parking_due(const struct parking *parking, int64_t now_ms)
{
	struct parked *due = NULL;

	for (size_t i = 0; i < parking->count; i++) {
		struct parked *parked = &parking->entries[i];

		if (now_ms >= parked->retry_at_ms && (due == NULL || parked->retry_at_ms < due->retry_at_ms))
			due = parked;
	}
	return due;
}

void parking_locked(struct parked *parked, size_t n, int64_t now_ms)
{
	parked->pause_ms = parked->pause_ms == 0 || n > 1 ? PAUSE_MIN_MS : 2 * parked->pause_ms;
	if (parked->pause_ms > PAUSE_MAX_MS)
		parked->pause_ms = PAUSE_MAX_MS;
	parked->retry_at_ms = now_ms + parked->pause_ms;
	parked->limit = (n + NARROWER - 1) / NARROWER;
	if (n == 1 && parked->alone_at_ms == 0)
		parked->alone_at_ms = now_ms;
}

void parking_passed(struct parked *parked, int64_t now_ms)
{
	parked->limit *= parked->limit < LIMIT_MAX ? NARROWER : 1;
	parked->alone_at_ms = parked->pause_ms = parked->told_at_ms = 0;
	parked->retry_at_ms = now_ms;
}

void parking_remove(struct parking *parking, struct parked *parked)
{
	*parked = parking->entries[--parking->count];
}

bool parking_is_over(const struct parking *parking, const struct parked *parked, int64_t now_ms)
{
	return parked->alone_at_ms > 0 && now_ms - parked->alone_at_ms >= parking->patience_ms;
}

bool parking_tells(struct parked *parked, int64_t now_ms)
{
	if (parked->alone_at_ms == 0 || (parked->told_at_ms > 0 && now_ms - parked->told_at_ms < TELL_MS))
		return false;
	parked->told_at_ms = now_ms;
	return true;
}
