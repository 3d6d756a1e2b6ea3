/* Bounds a batch by the time it takes: as many commands as PostgreSQL is expected to be through with in budget_ms, so that
 * work that is a hundred times the usual (whole audiences of 50,000 leads) neither holds up the answers behind it nor comes
 * near a time-out. */
#ifndef PACE_H
#define PACE_H

#include <stddef.h>
#include <stdint.h>

struct pace {
	size_t most;    /* commands of a batch, at the utmost */
	size_t limit;   /* of the next one */
	int budget_ms;
};

void pace_init(struct pace *pace, size_t most, int budget_ms);
/* A batch of n commands took ms. */
void pace_note(struct pace *pace, size_t n, int64_t ms);

#endif
