#include "schemas/contract.h"

#include <string.h>

const struct reason *contract_reason(const struct contract *contract, size_t index)
{
	if (index < common_reason_count)
		return common_reasons[index];
	index -= common_reason_count;
	return index < contract->reason_count ? &contract->reasons[index] : NULL;
}

const struct reason *contract_find_reason(const struct contract *contract, const char *word)
{
	const struct reason *reason;

	for (size_t i = 0; (reason = contract_reason(contract, i)) != NULL; i++)
		if (strcmp(reason->word, word) == 0)
			return reason;
	return NULL;
}
