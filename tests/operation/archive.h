/* "Archive a campaign": an operation that the product does not have. What it is stands in this folder; the rest of the worker
 * is the product's. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include "worker/operation.h"

extern const struct operation archive_operation;

extern const char archive_command[], archive_result[]; /* Avro */
extern const char archive_execute[], archive_written[];

#endif
