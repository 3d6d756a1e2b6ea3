/* campaign-worker run: the lanes, a thread each, until a signal or a lane that gives up. */
#ifndef RUN_H
#define RUN_H

#include "worker/base/config.h"
#include "worker/operation.h"

/* Returns an exit status: EXIT_SUCCESS when drained. A second signal, and a drain that takes longer than its budget, end the
 * process at once. */
int run_lanes(const struct config *config, const struct operation *operation);

#endif
