/* Where a partition that was just assigned is to be read from: the last of the fence's rules (protocol.txt, rule 6),
 * free of Kafka and PostgreSQL so that it can be tested alone. */
#ifndef PARTITION_H
#define PARTITION_H

#include <stdbool.h>
#include <stddef.h>
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

/* Decides the offset to start from. 0 with *start (and *note, a sentence worth a log line, or NULL), or -1 if a person has
 * to decide: why (of size why_size) says what is wrong. confirmed: results below it are published (OFFSET_NONE: never
 * claimed). resume_from: offset, RESUME_EARLIEST or RESUME_NONE. */
int partition_start(const struct position *position, int64_t confirmed, int64_t resume_from, int64_t *start,
		    const char **note, char *why, size_t why_size) __attribute__((warn_unused_result));

#endif
