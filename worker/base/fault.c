#include "worker/base/fault.h"

#include <stdarg.h>
#include <stdio.h>

int fault_set(struct fault *f, enum fault_kind kind, const char *fmt, ...)
{
	va_list ap;

	f->kind = kind;
	f->sqlstate[0] = '\0';
	va_start(ap, fmt);
	vsnprintf(f->msg, sizeof f->msg, fmt, ap);
	va_end(ap);
	for (char *p = f->msg; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	return -1;
}
