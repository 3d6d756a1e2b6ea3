#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "worker/db/params.h"

static void assert_param(const struct params *params, int place, const void *bytes, size_t size)
{
	assert_true(place < params->count);
	assert_int_equal(params->places[place].length, size);
	assert_memory_equal(params->data + params->places[place].start, bytes, size);
}

static void takes_any_number_of_parameters(void **state)
{
	struct params params = { 0 };
	char text[16];

	(void)state;
	for (int round = 0; round < 2; round++) {
		params_reset(&params);
		for (int i = 0; i < 1000; i++) {
			snprintf(text, sizeof text, "%d", i);
			params_add_text(&params, text);
		}
		assert_int_equal(params.count, 1000);
		for (int i = 0; i < 1000; i++) {
			snprintf(text, sizeof text, "%d", i);
			assert_param(&params, i, text, strlen(text));
		}
	}
	params_free(&params);
}

static void writes_numbers_in_network_order(void **state)
{
	struct params params = { 0 };

	(void)state;
	params_add_int4(&params, -2);
	params_add_int8(&params, 0x0102030405060708);
	assert_param(&params, 0, "\xff\xff\xff\xfe", 4);
	assert_param(&params, 1, "\1\2\3\4\5\6\7\10", 8);
	params_free(&params);
}

static void writes_arrays_as_postgresql_receives_them(void **state)
{
	static const char texts[] = "\0\0\0\1" "\0\0\0\1" "\0\0\0\31" "\0\0\0\4" "\0\0\0\1" /* 1 dimension of 4 from 1, OID 25 */
				    "\0\0\0\2ab" "\xff\xff\xff\xff" "\0\0\0\0" "\0\0\0\4c,de";
	static const char empty[] = "\0\0\0\0" "\0\0\0\1" "\0\0\0\27"; /* no dimension, OID 23 */
	static const char *const strings[] = { "c", "de" };
	struct params params = { 0 };

	(void)state;
	params_array_begin(&params, PARAM_TEXT);
	params_array_text(&params, "ab");
	params_array_text(&params, NULL);
	params_array_text(&params, "");
	params_array_joined(&params, strings, 2);
	params_array_end(&params);
	params_array_begin(&params, PARAM_INT4);
	params_array_end(&params);
	params_add_text(&params, "behind");
	assert_param(&params, 0, texts, sizeof texts - 1);
	assert_param(&params, 1, empty, sizeof empty - 1);
	assert_param(&params, 2, "behind", 6);
	params_free(&params);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_any_number_of_parameters),
		cmocka_unit_test(writes_numbers_in_network_order),
		cmocka_unit_test(writes_arrays_as_postgresql_receives_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
