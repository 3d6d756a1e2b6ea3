/* An arena holds the memory of one batch: allocated piece by piece, freed all at once. It keeps blocks between batches up to
 * a limit, so that a steady load allocates nothing and one huge batch does not stay resident. Not thread-safe. Out of memory
 * ends the process (abort): nothing is lost, Kafka delivers the batch again. */
#ifndef ARENA_H
#define ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_new(size_t keep_bytes); /* bytes kept over a reset */
void arena_free(struct arena *arena);       /* accepts NULL */
void arena_reset(struct arena *arena);      /* frees everything allocated since the last reset */
size_t arena_used(const struct arena *arena); /* bytes allocated since the last reset */

void *arena_alloc(struct arena *arena, size_t size);  /* zeroed, aligned for any type; valid until the next reset */
void *arena_array(struct arena *arena, size_t n, size_t size); /* the same for n * size bytes, overflow checked */
char *arena_strndup(struct arena *arena, const char *s, size_t len); /* NUL-terminated copy */
char *arena_printf(struct arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3), nonnull));

#endif
