/* The kinds of worker/base/fault.h by name, for what the tests and the benchmark print. */
#ifndef FAULT_KIND_H
#define FAULT_KIND_H

#include "worker/base/fault.h"

static inline const char *fault_kind_name(enum fault_kind kind)
{
	static const char *const names[] = {
		[FAULT_NONE] = "none", [FAULT_RETRY] = "retry", [FAULT_REJECT] = "reject",
		[FAULT_FENCED] = "fenced", [FAULT_ABORT] = "abort", [FAULT_REBUILD] = "rebuild",
		[FAULT_WAIT] = "wait", [FAULT_STOP] = "stop", [FAULT_FATAL] = "fatal",
	};

	return names[kind];
}

#endif
