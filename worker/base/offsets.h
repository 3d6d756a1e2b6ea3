/* Offsets of one partition of the commands topic, as the consumer group, the topic and partition_owner know them. */
#ifndef OFFSETS_H
#define OFFSETS_H

#include <stdbool.h>
#include <stdint.h>

#define OFFSET_NONE (-1)
#define EXECUTED_UNKNOWN (-2) /* an earlier version wrote the partition's row last */
#define RESUME_NONE (-1)     /* no order to resume */
#define RESUME_EARLIEST (-2) /* an order to resume at the first offset that is kept */

struct position {
	int32_t partition;
	int64_t committed; /* by the group; OFFSET_NONE: nothing committed */
	bool foreign;      /* no worker of this version committed that */
	int64_t low, high; /* first offset kept; the offset after the last stable record */
	bool unknown;      /* low and high are not known: the partition's leader did not answer */
};

/* What PostgreSQL knows of a partition (partition_owner). */
struct owned {
	int64_t confirmed;   /* results below it are published; OFFSET_NONE: no batch yet */
	int64_t executed;    /* the end of what it has executed; OFFSET_NONE: nothing was begun here; or EXECUTED_UNKNOWN */
	int64_t resume_from; /* the offset that a person ordered, RESUME_EARLIEST, or RESUME_NONE */
	char other_group[256];  /* the consumer group whose partition it is; "": ours, or nobody's */
	char moved_from[128];   /* the cluster that has the partition's row, or its topic's; "": none has, or this one */
};

#endif
