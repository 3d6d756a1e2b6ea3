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

struct range {
	int32_t first, last;
};

/* Sorted. White_Space is PropList.txt's without the controls, and Default_Ignorable_Code_Point is DerivedCoreProperties.txt's
 * (Unicode 14.0; most of its unassigned code points are there, so that later ones are covered). U+2800 is the empty Braille
 * pattern, of neither property. */
static const struct range blanks[] = {
	{ 0x0020, 0x0020 },   /* white space */
	{ 0x00a0, 0x00a0 },   /* white space */
	{ 0x00ad, 0x00ad },   /* soft hyphen */
	{ 0x034f, 0x034f },   /* combining grapheme joiner */
	{ 0x061c, 0x061c },   /* Arabic letter mark */
	{ 0x115f, 0x1160 },   /* Hangul fillers */
	{ 0x1680, 0x1680 },   /* white space */
	{ 0x17b4, 0x17b5 },   /* Khmer inherent vowels */
	{ 0x180b, 0x180f },   /* Mongolian variation selectors and vowel separator */
	{ 0x2000, 0x200f },   /* white space; zero-width space, joiners, directional marks */
	{ 0x2028, 0x202f },   /* separators, embeddings and overrides; white space */
	{ 0x205f, 0x206f },   /* white space; word joiner, invisible operators, isolates, deprecated format characters */
	{ 0x2800, 0x2800 },   /* Braille pattern blank */
	{ 0x3000, 0x3000 },   /* white space */
	{ 0x3164, 0x3164 },   /* Hangul filler */
	{ 0xfe00, 0xfe0f },   /* variation selectors */
	{ 0xfeff, 0xfeff },   /* zero-width no-break space */
	{ 0xffa0, 0xffa0 },   /* halfwidth Hangul filler */
	{ 0xfff0, 0xfff8 },   /* unassigned */
	{ 0x1bca0, 0x1bca3 }, /* shorthand format controls */
	{ 0x1d173, 0x1d17a }, /* musical format controls */
	{ 0xe0000, 0xe0fff }, /* tags, variation selectors */
};

bool utf8_is_blank(int32_t c)
{
	for (size_t i = 0; i < sizeof blanks / sizeof blanks[0] && c >= blanks[i].first; i++)
		if (c <= blanks[i].last)
			return true;
	return false;
}

bool utf8_is_noncharacter(int32_t c)
{
	return (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe;
}
