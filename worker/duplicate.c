#include "worker/duplicate.h"

#include "schemas/duplicate.h"
#include "worker/sql/sql.h"

static const struct right rights[] = {
	{ "SELECT", "api_keys", "key_digest, public_id, permissions, revoked_at" },
	{ "SELECT", "api_key_account_groups", "account_group_id, key_digest, rate_interval_us, rate_burst, rate_tat_us, rate_at_us" },
	{ "UPDATE", "api_key_account_groups", "rate_tat_us, rate_at_us" },
	{ "SELECT", "campaigns", "account_group_id, id, name, description, status, selected_lead_count, "
		    "include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow, trace_id, "
		    "command_digest, created_at, updated_at, started_at, rate_limited_until, deleted_at" },
	{ "INSERT", "campaigns", "account_group_id, id, name, description, status, selected_lead_count, selected_leads, "
		    "include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow, "
		    "source_campaign_id, trace_id, command_digest, created_by_key, created_at, updated_at" },
	{ "SELECT", "audiences", "account_group_id, id, kind, parent_id, ready, lead_count" },
	{ "SELECT", "audience_leads", "account_group_id, audience_id, lead_id" },
	{ "SELECT", "campaign_leads", "account_group_id, campaign_id, lead_id, state" },
	{ NULL, NULL, NULL },
};

static const char *const functions[] = { "raise_lost_race()", "raise_shared_limit()", "rate_limit_tat(bigint, bigint, bigint, bigint)", NULL };

static int audience_leads_max(const struct config *config)
{
	return config->audience_leads_max;
}

const struct operation duplicate_operation = {
	.contract = &duplicate_contract,
	.lock_sql = sql_lock,
	.execute_sql = sql_execute,
	.written_sql = sql_written,
	.rights = rights,
	.functions = functions,
	.limit = audience_leads_max,
};
