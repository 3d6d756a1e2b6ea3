/* Offsets of one partition of the commands topic, as the consumer group, the topic and partition_owner know them. */
#ifndef OFFSETS_H
#define OFFSETS_H

#include <stdbool.h>
#include <stdint.h>

#define OFFSET_NONE (-1)
#define RESUME_NONE (-1)     /* no order to resume */
#define RESUME_EARLIEST (-2) /* an order to resume at the first offset that is kept */

struct position {
	int32_t partition;
	int64_t committed; /* by the group; OFFSET_NONE: nothing committed */
	int64_t low, high; /* first offset kept; the offset after the last stable record */
	bool unknown;      /* low and high are not known: the partition's leader did not answer */
};

#endif
