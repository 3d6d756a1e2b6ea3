/* The headers of a dead letter: written by the worker, read by whoever looks at dead letters or redrives them. Names and
 * encodings are those of Spring for Apache Kafka (DeadLetterPublishingRecoverer, KafkaHeaders) where it has them, so that its
 * tools read ours: numbers are binary, big-endian. The others have a prefix of their own, and no publisher's header has
 * either: those that come in so are left out. */
#ifndef DEAD_LETTER_H
#define DEAD_LETTER_H

#include <stddef.h>
#include <stdint.h>

#include "schemas/record.h"
#include "worker/base/arena.h"
#include "worker/base/fault.h"

struct dead_letter {
	const char *topic; /* where the record stood */
	int32_t partition;
	int64_t offset, timestamp_ms;
	const char *group;    /* the consumer group that could not use it */
	const char *message;  /* why, in one line */
	const char *reason;   /* a word of the table of reasons */
	const char *answered; /* the code that was published; NULL: nothing was */
	const char *original_sha256, *original_size; /* of the whole value, where it was cut; NULL: it was not */
	const char *headers_left_out; /* how many of the original's were; NULL: none. dead_letter_write counts them */
};

/* The original's headers, as far as they have room in bytes_max (names and values), and ours, which replace those of an
 * earlier life as a dead letter. A well-formed traceId and trace context are always kept. In the arena, but for what
 * original and letter point to. Returns how many. */
size_t dead_letter_write(const struct dead_letter *letter, const struct record *original, size_t bytes_max, struct arena *arena,
			 const struct header **headers);

/* Says of the value, before it is cut, what identifies it. */
void dead_letter_cut(struct dead_letter *letter, const void *value, size_t size, struct arena *arena);

/* The reverse of dead_letter_write; texts in the arena. FAULT_REJECT: a header is missing or malformed, it is named. */
int dead_letter_read(struct dead_letter *letter, const struct header *headers, size_t count, struct arena *arena,
		     struct fault *fault) MUST_CHECK;

#endif
