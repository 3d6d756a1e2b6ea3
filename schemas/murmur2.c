#include "schemas/murmur2.h"

uint32_t murmur2_positive(const void *key, size_t len)
{
	const uint32_t multiplier = 0x5bd1e995;
	const uint8_t *p = key;
	uint32_t hash = 0x9747b28c ^ (uint32_t)len;

	for (; len >= 4; p += 4, len -= 4) {
		uint32_t word = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;

		word *= multiplier;
		word ^= word >> 24;
		word *= multiplier;
		hash = hash * multiplier ^ word;
	}
	if (len == 3)
		hash ^= (uint32_t)p[2] << 16;
	if (len >= 2)
		hash ^= (uint32_t)p[1] << 8;
	if (len >= 1)
		hash = (hash ^ p[0]) * multiplier;
	hash ^= hash >> 13;
	hash *= multiplier;
	hash ^= hash >> 15;
	return hash & 0x7fffffff;
}
