/* What cannot fail but for a lack of memory, or a library that is broken: then the process ends (abort). Nothing is lost by
 * it: the batch is delivered again. One name for pointers, one for conditions. */
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
