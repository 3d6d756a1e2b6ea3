#include "worker/db/identifier.h"

#include <stddef.h>

char *identifier_quote(const char *name, char quoted[IDENTIFIER_QUOTED_SIZE])
{
	size_t n = 0;

	quoted[n++] = '"';
	for (; *name && n < IDENTIFIER_QUOTED_SIZE - 3; name++) {
		quoted[n++] = *name;
		if (*name == '"')
			quoted[n++] = '"';
	}
	quoted[n++] = '"';
	quoted[n] = '\0';
	return quoted;
}
