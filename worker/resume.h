/* campaign-worker resume: records the order to let a halted partition go on; the worker that holds it carries it out. */
#ifndef RESUME_H
#define RESUME_H

#include <stdint.h>

#include "worker/base/config.h"
#include "worker/base/fault.h"

/* from: an offset or RESUME_EARLIEST. print is called with what was recorded. */
int resume_order(const struct config *config, int32_t partition, int64_t from, void (*print)(void *arg, const char *line), void *arg,
		 struct fault *fault) MUST_CHECK;

#endif
