#include "schemas/duplicate.h"

#include <stdlib.h>
#include <string.h>

#include "schemas/command.h"
#include "schemas/id.h"
#include "schemas/result.h"
#include "worker/base/utf8.h"

/* Digests are pinned: campaignId, audienceId, name, leadIds, apiKeyDigest. */
static const struct field command_fields[] = {
	COMMAND_TRACE_ID,
	COMMAND_ACCOUNT_GROUP_ID,
	{ "campaignId", FIELD_TEXT, AT(duplicate_command, campaign_id), .id = true, .parameter = true, .digest = 1 },
	{ "name", FIELD_TEXT, AT(duplicate_command, name), .nullable = true, .parameter = true, .digest = 3 },
	{ "audienceId", FIELD_TEXT, AT(duplicate_command, audience_id), .id = true, .parameter = true, .digest = 2 },
	{ "leadIds", FIELD_TEXTS, AT(duplicate_command, lead_ids), BESIDE(duplicate_command, lead_count), .nullable = true,
	  .parameter = true, .digest = 4 },
	COMMAND_KEY(5),
	COMMAND_ISSUED_AT,
	COMMAND_EXPIRES_AT,
};

static const struct record_type command_type = { "DuplicateCampaignCommand", FIELDS(command_fields),
						 .size = sizeof(struct duplicate_command) };

/* The columns of a 201 in worker/sql/execute.sql have this order. */
static const struct field campaign_fields[] = {
	{ "id", FIELD_TEXT, AT(campaign, id) },
	{ "name", FIELD_TEXT, AT(campaign, name) },
	{ "description", FIELD_TEXT, AT(campaign, description), .nullable = true },
	{ "status", FIELD_TEXT, AT(campaign, status) },
	{ "selectedLeadCount", FIELD_INT, AT(campaign, selected_lead_count) },
	{ "includeConversationHistory", FIELD_BOOLEAN, AT(campaign, include_conversation_history) },
	{ "autoCancelOnMessageReceived", FIELD_BOOLEAN, AT(campaign, auto_cancel_on_message_received) },
	{ "outreachLanguage", FIELD_TEXT, AT(campaign, outreach_language), .nullable = true },
	{ "createdAt", FIELD_TIME, AT(campaign, created_at_ms) },
	{ "updatedAt", FIELD_TIME, AT(campaign, updated_at_ms) },
	{ "startedAt", FIELD_TIME, AT(campaign, started_at_ms), BESIDE(campaign, has_started_at), .nullable = true },
	{ "rateLimitedUntil", FIELD_TIME, AT(campaign, rate_limited_until_ms), BESIDE(campaign, has_rate_limited_until),
	  .nullable = true },
};

static const struct record_type campaign_type = { "Campaign", FIELDS(campaign_fields), .size = sizeof(struct campaign) };

static const struct field result_fields[] = {
	RESULT_ENVELOPE(&campaign_type),
	{ "sourceCampaignId", FIELD_TEXT, AT(command_result, source_campaign_id), .nullable = true },
	{ "audienceId", FIELD_TEXT, AT(command_result, audience_id), .nullable = true },
	RESULT_EVENT,
};

static const struct record_type result_type = { "DuplicateCampaignResult", FIELDS(result_fields),
						.size = sizeof(struct command_result) };

#define INVALID .http_status = 400, .code = "VALIDATION_ERROR"
#define NOT_FOUND .http_status = 404, .code = "NOT_FOUND"
#define CONFLICT .http_status = 409, .code = "CONFLICT"

static const struct reason reasons[] = {
	{ "draft_deleted", CONFLICT, .message = "The draft this command created has been deleted since.",
	  .details = "the draft of traceId {traceId} has been deleted" },
	{ "campaign_not_found", NOT_FOUND, .message = "The campaign was not found.",
	  .details = "no campaign {campaignId} in account group {accountGroupId}" },
	{ "audience_not_found", NOT_FOUND, .message = "The audience was not found.",
	  .details = "no audience {audienceId} in account group {accountGroupId}" },
	{ "audience_populating", .http_status = 409, .code = "AUDIENCE_NOT_READY",
	  .message = "The audience is still being populated.", .retryable = true,
	  .details = "[list {1} of ]audience {audienceId} is still being populated" },
	{ "lead_not_in_audience", INVALID, .message = "Not every lead belongs to the audience.",
	  .details = "leadIds not in audience {audienceId}: {1:list}" },
	{ "audience_too_large", INVALID, .message = "The audience has more leads than one campaign may select.",
	  .details = "audience {audienceId} has more than {1} leads; name the leads in leadIds" },
	{ "lead_active", CONFLICT, .message = "A lead is enrolled in an active workflow.",
	  .details = "lead {1} is enrolled in campaign {2} ({3})" },
};

/* ---- rule 1: name and leadIds; the ids are checked as every operation's ---- */

static bool is_control(int32_t c)
{
	return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029;
}

/* Embeddings, overrides and isolates reorder the text that follows, also beyond the name's end: a name could pass for
 * another in a list. The marks U+200E, U+200F and U+061C are let through: they act on their neighbours only, carry no
 * scope, and keyboards for Arabic and Hebrew put them into honest names. */
static bool is_bidi_control(int32_t c)
{
	return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static const char *check_name(const char *name, struct arena *arena)
{
	const char *end = name + strlen(name);
	bool blank = true;
	int chars = 0;

	while (name < end) {
		int32_t c = utf8_next(&name, end);

		chars++;
		if (c < 0)
			return arena_printf(arena, "name is not UTF-8 at character %d", chars);
		if (is_control(c))
			return arena_printf(arena, "name has a control character at character %d", chars);
		if (is_bidi_control(c))
			return arena_printf(arena, "name has a bidirectional-override character at character %d", chars);
		if (utf8_is_noncharacter(c))
			return arena_printf(arena, "name has a noncharacter at character %d", chars);
		blank = blank && utf8_is_blank(c);
		if (chars > CAMPAIGN_NAME_MAX_CHARS)
			return arena_printf(arena, "name is too long: 1 to %d characters", CAMPAIGN_NAME_MAX_CHARS);
	}
	if (blank)
		return arena_printf(arena, "name is %s: 1 to %d characters, not only white space", chars ? "blank" : "empty",
				    CAMPAIGN_NAME_MAX_CHARS);
	return NULL;
}

static const char *check_leads(const struct duplicate_command *command, struct arena *arena)
{
	if (command->lead_count == 0)
		return arena_printf(arena, "leadIds is empty: 1 to %d ids, or null for all of the audience", CAMPAIGN_LEADS_MAX);
	if (command->lead_count > CAMPAIGN_LEADS_MAX)
		return arena_printf(arena, "leadIds has %zu ids: at most %d", command->lead_count, CAMPAIGN_LEADS_MAX);
	for (size_t i = 0; i < command->lead_count; i++)
		if (!id_is_well_formed(command->lead_ids[i]))
			return id_refuse(arena_printf(arena, "leadIds[%zu]", i), command->lead_ids[i], arena);
	return NULL;
}

static int compare_ids(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_leads(struct duplicate_command *command)
{
	const char **ids = command->lead_ids;
	size_t kept = 1;

	qsort(ids, command->lead_count, sizeof *ids, compare_ids);
	for (size_t i = 1; i < command->lead_count; i++)
		if (strcmp(ids[i], ids[kept - 1]) != 0)
			ids[kept++] = ids[i];
	command->lead_count = kept;
}

static int check(void *checked, struct arena *arena, const char **details)
{
	struct duplicate_command *command = checked;

	*details = command->name ? check_name(command->name, arena) : NULL;
	if (*details == NULL && command->lead_ids)
		*details = check_leads(command, arena);
	if (*details)
		return -1;
	if (command->lead_ids)
		sort_leads(command);
	return 0;
}

static void describe(struct command_result *result, const void *described)
{
	const struct duplicate_command *command = described;

	if (id_is_well_formed(command->campaign_id))
		result->source_campaign_id = command->campaign_id;
	if (id_is_well_formed(command->audience_id))
		result->audience_id = command->audience_id;
}

const struct contract duplicate_contract = {
	.command = &command_type,
	.result = &result_type,
	.data = &campaign_type,
	.command_schema = schema_duplicate_campaign_command,
	.result_schema = schema_duplicate_campaign_result,
	.success_status = 201,
	.reasons = reasons,
	.reason_count = sizeof reasons / sizeof reasons[0],
	.check = check,
	.describe = describe,
};
