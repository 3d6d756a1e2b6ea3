#include "schemas/headers.h"

#include <string.h>

#include "schemas/id.h"

#define TRACESTATE_MAX 512 /* W3C Trace Context, 3.3.1.5 */

static bool is_lower_hex(const char *s, size_t n)
{
	return strspn(s, "0123456789abcdef") >= n;
}

/* version "-" trace-id "-" parent-id "-" trace-flags; neither id is all zeros (W3C Trace Context, 3.2). */
static bool is_traceparent(const struct header *header)
{
	char s[56];

	if (header == NULL || header->size != 55)
		return false;
	memcpy(s, header->value, 55);
	s[55] = '\0';
	return is_lower_hex(s, 2) && s[2] == '-' && is_lower_hex(s + 3, 32) && s[35] == '-' && is_lower_hex(s + 36, 16) &&
	       s[52] == '-' && is_lower_hex(s + 53, 2) && memcmp(s, "ff", 2) != 0 && strspn(s + 3, "0") < 32 &&
	       strspn(s + 36, "0") < 16;
}

static bool is_tracestate(const struct header *header)
{
	if (header == NULL || header->size == 0 || header->size > TRACESTATE_MAX)
		return false;
	for (size_t i = 0; i < header->size; i++) {
		unsigned char c = ((const unsigned char *)header->value)[i];

		if ((c < 0x20 && c != '\t') || c > 0x7e)
			return false;
	}
	return true;
}

static bool is_trace_id(const struct header *header)
{
	char id[CAMPAIGN_ID_MAX + 1];

	if (header->value == NULL || header->size > CAMPAIGN_ID_MAX || memchr(header->value, '\0', header->size))
		return false;
	memcpy(id, header->value, header->size);
	id[header->size] = '\0';
	return id_is_well_formed(id);
}

static const struct header *find_last(const struct record *record, const char *name)
{
	for (size_t i = record->header_count; i-- > 0;)
		if (strcmp(record->headers[i].name, name) == 0)
			return &record->headers[i];
	return NULL;
}

struct trace_headers headers_find_trace(const struct record *record)
{
	struct trace_headers found = { 0 };
	const struct header *parent = find_last(record, "traceparent"), *state = find_last(record, "tracestate");

	for (size_t i = record->header_count; i-- > 0 && found.trace_id == NULL;)
		if (strcmp(record->headers[i].name, "traceId") == 0 && is_trace_id(&record->headers[i]))
			found.trace_id = &record->headers[i];
	if (is_traceparent(parent))
		found.parent = parent;
	if (found.parent && is_tracestate(state))
		found.state = state;
	return found;
}
