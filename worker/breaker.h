/* The breaker distinguishes a command that the database cannot take from a database that takes no command. When command after
 * command fails for one cause, the lane stops answering, and probes one command at a time (rolled back) until one passes.
 * Only a command that was written, or would have been, shows that the database takes commands: one that the rules refuse
 * writes nothing. */
#ifndef BREAKER_H
#define BREAKER_H

#include <stdbool.h>
#include <stddef.h>

struct breaker {
	int limit;        /* failures in a row for one cause that open it */
	int run, published_run; /* failures in a row; as of the last published batch */
	char cause[6], published_cause[6]; /* SQLSTATE */
	bool open;
	bool disarmed;    /* a probe has passed: until the batch is published, failures are the commands' own */
	size_t probe;     /* place in the batch of the command that is probed next */
};

void breaker_init(struct breaker *breaker, int limit);
/* A command failed alone. True if that opened the breaker. */
bool breaker_failed(struct breaker *breaker, const char *sqlstate);
/* A draft was written. True if that closed the breaker. */
bool breaker_succeeded(struct breaker *breaker);
/* Outcome of a probe while open: whether its command would have been written. */
void breaker_probed(struct breaker *breaker, bool passed);
void breaker_published(struct breaker *breaker); /* the batch was published */
void breaker_dropped(struct breaker *breaker);   /* the batch will come again: its failures do not count twice */

#endif
