#include "worker/lockwait.h"

#include <stdio.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/log.h"

#define TRIES 3 /* a command waits for its rows as long as so many tries of lock_timeout_ms would */
#define ASK_MS 1500
#define LOCK_MS 150 /* how long a batch waits for a lock, and holds up the lane */

int lockwait_timeout_ms(const struct config *config)
{
	bool never = config->lock_timeout_ms >= config->statement_timeout_ms; /* the statement's time is over first, as was wanted */

	return never || config->lock_timeout_ms < LOCK_MS ? config->lock_timeout_ms : LOCK_MS;
}

void lockwait_init(struct lockwait *lockwait, const struct config *config, const struct session *session, struct wait *wait)
{
	const struct waiter waiter = { wait_for_socket, wait };

	*lockwait = (struct lockwait){ .session = session, .wait = wait, .topic = config->commands,
				       .blockers = blockers_new(config->database, &waiter) };
	parking_init(&lockwait->parking, TRIES * config->lock_timeout_ms);
}

void lockwait_destroy(struct lockwait *lockwait)
{
	parking_clear(&lockwait->parking);
	blockers_free(lockwait->blockers);
}

/* A consumer that cannot be told is finished: the next round makes another. */
static void readmit(struct lockwait *lockwait, struct consumer *consumer, struct parked *parked)
{
	struct fault fault;

	if (parked->held)
		log_info("partition_goes_on", "the partition that waited is read again", "topic", lockwait->topic, "partition",
			 LOG_INT(parked->partition));
	(void)!consumer_readmit(consumer, parked->partition, &fault);
	parking_remove(&lockwait->parking, parked);
	if (lockwait->parking.count == 0)
		blockers_close(lockwait->blockers);
}

static struct parked *find(const struct lockwait *lockwait, const struct batch *batch)
{
	return batch->only == CONSUMER_ALL ? NULL : parking_find(&lockwait->parking, batch->only);
}

size_t lockwait_choose(struct lockwait *lockwait, struct consumer *consumer, struct batch *batch, size_t limit)
{
	struct parked *parked = NULL;
	int32_t only;

	if (!consumer_has_aside(consumer)) /* nothing waits, or the consumer was started anew */
		parking_clear(&lockwait->parking);
	if (!(lockwait->others_first && consumer_waiting(consumer) > 0))
		parked = parking_due(&lockwait->parking, clock_monotonic_ms());
	only = parked ? parked->partition : CONSUMER_ALL;
	if (batch->count > 0 && batch->only != only)
		return 0;
	batch->only = only;
	consumer_select(consumer, only);
	return parked && parked->limit < limit ? parked->limit : limit;
}

void lockwait_filled(struct lockwait *lockwait, struct consumer *consumer, const struct batch *batch)
{
	struct parked *parked = find(lockwait, batch);

	consumer_select(consumer, CONSUMER_ALL);
	if (batch->only == CONSUMER_ALL && batch->count > 0)
		lockwait->others_first = false;
	if (parked && batch->count == 0 && !consumer_holds(consumer, parked->partition)) /* all that was kept of it is executed */
		readmit(lockwait, consumer, parked);
}

bool lockwait_is_over(const struct lockwait *lockwait, const struct batch *batch)
{
	const struct parked *parked = find(lockwait, batch);

	return parked && batch->count == 1 && parking_is_over(&lockwait->parking, parked, clock_monotonic_ms());
}

static const char *or_null(const char *text)
{
	return text[0] ? text : NULL;
}

static void tell(struct lockwait *lockwait, const struct parked *parked, const struct job *job)
{
	struct blocker blocker = { "", "", "", "", "" };
	int64_t now_ms = clock_monotonic_ms();

	wait_begin_until(lockwait->wait, now_ms, now_ms + ASK_MS);
	if (!blockers_find(lockwait->blockers, lockwait->session, &blocker))
		blocker = (struct blocker){ "", "", "", "", "" };
	log_warn("rows_locked", "a command waits for rows that another session has locked; its partition waits, the others go on",
		 "traceId", job->result.trace_id, "accountGroupId", job->result.account_group_id, "topic", lockwait->topic, "partition",
		 LOG_INT(parked->partition), "offset", LOG_INT(job->record.offset), "waited_ms", LOG_INT(now_ms - parked->alone_at_ms),
		 "table", or_null(blocker.table), "pid", or_null(blocker.pid), "application_name", or_null(blocker.application),
		 "user", or_null(blocker.user), "since", or_null(blocker.since), "sqlstate", lockwait->sqlstate, "cause", lockwait->cause);
}

void lockwait_sent(struct lockwait *lockwait, const struct batch *batch)
{
	struct parked *parked = find(lockwait, batch);

	if (parked && batch->count == 1 && parking_tells(parked, clock_monotonic_ms()))
		tell(lockwait, parked, &batch->jobs[0]);
}

/* Sets all of them aside, to be tried one by one. */
static void doubt(struct lockwait *lockwait, struct consumer *consumer, const struct batch *batch, size_t limit)
{
	for (size_t i = 0; i < batch->offset_count; i++) {
		parking_doubt(&lockwait->parking, batch->offsets[i].partition, limit, clock_monotonic_ms());
		consumer_set_aside(consumer, batch->offsets[i].partition);
	}
}

void lockwait_met(struct lockwait *lockwait, struct consumer *consumer, const struct batch *batch, size_t limit,
		  const struct fault *met)
{
	struct parked *parked;
	struct fault fault;

	snprintf(lockwait->cause, sizeof lockwait->cause, "%s", met->msg);
	memcpy(lockwait->sqlstate, met->sqlstate, sizeof lockwait->sqlstate);
	consumer_put_back(consumer);
	doubt(lockwait, consumer, batch, limit);
	if (batch->offset_count > 1)
		return;
	parked = parking_find(&lockwait->parking, batch->offsets[0].partition);
	parking_locked(parked, batch->count, clock_monotonic_ms());
	lockwait->others_first = true;
	if (parked->held)
		return;
	parked->held = true;
	log_warn("partition_waits", met->msg, "topic", lockwait->topic, "partition", LOG_INT(parked->partition), "commands",
		 LOG_INT((int64_t)batch->count), "sqlstate", met->sqlstate);
	(void)!consumer_hold(consumer, parked->partition, &fault);
}

void lockwait_passed(struct lockwait *lockwait, struct consumer *consumer, const struct batch *batch)
{
	struct parked *parked = find(lockwait, batch);

	if (parked && parked->held)
		parking_passed(parked, clock_monotonic_ms());
	else if (parked)
		readmit(lockwait, consumer, parked);
}
