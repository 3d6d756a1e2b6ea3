/* What stands before an Avro value and says with which schema it was written. Two framings are told apart by the first
 * bytes: Confluent's (00, 4-byte big-endian schema id of a registry) and Avro single-object encoding (C3 01, 8-byte
 * little-endian CRC-64-AVRO fingerprint of the writer schema's Parsing Canonical Form; Avro specification, "Single-object
 * encoding"). Single-object encoding is written. */
#ifndef FRAMING_H
#define FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/base/fault.h"

#define SINGLE_OBJECT_HEADER 10 /* bytes */

struct framing {
	bool by_id;
	uint32_t id;          /* if by_id */
	uint64_t fingerprint; /* if not */
	size_t header;        /* bytes before the value */
};

/* -1 with FAULT_REJECT: it is neither of the two. */
int framing_read(const void *data, size_t size, struct framing *framing, struct fault *fault) MUST_CHECK;
void framing_write(uint64_t fingerprint, uint8_t header[SINGLE_OBJECT_HEADER]);

#endif
