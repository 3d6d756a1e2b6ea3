#include "worker/base/failpoint.h"

#ifdef FAILPOINTS

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/base/clock.h"

#define POINTS_MAX 16

struct point {
	char step[32], action[8];
	unsigned nth;
	bool every; /* from the nth pass on */
	unsigned ms;
	atomic_uint passes;
};

static struct point points[POINTS_MAX];
static size_t point_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void give_up(const char *text)
{
	fprintf(stderr, "CAMPAIGN_FAILPOINT: cannot read \"%s\"; wanted step:kill|stop|term|exit|sleep[:nth[+][:ms]]\n", text);
	abort();
}

static bool is_action(const char *action)
{
	return strcmp(action, "kill") == 0 || strcmp(action, "stop") == 0 || strcmp(action, "term") == 0 ||
	       strcmp(action, "exit") == 0 || strcmp(action, "sleep") == 0;
}

static void parse_point(const char *text)
{
	struct point *point = &points[point_count];
	const char *rest;
	int used = 0;

	point->nth = 1;
	point->ms = 1000;
	if (point_count == POINTS_MAX || sscanf(text, "%31[^:]:%7[a-z]%n", point->step, point->action, &used) != 2 ||
	    !is_action(point->action))
		give_up(text);
	rest = text + used;
	if (sscanf(rest, ":%9u%n", &point->nth, &used) == 1) {
		rest += used;
		point->every = *rest == '+';
		rest += point->every;
		if (sscanf(rest, ":%9u%n", &point->ms, &used) == 1)
			rest += used;
	}
	if (*rest || point->nth == 0)
		give_up(text);
	point_count++;
}

static void parse_points(void)
{
	const char *value = getenv("CAMPAIGN_FAILPOINT");
	char *list, *save = NULL;

	if (value == NULL || (list = strdup(value)) == NULL)
		return;
	for (char *text = strtok_r(list, ",", &save); text; text = strtok_r(NULL, ",", &save))
		parse_point(text);
	free(list);
}

static void mark(const struct point *point)
{
	const char *path = getenv("CAMPAIGN_FAILPOINT_FILE");
	char line[80];
	int fd, n;

	if (path == NULL)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	n = snprintf(line, sizeof line, "%s %s %d\n", point->step, point->action, (int)getpid());
	if (fd < 0 || write(fd, line, (size_t)n) != n) {
		perror(path);
		abort();
	}
	close(fd);
}

static void act(const struct point *point)
{
	mark(point);
	if (strcmp(point->action, "kill") == 0)
		raise(SIGKILL);
	else if (strcmp(point->action, "stop") == 0)
		raise(SIGSTOP);
	else if (strcmp(point->action, "term") == 0)
		kill(getpid(), SIGTERM);
	else if (strcmp(point->action, "exit") == 0)
		_exit(70);
	else
		clock_sleep_ms(point->ms);
}

void failpoint(const char *step)
{
	pthread_once(&once, parse_points);
	for (struct point *point = points; point < points + point_count; point++) {
		unsigned pass;

		if (strcmp(point->step, step) != 0)
			continue;
		pass = atomic_fetch_add(&point->passes, 1) + 1;
		if (pass == point->nth || (point->every && pass > point->nth))
			act(point);
	}
}

bool failpoint_inside_pipeline(void)
{
	pthread_once(&once, parse_points);
	for (const struct point *point = points; point < points + point_count; point++)
		if (strcmp(point->step, "fence-after") == 0 || strcmp(point->step, "statement-after") == 0 ||
		    strcmp(point->step, "commit-before") == 0)
			return true;
	return false;
}

bool failpoint_always_ahead(void)
{
	return getenv("CAMPAIGN_FAILPOINT_AHEAD") != NULL;
}

#endif
