#include "worker/base/kafka_log.h"

#include <ctype.h>
#include <string.h>

/* librdkafka's severities are about its own work: a refused connection is an error there, and a warning here because it is
 * tried again. */
static enum log_level level_of(int severity)
{
	return severity <= 2 ? LEVEL_ERROR : severity <= 4 ? LEVEL_WARN : severity <= 6 ? LEVEL_INFO : LEVEL_DEBUG;
}

bool kafka_line_read(int severity, const char *facility, const char *text, struct kafka_line *line)
{
	const char *end;
	size_t n;

	/* Every client is given all of the user's properties. */
	if (strcmp(facility, "CONFWARN") == 0 && strstr(text, "property and will be ignored by this"))
		return false;
	*line = (struct kafka_line){ .level = level_of(severity), .event = "kafka_", .msg = text };
	for (n = strlen(line->event); *facility && n < sizeof line->event - 1; facility++)
		line->event[n++] = (char)tolower((unsigned char)*facility);
	if (strncmp(text, "[thrd:", 6) == 0 && (end = strstr(text, "]: ")) != NULL)
		line->msg = end + 3;
	return true;
}
