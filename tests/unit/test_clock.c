#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "worker/base/clock.h"

static void writes_times_and_reads_them_again(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ 1, "1970-01-01T00:00:00.001Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
		{ 951827696789, "2000-02-29T12:34:56.789Z" },
		{ 1700000000000, "2023-11-14T22:13:20.000Z" },
		{ 253402300799999, "9999-12-31T23:59:59.999Z" },
		{ -62135596800000, "0001-01-01T00:00:00.000Z" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char buf[TIME_TEXT_SIZE];
		int64_t ms = 42;

		assert_string_equal(clock_format(cases[i].ms, buf), cases[i].text);
		assert_int_equal(clock_parse(cases[i].text, &ms), 0);
		assert_int_equal(ms, cases[i].ms);
	}
}

static void writes_any_time(void **state)
{
	char buf[TIME_TEXT_SIZE];

	(void)state;
	assert_string_equal(clock_format(INT64_MAX, buf), "9999-12-31T23:59:59.999Z");
	assert_string_equal(clock_format(253402300800000, buf), "9999-12-31T23:59:59.999Z");
	assert_string_equal(clock_format(-62135596800001, buf), "0001-01-01T00:00:00.000Z");
	assert_string_equal(clock_format(INT64_MIN, buf), "0001-01-01T00:00:00.000Z");
}

static void refuses_other_forms(void **state)
{
	static const char *const bad[] = {
		"", "1700000000000", "2023-11-14", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20.000", "2023-11-14 22:13:20.000Z",
		"2023-11-14T22:13:20.000+00:00", "2023-11-14T22:13:20.000Z ", " 2023-11-14T22:13:20.000Z", "2023-02-29T00:00:00.000Z",
		"2023-13-01T00:00:00.000Z", "2023-11-14T24:00:00.000Z", "2023-11-14T22:13:60.000Z", "2023-11-14T22:13:20.00Z",
		"+023-11-14T22:13:20.000Z", "2023-11--4T22:13:20.000Z",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		int64_t ms;

		if (clock_parse(bad[i], &ms) == 0)
			fail_msg("accepted: %s", bad[i]);
	}
}

static void sleeps_as_long_as_asked(void **state)
{
	int64_t start = clock_monotonic_ms();

	(void)state;
	clock_sleep_ms(-5000);
	clock_sleep_ms(INT64_MIN);
	clock_sleep_ms(0);
	clock_sleep_us(-1);
	clock_sleep_us(0);
	start = clock_monotonic_ms();
	clock_sleep_ms(20);
	assert_true(clock_monotonic_ms() - start >= 19);
	start = clock_monotonic_us();
	clock_sleep_us(1500);
	assert_true(clock_monotonic_us() - start >= 1500);
	assert_true(clock_wall_ms() > 1700000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_times_and_reads_them_again),
		cmocka_unit_test(writes_any_time),
		cmocka_unit_test(refuses_other_forms),
		cmocka_unit_test(sleeps_as_long_as_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
