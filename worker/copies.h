/* Copies of a command in a batch (batch.h marks them). They are not executed: they take the outcome of the command that they are
 * a copy of. */
#ifndef COPIES_H
#define COPIES_H

#include <stddef.h>

#include "schemas/record.h"

/* jobs: the count jobs of a batch, which lie in memory in their order. */

/* Before the n jobs from first on are executed; those before them were. A copy that cannot take the outcome that its command has
 * is executed itself. */
void copies_prepare(struct job **jobs, size_t count, size_t first, size_t n);
/* After they were executed: each copy among them has its outcome. */
void copies_settle(struct job **jobs, size_t first, size_t n);

#endif
