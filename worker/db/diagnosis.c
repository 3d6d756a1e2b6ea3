#include "worker/db/diagnosis.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <libpq-fe.h>

#define NAME_MAX_BYTES 63 /* of PostgreSQL's names */

struct text {
	char bytes[320];
	size_t used;
};

static void add_name(struct text *text, const char *label, const char *name, size_t size)
{
	int n = snprintf(text->bytes + text->used, sizeof text->bytes - text->used, "%s %s %.*s", text->used ? "," : " at", label,
			 (int)(size < NAME_MAX_BYTES ? size : NAME_MAX_BYTES), name);

	text->used += (size_t)n;
	if (text->used >= sizeof text->bytes)
		text->used = sizeof text->bytes - 1;
}

/* The innermost function, of the lines 'PL/pgSQL function name(types) line 1 at ...' and 'SQL function "name" statement 1'. What
 * else the context holds may quote data. */
static void add_function(struct text *text, const char *context)
{
	static const char marker[] = "function ";

	while (context && *context) {
		const char *end = context + strcspn(context, "\n"), *name = strstr(context, marker);
		size_t size;

		if ((strncmp(context, "PL/", 3) == 0 || strncmp(context, "SQL function", 12) == 0) && name && name < end) {
			name += sizeof marker - 1 + (name[sizeof marker - 1] == '"');
			size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.$");
			if (size > 0)
				add_name(text, "function", name, size);
			return;
		}
		context = *end ? end + 1 : end;
	}
}

/* Whether an error of that class speaks of the system, or of our own statements' names: never of a row. */
static bool names_only(const char *sqlstate)
{
	static const char *const classes[] = { "08", "0A", "25", "26", "28", "3D", "40", "42", "53", "55", "57", "58", "XX001", "XX002",
					       "CD" };

	for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
		if (strncmp(sqlstate, classes[i], strlen(classes[i])) == 0)
			return true;
	return false;
}

/* Whether the outermost of a context's lines names a DO block: only migrations have some. */
static bool is_migration(const char *context)
{
	const char *last = strrchr(context, '\n');

	return strstr(last ? last : context, "inline_code_block") != NULL;
}

/* Somebody's function may raise any SQLSTATE with any text. An error with a context was raised in a function, unless it ended a
 * wait (the context then says for which row) or is one of ours. */
static bool may_quote_data(const PGresult *error, const char *sqlstate)
{
	static const char *const waits[] = { "40", "55P03", "57014", "CD00" };
	const char *context = PQresultErrorField(error, PG_DIAG_CONTEXT), *source = PQresultErrorField(error, PG_DIAG_SOURCE_FUNCTION);
	bool raised = source && strcmp(source, "exec_stmt_raise") == 0;

	if (context == NULL || is_migration(context))
		return !names_only(sqlstate);
	for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++)
		if (strncmp(sqlstate, waits[i], strlen(waits[i])) == 0)
			return raised && strncmp(sqlstate, "CD00", 4) != 0;
	return true;
}

/* Of the line 'while locking tuple (0,1) in relation "name"'. */
static void add_relation(struct text *text, const char *context)
{
	static const char marker[] = " in relation \"";
	const char *name = context ? strstr(context, marker) : NULL;

	if (name)
		add_name(text, "table or index", name + sizeof marker - 1, strcspn(name + sizeof marker - 1, "\""));
}

void diagnosis_describe(const PGresult *error, const char *sqlstate, struct fault *fault)
{
	static const struct {
		int field;
		const char *label;
	} names[] = {
		{ PG_DIAG_CONSTRAINT_NAME, "constraint" }, { PG_DIAG_SCHEMA_NAME, "schema" }, { PG_DIAG_TABLE_NAME, "table" },
		{ PG_DIAG_COLUMN_NAME, "column" }, { PG_DIAG_DATATYPE_NAME, "type" },
	};
	const char *sentence = PQresultErrorField(error, PG_DIAG_MESSAGE_PRIMARY);
	bool quiet = sentence == NULL || may_quote_data(error, sqlstate);
	struct text text = { "", 0 };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const char *name = PQresultErrorField(error, names[i].field);

		if (name)
			add_name(&text, names[i].label, name, strlen(name));
	}
	if (strcmp(sqlstate, "55P03") == 0)
		add_relation(&text, PQresultErrorField(error, PG_DIAG_CONTEXT));
	add_function(&text, PQresultErrorField(error, PG_DIAG_CONTEXT));
	fault_set(fault, FAULT_WAIT, "PostgreSQL error %s%s%s%s", sqlstate, text.bytes, quiet ? "" : ": ", quiet ? "" : sentence);
	memcpy(fault->sqlstate, sqlstate, sizeof fault->sqlstate);
}
