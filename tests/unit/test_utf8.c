#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "worker/base/utf8.h"

static void reads_every_code_point(void **state)
{
	(void)state;
	for (int32_t c = 1; c <= 0x10ffff; c++) {
		char text[4];
		const char *at = text;
		size_t len = 0;

		if (c < 0x80) {
			text[len++] = (char)c;
		} else if (c < 0x800) {
			text[len++] = (char)(0xc0 | c >> 6);
		} else {
			if (c >= 0x10000)
				text[len++] = (char)(0xf0 | c >> 18);
			text[len++] = (char)(c < 0x10000 ? 0xe0 | c >> 12 : 0x80 | (c >> 12 & 0x3f));
			text[len++] = (char)(0x80 | (c >> 6 & 0x3f));
		}
		if (c >= 0x80)
			text[len++] = (char)(0x80 | (c & 0x3f));
		if (c >= 0xd800 && c <= 0xdfff) {
			assert_int_equal(utf8_next(&at, text + len), -1);
			assert_ptr_equal(at, text);
			continue;
		}
		assert_int_equal(utf8_next(&at, text + len), c);
		assert_ptr_equal(at, text + len);
		at = text;
		assert_int_equal(utf8_next(&at, text + len - 1 + (len == 1)), len == 1 ? c : -1); /* cut off */
	}
}

static void tells_text(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		bool is_text;
	} cases[] = {
		{ "", 0, true },
		{ "0123456789abcdef", 16, true },
		{ "01234567\xc3\xa4 89abcdef", 19, true },
		{ "\xf0\x9f\x99\x82", 4, true },
		{ "\xef\xbf\xbf", 3, true },             /* U+FFFF is a code point like others */
		{ "\0", 1, false },
		{ "0123\0" "567", 8, false },            /* among eight at once */
		{ "0123456\0", 8, false },
		{ "012345678\0", 10, false },
		{ "\x80", 1, false },
		{ "0123456\x80", 8, false },
		{ "\xc3", 1, false },
		{ "\xc0\x80", 2, false },                /* overlong NUL, as Java's modified UTF-8 has it */
		{ "\xc1\xbf", 2, false },
		{ "\xe0\x9f\xbf", 3, false },
		{ "\xf0\x8f\xbf\xbf", 4, false },
		{ "\xed\xa0\xbd\xed\xb9\x82", 6, false }, /* surrogates */
		{ "\xf4\x90\x80\x80", 4, false },
		{ "\xf5\x80\x80\x80", 4, false },
		{ "\xfe\xff", 2, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_int_equal(utf8_is_text(cases[i].text, cases[i].len), cases[i].is_text);
}

/* How many code points are blank, in ranges that stand for the tables of Unicode: Default_Ignorable_Code_Point has 4,174 (its
 * controls of direction among them), White_Space 25 without the controls' 6, and one is a Braille pattern. */
static void tells_blanks(void **state)
{
	static const int32_t blank[] = { 0x20, 0xa0, 0xad, 0x34f, 0x61c, 0x115f, 0x1160, 0x1680, 0x17b4, 0x180b, 0x180e, 0x2000, 0x200d, 0x2028,
					 0x202f, 0x2060, 0x2061, 0x2064, 0x206a, 0x206f, 0x2800, 0x3000, 0x3164, 0xfe0f, 0xfeff, 0xffa0,
					 0xfff0, 0x1bca0, 0x1d17a, 0xe0000, 0xe0100, 0xe0fff };
	static const int32_t seen[] = { 0x21, 0xa1, 0x115e, 0x1161, 0x1810, 0x2010, 0x2070, 0x2801, 0xfe10, 0xfff9, 0xfffd, 0x1f642, 0xdffff, 0xe1000 };
	int count = 0;

	(void)state;
	for (size_t i = 0; i < sizeof blank / sizeof blank[0]; i++)
		assert_true(utf8_is_blank(blank[i]));
	for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++)
		assert_false(utf8_is_blank(seen[i]));
	for (int32_t c = 0; c <= 0x10ffff; c++)
		count += utf8_is_blank(c);
	assert_int_equal(count, 4174 + 19 + 1);
}

static void tells_noncharacters(void **state)
{
	int count = 0;

	(void)state;
	for (int32_t c = 0; c <= 0x10ffff; c++)
		count += utf8_is_noncharacter(c);
	assert_int_equal(count, 66); /* The Unicode Standard, 23.7 */
	assert_true(utf8_is_noncharacter(0xfdd0) && utf8_is_noncharacter(0xfdef) && utf8_is_noncharacter(0xfffe));
	assert_true(utf8_is_noncharacter(0x1ffff) && utf8_is_noncharacter(0x10fffe));
	assert_false(utf8_is_noncharacter(0xfdcf) || utf8_is_noncharacter(0xfdf0) || utf8_is_noncharacter(0xfffd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_code_point),
		cmocka_unit_test(tells_text),
		cmocka_unit_test(tells_blanks),
		cmocka_unit_test(tells_noncharacters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
