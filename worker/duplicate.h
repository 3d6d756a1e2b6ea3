/* The operation "duplicate a campaign into a draft". */
#ifndef WORKER_DUPLICATE_H
#define WORKER_DUPLICATE_H

#include "worker/operation.h"

extern const struct operation duplicate_operation;

#endif
