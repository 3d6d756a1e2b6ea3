#include "worker/duplicate.h"

#include "schemas/duplicate.h"
#include "worker/sql/sql.h"

static int audience_leads_max(const struct config *config)
{
	return config->audience_leads_max;
}

const struct operation duplicate_operation = {
	.contract = &duplicate_contract,
	.lock_sql = sql_lock,
	.execute_sql = sql_execute,
	.written_sql = sql_written,
	.limit = audience_leads_max,
};
