/* Publishes commands and tells what became of each. */
#ifndef PRODUCER_PUBLISHING_H
#define PRODUCER_PUBLISHING_H

#include "producer/options.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"

struct publishing;

/* options are borrowed until publishing_free. FAULT_WAIT, or FAULT_FATAL: there is no such topic. */
struct publishing *publishing_new(const struct options *options, struct fault *fault) MUST_CHECK;
void publishing_free(struct publishing *publishing); /* accepts NULL; drops what is not acknowledged */

/* Bytes of the commands whose report was not told yet. */
size_t publishing_unacknowledged(const struct publishing *publishing);

/* Publishes an encoded command; it is copied. FAULT_RETRY: the queue is full; FAULT_REJECT: it is too large. */
int publishing_send(struct publishing *publishing, const struct command_head *head, const struct campaign_trace *trace,
		    const void *value, size_t size, struct fault *fault) MUST_CHECK;

/* The next report, a CAMPAIGN_PUBLISHED or CAMPAIGN_NOT_PUBLISHED; false if there is none within wait_ms. */
bool publishing_next(struct publishing *publishing, int wait_ms, struct arena *arena, struct campaign_event *event);

#endif
