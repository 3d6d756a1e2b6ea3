/* Avro's binary encoding by hand, for tests that must write what no library would, and the memory that is allocated. */
#ifndef TESTS_BYTES_H
#define TESTS_BYTES_H

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

struct bytes {
	uint8_t *data; /* exactly as large as size, so that a read beyond it is found */
	size_t size;
};

static inline void put_raw(struct bytes *bytes, const void *data, size_t size)
{
	bytes->data = realloc(bytes->data, bytes->size + size + (bytes->size + size == 0));
	if (bytes->data == NULL)
		abort();
	if (size > 0)
		memcpy(bytes->data + bytes->size, data, size);
	bytes->size += size;
}

static inline void put_long(struct bytes *bytes, int64_t n)
{
	uint64_t raw = (uint64_t)n << 1 ^ (uint64_t)(n >> 63);
	uint8_t buf[10];
	size_t len = 0;

	do {
		buf[len++] = (uint8_t)(raw & 0x7f) | (raw > 0x7f ? 0x80 : 0);
		raw >>= 7;
	} while (raw > 0);
	put_raw(bytes, buf, len);
}

static inline void put_text(struct bytes *bytes, const char *text)
{
	put_long(bytes, (int64_t)strlen(text));
	put_raw(bytes, text, strlen(text));
}

static inline void put_single_object(struct bytes *bytes, uint64_t fingerprint)
{
	put_raw(bytes, "\xc3\x01", 2);
	for (int i = 0; i < 8; i++)
		put_raw(bytes, &(uint8_t){ (uint8_t)(fingerprint >> (8 * i)) }, 1);
}

static inline void free_bytes(struct bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct bytes){ 0 };
}

static inline size_t allocated_bytes(void)
{
#ifdef __SANITIZE_ADDRESS__
	return __sanitizer_get_current_allocated_bytes();
#else
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
#endif
}

/* malloc counts what lies in its caches, which shifts by some hundred bytes: repeat what may leak until a leak is more. */
#define FLAT_BYTES 8192
#define assert_flat(before) assert_in_range(allocated_bytes(), (before) > FLAT_BYTES ? (before) - FLAT_BYTES : 0, (before) + FLAT_BYTES)

#endif
