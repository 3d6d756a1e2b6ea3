#include "worker/base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "worker/base/clock.h"
#include "worker/base/utf8.h"

#define CLASS_COUNT 64
#define CLASS_NAME_SIZE 48
#define WINDOW_MS 10000
#define WINDOW_LINES 10

#define END_BYTES 24 /* kept free for the end of a line that was cut */

struct class {
	char event[CLASS_NAME_SIZE];
	int64_t since_ms;
	unsigned lines;
	uint64_t suppressed;
};

static struct {
	pthread_mutex_t lock;
	int fd;
	enum log_format format;
	enum log_level least;
	int64_t (*now_ms)(void);
	uint64_t dropped;
	struct class classes[CLASS_COUNT];
} log_state = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO, .least = LEVEL_INFO, .now_ms = clock_monotonic_ms };

void log_init(enum log_format format, enum log_level least)
{
	log_state.format = format;
	log_state.least = least;
	if (log_state.fd == STDERR_FILENO && fcntl(STDERR_FILENO, F_GETFD) == -1) {
		int fd = open("/dev/null", O_WRONLY);

		if (fd >= 0 && fd != STDERR_FILENO) {
			dup2(fd, STDERR_FILENO);
			close(fd);
		}
		log_state.fd = -1;
	}
}

void log_set_fd(int fd)
{
	pthread_mutex_lock(&log_state.lock);
	log_state.fd = fd;
	log_state.dropped = 0;
	memset(log_state.classes, 0, sizeof log_state.classes);
	pthread_mutex_unlock(&log_state.lock);
}

void log_set_clock(int64_t (*now_ms)(void))
{
	log_state.now_ms = now_ms;
}

uint64_t log_dropped(void)
{
	uint64_t dropped;

	pthread_mutex_lock(&log_state.lock);
	dropped = log_state.dropped;
	pthread_mutex_unlock(&log_state.lock);
	return dropped;
}

const char *log_int(char buf[LOG_INT_SIZE], int64_t n)
{
	snprintf(buf, LOG_INT_SIZE, "%" PRId64, n);
	return buf;
}

/* A line under construction. Once a piece did not fit, all later pieces are left out. */
struct line {
	char text[LOG_LINE_BYTES];
	size_t len;
	bool json, begun, cut, quoted; /* quoted: a quotation mark is open */
};

static void line_put(struct line *line, const char *s, size_t n)
{
	if (line->cut || line->len + n > sizeof line->text - END_BYTES) {
		line->cut = true;
		return;
	}
	memcpy(line->text + line->len, s, n);
	line->len += n;
}

/* Characters that could forge a line, move a terminal's cursor or reverse the text. */
static bool is_unsafe(int32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || (c >= 0x202a && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

static void line_put_escaped(struct line *line, const char *value)
{
	const char *s = value, *end = value + strlen(value), *from;
	char escape[8];
	int32_t c;

	while (s < end && !line->cut) {
		from = s;
		c = utf8_next(&s, end);
		if (c < 0) {
			line_put(line, "\xef\xbf\xbd", 3); /* U+FFFD */
			s++;
		} else if (c == '"' || c == '\\') {
			line_put(line, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", (char)c));
		} else if (c == '\n' || c == '\t' || c == '\r') {
			line_put(line, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r", 2);
		} else if (is_unsafe(c)) {
			line_put(line, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c));
		} else {
			line_put(line, from, (size_t)(s - from));
		}
	}
}

static bool is_bare(const char *value)
{
	const char *s = value, *end = value + strlen(value);

	while (s < end) {
		int32_t c = utf8_next(&s, end);

		if (c < 0 || is_unsafe(c) || c == ' ' || c == '=' || c == '"' || c == '\\')
			return false;
	}
	return value[0] != '\0';
}

static void line_put_field(struct line *line, const char *key, const char *value)
{
	const char *separator = line->json ? line->begun ? "," : "{" : line->begun ? " " : "";
	bool bare = !line->json && is_bare(value);
	char name[64];
	int n;

	n = snprintf(name, sizeof name, line->json ? "%s\"%.50s\":\"" : bare ? "%s%.50s=" : "%s%.50s=\"", separator, key);
	line_put(line, name, (size_t)n);
	line->begun = true;
	if (bare)
		line_put(line, value, strlen(value));
	if (bare || line->cut)
		return;
	line->quoted = true;
	line_put_escaped(line, value);
	if (line->cut)
		return;
	line->quoted = false;
	line->text[line->len++] = '"'; /* END_BYTES has room for it */
}

static void line_end(struct line *line)
{
	size_t room = sizeof line->text - line->len;
	const char *quote = line->quoted ? "\"" : "";
	int n;

	if (line->json)
		n = snprintf(line->text + line->len, room, "%s%s}\n", quote, line->cut ? ",\"cut\":\"true\"" : "");
	else
		n = snprintf(line->text + line->len, room, "%s%s\n", quote, line->cut ? " cut=true" : "");
	line->len += (size_t)n;
}

/* The class of an event. A new event takes the place of the class whose window is oldest. */
static struct class *class_of(const char *event, int64_t now_ms)
{
	struct class *class = log_state.classes, *oldest = class;

	for (; class < log_state.classes + CLASS_COUNT; class++) {
		if (strncmp(class->event, event, CLASS_NAME_SIZE - 1) == 0)
			return class;
		if (class->since_ms < oldest->since_ms)
			oldest = class;
	}
	memset(oldest, 0, sizeof *oldest);
	snprintf(oldest->event, sizeof oldest->event, "%s", event);
	oldest->since_ms = now_ms;
	return oldest;
}

static bool is_limited(enum log_level level, const char *event)
{
	return level > LEVEL_DEBUG && strcmp(event, "partition_halted") != 0 && strcmp(event, "transaction_open") != 0 &&
	       strcmp(event, "fatal") != 0;
}

/* Whether the event may be written. *suppressed: how many of its class were suppressed since the last line. */
static bool let_through(const char *event, uint64_t *suppressed)
{
	int64_t now_ms = log_state.now_ms();
	struct class *class;
	bool through;

	pthread_mutex_lock(&log_state.lock);
	class = class_of(event, now_ms);
	if (now_ms - class->since_ms >= WINDOW_MS) {
		class->since_ms = now_ms;
		class->lines = 0;
	}
	through = class->lines < WINDOW_LINES;
	if (through) {
		class->lines++;
		*suppressed = class->suppressed;
		class->suppressed = 0;
	} else {
		class->suppressed++;
	}
	pthread_mutex_unlock(&log_state.lock);
	return through;
}

static void line_write(const struct line *line)
{
	struct pollfd ready;

	pthread_mutex_lock(&log_state.lock);
	ready = (struct pollfd){ .fd = log_state.fd, .events = POLLOUT };
	/* poll() first: stderr is usually a blocking pipe, and its reader may have stopped. */
	if (log_state.fd < 0 || poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT) ||
	    write(log_state.fd, line->text, line->len) != (ssize_t)line->len)
		log_state.dropped++;
	pthread_mutex_unlock(&log_state.lock);
}

bool log_is_on(enum log_level level)
{
	return level >= log_state.least;
}

void log_event(enum log_level level, const char *event, const char *msg, ...)
{
	static const char *const names[] = { "debug", "info", "warn", "error" };
	char time[TIME_TEXT_SIZE], count[LOG_INT_SIZE];
	struct line line = { .json = log_state.format == LOG_JSON };
	uint64_t suppressed = 0;
	const char *key, *value;
	va_list ap;

	if (level < log_state.least || (is_limited(level, event) && !let_through(event, &suppressed)))
		return;
	line_put_field(&line, "time", clock_format(clock_wall_ms(), time));
	line_put_field(&line, "level", names[level]);
	line_put_field(&line, "event", event);
	if (suppressed)
		line_put_field(&line, "suppressed", log_int(count, (int64_t)suppressed));
	line_put_field(&line, "msg", msg);
	va_start(ap, msg);
	while ((key = va_arg(ap, const char *)) != NULL) {
		value = va_arg(ap, const char *);
		if (value)
			line_put_field(&line, key, value);
	}
	va_end(ap);
	line_end(&line);
	line_write(&line);
}
