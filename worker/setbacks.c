#include "worker/setbacks.h"

#include <stdlib.h>

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define FENCED_PAUSE_MS 500
#define FENCED_LIMIT 10 /* fencings within FENCED_WINDOW_MS */
#define FENCED_WINDOW_MS (5 * 60 * 1000)
#define FENCED_WITHOUT_REVOKE 8

void setbacks_published(struct setbacks *setbacks)
{
	setbacks->failures = 0;
}

void setbacks_taken_over(struct setbacks *setbacks)
{
	setbacks->refusals = 0;
}

void setbacks_fenced(struct setbacks *setbacks)
{
	setbacks->fenced_count++;
}

bool setbacks_add(struct setbacks *setbacks, enum fault_kind kind)
{
	setbacks->failures++;
	return kind == FAULT_FENCED && ++setbacks->refusals % FENCED_WITHOUT_REVOKE == 0;
}

bool setbacks_are_fencings(struct setbacks *setbacks, int64_t now_ms)
{
	if (now_ms - setbacks->fenced_since_ms > FENCED_WINDOW_MS) {
		setbacks->fenced_since_ms = now_ms;
		setbacks->fenced_count = 0;
	}
	return setbacks->fenced_count >= FENCED_LIMIT;
}

static int64_t backoff_ms(int failures)
{
	int64_t ms = BACKOFF_MIN_MS;

	for (int i = 1; i < failures && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	return ms / 2 + rand() % (ms / 2 + 1);
}

int64_t setbacks_pause_ms(const struct setbacks *setbacks, enum fault_kind kind)
{
	return kind == FAULT_FENCED ? FENCED_PAUSE_MS : backoff_ms(setbacks->failures);
}
