/* The part of `check` that looks at the consumer group: its members, and partitions that a worker would halt. */
#ifndef CHECK_GROUP_H
#define CHECK_GROUP_H

#include "worker/base/config.h"
#include "worker/base/findings.h"

void check_group(struct findings *findings, const struct config *config, int timeout_ms);

#endif
