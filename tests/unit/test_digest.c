/* The digest of a command, byte by byte: drafts keep it, so its layout never changes. Here by a type that has every kind of field;
 * test_command.c has the product's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/sha.h>

#include "schemas/digest.h"

struct probe {
	const char *text, *nothing, *late;
	const char **texts;
	size_t text_count;
	uint8_t digest[CAMPAIGN_DIGEST_BYTES];
	bool has_number, flag;
	int32_t small;
	int64_t number, large;
};

static const struct field fields[] = {
	{ "large", FIELD_LONG, AT(probe, large), .digest = 7 },
	{ "text", FIELD_TEXT, AT(probe, text), .digest = 1 },
	{ "texts", FIELD_TEXTS, AT(probe, texts), BESIDE(probe, text_count), .nullable = true, .digest = 2 },
	{ "unsummed", FIELD_TEXT, AT(probe, text) },
	{ "digest", FIELD_DIGEST, AT(probe, digest), .digest = 3 },
	{ "flag", FIELD_BOOLEAN, AT(probe, flag), .digest = 4 },
	{ "small", FIELD_INT, AT(probe, small), .digest = 5 },
	{ "number", FIELD_TIME, AT(probe, number), BESIDE(probe, has_number), .nullable = true, .digest = 6 },
	{ "nothing", FIELD_TEXT, AT(probe, nothing), .nullable = true, .digest = 8 },
	{ "late", FIELD_TEXT, AT(probe, late), .nullable = true, .digest = 9, .added = true },
};
static const struct record_type type = { "Probe", FIELDS(fields), sizeof(struct probe) };

#define BYTES(text) text, sizeof text - 1
#define HEAD "\0\0\0\3abc" "\1\0\0\0\2\0\0\0\1x\0\0\1\4"
#define TAIL "\0\0\0\40" "dddddddddddddddddddddddddddddddd" "\0\0\0\0\0\0\0\1" "\xff\xff\xff\xff\xff\xff\xff\xfe" \
	     "\1\x01\x02\x03\x04\x05\x06\x07\x08" "\x80\0\0\0\0\0\0\0" "\0"

static struct probe a_probe(char long_text[261])
{
	static const char *texts[2];
	struct probe probe = { .text = "abc", .texts = texts, .text_count = 2, .has_number = true, .flag = true, .small = -2,
			       .number = 0x0102030405060708, .large = INT64_MIN };

	memset(probe.digest, 'd', sizeof probe.digest);
	memset(long_text, 'y', 260);
	long_text[260] = '\0';
	texts[0] = "x";
	texts[1] = long_text;
	return probe;
}

static void assert_digest(const struct probe *probe, const void *bytes, size_t size)
{
	uint8_t got[CAMPAIGN_DIGEST_BYTES], wanted[CAMPAIGN_DIGEST_BYTES];

	digest_fields(&type, probe, got);
	SHA256(bytes, size, wanted);
	assert_memory_equal(got, wanted, sizeof wanted);
}

static void test_every_kind_of_field(void **state)
{
	char bytes[1024], long_text[261];
	struct probe probe = a_probe(long_text);
	size_t size = sizeof HEAD - 1;

	(void)state;
	memcpy(bytes, HEAD, size);
	memset(bytes + size, 'y', 260);
	size += 260;
	memcpy(bytes + size, TAIL, sizeof TAIL - 1);
	size += sizeof TAIL - 1;
	assert_digest(&probe, bytes, size);
	probe.late = "l"; /* its place, and its value */
	memcpy(bytes + size, "\x09\0\0\0\1l", 6);
	assert_digest(&probe, bytes, size + 6);
}

static void test_nulls(void **state)
{
	char long_text[261];
	struct probe probe = a_probe(long_text);
	static const char bytes[] = "\0\0\0\3abc" "\0" "\0\0\0\40" "dddddddddddddddddddddddddddddddd" "\0\0\0\0\0\0\0\0" "\0\0\0\0\0\0\0\5"
				    "\0" "\0\0\0\0\0\0\0\0" "\1\0\0\0\0";

	(void)state;
	probe.texts = NULL;
	probe.has_number = probe.flag = false;
	probe.small = 5;
	probe.large = 0;
	probe.nothing = "";
	assert_digest(&probe, BYTES(bytes));
}

/* Bytes are gathered before they are summed: texts around the size of that buffer. */
static void test_texts_of_all_sizes(void **state)
{
	static char text[70000], bytes[70000];
	static const char rest[] = "\0" "\0\0\0\40" "dddddddddddddddddddddddddddddddd" "\0\0\0\0\0\0\0\1" "\0\0\0\0\0\0\0\1"
				   "\0" "\0\0\0\0\0\0\0\0" "\0";
	char long_text[261];
	struct probe probe = a_probe(long_text);
	const size_t sizes[] = { 0, 1, 1900, 2000, 2039, 2040, 2041, 2042, 2043, 2044, 2045, 2046, 2047, 2048, 2049, 2052, 4096, 65535,
				 65536, 66000 };

	(void)state;
	probe.text = text;
	probe.texts = NULL;
	probe.has_number = false;
	probe.small = 1;
	probe.large = 0;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		size_t n = sizes[i];

		for (size_t k = 0; k < n; k++)
			text[k] = (char)('a' + k % 23);
		text[n] = '\0';
		memcpy(bytes, (const char[]){ (char)(n >> 24), (char)(n >> 16), (char)(n >> 8), (char)n }, 4);
		memcpy(bytes + 4, text, n);
		memcpy(bytes + 4 + n, rest, sizeof rest - 1);
		assert_digest(&probe, bytes, 4 + n + sizeof rest - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_of_field),
		cmocka_unit_test(test_nulls),
		cmocka_unit_test(test_texts_of_all_sizes),
	};

	return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
