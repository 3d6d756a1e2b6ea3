/* Commands that await their result: counted by (traceId, accountGroupId), each with a deadline. The same pair may wait
 * several times: every record of it gets a result of its own. Copies its strings. */
#ifndef PENDING_H
#define PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pending;

struct pending *pending_new(void);
void pending_free(struct pending *pending); /* accepts NULL */
size_t pending_count(const struct pending *pending);

/* deadline_ms must not be before that of the one added last. */
void pending_add(struct pending *pending, const char *trace_id, const char *account_group_id, int64_t deadline_ms);
/* Whether anyone waits for that traceId (bytes of a record's key). */
bool pending_has(const struct pending *pending, const void *trace_id, size_t size);
/* Ends the oldest wait for the pair; account_group_id NULL matches every group. False if nobody waits. */
bool pending_take(struct pending *pending, const char *trace_id, const char *account_group_id);

/* One whose deadline has passed (at or before now_ms) is moved out; the caller frees it. NULL if there is none. */
struct pending_wait {
	struct pending_wait *next_in_bucket, *older, *newer;
	int64_t deadline_ms;
	const char *trace_id, *account_group_id;
	char text[];
};
struct pending_wait *pending_expire(struct pending *pending, int64_t now_ms);

#endif
