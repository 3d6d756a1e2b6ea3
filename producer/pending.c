#include "producer/pending.h"

#include <stdlib.h>
#include <string.h>

#include "worker/base/must.h"

#define BUCKETS 16384 /* the client has at most CAMPAIGN_IN_FLIGHT_MAX in flight */

struct pending {
	struct pending_wait *buckets[BUCKETS]; /* within one, oldest first */
	struct pending_wait *oldest, *newest;
	size_t count;
};

struct pending *pending_new(void)
{
	return must(calloc(1, sizeof(struct pending)));
}

void pending_free(struct pending *pending)
{
	struct pending_wait *wait, *newer;

	if (pending == NULL)
		return;
	for (wait = pending->oldest; wait; wait = newer) {
		newer = wait->newer;
		free(wait);
	}
	free(pending);
}

size_t pending_count(const struct pending *pending)
{
	return pending->count;
}

static size_t bucket_of(const void *trace_id, size_t size) /* FNV-1a */
{
	const unsigned char *byte = trace_id;
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ byte[i]) * 1099511628211u;
	return hash % BUCKETS;
}

void pending_add(struct pending *pending, const char *trace_id, const char *account_group_id, int64_t deadline_ms)
{
	size_t trace_size = strlen(trace_id) + 1, group_size = strlen(account_group_id) + 1;
	struct pending_wait *wait = must(calloc(1, sizeof *wait + trace_size + group_size));
	struct pending_wait **end = &pending->buckets[bucket_of(trace_id, trace_size - 1)];

	wait->trace_id = memcpy(wait->text, trace_id, trace_size);
	wait->account_group_id = memcpy(wait->text + trace_size, account_group_id, group_size);
	wait->deadline_ms = deadline_ms;
	while (*end)
		end = &(*end)->next_in_bucket;
	*end = wait;
	wait->older = pending->newest;
	if (pending->newest)
		pending->newest->newer = wait;
	else
		pending->oldest = wait;
	pending->newest = wait;
	pending->count++;
}

bool pending_has(const struct pending *pending, const void *trace_id, size_t size)
{
	const struct pending_wait *wait = pending->buckets[bucket_of(trace_id, size)];

	while (wait && (strlen(wait->trace_id) != size || memcmp(wait->trace_id, trace_id, size) != 0))
		wait = wait->next_in_bucket;
	return wait != NULL;
}

/* Takes *link out of its bucket and of the order of age. */
static struct pending_wait *take_out(struct pending *pending, struct pending_wait **link)
{
	struct pending_wait *wait = *link;

	*link = wait->next_in_bucket;
	if (wait->older)
		wait->older->newer = wait->newer;
	else
		pending->oldest = wait->newer;
	if (wait->newer)
		wait->newer->older = wait->older;
	else
		pending->newest = wait->older;
	pending->count--;
	return wait;
}

bool pending_take(struct pending *pending, const char *trace_id, const char *account_group_id)
{
	struct pending_wait **link = &pending->buckets[bucket_of(trace_id, strlen(trace_id))];

	for (; *link; link = &(*link)->next_in_bucket) {
		if (strcmp((*link)->trace_id, trace_id) != 0)
			continue;
		if (account_group_id && strcmp((*link)->account_group_id, account_group_id) != 0)
			continue;
		free(take_out(pending, link));
		return true;
	}
	return false;
}

struct pending_wait *pending_expire(struct pending *pending, int64_t now_ms)
{
	struct pending_wait *wait = pending->oldest, **link;

	if (wait == NULL || wait->deadline_ms > now_ms)
		return NULL;
	link = &pending->buckets[bucket_of(wait->trace_id, strlen(wait->trace_id))];
	while (*link != wait)
		link = &(*link)->next_in_bucket;
	return take_out(pending, link);
}
