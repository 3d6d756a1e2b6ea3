/* The suspect: a command that may make its PostgreSQL process end. A lost connection is nobody's fault at first. Where it is lost
 * with batch after batch, the commands are executed one by one, and the first one whose connection is lost becomes the suspect.
 * It is convicted when that happened SUSPECT_TRIES times in a row, each time behind a commit and a command that passed on the
 * same connection. Where there is no other command, it is not executed more than SUSPECT_TRIES times: then it waits for one, as
 * whatever fails and cannot be compared (breaker.h). */
#ifndef SUSPECT_H
#define SUSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schemas/record.h"

#define SUSPECT_TRIES 3

struct suspect {
	int losses;        /* of connections with a batch, in a row */
	int compared;      /* with the suspect alone, while another command passes */
	int uncompared;    /* with the suspect alone, while there is no other. Both 0: there is no suspect */
	int32_t partition; /* the suspect's record */
	int64_t offset;
	size_t skipped;    /* other commands that broke the connection when they were looked at */
};

void suspect_lost_batch(struct suspect *suspect);
/* The record's command was the only one in the transaction. compared: another one had passed on the connection. */
void suspect_lost_alone(struct suspect *suspect, const struct record *record, bool compared);
void suspect_clear(struct suspect *suspect); /* a batch was executed */

/* Whether the commands of the next batch are to be executed one by one. */
bool suspect_is_sought(const struct suspect *suspect);
bool suspect_is(const struct suspect *suspect, const struct record *record);
/* Whether it is not to be executed again; compared: while another one passes. */
bool suspect_is_convicted(const struct suspect *suspect, bool compared);

#endif
