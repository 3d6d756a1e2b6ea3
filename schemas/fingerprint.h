/* The identity of an Avro schema. */
#ifndef FINGERPRINT_H
#define FINGERPRINT_H

#include <stdint.h>

#include "worker/base/fault.h"

/* CRC-64-AVRO of the Parsing Canonical Form of a schema text; canonical (if not NULL) receives the form, to be freed. */
int schema_fingerprint(const char *schema_json, uint64_t *fingerprint, char **canonical, struct fault *fault) MUST_CHECK;

#endif
