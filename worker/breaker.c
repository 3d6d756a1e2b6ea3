#include "worker/breaker.h"

#include <stdio.h>
#include <string.h>

#define ALONE_MS 20000
#define ALONE_SCHEMA_MS (5 * 60 * 1000)

void breaker_init(struct breaker *breaker, int limit)
{
	*breaker = (struct breaker){ .limit = limit };
}

static bool is_cause(const struct breaker *breaker, const char *sqlstate)
{
	return strcmp(breaker->cause, sqlstate) == 0;
}

void breaker_trip(struct breaker *breaker, const char *sqlstate)
{
	snprintf(breaker->cause, sizeof breaker->cause, "%s", sqlstate);
	breaker->open = true;
	breaker->disarmed = false;
	breaker->probe = 0;
	breaker->alone_since_ms = 0;
}

static bool count_failure(struct breaker *breaker, const char *sqlstate)
{
	if (breaker->disarmed || breaker->open)
		return breaker->open;
	if (!is_cause(breaker, sqlstate)) {
		snprintf(breaker->cause, sizeof breaker->cause, "%s", sqlstate);
		breaker->run = 0;
	}
	if (++breaker->run >= breaker->limit)
		breaker_trip(breaker, sqlstate);
	return breaker->open;
}

bool breaker_failed(struct breaker *breaker, const char *sqlstate)
{
	breaker->unproven = false;
	breaker->alone_since_ms = 0;
	return count_failure(breaker, sqlstate);
}

int64_t breaker_failed_unproven(struct breaker *breaker, const char *sqlstate, int64_t now_ms)
{
	int64_t patience_ms = strncmp(sqlstate, "42", 2) == 0 ? ALONE_SCHEMA_MS : ALONE_MS, left_ms;

	if (breaker->disarmed)
		return 0;
	if ((breaker->unproven && is_cause(breaker, sqlstate)) || breaker->limit == 1) {
		breaker_trip(breaker, sqlstate);
		return 0;
	}
	if (breaker->alone_since_ms == 0)
		breaker->alone_since_ms = now_ms;
	left_ms = breaker->alone_since_ms + patience_ms - now_ms;
	if (left_ms > 0)
		return left_ms;
	breaker->unproven = true;
	count_failure(breaker, sqlstate);
	return 0;
}

bool breaker_succeeded(struct breaker *breaker)
{
	bool closed = breaker->open;

	breaker->run = 0;
	breaker->cause[0] = '\0';
	breaker->open = false;
	breaker->unproven = false;
	breaker->alone_since_ms = 0;
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
	breaker->alone_since_ms = 0;
	breaker->published_unproven = breaker->unproven;
	breaker->published_run = breaker->run;
	memcpy(breaker->published_cause, breaker->cause, sizeof breaker->cause);
}

void breaker_dropped(struct breaker *breaker)
{
	if (breaker->open)
		return;
	breaker->unproven = breaker->published_unproven;
	breaker->run = breaker->published_run;
	memcpy(breaker->cause, breaker->published_cause, sizeof breaker->cause);
}
