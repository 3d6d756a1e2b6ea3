/* Tells a command that the database cannot take from a database that can take no command. When command after command fails
 * for one cause, the lane stops answering, and probes one command at a time (rolled back) until one passes. Only a command
 * that was written, or would have been, shows that the database takes commands: one that the rules refuse never got so far. */
#ifndef BREAKER_H
#define BREAKER_H

#include <stdbool.h>
#include <stddef.h>

struct breaker {
	int limit;        /* failures in a row for one cause that open it */
	int run, published_run; /* so far; as of the last published batch */
	char cause[6], published_cause[6]; /* SQLSTATE */
	bool open;
	bool disarmed;    /* a probe has passed: until the batch is published, failures are the commands' own */
	size_t probe;     /* which command of a batch the next probe takes */
};

void breaker_init(struct breaker *breaker, int limit);
/* A command failed alone. True if that opened the breaker. */
bool breaker_failed(struct breaker *breaker, const char *sqlstate);
/* A draft was written. True if that closed the breaker. */
bool breaker_succeeded(struct breaker *breaker);
/* Outcome of a probe while open: whether its command would have been written. */
void breaker_probed(struct breaker *breaker, bool passed);
void breaker_published(struct breaker *breaker); /* the batch is through */
void breaker_dropped(struct breaker *breaker);   /* the batch will come again: its failures do not count twice */

#endif
