/* `campaign-worker check`: connects to every server that a worker needs and reports its findings. */
#ifndef CHECK_H
#define CHECK_H

#include "worker/base/config.h"
#include "worker/base/findings.h"
#include "worker/operation.h"

/* Adds its findings. A server that is away costs about 10 s. The only trace left is a transactional.id ending in "/check" in
 * Kafka. */
void check_run(const struct config *config, const struct operation *operation, struct findings *findings);

#endif
