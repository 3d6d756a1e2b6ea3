#include "worker/suspect.h"

void suspect_lost_batch(struct suspect *suspect)
{
	suspect->losses++;
}

void suspect_lost_alone(struct suspect *suspect, const struct record *record, bool compared)
{
	if (!suspect_is(suspect, record))
		suspect->compared = suspect->uncompared = 0;
	if (compared)
		suspect->compared++;
	else
		suspect->uncompared++;
	suspect->partition = record->partition;
	suspect->offset = record->offset;
}

void suspect_clear(struct suspect *suspect)
{
	*suspect = (struct suspect){ 0 };
}

bool suspect_is_sought(const struct suspect *suspect)
{
	return suspect->losses >= SUSPECT_TRIES;
}

bool suspect_is(const struct suspect *suspect, const struct record *record)
{
	return suspect->compared + suspect->uncompared > 0 && suspect->partition == record->partition && suspect->offset == record->offset;
}

bool suspect_is_convicted(const struct suspect *suspect, bool compared)
{
	return (compared ? suspect->compared : suspect->uncompared) >= SUSPECT_TRIES;
}
