/* The contract of an operation: what Avro, JSON, rule 1, batches and PostgreSQL have to know of its messages. */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <stddef.h>

#include "schemas/field.h"
#include "schemas/reason.h"
#include "worker/base/arena.h"

struct command_result;

struct contract {
	const struct record_type *command; /* its struct begins with struct command_head */
	const struct record_type *result;  /* of struct command_result */
	const struct record_type *data;    /* of a success; its first field is the id of what was written */
	const char *command_schema, *result_schema; /* Avro, as it is written */
	int success_status; /* of HTTP */
	const struct reason *reasons; /* its own, beside those of every operation */
	size_t reason_count;
	/* Rule 1 beyond the well-formed ids; may bring the command into the form that is summed and executed. 0, or -1 with
	 * details (arena) that name the field and echo only well-formed ids. */
	int (*check)(void *command, struct arena *arena, const char **details);
	/* Copies what the result repeats of the command, beyond the head; only well-formed ids. NULL: nothing. */
	void (*describe)(struct command_result *result, const void *command);
};

/* The reasons of a contract, in no order: index from 0 until it answers NULL. */
const struct reason *contract_reason(const struct contract *contract, size_t index);
const struct reason *contract_find_reason(const struct contract *contract, const char *word); /* NULL: there is none */

#endif
