#include "worker/view.h"

#include <stdlib.h>

#include "worker/base/must.h"

void view_init(struct view *view)
{
	*view = (struct view){ .count = 0 };
	pthread_mutex_init(&view->lock, NULL);
}

void view_destroy(struct view *view)
{
	pthread_mutex_destroy(&view->lock);
	free(view->partitions);
}

void view_renew(struct view *view, const struct assignment *assignment)
{
	bool another = assignment->count != view->count; /* nobody else writes it */
	struct view_partition *room = another ? must(calloc(assignment->count + 1, sizeof *room)) : NULL, *old = NULL;

	pthread_mutex_lock(&view->lock);
	if (another) {
		old = view->partitions;
		view->partitions = room;
		view->count = assignment->count;
	}
	for (size_t i = 0; i < assignment->count; i++) {
		const struct partition *partition = &assignment->partitions[i];

		view->partitions[i] = (struct view_partition){ partition->id, partition->state, partition->start };
		if (assignment->serial == 0) /* dropped: to be taken over */
			view->partitions[i].state = PARTITION_ASSIGNED;
	}
	pthread_mutex_unlock(&view->lock);
	free(old);
}

size_t view_copy(struct view *view, struct view_partition *partitions, size_t max)
{
	size_t n;

	pthread_mutex_lock(&view->lock);
	n = view->count;
	for (size_t i = 0; i < n && i < max; i++)
		partitions[i] = view->partitions[i];
	pthread_mutex_unlock(&view->lock);
	return n;
}
