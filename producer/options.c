#include "producer/options.h"

#include <string.h>

static const char *copy(struct arena *arena, const char *text)
{
	return text ? arena_strndup(arena, text, strlen(text)) : NULL;
}

static const struct property *copy_properties(const struct campaign_options *given, struct arena *arena, struct fault *fault)
{
	struct property *properties = arena_array(arena, given->property_count + 1, sizeof *properties);

	for (size_t i = 0; i < given->property_count; i++) {
		const struct campaign_property *property = &given->properties[i];

		properties[i].name = copy(arena, property->name ? property->name : "");
		properties[i].value = copy(arena, property->value ? property->value : "");
		properties[i].origin = copy(arena, property->origin ? property->origin : "options");
		if (property_check(&properties[i], fault) < 0)
			return NULL;
	}
	return properties;
}

int options_copy(struct options *options, const struct campaign_options *given, struct arena *arena, struct fault *fault)
{
	*options = (struct options){
		.brokers = copy(arena, given->brokers),
		.commands = copy(arena, given->commands),
		.results = copy(arena, given->results),
		.schemas = given->schemas && *given->schemas ? copy(arena, given->schemas) : NULL,
		.client_id = copy(arena, given->client_id ? given->client_id : "campaign"),
		.property_count = given->property_count,
		.log = given->log,
		.log_arg = given->log_arg,
	};
	if (options->brokers == NULL)
		return fault_set(fault, FAULT_FATAL, "brokers: missing");
	options->properties = copy_properties(given, arena, fault);
	return options->properties ? properties_check(options->properties, options->property_count, NULL, fault) : -1;
}

void options_log(const struct options *options, const struct campaign_log_line *line)
{
	if (options->log)
		options->log(options->log_arg, line);
}
