/* The breaker distinguishes a command that the database cannot take from a database that takes no command. That is found out
 * by experiment (executor.c), not by SQLSTATEs. When a command fails alone, others are looked at, and rolled back:
 *
 *   another passes         The fault is the command's own. It is answered, unless command after command fails so for one
 *                          cause: then the breaker opens.
 *   others fail, none      The fault is the database's: the breaker opens, and nobody is answered.
 *   passes
 *   there is no other, or  Nobody can tell. The lane waits for another command, for a bounded time: 20 s, or 5 minutes where
 *   the rules refuse all   the SQLSTATE is of class 42 (a missing table, column, right or function), which mostly is the
 *   others                 schema's fault. Then the command is answered, but not a second one in a row: for that the
 *                          breaker opens.
 *
 * While the breaker is open, the lane answers nothing, and probes one command at a time (rolled back) until one passes.
 * Only a command that was written, or would have been, shows that the database takes commands: one that the rules refuse
 * writes nothing. */
#ifndef BREAKER_H
#define BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct breaker {
	int limit;        /* failures in a row for one cause that open it */
	int run, published_run; /* failures in a row; as of the last published batch */
	char cause[6], published_cause[6]; /* SQLSTATE */
	bool open;
	bool disarmed;    /* a probe has passed: until the batch is published, failures are the commands' own */
	size_t probe;     /* place in the batch of the command that is probed next */
	int64_t alone_since_ms; /* a command fails that cannot be compared with others; 0: none does */
	bool unproven, published_unproven; /* the last failure that was answered had not been compared with others */
};

void breaker_init(struct breaker *breaker, int limit);
/* A command failed alone, and others pass. True if that opened the breaker. */
bool breaker_failed(struct breaker *breaker, const char *sqlstate);
/* A command failed alone, and so do others: opens the breaker. */
void breaker_trip(struct breaker *breaker, const char *sqlstate);
/* A command failed alone, and nothing can be learned from others. Returns the milliseconds for which it is to wait for another
 * command; 0: the failure counts as the command's own, as in breaker_failed. If the breaker is open then, that opened it. */
int64_t breaker_failed_unproven(struct breaker *breaker, const char *sqlstate, int64_t now_ms);
/* A draft was written. True if that closed the breaker. */
bool breaker_succeeded(struct breaker *breaker);
/* Outcome of a probe while open: whether its command would have been written. */
void breaker_probed(struct breaker *breaker, bool passed);
void breaker_published(struct breaker *breaker); /* the batch was published */
void breaker_dropped(struct breaker *breaker);   /* the batch will come again: its failures do not count twice */

#endif
