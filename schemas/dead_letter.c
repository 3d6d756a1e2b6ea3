#include "schemas/dead_letter.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include <openssl/sha.h>

#include "schemas/headers.h"

#define ORIGINALS_MAX 1000 /* headers of the original that are kept */
#define SPRING "kafka_dlt-"
#define OURS "campaign-dlt-"

enum encoding { TEXT, INT32, INT64 };

#define AT(member) offsetof(struct dead_letter, member)

static const struct row {
	const char *name;
	enum encoding encoding;
	size_t offset;
	bool optional; /* left out where the text is NULL */
} rows[] = {
	{ SPRING "original-topic", TEXT, AT(topic), false },
	{ SPRING "original-partition", INT32, AT(partition), false },
	{ SPRING "original-offset", INT64, AT(offset), false },
	{ SPRING "original-timestamp", INT64, AT(timestamp_ms), false },
	{ SPRING "original-consumer-group", TEXT, AT(group), false },
	{ SPRING "exception-message", TEXT, AT(message), false },
	{ OURS "reason", TEXT, AT(reason), false },
	{ OURS "answered", TEXT, AT(answered), true },
	{ OURS "original-sha256", TEXT, AT(original_sha256), true },
	{ OURS "original-size", TEXT, AT(original_size), true },
	{ OURS "headers-left-out", TEXT, AT(headers_left_out), true },
};

#define ROWS (sizeof rows / sizeof rows[0])

/* Names of a dead letter's own: where they come in, the record is a dead letter that was redriven, or pretends to be one. */
static bool is_reserved(const char *name)
{
	return strncmp(name, SPRING, strlen(SPRING)) == 0 || strncmp(name, OURS, strlen(OURS)) == 0;
}

static bool is_always_kept(const struct trace_headers *trace, const struct header *header)
{
	return header == trace->trace_id || header == trace->parent || header == trace->state;
}

/* A header that is too large for what is left is skipped alone. A redriven record's headers do not outgrow it: those of an
 * earlier life are replaced. */
static size_t keep_originals(const struct record *original, size_t bytes_max, struct header *headers, size_t *left_out)
{
	const struct trace_headers trace = headers_find_trace(original);
	size_t bytes = 0, kept = 0;

	*left_out = 0;
	for (size_t i = 0; i < original->header_count; i++) {
		const struct header *header = &original->headers[i];
		size_t size = strlen(header->name) + header->size;

		if (is_reserved(header->name))
			continue;
		if (is_always_kept(&trace, header)) {
			headers[kept++] = *header;
		} else if (size <= bytes_max - bytes && kept < ORIGINALS_MAX) {
			headers[kept++] = *header;
			bytes += size;
		} else {
			++*left_out;
		}
	}
	return kept;
}

static struct header write_row(const struct row *row, const struct dead_letter *letter, struct arena *arena)
{
	const void *at = (const char *)letter + row->offset;
	struct header header = { .name = row->name, .size = row->encoding == INT32 ? 4 : 8 };
	uint64_t *number;

	if (row->encoding == TEXT) {
		header.value = *(const char *const *)at;
		header.size = header.value ? strlen(header.value) : 0;
		return header;
	}
	header.value = number = arena_alloc(arena, sizeof *number);
	if (row->encoding == INT32)
		*(uint32_t *)number = htobe32((uint32_t)*(const int32_t *)at);
	else
		*number = htobe64((uint64_t)*(const int64_t *)at);
	return header;
}

size_t dead_letter_write(const struct dead_letter *letter, const struct record *original, size_t bytes_max, struct arena *arena,
			 const struct header **headers)
{
	const size_t always_kept = sizeof(struct trace_headers) / sizeof(struct header *), most = ORIGINALS_MAX + always_kept;
	size_t room = original->header_count < most ? original->header_count : most;
	struct header *all = arena_array(arena, room + ROWS, sizeof *all);
	struct dead_letter written = *letter;
	size_t left_out, count = keep_originals(original, bytes_max, all, &left_out);

	written.headers_left_out = left_out ? arena_printf(arena, "%zu", left_out) : NULL;
	for (size_t i = 0; i < ROWS; i++) {
		all[count] = write_row(&rows[i], &written, arena);
		if (all[count].value || !rows[i].optional)
			count++;
	}
	*headers = all;
	return count;
}

void dead_letter_cut(struct dead_letter *letter, const void *value, size_t size, struct arena *arena)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t digest[SHA256_DIGEST_LENGTH];
	char *text = arena_alloc(arena, 2 * sizeof digest + 1);

	SHA256(value, size, digest);
	for (size_t i = 0; i < sizeof digest; i++) {
		text[2 * i] = hex[digest[i] >> 4];
		text[2 * i + 1] = hex[digest[i] & 15];
	}
	letter->original_sha256 = text;
	letter->original_size = arena_printf(arena, "%zu", size);
}

/* The last one of a name: a publisher's own come first. */
static const struct header *find(const struct header *headers, size_t count, const char *name)
{
	while (count-- > 0)
		if (strcmp(headers[count].name, name) == 0)
			return &headers[count];
	return NULL;
}

static int read_row(const struct row *row, const struct header *header, char *letter, struct arena *arena, struct fault *fault)
{
	void *at = letter + row->offset;
	uint32_t narrow;
	uint64_t wide;

	if (header == NULL || header->value == NULL)
		return row->optional ? 0 : fault_set(fault, FAULT_REJECT, "header %s is missing", row->name);
	if (row->encoding == TEXT) {
		*(const char **)at = arena_strndup(arena, header->value, header->size);
		return 0;
	}
	if (header->size != (row->encoding == INT32 ? sizeof narrow : sizeof wide))
		return fault_set(fault, FAULT_REJECT, "header %s has %zu bytes", row->name, header->size);
	if (row->encoding == INT32) {
		memcpy(&narrow, header->value, sizeof narrow);
		*(int32_t *)at = (int32_t)be32toh(narrow);
	} else {
		memcpy(&wide, header->value, sizeof wide);
		*(int64_t *)at = (int64_t)be64toh(wide);
	}
	return 0;
}

int dead_letter_read(struct dead_letter *letter, const struct header *headers, size_t count, struct arena *arena,
		     struct fault *fault)
{
	*letter = (struct dead_letter){ 0 };
	for (size_t i = 0; i < ROWS; i++)
		if (read_row(&rows[i], find(headers, count, rows[i].name), (char *)letter, arena, fault) < 0)
			return -1;
	return 0;
}
