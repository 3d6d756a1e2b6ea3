/* The log: one line per event on stderr, key=value or JSON. Thread-safe; a line is one write(2). A line whose write fails or
 * would block (disk full, stderr closed, its reader stopped) is dropped and counted: the log never holds up the work. Never
 * pass a payload, a key digest or a connection string. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARN, LEVEL_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

#define LOG_LINE_BYTES 4096 /* longest line; a longer one is cut and says cut=true. PIPE_BUF on Linux */

/* Call it before other threads start. Without it: text, LEVEL_INFO. A closed stderr is replaced by /dev/null, so that no
 * socket can take its number and receive our lines. */
void log_init(enum log_format format, enum log_level least);
/* For tests. log_set_fd sends lines to fd and clears counts and classes; log_set_clock replaces the clock of the rate limit. */
void log_set_fd(int fd);
void log_set_clock(int64_t (*now_ms)(void));

/* event: a stable word ("batch_dropped"), also the class for rate limiting. Of a class 10 lines are written within 10 s; the
 * others are suppressed, and the next line of the class carries suppressed=<count>. Not limited are debug lines, which
 * somebody asked for, and the events partition_halted, transaction_open and fatal, which name something that a person has to
 * act on.
 * msg: a sentence for a person. Then pairs of const char *key, const char *value, ended by NULL; a NULL value is left out.
 * Values may hold any bytes. */
void log_event(enum log_level level, const char *event, const char *msg, ...) __attribute__((sentinel));

/* Whether lines of that level are written. A caller asks before it makes expensive values. */
bool log_is_on(enum log_level level);

/* An integer as text, for use in an argument list: log_int((char[LOG_INT_SIZE]){0}, n). */
#define LOG_INT_SIZE 24
const char *log_int(char buf[LOG_INT_SIZE], int64_t n);
#define LOG_INT(n) log_int((char[LOG_INT_SIZE]){ 0 }, (n))

#define log_debug(...) log_event(LEVEL_DEBUG, __VA_ARGS__, (char *)0)
#define log_info(...) log_event(LEVEL_INFO, __VA_ARGS__, (char *)0)
#define log_warn(...) log_event(LEVEL_WARN, __VA_ARGS__, (char *)0)
#define log_error(...) log_event(LEVEL_ERROR, __VA_ARGS__, (char *)0)

/* Lines dropped since the start. */
uint64_t log_dropped(void);

#endif
