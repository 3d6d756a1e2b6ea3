/* The executor executes a batch in PostgreSQL: in one transaction if all goes well, else in smaller and smaller ones, in
 * order, until the command that the database cannot take is alone. Before that command is answered, others are looked at
 * (breaker.h). Copies of a command are not executed: they take its outcome (protocol.txt). The one transaction may be sent before its answer is
 * received, while Kafka commits the batch before it. While the breaker is open, a probe comes first. */
#ifndef EXECUTOR_H
#define EXECUTOR_H

#include "worker/base/arena.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/statistics.h"
#include "worker/breaker.h"
#include "worker/control.h"
#include "worker/db/execution.h"
#include "worker/sizing.h"
#include "worker/suspect.h"
#include "worker/wait.h"

#define EXECUTOR_OTHERS 8 /* commands that are looked at before one is blamed */

struct executor {
	struct execution *execution; /* this and the next two are borrowed */
	struct wait *wait;
	struct statistics *statistics;
	struct breaker breaker;
	struct control control;
	struct suspect suspect;
	struct sizing sizing;
	struct fence fence;  /* of the batch in hand; borrowed, and so are its jobs */
	struct job **jobs;
	size_t count;
	struct arena *arena;
	bool answers_locked; /* a command whose rows stay locked is answered; otherwise executor_receive returns that fault at once */
	bool sent;           /* the whole batch, whose answer is still to be received */
	int64_t sent_at_ms;
};

void executor_init(struct executor *executor, struct execution *execution, struct wait *wait, struct statistics *statistics,
		   const struct contract *contract, const struct config *config);
void executor_destroy(struct executor *executor);

/* Most commands of the next batch: what sizing says, or EXECUTOR_OTHERS + 1. */
size_t executor_batch_limit(const struct executor *executor);

/* Sends a batch to PostgreSQL and returns; executor_receive returns the failures. The fence's and the jobs' memory, and the
 * arena, are borrowed until then. */
void executor_send(struct executor *executor, const struct fence *fence, struct job **jobs, size_t n, struct arena *arena);
/* Gives every executable job of the sent batch its result. -1: the batch must be dropped. */
int executor_receive(struct executor *executor, struct fault *fault) MUST_CHECK;
/* Whether executor_receive failed because another session has locked rows: nothing of the batch is to be published. */
bool executor_met_lock(const struct fault *fault);
/* Waits for the answer to the sent batch, and ignores it. */
void executor_abandon(struct executor *executor);

/* Whether the breaker caused that fault, as opposed to another fault while it is open. */
bool executor_is_breakers(const struct executor *executor, const struct fault *fault);

#endif
