/* Lock waits: a batch that meets rows which another session has locked is put back, and its partitions are tried one by one. The
 * partition that meets the lock alone waits (parking.h); the others go on. Nothing of such a batch is published, and what waits
 * is executed later, in its partition's order (protocol.txt, LOCKED ROWS). */
#ifndef LOCKWAIT_H
#define LOCKWAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/batch.h"
#include "worker/db/blockers.h"
#include "worker/kafka/consumer.h"
#include "worker/parking.h"
#include "worker/wait.h"

struct lockwait {
	struct parking parking;
	struct blockers *blockers;
	const struct session *session; /* borrowed, and so are the next two */
	struct wait *wait;
	const char *topic;
	bool others_first;  /* a try has just met its lock */
	char sqlstate[6];
	char cause[512];    /* PostgreSQL's sentence about the last lock that was met */
};

/* The lock_timeout of a batch. */
int lockwait_timeout_ms(const struct config *config);

void lockwait_init(struct lockwait *lockwait, const struct config *config, const struct session *session, struct wait *wait);
void lockwait_destroy(struct lockwait *lockwait);

/* Chooses the partitions that the batch is filled from, and returns the number of commands that it may have then, at most
 * limit; 0: it holds commands of another choice, and must be executed first. */
size_t lockwait_choose(struct lockwait *lockwait, struct consumer *consumer, struct batch *batch, size_t limit);
/* The batch was filled from them. */
void lockwait_filled(struct lockwait *lockwait, struct consumer *consumer, const struct batch *batch);
/* Whether the batch is one command that has waited long enough: it is answered now if its rows are still locked. */
bool lockwait_is_over(const struct lockwait *lockwait, const struct batch *batch);
/* The batch was sent: tells the log whom it waits for, if it is time to. */
void lockwait_sent(struct lockwait *lockwait, const struct batch *batch);
/* The batch met a lock: its records wait again. */
void lockwait_met(struct lockwait *lockwait, struct consumer *consumer, const struct batch *batch, size_t limit,
		  const struct fault *met);
/* The batch was executed. */
void lockwait_passed(struct lockwait *lockwait, struct consumer *consumer, const struct batch *batch);

#endif
