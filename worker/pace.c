#include "pace.h"

void pace_init(struct pace *pace, size_t most, int budget_ms)
{
	pace->most = pace->limit = most;
	pace->budget_ms = budget_ms;
}

/* Down at once, up again by doubling, and not before half of the budget would do: between the two it rests. */
void pace_note(struct pace *pace, size_t n, int64_t ms)
{
	if (ms > pace->budget_ms) {
		pace->limit = (size_t)((int64_t)n * pace->budget_ms / ms);
		if (pace->limit == 0)
			pace->limit = 1;
	} else if (n >= pace->limit && ms <= pace->budget_ms / 2) {
		pace->limit = pace->limit > pace->most / 2 ? pace->most : 2 * pace->limit;
	}
}
