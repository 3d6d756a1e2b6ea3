/* A client's options, checked and copied. */
#ifndef PRODUCER_OPTIONS_H
#define PRODUCER_OPTIONS_H

#include "producer/campaign.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"
#include "worker/base/properties.h"

struct options {
	const char *brokers, *commands, *results, *schemas, *client_id; /* NULL: not given, but for brokers and client_id */
	const struct property *properties;
	size_t property_count;
	void (*log)(void *log_arg, const struct campaign_log_line *line);
	void *log_arg;
};

/* Copies into the arena. FAULT_FATAL names the option that is missing or that nobody may set. */
int options_copy(struct options *options, const struct campaign_options *given, struct arena *arena, struct fault *fault) MUST_CHECK;

void options_log(const struct options *options, const struct campaign_log_line *line);

#endif
