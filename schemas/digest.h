/* The digest of a command: two commands of one trace with the same digest are the same command. SHA-256 over the fields that
 * have a place in the digest (struct field), in the order of their places. */
#ifndef DIGEST_H
#define DIGEST_H

#include <stdint.h>

#include "schemas/field.h"
#include "schemas/types.h"

/* type is the command's. Texts must be sorted and distinct. */
void digest_fields(const struct record_type *type, const void *command, uint8_t digest[CAMPAIGN_DIGEST_BYTES]);

#endif
