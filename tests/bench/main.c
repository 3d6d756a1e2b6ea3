/* bench-tool: the parts of the benchmark that must cost little themselves (tests/bench/bench.py runs them). */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commands.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "make", bench_make, "count=N [seed=S] [leads=N|all] [groups=N] [skew=1] [errors=PERCENT] [big=1 [folder=1]] >FILE" },
	{ "sql", bench_sql, "database=CONNINFO [batch=N] [partition=P] [from=I] [count=N] FILE" },
	{ "copy", bench_copy, "database=CONNINFO [batch=N] [from=I] [count=N] FILE" },
	{ "publish", bench_publish, "brokers=B topic=T [rate=N] [from=I] [count=N] FILE" },
	{ "subscribe", bench_subscribe, "brokers=B topic=T count=N [timeout=S]" },
	{ "latency", bench_latency, "brokers=B commands=T results=T rate=R seconds=S [warmup=S] [poisson=1] raw=OUT FILE" },
	{ "loop", bench_loop, "brokers=B commands=T results=T group=G" },
	{ "relay", bench_relay, "us=DELAY PORT:PORT..." },
};

#define COMMANDS (sizeof commands / sizeof commands[0])

void bench_die(const char *fmt, ...)
{
	va_list ap;

	fputs("bench-tool: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

const char *bench_option(int argc, char **argv, const char *name, const char *fallback)
{
	size_t size = strlen(name);

	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], name, size) == 0 && argv[i][size] == '=')
			return argv[i] + size + 1;
	if (fallback == NULL) {
		fprintf(stderr, "bench-tool %s: %s=... is wanted\n", argv[0], name);
		exit(2);
	}
	return fallback;
}

long long bench_number(int argc, char **argv, const char *name, const char *fallback)
{
	const char *text = bench_option(argc, argv, name, fallback);
	char *end;
	long long number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (end == text || *end || errno || number < 0) {
		fprintf(stderr, "bench-tool %s: %s=%s is no number\n", argv[0], name, text);
		exit(2);
	}
	return number;
}

const char *bench_path(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strchr(argv[i], '=') == NULL)
			return argv[i];
	fprintf(stderr, "bench-tool %s: a FILE of commands is wanted\n", argv[0]);
	exit(2);
}

static double clock_s(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double bench_cpu_s(void)
{
	return clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

double bench_now_s(void)
{
	return clock_s(CLOCK_MONOTONIC);
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int64_t bench_percentile(int64_t *values, size_t n, double share)
{
	size_t rank = (size_t)(share * (double)n);

	if (n == 0)
		return 0;
	qsort(values, n, sizeof *values, compare);
	if ((double)rank < share * (double)n)
		rank++;
	return values[rank > 0 ? rank - 1 : 0];
}

int main(int argc, char **argv)
{
	for (size_t i = 0; i < COMMANDS && argc > 1; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	fputs("bench-tool:\n", stderr);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(stderr, "  %s %s\n", commands[i].name, commands[i].help);
	return 2;
}
