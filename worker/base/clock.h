/* Time. Deadlines and pauses use the monotonic clock; the wall clock is only shown, never decided upon. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define TIME_TEXT_SIZE sizeof "-292275055-01-01T00:00:00.000Z"

int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_us(void);
int64_t clock_wall_ms(void); /* since the Unix epoch */

/* Writes YYYY-MM-DDTHH:MM:SS.mmmZ (UTC) of ms since the epoch into buf of at least TIME_TEXT_SIZE bytes; returns buf. */
char *clock_format(int64_t ms, char *buf);
/* The reverse, of exactly that form and of dates that exist; -1 otherwise. */
int clock_parse(const char *text, int64_t *ms) __attribute__((warn_unused_result));
void clock_sleep_ms(int64_t ms);
void clock_sleep_us(int64_t us);

#endif
