/* What other threads see of a lane's assignment: a copy that the lane renews, behind a lock of its own that nobody holds for
 * longer than a copy takes. */
#ifndef VIEW_H
#define VIEW_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/assignment.h"

struct view_partition {
	int32_t id;
	enum partition_state state;
	int64_t start; /* the results of all offsets below are published */
};

struct view {
	pthread_mutex_t lock;
	struct view_partition *partitions;
	size_t count;
};

void view_init(struct view *view);
void view_destroy(struct view *view);

/* By the lane. */
void view_renew(struct view *view, const struct assignment *assignment);
/* By any thread: copies at most max partitions, and returns how many there are. */
size_t view_copy(struct view *view, struct view_partition *partitions, size_t max);

#endif
