/* The control of an experiment: a command that was written lately. When another command fails alone, the control is executed
 * again, under a traceId of its own, and rolled back. If it passes, PostgreSQL executes commands, and the fault is that
 * command's. No answer comes of it, and nothing rests on there being one. */
#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "schemas/contract.h"
#include "schemas/id.h"
#include "schemas/record.h"
#include "worker/base/arena.h"

struct control {
	const struct contract *contract;
	struct arena *arena;
	struct job job;
	char trace_id[NEW_ID_CHARS + 1];
	int64_t kept_at_ms; /* monotonic; 0: there is none */
};

void control_init(struct control *control, const struct contract *contract);
void control_destroy(struct control *control);
/* The job's command was written: keeps a copy, unless the one there is so young that copying is not worth it. */
void control_keep(struct control *control, const struct job *job, int64_t now_ms);
/* The job to be executed, and rolled back; NULL: no command was written so far. Valid until the next call. */
struct job *control_job(struct control *control);

#endif
