#include "schemas/command.h"

#include "schemas/digest.h"
#include "schemas/id.h"

const char *command_find_malformed_id(const struct record_type *type, const void *command, struct arena *arena)
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
	*details = command_find_malformed_id(contract->command, command, arena);
	if (*details || (contract->check && contract->check(command, arena, details) < 0))
		return -1;
	digest_fields(contract->command, command, command->digest);
	return 0;
}
