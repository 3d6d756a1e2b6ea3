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

/* Nobody but this group's workers commits offsets of what this database has not executed. Nor does anybody else commit in its
 * last batch, whose results may not be published yet. */
static bool is_foreign(const struct position *position, const struct owned *owned)
{
	if (owned->executed == EXECUTED_UNKNOWN)
		return false;
	return position->committed > owned->executed || (position->foreign && position->committed > owned->confirmed);
}

/* All below confirmed is answered. What lies between the two offsets may be or not: only from there on nothing is lost. */
static void describe_way_back(const struct position *position, const struct owned *owned, char *text, size_t size)
{
	int64_t back = owned->confirmed != OFFSET_NONE && owned->confirmed < owned->executed ? owned->confirmed : owned->executed;

	if (back < position->low && position->low <= owned->executed)
		back = position->low;
	if (owned->executed < position->low || owned->executed > position->high)
		snprintf(text, size, "The topic does not hold that any more (%" PRId64 " to %" PRId64 ")", position->low, position->high);
	else if (back == owned->executed)
		snprintf(text, size, "In this database it is safe to go back: campaign-worker resume --partition %" PRId32 " --from %" PRId64,
			 position->partition, back);
	else
		snprintf(text, size, "The commands from %" PRId64 " on may be answered or not. In this database nothing is lost by going back "
			 "there, and answers to a last batch may come twice: campaign-worker resume --partition %" PRId32 " --from %" PRId64,
			 back, position->partition, back);
}

static int refuse_foreign_offset(const struct position *position, const struct owned *owned, char *why, size_t why_size)
{
	static const char causes[] = "another consumer committed in this group, or its offsets were set forward, or this database was "
				     "restored from an older state, or is not the one that the group's offsets belong to";
	const char *whose = position->foreign ? ", which no worker committed" : "";
	char way_back[320];

	if (owned->executed == OFFSET_NONE) {
		snprintf(why, why_size, "the group has committed offset %" PRId64 "%s, and this database has executed nothing of the partition "
			 "on this cluster: %s, or the topic was on another cluster", position->committed, whose, causes);
		return -1;
	}
	describe_way_back(position, owned, way_back, sizeof way_back);
	snprintf(why, why_size, "the group has committed offset %" PRId64 "%s, and this database has executed the commands up to %" PRId64
		 ": %s. %s", position->committed, whose, owned->executed, causes, way_back);
	return -1;
}

static int check_range(const struct position *position, int64_t start, char *why, size_t why_size)
{
	if (start > position->high) {
		snprintf(why, why_size, "the committed offset %" PRId64 " lies beyond the topic's end %" PRId64, start, position->high);
		return -1;
	}
	if (start < position->low) {
		snprintf(why, why_size, "commands from offset %" PRId64 " up to %" PRId64 " were deleted (retention) before they were read",
			 start, position->low);
		return -1;
	}
	return 0;
}

static int start_without_offset(const struct position *position, const struct owned *owned, int64_t *start, const char **note,
				char *why, size_t why_size)
{
	if (owned->confirmed != OFFSET_NONE) {
		snprintf(why, why_size, "the group's committed offset is lost (results below %" PRId64 " are published)", owned->confirmed);
		return -1;
	}
	*start = position->low;
	*note = "never claimed before: starts at its beginning";
	return 0;
}

int partition_start(const struct position *position, const struct owned *owned, int64_t *start, const char **note, char *why,
		    size_t why_size)
{
	*note = NULL;
	if (owned->resume_from != RESUME_NONE)
		return resume(position, owned->resume_from, start, why, why_size);
	if (owned->confirmed > position->high) {
		snprintf(why, why_size, "results up to offset %" PRId64 " are published, but the topic ends at %" PRId64
			 ": it was deleted and created again, or lost records", owned->confirmed, position->high);
		return -1;
	}
	if (position->committed == OFFSET_NONE)
		return start_without_offset(position, owned, start, note, why, why_size);
	if (is_foreign(position, owned))
		return refuse_foreign_offset(position, owned, why, why_size);
	*start = position->committed;
	if (position->committed < owned->confirmed) {
		*start = owned->confirmed;
		*note = "the committed offset was set back: goes on behind what is answered";
	}
	return check_range(position, *start, why, why_size);
}

bool partition_start_is_new(const struct owned *owned, int64_t start)
{
	return start > owned->executed; /* so is any where nothing is known */
}

void partition_describe_refusal(const struct owned *owned, const char *cluster_id, char *why, size_t why_size)
{
	if (owned->other_group[0])
		snprintf(why, why_size, "it belongs to the consumer group %s in this database", owned->other_group);
	else
		snprintf(why, why_size, "this database knows its topic and group from the cluster %s, and this is the cluster %s: what was "
			 "refused there would be judged anew here", owned->moved_from, cluster_id);
}
