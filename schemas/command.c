#include "schemas/command.h"

#include <string.h>

#include "schemas/digest.h"
#include "schemas/id.h"

static const char *find_malformed_id(const struct record_type *type, const void *command, struct arena *arena)
{
	for (size_t i = 0; i < type->count; i++) {
		const struct field *field = &type->fields[i];
		const char *id;

		if (!field->id || field_is_null(field, command))
			continue;
		id = *(const char *const *)(const void *)((const char *)command + field->offset);
		if (!id_is_well_formed(id))
			return id_refuse(field->name, id, arena);
	}
	return NULL;
}

int command_check(const struct contract *contract, struct command_head *command, struct arena *arena, const char **details)
{
	*details = find_malformed_id(contract->command, command, arena);
	if (*details || (contract->check && contract->check(command, arena, details) < 0))
		return -1;
	digest_fields(contract->command, command, command->digest);
	return 0;
}

static void copy_text(const char **text, struct arena *arena)
{
	if (*text)
		*text = arena_strndup(arena, *text, strlen(*text));
}

static void copy_texts(const char ***texts, size_t count, struct arena *arena)
{
	const char **copy = arena_array(arena, count, sizeof *copy);

	for (size_t i = 0; i < count; i++) {
		copy[i] = (*texts)[i];
		copy_text(&copy[i], arena);
	}
	*texts = copy;
}

struct command_head *command_copy(const struct contract *contract, const struct command_head *command, struct arena *arena)
{
	const struct record_type *type = contract->command;
	char *copy = arena_alloc(arena, type->size);

	memcpy(copy, command, type->size);
	for (size_t i = 0; i < type->count; i++) {
		const struct field *field = &type->fields[i];
		void *at = copy + field->offset;

		if (field->type == FIELD_TEXT)
			copy_text(at, arena);
		else if (field->type == FIELD_TEXTS && !field_is_null(field, copy))
			copy_texts(at, *(const size_t *)(const void *)(copy + field->companion), arena);
	}
	return (struct command_head *)(void *)copy;
}
