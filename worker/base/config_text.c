#include "worker/base/config_text.h"

#include <stdio.h>
#include <string.h>

/* Prints text in lines of at most width, each but the first after prefix. */
static void print_wrapped(const char *text, size_t width, const char *prefix)
{
	size_t column = 0;

	while (*text) {
		size_t len = strcspn(text, " ");

		if (column > 0 && column + 1 + len > width) {
			printf("\n%s", prefix);
			column = 0;
		}
		column += (size_t)printf("%s%.*s", column > 0 ? " " : "", (int)len, text);
		text += len;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static const char *standard_of(const struct setting *setting)
{
	return setting->standard ? setting->standard : "the host's name";
}

void config_print_help(enum program program)
{
	static const char indent[] = "                                  ";
	char option[80], help[400];

	puts("Settings (on the command line; in the environment as CAMPAIGN_<NAME> with _ for -; in a file):");
	for (const struct setting *setting = setting_table; setting < setting_table + setting_count; setting++) {
		const char *standard = standard_of(setting);
		int n;

		if (!(setting->who & (int)program))
			continue;
		if (setting->kind == SETTING_PROPERTY)
			n = snprintf(option, sizeof option, "  -%c %s", setting->letter, setting->form);
		else
			n = snprintf(option, sizeof option, "  %s%c%s--%s %s", setting->letter ? "-" : " ",
				     setting->letter ? setting->letter : ' ', setting->letter ? ", " : "  ", setting->name,
				     setting->form);
		printf(n < (int)sizeof indent - 1 ? "%-34s" : "%s\n%34s", option, "");
		snprintf(help, sizeof help, *standard ? "%s [%s]" : "%s", setting->help, standard);
		print_wrapped(help, 86, indent);
	}
	puts("A value @path is read from that file (secrets); a plain @ is written @@.");
}

void config_print_markdown(void)
{
	struct arena *arena = arena_new(0);
	const char *name, *reason;

	puts("| setting | default | environment | what it is |\n|---|---|---|---|");
	for (const struct setting *setting = setting_table; setting < setting_table + setting_count; setting++) {
		char letter[8] = "";

		if (setting->letter)
			snprintf(letter, sizeof letter, ", `-%c`", setting->letter);
		if (setting->kind == SETTING_PROPERTY)
			printf("| `-%c %s` | | `" ENV_PROPERTY "<PROPERTY>` |", setting->letter, setting->form);
		else
			printf("| `--%s`%s | %s | `%s` |", setting->name, letter, standard_of(setting),
			       setting_variable(arena, setting->name));
		printf(" %s%s |\n", setting->help, setting->who == FOR_WORKER ? " (worker)" : "");
	}
	puts("\n| librdkafka property | why it cannot be set |\n|---|---|");
	for (size_t i = 0; (name = property_refused(i, &reason)) != NULL;) {
		const char *shared = reason;

		printf("| `%s`", name);
		while ((name = property_refused(++i, &reason)) != NULL && strcmp(reason, shared) == 0)
			printf(", `%s`", name);
		printf(" | %s |\n", shared);
	}
	arena_free(arena);
}

void config_print_example(void)
{
	puts("# Settings of campaign-worker and campaign-producer, at their defaults where they have one. Give this file as\n"
	     "# --config FILE or in CAMPAIGN_CONFIG. The command line and the environment (CAMPAIGN_LANES=2) come before it.\n"
	     "# A value @path is read from that file, for secrets; a plain @ is written @@.");
	for (const struct setting *setting = setting_table; setting < setting_table + setting_count; setting++) {
		if (setting->kind == SETTING_OUR_FILE || setting->kind == SETTING_PROPERTY)
			continue;
		printf("\n# ");
		print_wrapped(setting->help, 116, "# ");
		printf("#%s = %s\n", setting->name, setting->sample ? setting->sample : setting->standard);
	}
	puts("\n# Any librdkafka property but those that the promises rest on, for instance:\n"
	     "#kafka.security.protocol = SASL_SSL\n"
	     "#kafka.sasl.mechanism = SCRAM-SHA-512\n"
	     "#kafka.sasl.username = campaign-worker\n"
	     "#kafka.sasl.password = @/etc/campaign-worker/kafka-password");
}
