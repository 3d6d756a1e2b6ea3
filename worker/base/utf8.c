#include "worker/base/utf8.h"

#include <string.h>

static int sequence_length(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		return 2;
	if (first >= 0xe0 && first <= 0xef)
		return 3;
	if (first >= 0xf0 && first <= 0xf4)
		return 4;
	return 0;
}

int32_t utf8_next(const char **s, const char *end)
{
	static const unsigned char first_bits[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	static const int32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = (const unsigned char *)*s;
	int len = sequence_length(*p);
	int32_t c;

	if (len == 0 || len > end - *s)
		return -1;
	c = *p & first_bits[len];
	for (int i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return -1;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return -1;
	*s += len;
	return c;
}

bool utf8_is_text(const char *s, size_t len)
{
	const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;
	const char *end = s + len;

	while (s < end) {
		uint64_t word;

		if (end - s >= 8) { /* eight ASCII characters at once: ids hold no others */
			memcpy(&word, s, 8);
			if ((word & highs) == 0 && ((word - ones) & highs) == 0) {
				s += 8;
				continue;
			}
		}
		if (utf8_next(&s, end) <= 0)
			return false;
	}
	return true;
}
