/* Brings the database's schema up to date (schemas/sql), forward only. */
#ifndef MIGRATE_H
#define MIGRATE_H

#include "worker/base/fault.h"

/* Applies what is missing, in order, each in a transaction of its own under an advisory lock; print is called with
 * a line for each step. */
int migrate_run(const char *database, void (*print)(void *arg, const char *line), void *arg, struct fault *fault) MUST_CHECK;

#endif
