#include "worker/control.h"

#include "schemas/command.h"
#include "schemas/result.h"

#define RENEW_MS 1000
#define ARENA_KEEP ((size_t)16 * 1024)

void control_init(struct control *control, const struct contract *contract)
{
	*control = (struct control){ .contract = contract, .arena = arena_new(ARENA_KEEP) };
}

void control_destroy(struct control *control)
{
	arena_free(control->arena);
}

void control_keep(struct control *control, const struct job *job, int64_t now_ms)
{
	if (control->kept_at_ms != 0 && now_ms - control->kept_at_ms < RENEW_MS)
		return;
	arena_reset(control->arena);
	control->job = (struct job){ .command = command_copy(control->contract, job->command, control->arena) };
	control->job.command->has_expiry = false; /* it is not late */
	control->kept_at_ms = now_ms;
}

struct job *control_job(struct control *control)
{
	struct job *job = &control->job;

	if (control->kept_at_ms == 0)
		return NULL;
	id_new(control->trace_id);
	job->command->trace_id = control->trace_id;
	job->record.timestamp_ms = -1; /* it arrives now */
	job->executable = true;
	job->reason = NULL;
	return job;
}
