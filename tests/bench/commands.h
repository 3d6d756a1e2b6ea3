/* What the sub-commands of bench-tool share: options, clocks, the data set's names, and commands as a file that can be
 * replayed.
 *
 * A file holds records one behind the other: three sizes (key, traceId, value; uint32, little-endian), then their bytes.
 * `make` writes it, everything else reads it; what is measured so costs no decoding of JSON and no hashing. */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

#include <stddef.h>
#include <stdint.h>

/* One main for each sub-command: argv[0] is its name, the rest are name=value and at most one FILE. Each prints one JSON
 * object on stdout (make: the file itself) and returns the exit code. */
int bench_make(int argc, char **argv);
int bench_sql(int argc, char **argv);
int bench_copy(int argc, char **argv);
int bench_publish(int argc, char **argv);
int bench_subscribe(int argc, char **argv);
int bench_latency(int argc, char **argv);
int bench_loop(int argc, char **argv);
int bench_relay(int argc, char **argv);

/* name=value; where it is not given: fallback, or with a NULL fallback exit code 2. */
const char *bench_option(int argc, char **argv, const char *name, const char *fallback);
long long bench_number(int argc, char **argv, const char *name, const char *fallback); /* at least 0 */
const char *bench_path(int argc, char **argv); /* the FILE: the argument without "="; must be given */

/* Says why on stderr, and exits with 1. */
void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

double bench_cpu_s(void); /* user and system time of this process */
double bench_now_s(void); /* monotonic */
/* Sorts values; the smallest one that share (0 to 1) of them do not exceed; 0 if there are none. */
int64_t bench_percentile(int64_t *values, size_t n, double share);

struct bench_record {
	const char *key, *trace_id; /* not NUL-terminated */
	const void *value;
	size_t key_size, trace_size, value_size;
};

struct bench_file;

struct bench_file *bench_open(const char *path); /* maps it; dies if it cannot be read or is cut off */
void bench_close(struct bench_file *file);
size_t bench_count(const struct bench_file *file);
/* What from=I count=N choose of it: how many, at least 1, beginning with *from. Without count: all from there on. */
size_t bench_range(int argc, char **argv, const struct bench_file *file, size_t *from);
void bench_get(const struct bench_file *file, size_t i, struct bench_record *record); /* points into the mapping */

/* An audience i (0 to 19, 22, 23, 27) of account group g, as data.sql fills it: its leads have the numbers first to first+n-1. */
struct bench_audience {
	unsigned first, n;
};

struct bench_audience bench_audience(unsigned group, unsigned i);

/* An id of the data set: a letter, then 23 hexadecimal digits. a: account group, number g; c: campaign, d: audience, number
 * g * 100 + i; e: lead, see bench_lead. */
#define BENCH_ID_SIZE 25

const char *bench_id(char id[BENCH_ID_SIZE], char letter, unsigned long long number);
/* Lead number j of a group, as data.sql has it. */
const char *bench_lead(char id[BENCH_ID_SIZE], unsigned long long group, unsigned long long number);
/* The number of such an id; dies if it is none. */
unsigned long long bench_id_number(const char *id);

#endif
