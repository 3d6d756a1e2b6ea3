#include "schemas/digest.h"

#include <pthread.h>
#include <string.h>

#include <openssl/evp.h>

#include "worker/base/must.h"

/* A digest that cannot be computed is a lack of memory or a broken libcrypto (must.h).
 *
 * Gathers bytes: a call of libcrypto costs as much as summing some hundred of them. */
struct sum {
	EVP_MD_CTX *context;
	size_t used;
	uint8_t bytes[2048];
};

static void flush(struct sum *sum)
{
	must_be(EVP_DigestUpdate(sum->context, sum->bytes, sum->used));
	sum->used = 0;
}

static void put(struct sum *sum, const void *bytes, size_t size)
{
	if (size > sizeof sum->bytes - sum->used)
		flush(sum);
	if (size > sizeof sum->bytes) {
		must_be(EVP_DigestUpdate(sum->context, bytes, size));
		return;
	}
	memcpy(sum->bytes + sum->used, bytes, size);
	sum->used += size;
}

static void put_length(struct sum *sum, size_t len)
{
	const uint8_t bytes[] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len };

	put(sum, bytes, sizeof bytes);
}

static void put_present(struct sum *sum, bool present)
{
	put(sum, present ? "\1" : "", 1);
}

static void put_text(struct sum *sum, const char *text)
{
	size_t len = strlen(text);

	put_length(sum, len);
	put(sum, text, len);
}

static void put_number(struct sum *sum, int64_t number)
{
	put_length(sum, (size_t)((uint64_t)number >> 32));
	put_length(sum, (size_t)((uint64_t)number & UINT32_MAX));
}

static EVP_MD *sha256;

static void fetch_sha256(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	must(sha256);
}

static void put_value(struct sum *sum, const struct field *field, const char *base)
{
	const void *at = base + field->offset;

	switch (field->type) {
	case FIELD_TEXT:
		put_text(sum, *(const char *const *)at);
		return;
	case FIELD_TEXTS:
		put_length(sum, *(const size_t *)(const void *)(base + field->companion));
		for (size_t i = 0; i < *(const size_t *)(const void *)(base + field->companion); i++)
			put_text(sum, (*(const char *const *const *)at)[i]);
		return;
	case FIELD_DIGEST:
		put_length(sum, CAMPAIGN_DIGEST_BYTES);
		put(sum, at, CAMPAIGN_DIGEST_BYTES);
		return;
	case FIELD_BOOLEAN:
		put_number(sum, *(const bool *)at);
		return;
	case FIELD_INT:
		put_number(sum, *(const int32_t *)at);
		return;
	case FIELD_LONG:
	case FIELD_TIME:
		put_number(sum, *(const int64_t *)at);
		return;
	case FIELD_RECORD:
		break;
	}
	must_be(false); /* a command has no record */
}

/* The bytes that are summed. Lengths and counts have 4 bytes, numbers 8, big-endian:
 *   a nullable field   00 if null, else 01 and its value
 *   an added one       nothing if null, else a byte with its place (above 01) and its value
 *   text               length, UTF-8 bytes
 *   texts              count, and for each, sorted bytewise and distinct: length, bytes
 *   digest             length (32), bytes
 * Drafts keep the sum: another layout would turn every redelivered command of before into a trace_reused. */
static void put_field(struct sum *sum, const struct field *field, const void *command)
{
	bool null = field_is_null(field, command);
	uint8_t place = (uint8_t)field->digest;

	if (field->added && !null)
		put(sum, &place, 1);
	else if (field->nullable && !field->added)
		put_present(sum, !null);
	if (!null)
		put_value(sum, field, command);
}

static const struct field *find_place(const struct record_type *type, int place)
{
	for (size_t i = 0; i < type->count; i++)
		if (type->fields[i].digest == place)
			return &type->fields[i];
	return NULL;
}

void digest_fields(const struct record_type *type, const void *command, uint8_t digest[CAMPAIGN_DIGEST_BYTES])
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const struct field *field;
	struct sum sum;

	pthread_once(&once, fetch_sha256); /* EVP_sha256() would be looked up each time */
	sum.context = must(EVP_MD_CTX_new());
	sum.used = 0;
	must_be(EVP_DigestInit_ex(sum.context, sha256, NULL));
	for (int place = 1; (field = find_place(type, place)) != NULL; place++)
		put_field(&sum, field, command);
	flush(&sum);
	must_be(EVP_DigestFinal_ex(sum.context, digest, NULL));
	EVP_MD_CTX_free(sum.context);
}
