/* Blockers: the sessions that another session of ours waits for, asked on a connection of their own, which is made when it is
 * first needed. Every role may see pid, application_name and user of all sessions; since when one is in its transaction is shown
 * to members of pg_read_all_stats. */
#ifndef BLOCKERS_H
#define BLOCKERS_H

#include "worker/base/waiter.h"
#include "worker/db/session.h"

struct blockers;

struct blocker {
	char table[72], pid[16], application[72], user[72], since[40]; /* "": not known */
};

struct blockers *blockers_new(const char *database, const struct waiter *waiter); /* database is borrowed */
void blockers_free(struct blockers *blockers); /* accepts NULL */
void blockers_close(struct blockers *blockers);

/* Finds the first session that this session waits for at this moment; false: there is none, or PostgreSQL cannot be asked. */
bool blockers_find(struct blockers *blockers, const struct session *session, struct blocker *blocker);

#endif
