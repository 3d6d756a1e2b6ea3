#include "producer/input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/base/must.h"

#define READ_BYTES ((size_t)64 * 1024)

struct input {
	char **paths;
	int count, next;
	int fd; /* -1: none is open */
	const char *name;
	char *buffer;
	size_t size, used, seen; /* of the buffer; bytes in it; bytes of those known to hold no line break */
	size_t taken;            /* bytes before it are done with */
	long line;
	bool at_end, too_long;
	char place[512];
};

struct input *input_new(char **paths, int count)
{
	struct input *input = must(calloc(1, sizeof *input));

	input->paths = paths;
	input->count = count;
	input->fd = -1;
	return input;
}

static void close_file(struct input *input)
{
	if (input->fd > STDIN_FILENO)
		close(input->fd);
	input->fd = -1;
}

void input_free(struct input *input)
{
	if (input == NULL)
		return;
	close_file(input);
	free(input->buffer);
	free(input);
}

const char *input_place(const struct input *input)
{
	return input->place;
}

static int open_next(struct input *input, struct fault *fault)
{
	const char *path = input->paths[input->next++];
	bool is_stdin = strcmp(path, "-") == 0;

	input->name = is_stdin ? "standard input" : path;
	input->used = input->seen = input->taken = 0;
	input->line = 0;
	input->at_end = input->too_long = false;
	input->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (input->fd < 0)
		return fault_set(fault, FAULT_REJECT, "%s: %s", path, strerror(errno));
	return 0;
}

/* Drops what is done with and makes room for one more read; a line that has grown too long is dropped as it comes. */
static void make_room(struct input *input)
{
	if (input->taken > 0)
		memmove(input->buffer, input->buffer + input->taken, input->used - input->taken);
	input->used -= input->taken;
	input->seen -= input->taken;
	input->taken = 0;
	if (input->seen > LINE_BYTES_MAX) {
		input->too_long = true;
		input->used = input->seen = 0;
	}
	if (input->size - input->used >= READ_BYTES)
		return;
	input->size = input->size ? 2 * input->size : 2 * READ_BYTES;
	input->buffer = must(realloc(input->buffer, input->size));
}

/* Reads on: 1, 0 when nothing is there yet, -1 with a fault. */
static int read_more(struct input *input, struct fault *fault)
{
	struct pollfd ready = { input->fd, POLLIN, 0 };
	ssize_t got;

	if (poll(&ready, 1, 0) <= 0)
		return 0;
	if (input->buffer == NULL || input->used == input->size || input->taken > 0 || input->seen > LINE_BYTES_MAX)
		make_room(input);
	got = read(input->fd, input->buffer + input->used, input->size - input->used);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (got < 0)
		return fault_set(fault, FAULT_REJECT, "%s: %s", input->name, strerror(errno));
	input->used += (size_t)got;
	input->at_end = got == 0;
	return 1;
}

/* The next line within the buffer, without its line break. A last one may lack it. */
static bool take_line(struct input *input, const char **line, size_t *size)
{
	char *start = input->buffer ? input->buffer + input->taken : NULL, *end = NULL;

	if (input->used > input->seen)
		end = memchr(input->buffer + input->seen, '\n', input->used - input->seen);
	if (end == NULL) {
		input->seen = input->used;
		if (!input->at_end || (input->used == input->taken && !input->too_long))
			return false;
		end = input->buffer + input->used;
	}
	*line = start;
	*size = (size_t)(end - start);
	input->taken = (size_t)(end - input->buffer) + (end < input->buffer + input->used);
	input->seen = input->taken;
	input->line++;
	snprintf(input->place, sizeof input->place, "%s:%ld", input->name, input->line);
	return true;
}

static enum input_state read_line(struct input *input, const char *line, size_t size, struct campaign_pool *pool,
				  struct duplicate_command *command, struct fault *fault)
{
	struct campaign_error why;

	if (input->too_long || size > LINE_BYTES_MAX) {
		input->too_long = false;
		fault_set(fault, FAULT_REJECT, "%s: the line is longer than %zu bytes", input->place, LINE_BYTES_MAX);
		return INPUT_BAD;
	}
	if (campaign_command_from_json(line, size, pool, command, &why) == 0)
		return INPUT_COMMAND;
	fault_set(fault, FAULT_REJECT, "%s: %s", input->place, why.message);
	return INPUT_BAD;
}

static bool is_blank(const char *line, size_t size)
{
	while (size > 0 && strchr(" \t\r", line[size - 1]) && line[size - 1] != '\0')
		size--;
	return size == 0;
}

enum input_state input_next(struct input *input, struct campaign_pool *pool, struct duplicate_command *command, struct fault *fault)
{
	const char *line;
	size_t size;
	int got;

	for (;;) {
		if (input->fd < 0) {
			if (input->next == input->count)
				return INPUT_END;
			if (open_next(input, fault) < 0)
				return INPUT_BAD;
		}
		while (take_line(input, &line, &size))
			if (input->too_long || !is_blank(line, size))
				return read_line(input, line, size, pool, command, fault);
		if (input->at_end) {
			close_file(input);
			continue;
		}
		got = read_more(input, fault);
		if (got == 0)
			return INPUT_IDLE;
		if (got < 0) {
			close_file(input);
			return INPUT_BAD;
		}
	}
}
