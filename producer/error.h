/* Our faults as the library's errors. */
#ifndef PRODUCER_ERROR_H
#define PRODUCER_ERROR_H

#include "producer/campaign.h"
#include "worker/base/fault.h"

/* Fills the error and returns -1. */
int error_set(struct campaign_error *error, const struct fault *fault);

#endif
