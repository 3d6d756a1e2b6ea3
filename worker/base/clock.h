/* Clocks. Deadlines and pauses use the monotonic clock. No decision rests on the wall clock. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define TIME_TEXT_SIZE sizeof "9999-12-31T23:59:59.999Z"

int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_us(void);
int64_t clock_wall_ms(void); /* since the Unix epoch */

/* The nearest of the times that have a text, those of the years 1 to 9999. */
int64_t clock_clamp(int64_t ms);
/* Writes ms since the Unix epoch, clamped, as YYYY-MM-DDTHH:MM:SS.mmmZ (UTC) into buf of at least TIME_TEXT_SIZE bytes; returns
 * buf. */
char *clock_format(int64_t ms, char *buf);
/* Reads a text of exactly that form. -1: another form, or a date that does not exist. */
int clock_parse(const char *text, int64_t *ms) __attribute__((warn_unused_result));
void clock_sleep_ms(int64_t ms);
void clock_sleep_us(int64_t us);

#endif
