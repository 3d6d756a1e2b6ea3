#include "worker/base/findings.h"

#include <stdarg.h>
#include <stdio.h>

void findings_add(struct findings *findings, bool wrong, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	findings->wrong_count += wrong;
	findings->print(findings->arg, wrong, line);
}
