#include "worker/breaker.h"

#include <stdio.h>
#include <string.h>

void breaker_init(struct breaker *breaker, int limit)
{
	*breaker = (struct breaker){ .limit = limit };
}

bool breaker_failed(struct breaker *breaker, const char *sqlstate)
{
	if (breaker->disarmed || breaker->open)
		return breaker->open;
	if (strcmp(breaker->cause, sqlstate) != 0) {
		snprintf(breaker->cause, sizeof breaker->cause, "%s", sqlstate);
		breaker->run = 0;
	}
	if (++breaker->run < breaker->limit)
		return false;
	breaker->open = true;
	breaker->probe = 0;
	return true;
}

bool breaker_succeeded(struct breaker *breaker)
{
	bool closed = breaker->open;

	breaker->run = 0;
	breaker->cause[0] = '\0';
	breaker->open = false;
	return closed;
}

void breaker_probed(struct breaker *breaker, bool passed)
{
	if (!passed) {
		breaker->probe++;
		return;
	}
	breaker->disarmed = true;
	breaker_succeeded(breaker);
}

void breaker_published(struct breaker *breaker)
{
	breaker->disarmed = false;
	breaker->published_run = breaker->run;
	memcpy(breaker->published_cause, breaker->cause, sizeof breaker->cause);
}

void breaker_dropped(struct breaker *breaker)
{
	if (breaker->open)
		return;
	breaker->run = breaker->published_run;
	memcpy(breaker->cause, breaker->published_cause, sizeof breaker->cause);
}
