#include "schemas/framing.h"

#define CONFLUENT_HEADER 5

static uint32_t read_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static uint64_t read_le64(const uint8_t *p)
{
	uint64_t n = 0;

	for (int i = 7; i >= 0; i--)
		n = n << 8 | p[i];
	return n;
}

int framing_read(const void *data, size_t size, struct framing *framing, struct fault *fault)
{
	const uint8_t *bytes = data;

	if (size >= CONFLUENT_HEADER && bytes[0] == 0x00) {
		*framing = (struct framing){ .by_id = true, .id = read_be32(bytes + 1), .header = CONFLUENT_HEADER };
		return 0;
	}
	if (size >= SINGLE_OBJECT_HEADER && bytes[0] == 0xc3 && bytes[1] == 0x01) {
		*framing = (struct framing){ .fingerprint = read_le64(bytes + 2), .header = SINGLE_OBJECT_HEADER };
		return 0;
	}
	return fault_set(fault, FAULT_REJECT, "byte 0: neither single-object encoding (c3 01, fingerprint) nor Confluent's "
			 "framing (00, schema id), %zu bytes", size);
}

void framing_write(uint64_t fingerprint, uint8_t header[SINGLE_OBJECT_HEADER])
{
	header[0] = 0xc3;
	header[1] = 0x01;
	for (int i = 0; i < 8; i++)
		header[2 + i] = (uint8_t)(fingerprint >> (8 * i));
}
