/* How to wait for a socket: lent to whoever waits by whoever knows what has to go on meanwhile. */
#ifndef WAITER_H
#define WAITER_H

/* wait is called with what to wait for (POLLIN, POLLOUT or both) and at most how long; it returns when fd is ready, or
 * earlier. -1 ends the operation with FAULT_STOP. fd -1: just a pause. */
struct waiter {
	int (*wait)(void *arg, int fd, short events, int timeout_ms);
	void *arg;
};

#endif
