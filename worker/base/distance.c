#include "worker/base/distance.h"

#include <stdint.h>
#include <string.h>

size_t distance_between(const char *a, const char *b)
{
	size_t row[64], len = strlen(b);

	if (len >= 63 || strlen(a) >= 63)
		return SIZE_MAX;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t corner = row[0];

		row[0] = i + 1;
		for (size_t j = 1; j <= len; j++) {
			size_t change = corner + (a[i] != b[j - 1]), insert = row[j - 1] + 1, drop = row[j] + 1;

			corner = row[j];
			row[j] = change < insert ? change : insert;
			row[j] = row[j] < drop ? row[j] : drop;
		}
	}
	return row[len];
}
