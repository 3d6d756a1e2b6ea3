/* A waiter waits for a socket. Its owner lends it to a connection, so that the owner's other work goes on during the wait. */
#ifndef WAITER_H
#define WAITER_H

/* wait: events is POLLIN, POLLOUT or both. It returns 0 when fd is ready, after timeout_ms, or earlier. -1 ends the operation
 * with FAULT_STOP. fd -1: only a pause. */
struct waiter {
	int (*wait)(void *arg, int fd, short events, int timeout_ms);
	void *arg;
};

#endif
