/* What is published of a job, in a topic that takes no more than so many bytes. A result that is larger is made to fit without
 * saying anything that is not so: the details of an error are cut; of a success, whose draft is there, the largest texts that
 * may be null are left out, and header `omitted` names them. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "schemas/record.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"

struct codec;

struct message {
	const void *key, *value; /* NULL: null */
	size_t key_size, value_size;
	const struct header *headers;
	size_t header_count;
};

/* The most that a batch of this message alone has, uncompressed: what max.message.bytes is compared with. */
size_t message_bytes(const struct message *message);

/* Both make a message that fits limit if that can be. In the arena, but for what job points to. */
int message_of_result(const struct job *job, struct codec *codec, size_t limit, struct arena *arena, struct message *message,
		      struct fault *fault) MUST_CHECK; /* FAULT_REJECT: no reader would take it */
/* Of key and value no more than kept_max are kept. */
void message_of_dead_letter(const struct job *job, const char *group, size_t kept_max, size_t limit, struct arena *arena,
			    struct message *message);

/* How many bytes the texts of a success may have so that its result fits: at least 1. */
int32_t message_text_bytes_max(const struct job *job, struct codec *codec, size_t limit, struct arena *arena);

#endif
