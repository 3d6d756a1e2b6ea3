#include "worker/start.h"

#include <inttypes.h>
#include <stdio.h>

static int resume(const struct position *position, int64_t from, int64_t *start, char *why, size_t why_size)
{
	*start = from == RESUME_EARLIEST ? position->low : from;
	if (*start >= position->low && *start <= position->high)
		return 0;
	snprintf(why, why_size, "the offset %" PRId64 " to resume from is outside of what the topic holds, %" PRId64 " to %" PRId64,
		 *start, position->low, position->high);
	return -1;
}

int partition_start(const struct position *position, int64_t confirmed, int64_t resume_from, int64_t *start,
		    const char **note, char *why, size_t why_size)
{
	*note = NULL;
	if (resume_from != RESUME_NONE)
		return resume(position, resume_from, start, why, why_size);
	if (confirmed > position->high) {
		snprintf(why, why_size, "results up to offset %" PRId64 " are published, but the topic ends at %" PRId64
			 ": it was deleted and created again, or lost records", confirmed, position->high);
		return -1;
	}
	if (position->committed == OFFSET_NONE && confirmed != OFFSET_NONE) {
		snprintf(why, why_size, "the group's committed offset is lost (results below %" PRId64 " are published)", confirmed);
		return -1;
	}
	if (position->committed == OFFSET_NONE) {
		*start = position->low;
		*note = "never claimed before: starts at its beginning";
		return 0;
	}
	*start = position->committed;
	if (position->committed < confirmed) {
		*start = confirmed;
		*note = "the committed offset was set back: goes on behind what is answered";
	}
	if (*start > position->high) {
		snprintf(why, why_size, "the committed offset %" PRId64 " lies beyond the topic's end %" PRId64, *start, position->high);
		return -1;
	}
	if (*start < position->low) {
		snprintf(why, why_size, "commands from offset %" PRId64 " up to %" PRId64 " were deleted (retention) before they were read",
			 *start, position->low);
		return -1;
	}
	return 0;
}
