#include "worker/db/params.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/must.h"

void params_reset(struct params *params)
{
	params->size = 0;
	params->count = 0;
}

void params_free(struct params *params)
{
	free(params->data);
	free(params->places);
	*params = (struct params){ 0 };
}

static void append(struct params *params, const void *bytes, size_t size)
{
	if (params->size + size > params->capacity) {
		params->capacity = 2 * (params->size + size) + 256;
		params->data = must(realloc(params->data, params->capacity));
	}
	if (size > 0)
		memcpy(params->data + params->size, bytes, size);
	params->size += size;
}

static void append4(struct params *params, int32_t value)
{
	uint32_t big = htonl((uint32_t)value);

	append(params, &big, sizeof big);
}

static void append8(struct params *params, int64_t value)
{
	append4(params, (int32_t)((uint64_t)value >> 32));
	append4(params, (int32_t)((uint64_t)value & UINT32_MAX));
}

static void begin(struct params *params)
{
	if (params->count == params->place_capacity) {
		params->place_capacity = 2 * params->place_capacity + 16;
		params->places = must(reallocarray(params->places, (size_t)params->place_capacity, sizeof *params->places));
	}
	params->places[params->count].start = params->size;
}

static void end(struct params *params)
{
	params->places[params->count].length = params->size - params->places[params->count].start;
	params->count++;
}

void params_add_text(struct params *params, const char *text)
{
	begin(params);
	append(params, text, strlen(text));
	end(params);
}

void params_add_int4(struct params *params, int32_t value)
{
	begin(params);
	append4(params, value);
	end(params);
}

void params_add_int8(struct params *params, int64_t value)
{
	begin(params);
	append8(params, value);
	end(params);
}

/* An array's header: dimensions, whether nulls may occur, element type; then per dimension: length, first index. */
void params_array_begin(struct params *params, enum param_type type)
{
	begin(params);
	params->array = params->size;
	params->elements = 0;
	append4(params, 1);
	append4(params, 1);
	append4(params, type);
	append4(params, 0);
	append4(params, 1);
}

void params_array_bool(struct params *params, bool value)
{
	append4(params, 1);
	append(params, value ? "\1" : "", 1);
	params->elements++;
}

void params_array_int4(struct params *params, int32_t value)
{
	append4(params, 4);
	append4(params, value);
	params->elements++;
}

void params_array_int8(struct params *params, int64_t value)
{
	append4(params, 8);
	append8(params, value);
	params->elements++;
}

void params_array_null(struct params *params)
{
	append4(params, -1);
	params->elements++;
}

void params_array_bytes(struct params *params, const void *bytes, size_t size)
{
	if (bytes == NULL) {
		params_array_null(params);
		return;
	}
	append4(params, (int32_t)size);
	append(params, bytes, size);
	params->elements++;
}

void params_array_text(struct params *params, const char *text)
{
	params_array_bytes(params, text, text ? strlen(text) : 0);
}

static void patch4(struct params *params, size_t at, int32_t value)
{
	uint32_t big = htonl((uint32_t)value);

	memcpy(params->data + at, &big, sizeof big);
}

void params_array_joined(struct params *params, const char *const *strings, size_t n)
{
	size_t at = params->size;

	append4(params, 0);
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			append(params, ",", 1);
		append(params, strings[i], strlen(strings[i]));
	}
	patch4(params, at, (int32_t)(params->size - at - 4));
	params->elements++;
}

void params_array_end(struct params *params)
{
	patch4(params, params->array + 12, params->elements);
	if (params->elements == 0) { /* an empty array has no dimension */
		patch4(params, params->array, 0);
		params->size = params->array + 12;
	}
	end(params);
}
