/* `check`: whether a publisher's transaction that is not ended holds up everybody behind it. */
#ifndef CHECK_STABLE_H
#define CHECK_STABLE_H

#include "worker/base/config.h"
#include "worker/base/findings.h"

/* Adds its findings. Where a transaction is open it looks again after some seconds: one in flight is none. */
void check_stable(struct findings *findings, const struct config *config, int timeout_ms);

#endif
