/* What a look at something found: a line each, passed on to whoever prints it, and counted where it must be mended. */
#ifndef FINDINGS_H
#define FINDINGS_H

#include <stdbool.h>

#include "worker/base/fault.h"

struct findings {
	void (*print)(void *arg, bool wrong, const char *line);
	void *arg;
	int wrong_count; /* those that must be mended */
};

void findings_add(struct findings *findings, bool wrong, const char *fmt, ...) PRINTF(3, 4);

#endif
