/* The three topics and their requirements (schemas/README.md, "Topics and keys"): missing topics are created, existing ones
 * compared. */
#ifndef TOPICS_H
#define TOPICS_H

#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/findings.h"

/* Both functions add findings and change nothing that exists. -1 with FAULT_FATAL (settings) or FAULT_WAIT (no broker
 * answered within TOPICS_TIMEOUT_MS). */
#define TOPICS_TIMEOUT_MS 10000

/* Creates the missing topics. results_partitions is for dead letters too. replication 0: 3, or the number of brokers if that
 * is less. */
int topics_create(const struct config *config, int partitions, int results_partitions, int replication,
		  struct findings *findings, struct fault *fault) MUST_CHECK;

/* Compares the cluster and the topics with the requirements. */
int topics_check(const struct config *config, struct findings *findings, struct fault *fault) MUST_CHECK;

#endif
