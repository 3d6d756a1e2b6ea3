/* The names of the kinds of faults, for what tests and the benchmark say. */
#ifndef FAULT_KIND_H
#define FAULT_KIND_H

#include "worker/base/fault.h"

static inline const char *fault_kind_name(enum fault_kind kind)
{
	static const char *const names[] = { "none", "retry", "reject", "fenced", "abort", "rebuild", "wait", "stop", "fatal" };

	return names[kind];
}

#endif
