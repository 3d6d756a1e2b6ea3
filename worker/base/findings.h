/* Findings of an inspection: each is a line that print receives (borrowed), and those that are wrong are counted. */
#ifndef FINDINGS_H
#define FINDINGS_H

#include <stdbool.h>

#include "worker/base/fault.h"

struct findings {
	void (*print)(void *arg, bool wrong, const char *line);
	void *arg;
	int wrong_count; /* findings that a person must correct */
};

void findings_add(struct findings *findings, bool wrong, const char *fmt, ...) PRINTF(3, 4);

#endif
