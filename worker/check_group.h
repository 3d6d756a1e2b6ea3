/* The part of `check` that looks at the consumer group: its members, and partitions that a worker would halt. */
#ifndef CHECK_GROUP_H
#define CHECK_GROUP_H

#include <stdbool.h>

#include "worker/base/config.h"
#include "worker/base/findings.h"

/* database_is_sound: nothing is wrong with it that would hide the partitions' rows. Without them, only what Kafka says is looked
 * at. */
void check_group(struct findings *findings, const struct config *config, bool database_is_sound, int timeout_ms);

#endif
