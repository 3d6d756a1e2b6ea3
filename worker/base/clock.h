/* Clocks. Deadlines and pauses use the monotonic clock. No decision rests on the wall clock. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define TIME_TEXT_SIZE sizeof "-292275055-01-01T00:00:00.000Z"

int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_us(void);
int64_t clock_wall_ms(void); /* since the Unix epoch */

/* Writes ms since the Unix epoch as YYYY-MM-DDTHH:MM:SS.mmmZ (UTC) into buf of at least TIME_TEXT_SIZE bytes; returns buf. */
char *clock_format(int64_t ms, char *buf);
/* Reads a text of exactly that form. -1: another form, or a date that does not exist. */
int clock_parse(const char *text, int64_t *ms) __attribute__((warn_unused_result));
void clock_sleep_ms(int64_t ms);
void clock_sleep_us(int64_t us);

#endif
