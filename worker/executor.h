/* The PostgreSQL side of a batch: one transaction if all goes well; smaller and smaller ones, in order, until the command
 * that the database cannot take is alone. That one transaction may be sent before it is received, while Kafka is busy with the
 * batch before this. While the breaker is open, a probe comes first. */
#ifndef EXECUTOR_H
#define EXECUTOR_H

#include "worker/base/arena.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/statistics.h"
#include "worker/breaker.h"
#include "worker/db/execution.h"
#include "worker/sizing.h"
#include "worker/wait.h"

struct executor {
	struct execution *execution; /* this and the next two are borrowed */
	struct wait *wait;
	struct statistics *statistics;
	struct breaker breaker;
	struct sizing sizing;
	struct fence fence;  /* of the batch in hand, and its commands; borrowed */
	struct job **jobs;
	size_t count;
	struct arena *arena;
	bool sent;           /* the whole of it to PostgreSQL, whose answer is still to be received */
	int64_t sent_at_ms;
};

void executor_init(struct executor *executor, struct execution *execution, struct wait *wait, struct statistics *statistics,
		   const struct config *config);

/* Sends a batch to PostgreSQL and returns; what fails is told by executor_receive. What the fence and the jobs point to, and
 * the arena, are borrowed until then. */
void executor_send(struct executor *executor, const struct fence *fence, struct job **jobs, size_t n, struct arena *arena);
/* Every executable job of the batch that was sent gets its result, or the batch is to be dropped. */
int executor_receive(struct executor *executor, struct fault *fault) MUST_CHECK;
/* Waits for the answer to what was sent, and forgets it. */
void executor_abandon(struct executor *executor);

/* Whether that fault is the breaker's doing, and not another that came while it is open. */
bool executor_is_breakers(const struct executor *executor, const struct fault *fault);

#endif
