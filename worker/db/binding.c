#include "worker/db/binding.h"

#include <string.h>

#include "schemas/details.h"
#include "schemas/id.h"
#include "schemas/result.h"
#include "worker/base/must.h"

/* ---- parameters ---- */

static const void *at(const struct job *job, const struct field *field)
{
	return (const char *)job->command + field->offset;
}

static enum param_type type_of(const struct field *field)
{
	switch (field->type) {
	case FIELD_DIGEST:
		return PARAM_BYTEA;
	case FIELD_LONG:
	case FIELD_TIME:
		return PARAM_INT8;
	case FIELD_INT:
		return PARAM_INT4;
	case FIELD_BOOLEAN:
		return PARAM_BOOL;
	default:
		return PARAM_TEXT;
	}
}

static void add_value(struct params *params, const struct job *job, const struct field *field)
{
	switch (field->type) {
	case FIELD_TEXT:
		params_array_text(params, *(const char *const *)at(job, field));
		return;
	case FIELD_TEXTS:
		params_array_joined(params, *(const char *const *const *)at(job, field),
				    *(const size_t *)(const void *)((const char *)job->command + field->companion));
		return;
	case FIELD_DIGEST:
		params_array_bytes(params, at(job, field), CAMPAIGN_DIGEST_BYTES);
		return;
	case FIELD_INT:
		params_array_int4(params, *(const int32_t *)at(job, field));
		return;
	case FIELD_LONG:
	case FIELD_TIME:
		params_array_int8(params, *(const int64_t *)at(job, field));
		return;
	case FIELD_BOOLEAN:
		params_array_bool(params, *(const bool *)at(job, field));
		return;
	case FIELD_RECORD:
		break;
	}
	must_be(false); /* a record is no parameter */
}

static void add_field(struct params *params, struct job *const *jobs, size_t n, const struct field *field)
{
	params_array_begin(params, type_of(field));
	for (size_t i = 0; i < n; i++) {
		if (field_is_null(field, jobs[i]->command))
			params_array_null(params);
		else
			add_value(params, jobs[i], field);
	}
	params_array_end(params);
}

void binding_add_locks(struct params *params, struct job *const *jobs, size_t n)
{
	params_reset(params);
	params_array_begin(params, PARAM_TEXT);
	for (size_t i = 0; i < n; i++)
		params_array_text(params, jobs[i]->command->account_group_id);
	params_array_end(params);
	params_array_begin(params, PARAM_BYTEA);
	for (size_t i = 0; i < n; i++)
		params_array_bytes(params, jobs[i]->command->has_key ? jobs[i]->command->key_digest : NULL, CAMPAIGN_DIGEST_BYTES);
	params_array_end(params);
}

static void add_new_ids(struct params *params, size_t n)
{
	char id[NEW_ID_CHARS + 1];

	params_array_begin(params, PARAM_TEXT);
	for (size_t i = 0; i < n; i++) {
		id_new(id);
		params_array_text(params, id);
	}
	params_array_end(params);
}

void binding_add_commands(struct params *params, const struct contract *contract, struct job *const *jobs, size_t n, int limit)
{
	params_reset(params);
	add_new_ids(params, n);
	params_array_begin(params, PARAM_BYTEA);
	for (size_t i = 0; i < n; i++)
		params_array_bytes(params, jobs[i]->command->digest, CAMPAIGN_DIGEST_BYTES);
	params_array_end(params);
	params_array_begin(params, PARAM_INT8);
	for (size_t i = 0; i < n; i++)
		params_array_int8(params, jobs[i]->record.stamped_by_broker ? jobs[i]->record.timestamp_ms : -1);
	params_array_end(params);
	params_add_int4(params, limit);
	for (size_t i = 0; i < contract->command->count; i++)
		if (contract->command->fields[i].parameter)
			add_field(params, jobs, n, &contract->command->fields[i]);
	params_array_begin(params, PARAM_BOOL);
	for (size_t i = 0; i < n; i++)
		params_array_bool(params, jobs[i]->shared);
	params_array_end(params);
}

/* ---- rows ---- */

enum column { COL_ORD, COL_NOW, COL_VERDICT, COL_DETAILS, COL_KEY, COL_RETRY_AFTER_S, COL_LOST_RACE, COL_DATA };

static const char *text_at(const struct pg_result *rows, int row, int column, struct arena *arena)
{
	size_t size;
	const char *text = rows_text(rows, row, column, &size);

	return text ? arena_strndup(arena, text, size) : NULL;
}

static void read_field(const struct pg_result *rows, int row, int column, const struct field *field, char *base,
		       struct arena *arena)
{
	void *at = base + field->offset;

	if (field->companion)
		*(bool *)(void *)(base + field->companion) = !rows_is_null(rows, row, column);
	if (rows_is_null(rows, row, column))
		return;
	switch (field->type) {
	case FIELD_TEXT:
		*(const char **)at = text_at(rows, row, column, arena);
		return;
	case FIELD_BOOLEAN:
		*(bool *)at = rows_bool(rows, row, column);
		return;
	case FIELD_INT:
		*(int32_t *)at = rows_int4(rows, row, column);
		return;
	case FIELD_LONG:
		*(int64_t *)at = rows_int8(rows, row, column);
		return;
	case FIELD_TIME:
		*(int64_t *)at = rows_time_ms(rows, row, column);
		return;
	case FIELD_TEXTS:
	case FIELD_DIGEST:
	case FIELD_RECORD:
		break;
	}
	must_be(false); /* data has no such field */
}

static const void *read_data(const struct record_type *type, const struct pg_result *rows, int row, struct arena *arena)
{
	char *data = arena_alloc(arena, type->size);

	for (size_t i = 0; i < type->count; i++)
		read_field(rows, row, COL_DATA + (int)i, &type->fields[i], data, arena);
	return data;
}

static const char *read_details(const struct contract *contract, const struct job *job, const struct pg_result *rows, int row,
				struct arena *arena)
{
	const char **texts;
	size_t count = rows_texts(rows, row, COL_DETAILS, arena, &texts);

	if (job->reason->details == NULL)
		return NULL;
	return details_format(job->reason->details, contract->command, job->command, texts, count, arena);
}

static void read_verdict(const struct contract *contract, struct job *job, const struct pg_result *rows, int row,
			 struct arena *arena)
{
	const char *verdict = rows_text(rows, row, COL_VERDICT, NULL);
	bool existing = verdict && strcmp(verdict, "existing") == 0;

	job->key_public_id = text_at(rows, row, COL_KEY, arena);
	job->reason = NULL;
	if (verdict == NULL || existing) {
		result_accept(&job->result, contract, read_data(contract->data, rows, row, arena), existing);
		return;
	}
	job->reason = contract_find_reason(contract, verdict);
	must_be(job->reason != NULL); /* a test compares the statement's words with the table */
	result_refuse(&job->result, job->reason, read_details(contract, job, rows, row, arena));
	job->result.has_retry_after = !rows_is_null(rows, row, COL_RETRY_AFTER_S);
	job->result.retry_after_s = rows_int4(rows, row, COL_RETRY_AFTER_S);
}

int64_t binding_now_ms(const struct pg_result *rows)
{
	return rows_time_ms(rows, 0, COL_NOW);
}

void binding_read(const struct pg_result *rows, const struct contract *contract, struct job *const *jobs, struct arena *arena)
{
	for (int row = 0; row < rows_count(rows); row++)
		read_verdict(contract, jobs[rows_int4(rows, row, COL_ORD) - 1], rows, row, arena);
}
