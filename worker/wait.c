#include "worker/wait.h"

#include <poll.h>
#include <stdio.h>

#include "worker/base/clock.h"
#include "worker/base/log.h"

void wait_init(struct wait *wait, const atomic_bool *stop, int lane, const struct keep_alive *keep_alive)
{
	*wait = (struct wait){ .stop = stop, .lane = lane, .keep_alive = *keep_alive };
}

bool wait_is_stopping(const struct wait *wait)
{
	return atomic_load(wait->stop);
}

void wait_begin(struct wait *wait, bool abandonable, int64_t now_ms)
{
	wait->abandonable = abandonable;
	wait->abandon_at_ms = 0;
	wait->since_ms = now_ms;
	wait->complain_at_ms = now_ms + WAIT_COMPLAIN_MS;
}

void wait_begin_until(struct wait *wait, int64_t now_ms, int64_t abandon_at_ms)
{
	wait_begin(wait, false, now_ms);
	wait->abandon_at_ms = abandon_at_ms;
}

void wait_polled(struct wait *wait, int64_t now_ms)
{
	wait->polled_at_ms = now_ms;
}

bool wait_is_over(const struct wait *wait, int64_t now_ms)
{
	if (wait->abandonable && wait_is_stopping(wait))
		return true;
	return wait->abandon_at_ms > 0 && now_ms >= wait->abandon_at_ms;
}

int wait_complaint(struct wait *wait, int64_t now_ms)
{
	if (now_ms < wait->complain_at_ms)
		return 0;
	wait->complain_at_ms = now_ms + WAIT_COMPLAIN_MS;
	return (int)((now_ms - wait->since_ms) / 1000);
}

/* A PostgreSQL that is there and does not answer raises no error. */
static void complain_if_long(struct wait *wait, int64_t now_ms)
{
	int seconds = wait_complaint(wait, now_ms);
	char msg[96];

	if (seconds == 0)
		return;
	snprintf(msg, sizeof msg, "PostgreSQL has not answered for %d s", seconds);
	log_warn("waiting", msg, "lane", LOG_INT(wait->lane));
}

static void keep_alive(struct wait *wait, int64_t now_ms)
{
	if (now_ms - wait->polled_at_ms < WAIT_POLL_MS)
		return;
	wait_polled(wait, now_ms);
	if (wait->fault.kind == FAULT_NONE)
		(void)!wait->keep_alive.poll(wait->keep_alive.arg, now_ms - wait->since_ms, &wait->fault);
}

int wait_for_socket(void *arg, int fd, short events, int timeout_ms)
{
	struct wait *wait = arg;
	struct pollfd pollfd = { .fd = fd, .events = events };
	int64_t now_ms;

	if (wait_is_over(wait, clock_monotonic_ms()))
		return -1;
	if (timeout_ms < 0 || timeout_ms > WAIT_POLL_MS)
		timeout_ms = WAIT_POLL_MS;
	poll(&pollfd, 1, timeout_ms);
	now_ms = clock_monotonic_ms();
	keep_alive(wait, now_ms);
	if (fd >= 0)
		complain_if_long(wait, now_ms);
	return 0;
}

void wait_pause(struct wait *wait, int64_t ms)
{
	int64_t now_ms = clock_monotonic_ms(), until_ms = now_ms + ms;
	uint64_t serial = wait->keep_alive.serial(wait->keep_alive.arg);

	wait_begin(wait, true, now_ms);
	for (; now_ms < until_ms; now_ms = clock_monotonic_ms())
		if (wait_for_socket(wait, -1, 0, (int)(until_ms - now_ms)) < 0 ||
		    wait->keep_alive.serial(wait->keep_alive.arg) != serial)
			break;
}
