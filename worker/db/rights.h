/* The findings of `check` about PostgreSQL: server, guarantees, migrations, and the rights that the statements need. */
#ifndef RIGHTS_H
#define RIGHTS_H

#include "worker/base/fault.h"
#include "worker/base/findings.h"
#include "worker/db/session.h"

/* Adds findings such as "PostgreSQL 15.18, primary, UTF8". 0: PostgreSQL answered, whatever the findings. */
int rights_report(const struct session_settings *settings, struct findings *findings, struct fault *fault) MUST_CHECK;

#endif
