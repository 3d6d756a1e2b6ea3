/* Where a partition that was just assigned is to be read from: the last of the fence's rules (protocol.txt, rule 6),
 * free of Kafka and PostgreSQL so that it can be tested alone. */
#ifndef START_H
#define START_H

#include <stddef.h>
#include <stdint.h>

#include "worker/base/offsets.h"

/* Decides the offset to start from. 0 with *start (and *note, a sentence worth a log line, or NULL), or -1 if a person has
 * to decide: why (of size why_size) says what is wrong. confirmed: results below it are published (OFFSET_NONE: never
 * claimed). resume_from: offset, RESUME_EARLIEST or RESUME_NONE. */
int partition_start(const struct position *position, int64_t confirmed, int64_t resume_from, int64_t *start,
		    const char **note, char *why, size_t why_size) __attribute__((warn_unused_result));

#endif
