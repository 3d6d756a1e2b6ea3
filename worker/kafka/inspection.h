/* A look at the cluster by somebody who is no member of the group: for `check`. */
#ifndef INSPECTION_H
#define INSPECTION_H

#include <stddef.h>

#include "worker/base/config.h"
#include "worker/base/fault.h"
#include "worker/base/offsets.h"

struct inspection;

/* A consumer of the group that joins nothing. FAULT_FATAL: a property that librdkafka refuses. */
struct inspection *inspection_new(const struct config *config, struct fault *fault) MUST_CHECK;
void inspection_free(struct inspection *inspection); /* accepts NULL */

/* The partitions of the commands topic, to be freed; 0: not known, and positions is NULL. */
size_t inspection_partitions(struct inspection *inspection, struct position **positions, int timeout_ms);
/* Sets committed. */
int inspection_committed(struct inspection *inspection, struct position *positions, size_t n, int timeout_ms,
			 struct fault *fault) MUST_CHECK;
/* Sets low and high; fails if one of them cannot be had. */
int inspection_ends(struct inspection *inspection, struct position *positions, size_t n, int timeout_ms, struct fault *fault) MUST_CHECK;

/* Whether a producer of that transactional.id can be initialised, which ends what one of this name left pending. */
int inspection_begin_transactions(const struct config *config, const char *transactional_id, int timeout_ms,
				  struct fault *fault) MUST_CHECK;

#endif
