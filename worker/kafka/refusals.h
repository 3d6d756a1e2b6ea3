/* What brokers refuse a client for, as the person who runs it has to know it. */
#ifndef REFUSALS_H
#define REFUSALS_H

#include "worker/base/config.h"
#include "worker/base/findings.h"

/* What has to change after that error of librdkafka's; NULL: it is none that a change of ours ends. */
const char *refusal_of(int err);

/* Finds what a worker's membership would be refused for, without joining: the session's timeout, and members of the group with another
 * strategy. What this user may not ask for is passed over. */
void refusals_check(const struct config *config, struct findings *findings, int timeout_ms);

#endif
