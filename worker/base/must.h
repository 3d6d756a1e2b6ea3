/* Checks of calls that fail only without memory, or in a broken library. The process then ends (abort). Nothing is lost by
 * it: Kafka delivers the batch again. must is for pointers, must_be for conditions. */
#ifndef MUST_H
#define MUST_H

#include <stdbool.h>
#include <stdlib.h>

/* Returns p, which is not NULL. */
static inline void *must(void *p)
{
	if (p == NULL)
		abort();
	return p;
}

static inline void must_be(bool condition)
{
	if (!condition)
		abort();
}

#endif
