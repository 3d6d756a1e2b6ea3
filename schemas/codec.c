#include "schemas/codec.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/decode.h"
#include "schemas/encode.h"
#include "schemas/framing.h"
#include "schemas/writer_schema.h"
#include "worker/base/must.h"

struct codec {
	const struct contract *contract;
	const struct schema_source *source;
	struct writer_schemas *schemas;
	struct decoder *decoder;
	struct encoder *encoder;
};

struct codec *codec_new(const struct contract *contract, const char *folder, const struct schema_source *source,
			struct fault *fault)
{
	struct writer_schemas *schemas = writer_schemas_new(contract, folder, fault);
	struct codec *codec;

	if (schemas == NULL)
		return NULL;
	codec = must(calloc(1, sizeof *codec));
	codec->contract = contract;
	codec->source = source;
	codec->schemas = schemas;
	codec->decoder = decoder_new();
	codec->encoder = encoder_new();
	return codec;
}

void codec_free(struct codec *codec)
{
	if (codec == NULL)
		return;
	writer_schemas_free(codec->schemas);
	decoder_free(codec->decoder);
	encoder_free(codec->encoder);
	free(codec);
}

const struct contract *codec_contract(const struct codec *codec)
{
	return codec->contract;
}

/* A schema that the source has and nobody can use is the record's fault, as one that is not known. */
static int ask_source(struct codec *codec, uint32_t id, struct fault *fault)
{
	char *json = NULL;
	int failed = 0;

	if (codec->source == NULL)
		return 0;
	if (codec->source->find(codec->source->arg, id, &json, fault) < 0)
		return -1;
	if (json && writer_schemas_add_id(codec->schemas, id, json, fault) < 0) {
		fault->kind = FAULT_REJECT;
		failed = -1;
	}
	free(json);
	return failed;
}

static struct writer_schema *find_by_id(struct codec *codec, uint32_t id, struct fault *fault)
{
	struct writer_schema *schema = writer_schemas_find_id(codec->schemas, id);

	if (schema == NULL && ask_source(codec, id, fault) < 0)
		return NULL;
	if (schema == NULL)
		schema = writer_schemas_find_id(codec->schemas, id);
	if (schema == NULL)
		fault_set(fault, FAULT_REJECT, "no schema is known by id %" PRIu32, id);
	return schema;
}

static struct writer_schema *find_by_fingerprint(struct codec *codec, uint64_t fingerprint, struct fault *fault)
{
	struct writer_schema *schema = writer_schemas_find_fingerprint(codec->schemas, fingerprint);

	if (schema == NULL)
		fault_set(fault, FAULT_REJECT, "no schema is known by fingerprint %016" PRIx64, fingerprint);
	return schema;
}

static int decode(struct codec *codec, const struct record_type *type, const void *data, size_t size, struct arena *arena,
		  void *dest, const struct reason **reason, struct fault *fault)
{
	struct writer_schema *schema;
	struct framing framing;

	memset(dest, 0, type->size);
	*reason = &reason_tombstone;
	if (data == NULL)
		return fault_set(fault, FAULT_REJECT, "the record has no value");
	*reason = &reason_too_large;
	if (size > RECORD_SIZE_MAX)
		return fault_set(fault, FAULT_REJECT, "the value has %zu bytes, at most %zu", size, RECORD_SIZE_MAX);
	*reason = &reason_undecodable;
	if (framing_read(data, size, &framing, fault) < 0)
		return -1;
	*reason = &reason_unknown_schema;
	schema = framing.by_id ? find_by_id(codec, framing.id, fault) : find_by_fingerprint(codec, framing.fingerprint, fault);
	if (schema == NULL)
		return -1;
	*reason = &reason_undecodable;
	if (schema->type != type)
		return fault_set(fault, FAULT_REJECT, "it is a %s, no %s", schema->type->name, type->name);
	return decoder_read(codec->decoder, schema, (const char *)data + framing.header, size - framing.header, framing.header,
			    arena, dest, fault);
}

int codec_decode_command(struct codec *codec, const void *value, size_t size, struct arena *arena, struct command_head *command,
			 const struct reason **reason, struct fault *fault)
{
	return decode(codec, codec->contract->command, value, size, arena, command, reason, fault);
}

/* What the envelope promises beyond its types. */
static int check_result(const struct command_result *result, struct fault *fault)
{
	if (result->success != (result->data != NULL) || result->success != (result->error_code == NULL))
		return fault_set(fault, FAULT_REJECT, "a result has data if it is a success and an error if not");
	return 0;
}

int codec_decode_result(struct codec *codec, const void *value, size_t size, struct arena *arena, struct command_result *result,
			struct fault *fault)
{
	const struct reason *reason;

	if (decode(codec, codec->contract->result, value, size, arena, result, &reason, fault) < 0)
		return -1;
	return check_result(result, fault);
}

static int encode(struct codec *codec, const struct record_type *type, const void *src, struct arena *arena, const void **value,
		  size_t *size, struct fault *fault)
{
	struct writer_schema *schema = writer_schemas_built_in(codec->schemas, type);
	void *bytes;

	if (encoder_write(codec->encoder, schema, src, SINGLE_OBJECT_HEADER, RECORD_SIZE_MAX, arena, &bytes, size, fault) < 0)
		return -1;
	framing_write(schema->fingerprint, bytes);
	*value = bytes;
	return 0;
}

int codec_encode_command(struct codec *codec, const struct command_head *command, struct arena *arena, const void **value,
			 size_t *size, struct fault *fault)
{
	return encode(codec, codec->contract->command, command, arena, value, size, fault);
}

int codec_encode_result(struct codec *codec, const struct command_result *result, struct arena *arena, const void **value,
			size_t *size, struct fault *fault)
{
	if (check_result(result, fault) < 0)
		return -1;
	return encode(codec, codec->contract->result, result, arena, value, size, fault);
}
