/* librdkafka's log lines in the terms of our log. librdkafka itself is not known here. */
#ifndef KAFKA_LOG_H
#define KAFKA_LOG_H

#include <stdbool.h>

#include "worker/base/log.h"

struct kafka_line {
	enum log_level level;
	char event[48]; /* kafka_<facility> */
	const char *msg; /* points into the line's text */
};

/* What librdkafka logs with that severity, facility and text; false: the line says nothing that one wants to know. */
bool kafka_line_read(int severity, const char *facility, const char *text, struct kafka_line *line);

#endif
