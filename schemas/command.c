#include "schemas/command.h"

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

/* A mistake of units, such as microseconds where milliseconds are meant, leads far away. */
static const char *find_impossible_time(const struct record_type *type, const void *command, struct arena *arena)
{
	for (size_t i = 0; i < type->count; i++) {
		const struct field *field = &type->fields[i];

		if (field->type == FIELD_TIME && !field_is_null(field, command) &&
		    !field_time_is_possible(*(const int64_t *)(const void *)((const char *)command + field->offset)))
			return arena_printf(arena, "%s is outside the years 1970 to 9999: milliseconds since 1970 are wanted", field->name);
	}
	return NULL;
}

int command_check(const struct contract *contract, struct command_head *command, struct arena *arena, const char **details)
{
	*details = find_malformed_id(contract->command, command, arena);
	if (*details == NULL)
		*details = find_impossible_time(contract->command, command, arena);
	if (*details || (contract->check && contract->check(command, arena, details) < 0))
		return -1;
	digest_fields(contract->command, command, command->digest);
	return 0;
}
