#include "archive.h"

#include "schemas/command.h"
#include "schemas/result.h"

struct command {
	struct command_head head;
	const char *campaign_id, *note;
	bool force, has_keep_days;
	int32_t keep_days;
};

struct archived {
	const char *id, *note;
	bool forced, has_keep_days;
	int32_t keep_days;
	int64_t archived_at_ms;
};

static const struct field command_fields[] = {
	COMMAND_TRACE_ID,
	COMMAND_ACCOUNT_GROUP_ID,
	{ "campaignId", FIELD_TEXT, AT(command, campaign_id), .id = true, .parameter = true, .digest = 1 },
	{ "note", FIELD_TEXT, AT(command, note), .nullable = true, .parameter = true, .digest = 2 },
	{ "force", FIELD_BOOLEAN, AT(command, force), .parameter = true, .digest = 3 },
	{ "keepDays", FIELD_INT, AT(command, keep_days), BESIDE(command, has_keep_days), .nullable = true, .parameter = true,
	  .digest = 5, .added = true },
	COMMAND_KEY(4),
	COMMAND_ISSUED_AT,
	COMMAND_EXPIRES_AT,
};
static const struct record_type command_type = { "ArchiveCampaignCommand", FIELDS(command_fields), .size = sizeof(struct command) };

static const struct field archived_fields[] = {
	{ "id", FIELD_TEXT, AT(archived, id) },
	{ "note", FIELD_TEXT, AT(archived, note), .nullable = true },
	{ "forced", FIELD_BOOLEAN, AT(archived, forced) },
	{ "keepDays", FIELD_INT, AT(archived, keep_days), BESIDE(archived, has_keep_days), .nullable = true },
	{ "archivedAt", FIELD_TIME, AT(archived, archived_at_ms) },
};
static const struct record_type archived_type = { "Archived", FIELDS(archived_fields), .size = sizeof(struct archived) };

static const struct field result_fields[] = { RESULT_ENVELOPE(&archived_type), RESULT_EVENT };
static const struct record_type result_type = { "ArchiveCampaignResult", FIELDS(result_fields),
						.size = sizeof(struct command_result) };

static const struct reason reasons[] = {
	{ "campaign_unknown", 404, "NOT_FOUND", "The campaign was not found.",
	  .details = "no campaign {campaignId} in account group {accountGroupId}" },
	{ "campaign_running", 409, "CONFLICT", "The campaign is running.", .details = "campaign {campaignId} is running[: {note}]" },
	{ "already_archived", 409, "CONFLICT", "The campaign is archived.", .details = "campaign {campaignId} was archived in {1}" },
	{ "note_too_long", 400, "VALIDATION_ERROR", "The note is too long.", .details = "note has more than {1} characters" },
};

static int check(void *checked, struct arena *arena, const char **details)
{
	const struct command *command = checked;

	*details = NULL;
	if (command->has_keep_days && command->keep_days < 1)
		*details = arena_printf(arena, "keepDays is %d: at least 1", command->keep_days);
	return *details ? -1 : 0;
}

static const struct contract contract = {
	.command = &command_type,
	.result = &result_type,
	.data = &archived_type,
	.command_schema = archive_command,
	.result_schema = archive_result,
	.success_status = 200,
	.reasons = reasons,
	.reason_count = sizeof reasons / sizeof reasons[0],
	.check = check,
};

static int note_max(const struct config *config)
{
	(void)config;
	return 20;
}

const struct operation archive_operation = {
	.contract = &contract,
	.execute_sql = archive_execute,
	.written_sql = archive_written,
	.limit = note_max,
};
