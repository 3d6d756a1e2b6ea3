/* `campaign-worker check`: connects to everything a worker needs and says what it found. */
#ifndef CHECK_H
#define CHECK_H

#include "worker/base/config.h"
#include "worker/base/findings.h"
#include "worker/operation.h"

/* Adds what was found. A server that is away costs about 10 s. Nothing is written but an empty transactional.id ending in
 * ".check" in Kafka. */
void check_run(const struct config *config, const struct operation *operation, struct findings *findings);

#endif
