/* Commands as JSON lines from files or standard input ("-"), one after the other, in bounded memory and without blocking:
 * the caller can look after its results while a pipe is silent. Blank lines are passed over. */
#ifndef INPUT_H
#define INPUT_H

#include "producer/campaign.h"
#include "worker/base/fault.h"

#define LINE_BYTES_MAX ((size_t)8 * 1024 * 1024) /* the largest command that the worker takes, every character escaped */

struct input;

struct input *input_new(char **paths, int count); /* paths are borrowed */
void input_free(struct input *input);             /* accepts NULL */

enum input_state {
	INPUT_COMMAND, /* command is set; its text is in the pool */
	INPUT_BAD,     /* a line or file that cannot be used: fault->msg names it ("file:line: ..."); the next call goes on */
	INPUT_IDLE,    /* nothing to be read at the moment */
	INPUT_END,
};

enum input_state input_next(struct input *input, struct campaign_pool *pool, struct duplicate_command *command, struct fault *fault);
/* "file:line" of what input_next gave last; valid until the next call. */
const char *input_place(const struct input *input);

#endif
