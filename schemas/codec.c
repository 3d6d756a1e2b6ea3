#include "schemas/codec.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <avro.h>

#include "worker/base/utf8.h"
#include "schemas/guard.h"

#define SCHEMA_SIZE_MAX ((size_t)256 * 1024) /* bytes of one schema text */
#define RECORDS_MAX 1000                     /* records within records of a writer schema */
#define FIELDS_MAX 16                        /* of one of our records */
#define CONFLUENT_HEADER 5
#define SINGLE_OBJECT_HEADER 10
/* A reused avro value keeps what its largest arrays and strings took. After this many bytes (a value counted as
 * VALUE_COST) it is made anew, so what is kept is bounded whatever was received. */
#define WEAR_MAX ((size_t)1024 * 1024)
#define VALUE_COST 64

/* Our records, as tables: what is decoded, encoded and asked of a writer's schema all follows from them. */
enum shape { COMMAND, RESULT, CAMPAIGN, ERROR, POSITION, SHAPE_COUNT };
enum type { TYPE_STRING, TYPE_STRINGS, TYPE_DIGEST, TYPE_BOOLEAN, TYPE_INT, TYPE_LONG, TYPE_RECORD };
enum presence { REQUIRED, NULLABLE }; /* a nullable field may also be absent from a writer's schema: then it is null */

struct field {
	const char *name;
	enum type type;
	enum presence presence;
	size_t offset;    /* of the member; of a record within the same struct: of the pointer that is NULL when it is null */
	size_t companion; /* member beside it: the has_ of a nullable number or digest, the count of an array; 0: none */
	enum shape shape; /* of a record */
};

#define COMMAND_AT(member) offsetof(struct duplicate_command, member)
#define RESULT_AT(member) offsetof(struct command_result, member)
#define CAMPAIGN_AT(member) offsetof(struct campaign, member)

static const struct field command_fields[] = {
	{ "traceId", TYPE_STRING, REQUIRED, COMMAND_AT(head.trace_id), 0, 0 },
	{ "accountGroupId", TYPE_STRING, REQUIRED, COMMAND_AT(head.account_group_id), 0, 0 },
	{ "campaignId", TYPE_STRING, REQUIRED, COMMAND_AT(campaign_id), 0, 0 },
	{ "name", TYPE_STRING, NULLABLE, COMMAND_AT(name), 0, 0 },
	{ "audienceId", TYPE_STRING, REQUIRED, COMMAND_AT(audience_id), 0, 0 },
	{ "leadIds", TYPE_STRINGS, NULLABLE, COMMAND_AT(lead_ids), COMMAND_AT(lead_count), 0 },
	{ "apiKeyDigest", TYPE_DIGEST, NULLABLE, COMMAND_AT(head.key_digest), COMMAND_AT(head.has_key), 0 },
	{ "issuedAt", TYPE_LONG, REQUIRED, COMMAND_AT(head.issued_at_ms), 0, 0 },
	{ "expiresAt", TYPE_LONG, NULLABLE, COMMAND_AT(head.expires_at_ms), COMMAND_AT(head.has_expiry), 0 },
};

static const struct field result_fields[] = {
	{ "traceId", TYPE_STRING, REQUIRED, RESULT_AT(trace_id), 0, 0 },
	{ "success", TYPE_BOOLEAN, REQUIRED, RESULT_AT(success), 0, 0 },
	{ "data", TYPE_RECORD, NULLABLE, RESULT_AT(data), 0, CAMPAIGN },
	{ "error", TYPE_RECORD, NULLABLE, RESULT_AT(error_code), 0, ERROR },
	{ "httpStatus", TYPE_INT, REQUIRED, RESULT_AT(http_status), 0, 0 },
	{ "reason", TYPE_STRING, NULLABLE, RESULT_AT(reason), 0, 0 },
	{ "retryable", TYPE_BOOLEAN, REQUIRED, RESULT_AT(retryable), 0, 0 },
	{ "retryAfterSeconds", TYPE_INT, NULLABLE, RESULT_AT(retry_after_s), RESULT_AT(has_retry_after), 0 },
	{ "accountGroupId", TYPE_STRING, NULLABLE, RESULT_AT(account_group_id), 0, 0 },
	{ "sourceCampaignId", TYPE_STRING, NULLABLE, RESULT_AT(source_campaign_id), 0, 0 },
	{ "audienceId", TYPE_STRING, NULLABLE, RESULT_AT(audience_id), 0, 0 },
	{ "draftExisted", TYPE_BOOLEAN, REQUIRED, RESULT_AT(draft_existed), 0, 0 },
	{ "command", TYPE_RECORD, REQUIRED, 0, 0, POSITION },
	{ "issuedAt", TYPE_LONG, NULLABLE, RESULT_AT(issued_at_ms), RESULT_AT(has_issued_at), 0 },
	{ "processedAt", TYPE_LONG, REQUIRED, RESULT_AT(processed_at_ms), 0, 0 },
};

static const struct field campaign_fields[] = {
	{ "id", TYPE_STRING, REQUIRED, CAMPAIGN_AT(id), 0, 0 },
	{ "name", TYPE_STRING, REQUIRED, CAMPAIGN_AT(name), 0, 0 },
	{ "description", TYPE_STRING, NULLABLE, CAMPAIGN_AT(description), 0, 0 },
	{ "status", TYPE_STRING, REQUIRED, CAMPAIGN_AT(status), 0, 0 },
	{ "selectedLeadCount", TYPE_INT, REQUIRED, CAMPAIGN_AT(selected_lead_count), 0, 0 },
	{ "includeConversationHistory", TYPE_BOOLEAN, REQUIRED, CAMPAIGN_AT(include_conversation_history), 0, 0 },
	{ "autoCancelOnMessageReceived", TYPE_BOOLEAN, REQUIRED, CAMPAIGN_AT(auto_cancel_on_message_received), 0, 0 },
	{ "outreachLanguage", TYPE_STRING, NULLABLE, CAMPAIGN_AT(outreach_language), 0, 0 },
	{ "createdAt", TYPE_LONG, REQUIRED, CAMPAIGN_AT(created_at_ms), 0, 0 },
	{ "updatedAt", TYPE_LONG, REQUIRED, CAMPAIGN_AT(updated_at_ms), 0, 0 },
	{ "startedAt", TYPE_LONG, NULLABLE, CAMPAIGN_AT(started_at_ms), CAMPAIGN_AT(has_started_at), 0 },
	{ "rateLimitedUntil", TYPE_LONG, NULLABLE, CAMPAIGN_AT(rate_limited_until_ms), CAMPAIGN_AT(has_rate_limited_until), 0 },
};

static const struct field error_fields[] = { /* members of struct command_result */
	{ "code", TYPE_STRING, REQUIRED, RESULT_AT(error_code), 0, 0 },
	{ "message", TYPE_STRING, REQUIRED, RESULT_AT(error_message), 0, 0 },
	{ "details", TYPE_STRING, REQUIRED, RESULT_AT(error_details), 0, 0 },
};

static const struct field position_fields[] = { /* members of struct command_result */
	{ "topic", TYPE_STRING, REQUIRED, RESULT_AT(command_topic), 0, 0 },
	{ "partition", TYPE_INT, REQUIRED, RESULT_AT(command_partition), 0, 0 },
	{ "offset", TYPE_LONG, REQUIRED, RESULT_AT(command_offset), 0, 0 },
	{ "timestamp", TYPE_LONG, REQUIRED, RESULT_AT(command_timestamp_ms), 0, 0 },
};

#define COUNT(fields) (sizeof fields / sizeof fields[0])
#define FIELDS(fields) fields, COUNT(fields)

_Static_assert(COUNT(command_fields) <= FIELDS_MAX && COUNT(result_fields) <= FIELDS_MAX &&
	       COUNT(campaign_fields) <= FIELDS_MAX, "FIELDS_MAX");

static const struct {
	const char *name; /* of the Avro record; compared for the two outermost ones */
	const struct field *fields;
	size_t field_count;
} shapes[SHAPE_COUNT] = {
	[COMMAND] = { "DuplicateCampaignCommand", FIELDS(command_fields) },
	[RESULT] = { "DuplicateCampaignResult", FIELDS(result_fields) },
	[CAMPAIGN] = { "Campaign", FIELDS(campaign_fields) },
	[ERROR] = { "Error", FIELDS(error_fields) },
	[POSITION] = { "CommandPosition", FIELDS(position_fields) },
};

struct entry { /* a writer schema that is known */
	struct entry *next;
	enum shape shape; /* COMMAND or RESULT */
	uint64_t fingerprint;
	avro_schema_t schema;
	avro_value_iface_t *class;
	avro_value_t value; /* reused */
	size_t wear;        /* of value, see WEAR_MAX */
	int index[SHAPE_COUNT][FIELDS_MAX]; /* of our fields in the writer's records; -1: absent */
	size_t field_count; /* of the writer's outermost record */
	bool *wanted;       /* for each of them: whether it is one of ours */
	size_t *ends;       /* for each of them: where it ends in the bytes being decoded */
};

struct schema_id { /* of a schema registry */
	uint32_t id;
	struct entry *entry;
};

struct codec {
	struct entry *entries;
	struct entry *built_in[2]; /* COMMAND, RESULT: what is written */
	struct schema_id *ids;
	size_t id_count;
	avro_reader_t reader;
	avro_writer_t writer;
};

/* Out of memory ends the process, as in arena.c. */
static void *must(void *p)
{
	if (p == NULL)
		abort();
	return p;
}

/* avro-c's own calls on values we made fail for lack of memory only. */
static void done(int failure)
{
	if (failure)
		abort();
}

/*
 * Writer schemas
 */

static int map_shape(struct entry *entry, enum shape shape, avro_schema_t schema, struct fault *fault);

static bool type_matches(const struct field *field, avro_schema_t schema)
{
	avro_type_t type = avro_typeof(schema);

	switch (field->type) {
	case TYPE_STRING:
		return type == AVRO_STRING;
	case TYPE_STRINGS:
		return type == AVRO_ARRAY && avro_typeof(avro_schema_array_items(schema)) == AVRO_STRING;
	case TYPE_DIGEST:
		return type == AVRO_FIXED && avro_schema_fixed_size(schema) == DIGEST_BYTES;
	case TYPE_BOOLEAN:
		return type == AVRO_BOOLEAN;
	case TYPE_INT:
		return type == AVRO_INT32;
	case TYPE_LONG: /* the specification promotes int to long */
		return type == AVRO_INT64 || type == AVRO_INT32;
	case TYPE_RECORD:
		return type == AVRO_RECORD;
	}
	return false;
}

static avro_schema_t follow_link(avro_schema_t schema)
{
	return avro_typeof(schema) == AVRO_LINK ? avro_schema_link_target(schema) : schema;
}

/* A field's type in the writer's schema: ours, or a union of that and, where ours is nullable, null. Sets *schema to what
 * a value that is not null has; false if it is no such type. */
static bool find_match(const struct field *field, avro_schema_t *schema)
{
	avro_schema_t type = follow_link(*schema), found = NULL;
	size_t n;

	if (avro_typeof(type) != AVRO_UNION) {
		*schema = type;
		return type_matches(field, type);
	}
	n = avro_schema_union_size(type);
	for (size_t i = 0; i < n; i++) {
		avro_schema_t branch = follow_link(avro_schema_union_branch(type, (int)i));

		if (avro_typeof(branch) == AVRO_NULL && field->presence == NULLABLE)
			continue;
		if (found || !type_matches(field, branch))
			return false;
		found = branch;
	}
	*schema = found;
	return found != NULL;
}

static int map_field(struct entry *entry, enum shape shape, const struct field *field, avro_schema_t record,
		     struct fault *fault)
{
	int i = avro_schema_record_field_get_index(record, field->name);
	avro_schema_t type;

	entry->index[shape][field - shapes[shape].fields] = i;
	if (i < 0)
		return field->presence == NULLABLE ? 0 :
		       fault_set(fault, FAULT_FATAL, "record %s lacks field %s", avro_schema_name(record), field->name);
	type = avro_schema_record_field_get_by_index(record, i);
	if (!find_match(field, &type))
		return fault_set(fault, FAULT_FATAL, "field %s of record %s has a type that cannot be read as ours",
				 field->name, avro_schema_name(record));
	return field->type == TYPE_RECORD ? map_shape(entry, field->shape, type, fault) : 0;
}

static int map_shape(struct entry *entry, enum shape shape, avro_schema_t schema, struct fault *fault)
{
	for (size_t i = 0; i < shapes[shape].field_count; i++)
		if (map_field(entry, shape, &shapes[shape].fields[i], schema, fault) != 0)
			return -1;
	return 0;
}

/* Records within records without end, or doubling at every level, would overflow avro-c's stack or the memory. (Unions,
 * arrays and maps are made when they are filled.) */
static bool is_finite(avro_schema_t schema, int *budget)
{
	size_t n;

	schema = follow_link(schema);
	if (avro_typeof(schema) != AVRO_RECORD)
		return true;
	if ((*budget)-- == 0)
		return false;
	n = avro_schema_record_size(schema);
	for (size_t i = 0; i < n; i++)
		if (!is_finite(avro_schema_record_field_get_by_index(schema, (int)i), budget))
			return false;
	return true;
}

static int find_shape(avro_schema_t schema, enum shape *shape, struct fault *fault)
{
	int budget = RECORDS_MAX;

	if (avro_typeof(schema) != AVRO_RECORD)
		return fault_set(fault, FAULT_FATAL, "it is no record");
	if (!is_finite(schema, &budget))
		return fault_set(fault, FAULT_FATAL, "it has more than %d records within records", RECORDS_MAX);
	for (*shape = COMMAND; *shape <= RESULT; (*shape)++)
		if (strcmp(avro_schema_name(schema), shapes[*shape].name) == 0)
			return 0;
	return fault_set(fault, FAULT_FATAL, "it is record %s, neither %s nor %s", avro_schema_name(schema),
			 shapes[COMMAND].name, shapes[RESULT].name);
}

static void new_value(struct entry *entry)
{
	done(avro_generic_value_new(entry->class, &entry->value));
	entry->wear = 0;
}

static void free_entry(struct entry *entry)
{
	if (entry->class) {
		avro_value_decref(&entry->value);
		avro_value_iface_decref(entry->class);
	}
	avro_schema_decref(entry->schema);
	free(entry->wanted);
	free(entry->ends);
	free(entry);
}

static void prepare_entry(struct entry *entry)
{
	entry->class = must(avro_generic_class_from_schema(entry->schema));
	new_value(entry);
	entry->field_count = avro_schema_record_size(entry->schema);
	entry->wanted = must(calloc(entry->field_count, sizeof *entry->wanted));
	entry->ends = must(calloc(entry->field_count, sizeof *entry->ends));
	for (size_t i = 0; i < shapes[entry->shape].field_count; i++)
		if (entry->index[entry->shape][i] >= 0)
			entry->wanted[entry->index[entry->shape][i]] = true;
}

static struct entry *find_fingerprint(const struct codec *codec, uint64_t fingerprint)
{
	struct entry *entry = codec->entries;

	while (entry && entry->fingerprint != fingerprint)
		entry = entry->next;
	return entry;
}

/* The entry of a schema text; an existing one if it differs only in what does not change the encoding. The message of a
 * fault does not yet say where the text is from. */
static struct entry *add_schema(struct codec *codec, const char *json, struct fault *fault)
{
	struct entry *entry;
	avro_schema_t schema;
	uint64_t fingerprint;

	if (strlen(json) > SCHEMA_SIZE_MAX) {
		fault_set(fault, FAULT_FATAL, "it has more than %zu bytes", SCHEMA_SIZE_MAX);
		return NULL;
	}
	if (schema_fingerprint(json, &fingerprint, NULL, fault) != 0)
		return NULL;
	entry = find_fingerprint(codec, fingerprint);
	if (entry)
		return entry;
	/* avro_strerror is shared between threads: its text is never used */
	if (avro_schema_from_json_length(json, strlen(json), &schema) != 0) {
		fault_set(fault, FAULT_FATAL, "avro-c does not accept it");
		return NULL;
	}
	entry = must(calloc(1, sizeof *entry));
	entry->fingerprint = fingerprint;
	entry->schema = schema;
	if (find_shape(schema, &entry->shape, fault) != 0 || map_shape(entry, entry->shape, schema, fault) != 0) {
		free_entry(entry);
		return NULL;
	}
	prepare_entry(entry);
	entry->next = codec->entries;
	codec->entries = entry;
	return entry;
}

static int blame(struct fault *fault, const char *origin)
{
	struct fault cause = *fault;

	return fault_set(fault, FAULT_FATAL, "Avro schema %s: %s", origin, cause.msg);
}

/* The whole file as a string to be freed. */
static char *read_text(const char *path, struct fault *fault)
{
	FILE *file = fopen(path, "re");
	char *text = must(malloc(SCHEMA_SIZE_MAX + 2));
	size_t len = 0;

	if (file)
		len = fread(text, 1, SCHEMA_SIZE_MAX + 1, file);
	if (file == NULL || ferror(file)) {
		fault_set(fault, FAULT_FATAL, "%s", strerror(errno));
		free(text);
		text = NULL;
	} else {
		text[len] = '\0';
		if (strlen(text) != len) {
			fault_set(fault, FAULT_FATAL, "it has a NUL");
			free(text);
			text = NULL;
		}
	}
	if (file)
		fclose(file);
	return text;
}

static struct entry *find_id(const struct codec *codec, uint32_t id)
{
	for (size_t i = 0; i < codec->id_count; i++)
		if (codec->ids[i].id == id)
			return codec->ids[i].entry;
	return NULL;
}

static int add_id(struct codec *codec, uint32_t id, struct entry *entry, struct fault *fault)
{
	struct entry *known = find_id(codec, id);

	if (known && known != entry)
		return fault_set(fault, FAULT_FATAL, "the id already stands for another schema");
	if (known)
		return 0;
	codec->ids = must(reallocarray(codec->ids, codec->id_count + 1, sizeof *codec->ids));
	codec->ids[codec->id_count++] = (struct schema_id){ id, entry };
	return 0;
}

/* "4711.avsc" is the schema with that id in a schema registry. */
static bool names_id(const char *name, uint32_t *id)
{
	char *end;
	unsigned long long number = strtoull(name, &end, 10);

	*id = (uint32_t)number;
	return name[0] >= '0' && name[0] <= '9' && strcmp(end, ".avsc") == 0 && number <= UINT32_MAX;
}

static int add_file(struct codec *codec, const char *folder, const char *name, struct fault *fault)
{
	struct entry *entry = NULL;
	char *path, *text;
	int failed = 0;
	uint32_t id;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		abort();
	text = read_text(path, fault);
	if (text)
		entry = add_schema(codec, text, fault);
	if (entry == NULL || (names_id(name, &id) && add_id(codec, id, entry, fault) != 0))
		failed = blame(fault, path);
	free(text);
	free(path);
	return failed;
}

static int is_schema_file(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && strcmp(dot, ".avsc") == 0 && entry->d_name[0] != '.';
}

static int add_folder(struct codec *codec, const char *folder, struct fault *fault)
{
	struct dirent **files;
	int n = scandir(folder, &files, is_schema_file, alphasort), failed = 0;

	if (n < 0)
		return fault_set(fault, FAULT_FATAL, "folder of Avro schemas %s: %s", folder, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (!failed)
			failed = add_file(codec, folder, files[i]->d_name, fault);
		free(files[i]);
	}
	free(files);
	return failed;
}

static int add_built_in(struct codec *codec, enum shape shape, const char *json, struct fault *fault)
{
	codec->built_in[shape] = add_schema(codec, json, fault);
	return codec->built_in[shape] ? 0 : blame(fault, shapes[shape].name);
}

struct codec *codec_new(const char *folder, struct fault *fault)
{
	struct codec *codec = must(calloc(1, sizeof *codec));

	codec->reader = must(avro_reader_memory("", 0));
	codec->writer = must(avro_writer_memory("", 0));
	if (add_built_in(codec, COMMAND, command_schema_json, fault) != 0 ||
	    add_built_in(codec, RESULT, result_schema_json, fault) != 0 ||
	    (folder && add_folder(codec, folder, fault) != 0)) {
		codec_free(codec);
		return NULL;
	}
	return codec;
}

void codec_free(struct codec *codec)
{
	if (codec == NULL)
		return;
	while (codec->entries) {
		struct entry *entry = codec->entries;

		codec->entries = entry->next;
		free_entry(entry);
	}
	free(codec->ids);
	avro_reader_free(codec->reader);
	avro_writer_free(codec->writer);
	free(codec);
}

int codec_add_schema_id(struct codec *codec, uint32_t id, const char *schema_json, struct fault *fault)
{
	struct entry *entry = add_schema(codec, schema_json, fault);
	char origin[sizeof "id 4294967295"];

	snprintf(origin, sizeof origin, "id %" PRIu32, id);
	return entry && add_id(codec, id, entry, fault) == 0 ? 0 : blame(fault, origin);
}

/*
 * Decoding
 */

struct decoding {
	const struct entry *entry;
	struct arena *arena;
};

static int decode_record(struct decoding *decoding, enum shape shape, avro_value_t *record, char *dest);

static int decode_strings(struct decoding *decoding, avro_value_t *array, const char ***strings, size_t *count)
{
	if (avro_value_get_size(array, count) != 0)
		return -1;
	*strings = arena_array(decoding->arena, *count, sizeof **strings);
	for (size_t i = 0; i < *count; i++) {
		avro_value_t item;
		const char *text;
		size_t size; /* counts the NUL */

		if (avro_value_get_by_index(array, i, &item, NULL) != 0 || avro_value_get_string(&item, &text, &size) != 0)
			return -1;
		(*strings)[i] = arena_strndup(decoding->arena, text, size - 1);
	}
	return 0;
}

static int decode_string(struct decoding *decoding, avro_value_t *value, const char **string)
{
	const char *text;
	size_t size;

	if (avro_value_get_string(value, &text, &size) != 0)
		return -1;
	*string = arena_strndup(decoding->arena, text, size - 1);
	return 0;
}

static int decode_digest(avro_value_t *value, char *dest)
{
	const void *bytes;
	size_t size;

	if (avro_value_get_fixed(value, &bytes, &size) != 0 || size != DIGEST_BYTES)
		return -1;
	memcpy(dest, bytes, size);
	return 0;
}

static int decode_boolean(avro_value_t *value, bool *dest)
{
	int truth;

	if (avro_value_get_boolean(value, &truth) != 0)
		return -1;
	*dest = truth != 0;
	return 0;
}

static int decode_long(avro_value_t *value, int64_t *dest)
{
	int32_t narrow;

	if (avro_value_get_type(value) == AVRO_INT64)
		return avro_value_get_long(value, dest);
	if (avro_value_get_int(value, &narrow) != 0)
		return -1;
	*dest = narrow;
	return 0;
}

/* data has a struct of its own; error and command are members of the result. */
static int decode_inner(struct decoding *decoding, const struct field *field, avro_value_t *value, char *dest)
{
	if (field->shape == CAMPAIGN) {
		struct campaign *campaign = arena_alloc(decoding->arena, sizeof *campaign);

		*(const struct campaign **)(void *)(dest + field->offset) = campaign;
		dest = (char *)campaign;
	}
	return decode_record(decoding, field->shape, value, dest);
}

static int decode_field(struct decoding *decoding, const struct field *field, avro_value_t *value, char *dest)
{
	avro_value_t branch;
	void *at = dest + field->offset, *beside = dest + field->companion;

	if (avro_value_get_type(value) == AVRO_UNION) {
		if (avro_value_get_current_branch(value, &branch) != 0)
			return -1;
		value = &branch;
	}
	if (avro_value_get_type(value) == AVRO_NULL)
		return 0;
	if (field->companion && field->type != TYPE_STRINGS)
		*(bool *)beside = true;
	switch (field->type) {
	case TYPE_STRING:
		return decode_string(decoding, value, at);
	case TYPE_STRINGS:
		return decode_strings(decoding, value, at, beside);
	case TYPE_DIGEST:
		return decode_digest(value, at);
	case TYPE_BOOLEAN:
		return decode_boolean(value, at);
	case TYPE_INT:
		return avro_value_get_int(value, (int32_t *)at);
	case TYPE_LONG:
		return decode_long(value, at);
	case TYPE_RECORD:
		return decode_inner(decoding, field, value, dest);
	}
	return -1;
}

/* dest is zeroed: what the writer's schema lacks stays null. */
static int decode_record(struct decoding *decoding, enum shape shape, avro_value_t *record, char *dest)
{
	for (size_t i = 0; i < shapes[shape].field_count; i++) {
		int index = decoding->entry->index[shape][i];
		avro_value_t value;

		if (index < 0)
			continue;
		if (avro_value_get_by_index(record, (size_t)index, &value, NULL) != 0 ||
		    decode_field(decoding, &shapes[shape].fields[i], &value, dest) != 0)
			return -1;
	}
	return 0;
}

static void wear_value(struct entry *entry, size_t bytes, size_t values)
{
	entry->wear += bytes + values * VALUE_COST;
	if (entry->wear > WEAR_MAX) {
		avro_value_decref(&entry->value);
		new_value(entry);
	}
}

/* Reads the fields that are ours into entry->value. Others are stepped over: avro-c never sees them. A record must not be
 * refused because memory ran out. */
static int read_fields(struct codec *codec, struct entry *entry, const void *data, size_t size)
{
	size_t start = 0;
	int failure = 0;

	avro_reader_memory_set_source(codec->reader, data, (int64_t)size);
	for (size_t i = 0; i < entry->field_count && failure == 0; i++) {
		avro_value_t value;

		if (entry->wanted[i]) {
			done(avro_value_get_by_index(&entry->value, i, &value, NULL));
			failure = avro_value_read(codec->reader, &value);
		} else {
			failure = avro_skip(codec->reader, (int64_t)(entry->ends[i] - start));
		}
		start = entry->ends[i];
	}
	done(failure == ENOMEM);
	return failure;
}

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

/* The writer schema of a framed value, and how many bytes the framing takes. */
static struct entry *find_writer(const struct codec *codec, const uint8_t *data, size_t size, size_t *header,
				 enum reason *reason, struct fault *fault)
{
	struct entry *entry = NULL;

	*reason = REASON_UNDECODABLE;
	if (size >= CONFLUENT_HEADER && data[0] == 0x00) {
		*header = CONFLUENT_HEADER;
		entry = find_id(codec, read_be32(data + 1));
		if (entry == NULL)
			fault_set(fault, FAULT_REJECT, "no schema is known by id %" PRIu32, read_be32(data + 1));
	} else if (size >= SINGLE_OBJECT_HEADER && data[0] == 0xc3 && data[1] == 0x01) {
		*header = SINGLE_OBJECT_HEADER;
		entry = find_fingerprint(codec, read_le64(data + 2));
		if (entry == NULL)
			fault_set(fault, FAULT_REJECT, "no schema is known by fingerprint %016" PRIx64, read_le64(data + 2));
	} else {
		fault_set(fault, FAULT_REJECT, "byte 0: neither single-object encoding (c3 01, fingerprint) nor Confluent's "
			  "framing (00, schema id), %zu bytes", size);
		return NULL;
	}
	if (entry == NULL)
		*reason = REASON_UNKNOWN_SCHEMA;
	return entry;
}

static int decode(struct codec *codec, enum shape shape, const void *data, size_t size, struct arena *arena, char *dest,
		  enum reason *reason, struct fault *fault)
{
	struct decoding decoding = { .arena = arena };
	struct entry *entry;
	size_t header = 0, values;
	int failed;

	if (data == NULL) {
		*reason = REASON_TOMBSTONE;
		return fault_set(fault, FAULT_REJECT, "the record has no value");
	}
	if (size > RECORD_SIZE_MAX) {
		*reason = REASON_TOO_LARGE;
		return fault_set(fault, FAULT_REJECT, "the value has %zu bytes, at most %zu", size, RECORD_SIZE_MAX);
	}
	entry = find_writer(codec, data, size, &header, reason, fault);
	if (entry == NULL)
		return -1;
	if (entry->shape != shape)
		return fault_set(fault, FAULT_REJECT, "it is a %s, no %s", shapes[entry->shape].name, shapes[shape].name);
	data = (const char *)data + header;
	size -= header;
	if (guard_record(entry->schema, data, size, header, entry->ends, &values, fault) != 0)
		return -1;
	decoding.entry = entry;
	failed = read_fields(codec, entry, data, size) != 0 || decode_record(&decoding, shape, &entry->value, dest) != 0;
	wear_value(entry, size, values);
	return failed ? fault_set(fault, FAULT_REJECT, "avro-c refused what the guard let through") : 0;
}

int codec_decode_command(struct codec *codec, const void *value, size_t size, struct arena *arena, struct duplicate_command *command,
			 enum reason *reason, struct fault *fault)
{
	*command = (struct duplicate_command){ 0 };
	return decode(codec, COMMAND, value, size, arena, (char *)command, reason, fault);
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
	enum reason reason;

	*result = (struct command_result){ 0 };
	if (decode(codec, RESULT, value, size, arena, (char *)result, &reason, fault) != 0)
		return -1;
	return check_result(result, fault);
}

/*
 * Encoding
 */

struct encoding {
	const struct entry *entry;
	struct fault *fault;
	size_t values; /* elements of arrays */
};

static int encode_record(struct encoding *encoding, enum shape shape, avro_value_t *record, const char *src);

/* What avro-c would write and no reader would take is refused. */
static int encode_string(struct encoding *encoding, const struct field *field, avro_value_t *value, const char *text)
{
	size_t len = text ? strlen(text) : 0;

	if (text == NULL)
		return fault_set(encoding->fault, FAULT_REJECT, "field %s is missing", field->name);
	if (len > GUARD_STRING_MAX)
		return fault_set(encoding->fault, FAULT_REJECT, "field %s has %zu bytes, at most %zu", field->name, len,
				 GUARD_STRING_MAX);
	if (!utf8_is_text(text, len))
		return fault_set(encoding->fault, FAULT_REJECT, "field %s is not UTF-8", field->name);
	done(avro_value_set_string_len(value, (char *)text, len + 1)); /* counts the NUL */
	return 0;
}

static int encode_strings(struct encoding *encoding, const struct field *field, avro_value_t *array,
			  const char *const *strings, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		avro_value_t item;

		encoding->values++;
		done(avro_value_append(array, &item, NULL));
		if (encode_string(encoding, field, &item, strings[i]) != 0)
			return -1;
	}
	return 0;
}

static bool is_null(const struct field *field, const char *src)
{
	if (field->presence == REQUIRED)
		return false;
	if (field->companion && field->type != TYPE_STRINGS)
		return !*(const bool *)(src + field->companion);
	return *(const void *const *)(const void *)(src + field->offset) == NULL;
}

static int encode_present(struct encoding *encoding, const struct field *field, avro_value_t *value, const char *src)
{
	const void *at = src + field->offset, *beside = src + field->companion;

	switch (field->type) {
	case TYPE_STRING:
		return encode_string(encoding, field, value, *(const char *const *)at);
	case TYPE_STRINGS:
		return encode_strings(encoding, field, value, *(const char *const *const *)at, *(const size_t *)beside);
	case TYPE_DIGEST:
		done(avro_value_set_fixed(value, (void *)at, DIGEST_BYTES));
		return 0;
	case TYPE_BOOLEAN:
		done(avro_value_set_boolean(value, *(const bool *)at));
		return 0;
	case TYPE_INT:
		done(avro_value_set_int(value, *(const int32_t *)at));
		return 0;
	case TYPE_LONG:
		done(avro_value_set_long(value, *(const int64_t *)at));
		return 0;
	case TYPE_RECORD:
		return encode_record(encoding, field->shape, value, field->shape == CAMPAIGN ? *(const char *const *)at : src);
	}
	return -1;
}

/* In our own schemas a nullable field is the union of null and its type, in this order. */
static int encode_field(struct encoding *encoding, const struct field *field, avro_value_t *value, const char *src)
{
	avro_value_t branch;

	if (field->presence == REQUIRED)
		return encode_present(encoding, field, value, src);
	done(avro_value_set_branch(value, is_null(field, src) ? 0 : 1, &branch));
	return is_null(field, src) ? 0 : encode_present(encoding, field, &branch, src);
}

static int encode_record(struct encoding *encoding, enum shape shape, avro_value_t *record, const char *src)
{
	for (size_t i = 0; i < shapes[shape].field_count; i++) {
		avro_value_t value;

		done(avro_value_get_by_index(record, (size_t)encoding->entry->index[shape][i], &value, NULL));
		if (encode_field(encoding, &shapes[shape].fields[i], &value, src) != 0)
			return -1;
	}
	return 0;
}

/* entry->value, framed. */
static int write_value(struct codec *codec, struct entry *entry, struct arena *arena, const void **value, size_t *size,
		       struct fault *fault)
{
	size_t body;
	uint8_t *bytes;

	done(avro_value_sizeof(&entry->value, &body));
	*size = SINGLE_OBJECT_HEADER + body;
	if (*size > RECORD_SIZE_MAX)
		return fault_set(fault, FAULT_REJECT, "the value has %zu bytes, at most %zu", *size, RECORD_SIZE_MAX);
	*value = bytes = arena_alloc(arena, *size);
	bytes[0] = 0xc3;
	bytes[1] = 0x01;
	for (int i = 0; i < 8; i++)
		bytes[2 + i] = (uint8_t)(entry->fingerprint >> (8 * i));
	avro_writer_memory_set_dest(codec->writer, (char *)bytes + SINGLE_OBJECT_HEADER, (int64_t)body);
	done(avro_value_write(codec->writer, &entry->value));
	return 0;
}

static int encode(struct codec *codec, enum shape shape, const char *src, struct arena *arena, const void **value,
		  size_t *size, struct fault *fault)
{
	struct entry *entry = codec->built_in[shape];
	struct encoding encoding = { .entry = entry, .fault = fault };
	int failed;

	done(avro_value_reset(&entry->value));
	failed = encode_record(&encoding, shape, &entry->value, src);
	if (!failed)
		failed = write_value(codec, entry, arena, value, size, fault);
	wear_value(entry, failed ? WEAR_MAX : *size, entry->field_count + encoding.values);
	return failed;
}

int codec_encode_command(struct codec *codec, const struct duplicate_command *command, struct arena *arena, const void **value,
			 size_t *size, struct fault *fault)
{
	return encode(codec, COMMAND, (const char *)command, arena, value, size, fault);
}

int codec_encode_result(struct codec *codec, const struct command_result *result, struct arena *arena, const void **value,
			size_t *size, struct fault *fault)
{
	if (check_result(result, fault) != 0)
		return -1;
	return encode(codec, RESULT, (const char *)result, arena, value, size, fault);
}
