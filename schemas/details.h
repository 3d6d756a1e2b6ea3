/* The details of a refusal, from a reason's template:
 *
 *   {campaignId}   that field of the command (times as YYYY-MM-DDTHH:MM:SS.mmmZ)
 *   {1}, {2} ...   the texts that the statement gave
 *   {1:rate}       a rate, from microseconds a command: "10 per second", "1 per minute", "1 per 0.7 s"
 *   {1:list}       the first few ids, comma-separated, of as many as text 2 says: "lead_1, lead_2 and 3 more"
 *   [ ... ]        is left out where a text within is null */
#ifndef DETAILS_H
#define DETAILS_H

#include <stddef.h>

#include "schemas/field.h"
#include "worker/base/arena.h"

/* type is the command's. texts: NULL for a null. What a template names and nobody gave is said as "". In the arena. */
const char *details_format(const char *template, const struct record_type *type, const void *command, const char *const *texts,
			   size_t count, struct arena *arena);

#endif
