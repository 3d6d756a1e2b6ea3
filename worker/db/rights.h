/* The findings of `check` about PostgreSQL: server, guarantees, migrations, and the rights that the statements need. */
#ifndef RIGHTS_H
#define RIGHTS_H

#include "worker/base/fault.h"
#include "worker/base/findings.h"
#include "worker/db/session.h"
#include "worker/sql/sql.h"

/* Beside what every worker needs: the operation's; each table ends with NULL, or is NULL. */
struct rights_needed {
	const struct right *rights;
	const char *const *functions;
};

/* Adds findings such as "PostgreSQL 15.18, primary, UTF8". 0: PostgreSQL answered, whatever the findings. */
int rights_report(const struct session_settings *settings, const struct rights_needed *needed, struct findings *findings,
		  struct fault *fault) MUST_CHECK;

#endif
