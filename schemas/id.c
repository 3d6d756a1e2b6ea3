#include "schemas/id.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "schemas/types.h"
#include "worker/base/must.h"

#define RANDOM_BYTES (NEW_ID_CHARS / 2 - 4) /* of an id, behind the seconds */

/* Looked up: leads have more characters than all the rest of a command. */
static bool is_id_char(char c)
{
	static const bool of_ids[UCHAR_MAX + 1] = {
		['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['_'] = true, ['-'] = true,
	};

	return of_ids[(unsigned char)c];
}

bool id_is_well_formed(const char *id)
{
	size_t len = 0;

	if (id == NULL)
		return false;
	while (len <= CAMPAIGN_ID_MAX && is_id_char(id[len]))
		len++;
	return len >= 1 && len <= CAMPAIGN_ID_MAX && id[len] == '\0' && strncmp(id, "sk_", 3) != 0;
}

const char *id_refuse(const char *field, const char *id, struct arena *arena)
{
	if (id == NULL)
		return arena_printf(arena, "%s is missing", field);
	if (strncmp(id, "sk_", 3) == 0)
		return arena_printf(arena, "%s is not a well-formed id: it begins with sk_, as an API key does", field);
	return arena_printf(arena, "%s is not a well-formed id: 1 to %d of A-Z a-z 0-9 _ -", field, CAMPAIGN_ID_MAX);
}

/* By the 32: the system call costs more than the bytes. */
static void take_random(uint8_t bytes[RANDOM_BYTES])
{
	static _Thread_local uint8_t pool[32 * RANDOM_BYTES];
	static _Thread_local size_t left;
	ssize_t got;

	if (left == 0) {
		do /* up to 256 bytes come whole or not at all */
			got = getrandom(pool, sizeof pool, 0);
		while (got < 0 && errno == EINTR);
		must_be(got == sizeof pool);
		left = sizeof pool;
	}
	left -= RANDOM_BYTES;
	memcpy(bytes, pool + left, RANDOM_BYTES);
}

void id_new(char id[NEW_ID_CHARS + 1])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t bytes[NEW_ID_CHARS / 2];
	uint32_t seconds = (uint32_t)time(NULL);

	take_random(bytes + 4);
	for (int i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(seconds >> (24 - 8 * i));
	for (size_t i = 0; i < sizeof bytes; i++) {
		id[2 * i] = hex[bytes[i] >> 4];
		id[2 * i + 1] = hex[bytes[i] & 15];
	}
	id[NEW_ID_CHARS] = '\0';
}
