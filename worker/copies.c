#include "worker/copies.h"

#include <stdbool.h>

#include "schemas/result.h"

/* An outcome that says when to try again hangs on the record's own timestamp. */
static bool can_share(const struct job *copy, const struct job *first)
{
	return !first->result.has_retry_after || copy->record.timestamp_ms == first->record.timestamp_ms;
}

/* The copy is executed, and the copies behind it are its own. */
static void detach(struct job **jobs, size_t count, size_t place)
{
	struct job *job = jobs[place], *first = job->copy_of;

	job->copy_of = NULL;
	job->executable = true;
	for (size_t i = place + 1; i < count; i++)
		if (jobs[i]->copy_of == first)
			jobs[i]->copy_of = job;
}

void copies_prepare(struct job **jobs, size_t count, size_t first, size_t n)
{
	for (size_t i = first; i < first + n; i++) {
		struct job *job = jobs[i], *origin = job->copy_of;

		job->shared = false;
		if (origin && origin < jobs[first] && !can_share(job, origin))
			detach(jobs, count, i);
		else if (origin && job->record.timestamp_ms != origin->record.timestamp_ms)
			origin->shared = true;
	}
}

void copies_settle(struct job **jobs, size_t first, size_t n)
{
	for (size_t i = first; i < first + n; i++) {
		struct job *job = jobs[i], *origin = job->copy_of;

		if (origin == NULL)
			continue;
		job->reason = origin->reason;
		job->dead_letter = origin->dead_letter;
		job->cause = origin->cause;
		job->key_public_id = origin->key_public_id;
		result_share(&job->result, &origin->result);
	}
}
