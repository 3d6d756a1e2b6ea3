/* "Duplicate a campaign into a draft": the contract of this operation, all of it (struct duplicate_command and struct
 * campaign stand in schemas/types.h, the Avro schemas in schemas/avro). */
#ifndef SCHEMAS_DUPLICATE_H
#define SCHEMAS_DUPLICATE_H

#include "schemas/contract.h"
#include "schemas/types.h"

extern const struct contract duplicate_contract;

/* The Avro schemas that are built in (schemas/avro). */
extern const char schema_duplicate_campaign_command[], schema_duplicate_campaign_result[];

#endif
