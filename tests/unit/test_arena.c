#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "worker/base/arena.h"
#include "bytes.h"

static void gives_zeroed_aligned_memory_of_every_size(void **state)
{
	struct arena *arena = arena_new(1024 * 1024);

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (size_t size = 0; size < 3000; size++) {
			unsigned char *p = arena_alloc(arena, size);

			assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
			for (size_t i = 0; i < size; i++)
				assert_int_equal(p[i], 0);
			memset(p, 0xff, size);
		}
		arena_reset(arena);
	}
	arena_free(arena);
}

static void keeps_what_is_allocated_apart(void **state)
{
	struct arena *arena = arena_new(0);
	unsigned char *blocks[200];

	(void)state;
	for (size_t i = 0; i < 200; i++) {
		size_t size = i * i * 7 % 90000;

		blocks[i] = arena_alloc(arena, size + 1);
		memset(blocks[i], (int)i, size + 1);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t k = 0; k < i * i * 7 % 90000 + 1; k++)
			if (blocks[i][k] != i)
				fail_msg("block %zu was overwritten at %zu", i, k);
	arena_free(arena);
}

static void keeps_no_more_than_it_was_told(void **state)
{
	const size_t keep = 256 * 1024, slack = 16 * 1024;
	size_t before = allocated_bytes();
	struct arena *arena = arena_new(keep);

	(void)state;
	for (int round = 0; round < 20; round++) {
		arena_alloc(arena, 10 * 1024 * 1024);
		for (int i = 0; i < 10000; i++)
			arena_alloc(arena, 100);
		assert_true(allocated_bytes() > before + 11 * 1024 * 1024);
		arena_reset(arena);
		assert_true(allocated_bytes() < before + keep + slack);
	}
	arena_free(arena);
	assert_true(allocated_bytes() < before + slack);
}

static void counts_what_is_used(void **state)
{
	struct arena *arena = arena_new(1024 * 1024);

	(void)state;
	for (int round = 0; round < 2; round++) {
		assert_int_equal(arena_used(arena), 0);
		arena_alloc(arena, 300000);
		assert_in_range(arena_used(arena), 300000, 300000 + _Alignof(max_align_t));
		for (int i = 0; i < 1000; i++)
			arena_strndup(arena, "lead_1", 6);
		assert_in_range(arena_used(arena), 307000, 300000 + 1001 * _Alignof(max_align_t));
		arena_reset(arena);
	}
	arena_free(arena);
}

static void copies_and_formats_text(void **state)
{
	struct arena *arena = arena_new(0);
	const char *text = arena_strndup(arena, "abcdef", 3);
	char expected[200001];

	(void)state;
	assert_string_equal(text, "abc");
	assert_string_equal(arena_strndup(arena, "", 0), "");
	assert_string_equal(arena_printf(arena, "%s-%d", text, 42), "abc-42");
	memset(expected, 'x', sizeof expected - 1);
	expected[sizeof expected - 1] = '\0';
	assert_string_equal(arena_printf(arena, "%s", expected), expected); /* larger than a block */
	assert_string_equal(text, "abc");
	arena_free(arena);
	arena_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_zeroed_aligned_memory_of_every_size),
		cmocka_unit_test(keeps_what_is_allocated_apart),
		cmocka_unit_test(keeps_no_more_than_it_was_told),
		cmocka_unit_test(counts_what_is_used),
		cmocka_unit_test(copies_and_formats_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
