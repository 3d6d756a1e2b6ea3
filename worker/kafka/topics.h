/* The three topics: what they must be like (schemas/README.md, "Topics and keys"), made where they are missing, compared where they exist. */
#ifndef TOPICS_H
#define TOPICS_H

#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/findings.h"

/* Both add what they find. -1 with FAULT_FATAL (settings) or FAULT_WAIT (no broker answered within TOPICS_TIMEOUT_MS). Nothing
 * that exists is changed. */
#define TOPICS_TIMEOUT_MS 10000

/* Creates those that are missing. results_partitions is for dead letters too. replication 0: 3, or the number of brokers if
 * that is less. */
int topics_create(const struct config *config, int partitions, int results_partitions, int replication,
		  struct findings *findings, struct fault *fault) MUST_CHECK;

/* Looks at the cluster and the topics. */
int topics_check(const struct config *config, struct findings *findings, struct fault *fault) MUST_CHECK;

#endif
