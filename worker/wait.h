/* Waiting for PostgreSQL, or for time to pass, without losing the consumer's membership: a lane has one thread, and a member
 * that is not polled is put out of the group. Knows neither server: the consumer is kept alive through two functions. */
#ifndef WAIT_H
#define WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/base/fault.h"

#define WAIT_POLL_MS 100     /* the consumer is polled that often */
#define WAIT_COMPLAIN_MS 5000

/* What is kept alive. poll: waited_ms is how long this wait has lasted; -1: it is finished. serial: another number says that
 * the assignment is another. */
struct keep_alive {
	int (*poll)(void *arg, int64_t waited_ms, struct fault *fault);
	uint64_t (*serial)(void *arg);
	void *arg;
};

struct wait {
	const atomic_bool *stop;
	int lane; /* its number, for the log */
	struct keep_alive keep_alive;
	bool abandonable;        /* what is waited for may be given up when a stop is asked for */
	int64_t abandon_at_ms;   /* or when this time has come; 0: never */
	int64_t since_ms, polled_at_ms, complain_at_ms;
	struct fault fault;      /* of what is kept alive, met while waiting for something else */
};

void wait_init(struct wait *wait, const atomic_bool *stop, int lane, const struct keep_alive *keep_alive);
bool wait_is_stopping(const struct wait *wait);

/* Call one of them before anything that waits on PostgreSQL. */
void wait_begin(struct wait *wait, bool abandonable, int64_t now_ms);
void wait_begin_until(struct wait *wait, int64_t now_ms, int64_t abandon_at_ms);
/* The consumer was polled by somebody else. */
void wait_polled(struct wait *wait, int64_t now_ms);

/* Whether the wait is to be given up. */
bool wait_is_over(const struct wait *wait, int64_t now_ms);
/* For how many seconds it has lasted, where that is to be said again now; 0: it is not. */
int wait_complaint(struct wait *wait, int64_t now_ms);

/* struct waiter's function, arg being a struct wait (worker/base/waiter.h). */
int wait_for_socket(void *arg, int fd, short events, int timeout_ms);
/* Keeps the consumer alive for that long; ends early when a stop is asked for or the assignment changes. */
void wait_pause(struct wait *wait, int64_t ms);

#endif
