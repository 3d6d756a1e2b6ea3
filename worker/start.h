/* The start offset of a partition that was just assigned (protocol.txt, rule 6 of the fence). It needs neither Kafka nor
 * PostgreSQL, so that it can be tested alone. */
#ifndef START_H
#define START_H

#include <stddef.h>
#include <stdint.h>

#include "worker/base/offsets.h"

/* Decides the offset to start from. 0: *start is set, and *note is a sentence for the log or NULL. -1: a person has to
 * decide; why (of size why_size) says the reason. confirmed: results below it are published (OFFSET_NONE: never claimed).
 * resume_from: an offset, RESUME_EARLIEST or RESUME_NONE. */
int partition_start(const struct position *position, int64_t confirmed, int64_t resume_from, int64_t *start,
		    const char **note, char *why, size_t why_size) __attribute__((warn_unused_result));

#endif
