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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_code_point),
		cmocka_unit_test(tells_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
