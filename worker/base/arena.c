#include "worker/base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/must.h"

#define BLOCK_BYTES ((size_t)64 * 1024)
#define ALIGN _Alignof(max_align_t)

struct block {
	struct block *next;
	size_t size, used;
	_Alignas(max_align_t) char data[];
};

struct arena {
	struct block *blocks; /* newest first; allocation happens in the first */
	struct block *spare;  /* standard-sized blocks kept over a reset */
	size_t keep_bytes, used;
};

struct arena *arena_new(size_t keep_bytes)
{
	struct arena *arena = must(calloc(1, sizeof *arena));

	arena->keep_bytes = keep_bytes;
	return arena;
}

static void free_blocks(struct block *block)
{
	while (block) {
		struct block *next = block->next;

		free(block);
		block = next;
	}
}

void arena_free(struct arena *arena)
{
	if (arena == NULL)
		return;
	free_blocks(arena->blocks);
	free_blocks(arena->spare);
	free(arena);
}

void arena_reset(struct arena *arena)
{
	struct block *block = arena->blocks, *next;
	size_t kept = 0;

	for (struct block *b = arena->spare; b; b = b->next)
		kept += b->size;
	for (; block; block = next) {
		next = block->next;
		if (block->size == BLOCK_BYTES && kept + block->size <= arena->keep_bytes) {
			kept += block->size;
			block->next = arena->spare;
			arena->spare = block;
		} else {
			free(block);
		}
	}
	arena->blocks = NULL;
	arena->used = 0;
}

size_t arena_used(const struct arena *arena)
{
	return arena->used;
}

static struct block *add_block(struct arena *arena, size_t size)
{
	struct block *block = arena->spare;

	if (size <= BLOCK_BYTES && block) {
		arena->spare = block->next;
	} else {
		size = size > BLOCK_BYTES ? size : BLOCK_BYTES;
		block = must(malloc(sizeof *block + size));
		block->size = size;
	}
	block->used = 0;
	block->next = arena->blocks;
	arena->blocks = block;
	return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	struct block *block = arena->blocks;
	void *p;

	if (size > SIZE_MAX / 2)
		abort();
	size = (size + ALIGN - 1) / ALIGN * ALIGN;
	if (block == NULL || block->size - block->used < size)
		block = add_block(arena, size);
	p = block->data + block->used;
	block->used += size;
	arena->used += size;
	return memset(p, 0, size);
}

void *arena_array(struct arena *arena, size_t n, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(n, size, &total))
		abort();
	return arena_alloc(arena, total);
}

char *arena_strndup(struct arena *arena, const char *s, size_t len)
{
	char *copy = arena_alloc(arena, len + 1);

	memcpy(copy, s, len);
	return copy;
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
	va_list ap;
	char *s;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0)
		abort();
	s = arena_alloc(arena, (size_t)len + 1);
	va_start(ap, fmt);
	vsnprintf(s, (size_t)len + 1, fmt, ap);
	va_end(ap);
	return s;
}
