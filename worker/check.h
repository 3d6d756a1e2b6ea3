/* `campaign-worker check`: connects to everything a worker needs and says what it found. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>

#include "worker/base/config.h"

/* Calls say with one line for each thing found; wrong: it must be mended. Returns how many of those there were. A server
 * that is away costs about 10 s. Nothing is written but an empty transactional.id ending in ".check" in Kafka. */
int check_run(const struct config *config, void (*say)(void *arg, bool wrong, const char *line), void *arg);

#endif
