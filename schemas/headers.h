/* Headers of a command's record that mean something to the worker. The last one of a name counts. */
#ifndef HEADERS_H
#define HEADERS_H

#include "schemas/record.h"

struct trace_headers { /* NULL: there is none that is well-formed */
	const struct header *trace_id;       /* the last one that is well-formed */
	const struct header *parent, *state; /* W3C Trace Context; state only with parent */
};

struct trace_headers headers_find_trace(const struct record *record);

#endif
