/* Ids: of traces, account groups, campaigns, audiences and leads. */
#ifndef ID_H
#define ID_H

#include <stdbool.h>

#include "worker/base/arena.h"

#define NEW_ID_CHARS 24 /* of a new id: lowercase hex */

bool id_is_well_formed(const char *id); /* 1 to CAMPAIGN_ID_MAX of [A-Za-z0-9_-], not beginning with "sk_"; NULL is not */

/* Why that field's id is refused (arena), without showing it: an id that is not well-formed may be an API key (sk_...) or
 * markup. */
const char *id_refuse(const char *field, const char *id, struct arena *arena);

/* A new campaign's id: seconds since the epoch, then random bytes, as 24 lowercase hex characters and a NUL. */
void id_new(char id[NEW_ID_CHARS + 1]);

#endif
