#include "producer/error.h"

#include <stdio.h>

static enum campaign_error_kind kind_of(enum fault_kind kind)
{
	switch (kind) {
	case FAULT_RETRY:
		return CAMPAIGN_ERROR_BUSY;
	case FAULT_REJECT:
		return CAMPAIGN_ERROR_REJECT;
	case FAULT_WAIT:
		return CAMPAIGN_ERROR_AWAY;
	default:
		return CAMPAIGN_ERROR_FATAL;
	}
}

int error_set(struct campaign_error *error, const struct fault *fault)
{
	error->kind = kind_of(fault->kind);
	snprintf(error->message, sizeof error->message, "%s", fault->msg);
	return -1;
}
