#include "schemas/details.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "worker/base/clock.h"
#include "worker/base/must.h"

struct filling {
	const struct record_type *type;
	const void *command;
	const char *const *texts;
	size_t count;
	struct arena *arena;
};

static const char *rate(const char *microseconds, struct arena *arena)
{
	static const struct {
		long long us;
		const char *name;
	} units[] = { { 1000000, "second" }, { 60000000, "minute" }, { 3600000000, "hour" } };
	long long us = strtoll(microseconds, NULL, 10);

	for (size_t i = 0; us > 0 && i < sizeof units / sizeof units[0]; i++)
		if (units[i].us % us == 0)
			return arena_printf(arena, "%lld per %s", units[i].us / us, units[i].name);
	return arena_printf(arena, "1 per %g s", (double)us / 1e6);
}

static const char *list(const char *ids, const char *total, struct arena *arena)
{
	long more = total ? strtol(total, NULL, 10) : 0;
	const char *rest = ids, *comma, *text = "";

	while (rest) {
		comma = strchr(rest, ',');
		more--;
		text = arena_printf(arena, "%s%s%.*s", text, text[0] == '\0' ? "" : comma || more > 0 ? ", " : " and ",
				    (int)(comma ? (size_t)(comma - rest) : strlen(rest)), rest);
		rest = comma ? comma + 1 : NULL;
	}
	return more > 0 ? arena_printf(arena, "%s and %ld more", text, more) : text;
}

static const char *text_at(const struct filling *filling, unsigned long number)
{
	return number >= 1 && number <= filling->count ? filling->texts[number - 1] : NULL;
}

static const char *numbered(const struct filling *filling, const char *placeholder)
{
	char *form;
	unsigned long number = strtoul(placeholder, &form, 10);
	const char *text = text_at(filling, number);

	if (text == NULL || *form == '\0')
		return text;
	if (strcmp(form, ":rate") == 0)
		return rate(text, filling->arena);
	must_be(strcmp(form, ":list") == 0);
	return list(text, text_at(filling, number + 1), filling->arena);
}

static const char *field_value(const struct filling *filling, const char *name)
{
	const struct field *field = filling->type->fields, *end = field + filling->type->count;
	char time[TIME_TEXT_SIZE];
	const void *at;

	while (field < end && strcmp(field->name, name) != 0)
		field++;
	must_be(field < end);
	if (field_is_null(field, filling->command))
		return NULL;
	at = (const char *)filling->command + field->offset;
	if (field->type == FIELD_TIME)
		return arena_printf(filling->arena, "%s", clock_format(*(const int64_t *)at, time));
	must_be(field->type == FIELD_TEXT);
	return *(const char *const *)at;
}

/* What stands from `from` to `end`; *known becomes false where a text within is null. */
static const char *fill(const struct filling *filling, const char *from, const char *end, bool *known)
{
	const char *said = "";

	while (from < end) {
		size_t plain = strcspn(from, "{[");
		const char *close, *part;
		bool whole = true;

		if (plain > (size_t)(end - from))
			plain = (size_t)(end - from);
		said = arena_printf(filling->arena, "%s%.*s", said, (int)plain, from);
		from += plain;
		if (from == end)
			break;
		close = must(strchr(from, *from == '{' ? '}' : ']'));
		if (*from == '[') {
			part = fill(filling, from + 1, close, &whole);
		} else {
			const char *placeholder = arena_strndup(filling->arena, from + 1, (size_t)(close - from - 1));

			part = isdigit((unsigned char)*placeholder) ? numbered(filling, placeholder) : field_value(filling, placeholder);
			*known = *known && part;
		}
		if (part && whole)
			said = arena_printf(filling->arena, "%s%s", said, part);
		from = close + 1;
	}
	return said;
}

const char *details_format(const char *template, const struct record_type *type, const void *command, const char *const *texts,
			   size_t count, struct arena *arena)
{
	const struct filling filling = { type, command, texts, count, arena };
	bool known = true;

	return fill(&filling, template, template + strlen(template), &known);
}
