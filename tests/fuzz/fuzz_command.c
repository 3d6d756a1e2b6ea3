/* libFuzzer: rule 0 and rule 1 on any bytes (make fuzz).
 * The first byte chooses a framing, so that the fuzzer need not guess eight bytes of fingerprint: 0 none, else one of
 * the schemas below. What is decoded must survive command_check and an encoding and decoding again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"
#include "schemas/command.h"
#include "schemas/duplicate.h"

#define PLAIN(name, type) "{\"name\": \"" name "\", \"type\": " type "}"

static const char other_writer[] = "{\"type\": \"record\", \"name\": \"DuplicateCampaignCommand\", \"fields\": ["
	PLAIN("flags", "{\"type\": \"map\", \"values\": {\"type\": \"array\", \"items\": \"boolean\"}}") ","
	PLAIN("expiresAt", "[\"int\", \"null\"]") ","
	PLAIN("kind", "{\"type\": \"enum\", \"name\": \"Kind\", \"symbols\": [\"A\", \"B\"]}") ","
	PLAIN("leadIds", "[{\"type\": \"array\", \"items\": \"string\"}, \"null\"]") ","
	PLAIN("origin", "{\"type\": \"record\", \"name\": \"Origin\", \"fields\": [" PLAIN("kind", "\"Kind\"") ","
	      PLAIN("before", "[\"null\", \"Origin\"]") "]}") ","
	PLAIN("apiKeyDigest", "[\"null\", {\"type\": \"fixed\", \"name\": \"Other\", \"size\": 32}]") ","
	PLAIN("weight", "\"double\"") "," PLAIN("share", "\"float\"") "," PLAIN("blob", "\"bytes\"") ","
	PLAIN("nothing", "\"null\"") "," PLAIN("issuedAt", "\"int\"") "," PLAIN("name", "\"string\"") ","
	PLAIN("traceId", "\"string\"") "," PLAIN("accountGroupId", "\"string\"") "," PLAIN("campaignId", "\"string\"") ","
	PLAIN("audienceId", "\"string\"") "]}";

static struct codec *codec;
static struct arena *arena;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Schemas by id, from 1. */
static int find(void *arg, uint32_t id, char **json, struct fault *fault)
{
	const char *const schemas[] = { schema_duplicate_campaign_command, other_writer, schema_duplicate_campaign_result };

	(void)arg, (void)fault;
	if (id >= 1 && id <= sizeof schemas / sizeof schemas[0])
		*json = strdup(schemas[id - 1]);
	return 0;
}

static const struct schema_source source = { find, NULL };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct fault fault;

	(void)argc;
	(void)argv;
	arena = arena_new(0);
	codec = codec_new(&duplicate_contract, NULL, &source, &fault);
	if (codec == NULL)
		abort();
	return 0;
}

static void check(int condition)
{
	if (!condition)
		abort();
}

static void check_again(const struct duplicate_command *command)
{
	struct duplicate_command again;
	const struct reason *reason;
	struct fault fault;
	const void *value, *second;
	size_t size, second_size;

	check(codec_encode_command(codec, &command->head, arena, &value, &size, &fault) == 0);
	check(codec_decode_command(codec, value, size, arena, &again.head, &reason, &fault) == 0);
	check(codec_encode_command(codec, &again.head, arena, &second, &second_size, &fault) == 0);
	check(size == second_size && memcmp(value, second, size) == 0);
}

static void check_value(const uint8_t *value, size_t size)
{
	struct duplicate_command command;
	struct command_result result;
	const struct reason *reason;
	struct fault fault;
	const char *details;
	const void *again;

	if (codec_decode_command(codec, value, size, arena, &command.head, &reason, &fault) == 0) {
		check_again(&command);
		check((command_check(&duplicate_contract, &command.head, arena, &details) == 0) == (details == NULL));
	} else {
		check(fault.kind == FAULT_REJECT && fault.msg[0] != '\0');
	}
	if (codec_decode_result(codec, value, size, arena, &result, &fault) == 0)
		check(codec_encode_result(codec, &result, arena, &again, &size, &fault) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t framing[] = { 0, 0, 0, 0, size ? data[0] % 4 : 0 };
	size_t header = framing[4] ? sizeof framing : 0;
	uint8_t *value;

	if (size-- == 0)
		return 0;
	value = malloc(header + size + (header + size == 0)); /* no byte more: a read beyond the end is found */
	check(value != NULL);
	memcpy(value, framing, header);
	memcpy(value + header, data + 1, size);
	check_value(value, header + size);
	free(value);
	arena_reset(arena);
	return 0;
}
