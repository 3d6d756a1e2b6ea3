#include "worker/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "worker/base/must.h"

#define YEAR_1_MS INT64_C(-62135596800000)
#define YEAR_10000_MS INT64_C(253402300800000)

static int64_t now_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_monotonic_us(void)
{
	return now_us(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void)
{
	return now_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_wall_ms(void)
{
	return now_us(CLOCK_REALTIME) / 1000;
}

int64_t clock_clamp(int64_t ms)
{
	if (ms < YEAR_1_MS)
		return YEAR_1_MS;
	return ms < YEAR_10000_MS ? ms : YEAR_10000_MS - 1;
}

char *clock_format(int64_t ms, char *buf)
{
	int64_t clamped = clock_clamp(ms), rest = (clamped % 1000 + 1000) % 1000;
	char text[96]; /* any int fits the fields of struct tm; a date of these years fits TIME_TEXT_SIZE */
	time_t t = (time_t)((clamped - rest) / 1000);
	struct tm tm;

	must_be(gmtime_r(&t, &tm) != NULL);
	snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		 tm.tm_hour, tm.tm_min, tm.tm_sec, (int)rest);
	snprintf(buf, TIME_TEXT_SIZE, "%.*s", (int)TIME_TEXT_SIZE - 1, text);
	return buf;
}

int clock_parse(const char *text, int64_t *ms)
{
	struct tm tm = { 0 };
	char again[TIME_TEXT_SIZE];
	int rest = 0;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
		   &tm.tm_sec, &rest) != 7)
		return -1;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	*ms = (int64_t)timegm(&tm) * 1000 + rest;
	return strcmp(clock_format(*ms, again), text) == 0 ? 0 : -1; /* refuses 31 February, blanks, trailing text */
}

void clock_sleep_us(int64_t us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	while (us > 0 && nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

void clock_sleep_ms(int64_t ms)
{
	if (ms > 0)
		clock_sleep_us(ms * 1000);
}
