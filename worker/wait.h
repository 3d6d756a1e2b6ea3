/* Waiting for PostgreSQL, or for time to pass, without losing the consumer's membership. A lane has one thread, and a member
 * that is not polled is put out of the group. This module knows neither server: two functions keep the consumer alive. */
#ifndef WAIT_H
#define WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/base/fault.h"

#define WAIT_POLL_MS 100     /* the consumer is polled that often */
#define WAIT_COMPLAIN_MS 5000

/* The consumer that is kept alive. poll: waited_ms is how long this wait has lasted; -1: the consumer is finished. serial:
 * changes with the assignment. */
struct keep_alive {
	int (*poll)(void *arg, int64_t waited_ms, struct fault *fault);
	uint64_t (*serial)(void *arg);
	void *arg;
};

struct wait {
	const atomic_bool *stop;
	int lane; /* its number, for the log */
	struct keep_alive keep_alive;
	bool abandonable;        /* the wait may be given up when a stop is asked for */
	int64_t abandon_at_ms;   /* the wait is given up at this time; 0: never */
	int64_t since_ms, polled_at_ms, complain_at_ms;
	struct fault fault;      /* of keep_alive.poll */
};

void wait_init(struct wait *wait, const atomic_bool *stop, int lane, const struct keep_alive *keep_alive);
bool wait_is_stopping(const struct wait *wait);

/* Call one of these two before any wait for PostgreSQL. */
void wait_begin(struct wait *wait, bool abandonable, int64_t now_ms);
void wait_begin_until(struct wait *wait, int64_t now_ms, int64_t abandon_at_ms);
/* Call it after a poll of the consumer elsewhere. */
void wait_polled(struct wait *wait, int64_t now_ms);

/* Whether the wait is to be given up. */
bool wait_is_over(const struct wait *wait, int64_t now_ms);
/* The seconds that the wait has lasted, if they are to be logged now; 0: they are not. */
int wait_complaint(struct wait *wait, int64_t now_ms);

/* The function of struct waiter; arg is a struct wait (worker/base/waiter.h). */
int wait_for_socket(void *arg, int fd, short events, int timeout_ms);
/* Waits for ms and keeps the consumer alive; ends early when a stop is asked for or the assignment changes. */
void wait_pause(struct wait *wait, int64_t ms);

#endif
