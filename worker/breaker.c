#include "breaker.h"

#include <stdio.h>
#include <string.h>

void breaker_init(struct breaker *breaker, int limit)
{
	*breaker = (struct breaker){ .limit = limit };
}

bool breaker_failed(struct breaker *breaker, const char *sqlstate)
{
	if (breaker->disarmed)
		return false;
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

void breaker_succeeded(struct breaker *breaker)
{
	breaker->run = 0;
	breaker->cause[0] = '\0';
}

void breaker_probed(struct breaker *breaker, bool passed)
{
	if (!passed) {
		breaker->probe++;
		return;
	}
	breaker->open = false;
	breaker->disarmed = true;
	breaker_succeeded(breaker);
}

void breaker_published(struct breaker *breaker)
{
	breaker->disarmed = false;
	breaker->published_run = breaker->run;
}

void breaker_dropped(struct breaker *breaker)
{
	if (!breaker->open)
		breaker->run = breaker->published_run;
}
