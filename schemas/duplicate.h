/* "Duplicate a campaign into a draft": the contract of this operation, all of it (struct duplicate_command and struct
 * campaign stand in schemas/types.h, the Avro schemas in schemas/avro).
 *
 * A field of the command is added to the Avro schema, the struct, the table here and worker/sql/execute.sql, behind those that
 * are there. A rule that reads the database is added to worker/sql/execute.sql, its reason to the table here. */
#ifndef SCHEMAS_DUPLICATE_H
#define SCHEMAS_DUPLICATE_H

#include "schemas/contract.h"
#include "schemas/types.h"

extern const struct contract duplicate_contract;

/* The Avro schemas that are built in (schemas/avro). */
extern const char schema_duplicate_campaign_command[], schema_duplicate_campaign_result[];

#endif
