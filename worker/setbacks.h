/* Setbacks: how often the lane had to start over, and what follows from that: how long it pauses, whether it joins the group
 * anew, whether it gives up. */
#ifndef SETBACKS_H
#define SETBACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/base/fault.h"

struct setbacks {
	int failures;            /* since a batch was published, for the back-off */
	int refusals;            /* faults FENCED since a takeover succeeded */
	int fenced_count;        /* fencings of the producer since fenced_since_ms */
	int64_t fenced_since_ms;
};

void setbacks_published(struct setbacks *setbacks);  /* a batch was published */
void setbacks_taken_over(struct setbacks *setbacks); /* partitions were taken over */
void setbacks_fenced(struct setbacks *setbacks);     /* somebody fenced the producer */
/* The lane starts over. True: it joins the group anew, which says that the lane is out of it and yet sends no revoke. */
bool setbacks_add(struct setbacks *setbacks, enum fault_kind kind);

/* Whether the producer is fenced so often that another process must be using its transactional.id. */
bool setbacks_are_fencings(struct setbacks *setbacks, int64_t now_ms);
/* The pause before the lane starts over, in milliseconds. */
int64_t setbacks_pause_ms(const struct setbacks *setbacks, enum fault_kind kind);

#endif
