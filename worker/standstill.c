#include "worker/standstill.h"

#define PATIENCE_MS 30000         /* an ordinary transaction takes less */
#define PAUSE_MAX_MS (3600 * 1000)

static bool is_over(const struct standstill *standstill, int64_t next, int64_t stable, int64_t high)
{
	if (stable < next) /* the end is not known: only a record that came from behind says something */
		return next > standstill->offset;
	return stable != standstill->offset || high <= stable;
}

static enum standstill_event lasts(struct standstill *standstill, int64_t now_ms)
{
	int64_t lasted_ms = now_ms - standstill->since_ms;

	if (now_ms < standstill->log_at_ms)
		return STANDSTILL_NOTHING;
	standstill->logged = true;
	standstill->log_at_ms = now_ms + (lasted_ms < PAUSE_MAX_MS ? lasted_ms : PAUSE_MAX_MS);
	return STANDSTILL_LASTS;
}

enum standstill_event standstill_observe(struct standstill *standstill, int64_t next, int64_t stable, int64_t high, int64_t now_ms)
{
	if (standstill->open && is_over(standstill, next, stable, high)) {
		standstill->open = false;
		if (standstill->logged)
			return STANDSTILL_OVER;
	}
	if (standstill->open)
		return lasts(standstill, now_ms);
	if (stable >= next && high > stable)
		*standstill = (struct standstill){ true, false, stable, now_ms, now_ms + PATIENCE_MS };
	return STANDSTILL_NOTHING;
}
