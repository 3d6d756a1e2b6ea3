/* What `check` says of PostgreSQL: server, guarantees, migrations, and the rights that the statements need. */
#ifndef RIGHTS_H
#define RIGHTS_H

#include "worker/base/fault.h"
#include "worker/base/findings.h"
#include "worker/db/session.h"

/* Adds lines such as "PostgreSQL 15.18, primary, UTF8". 0 if the connection could be made, whatever was found. */
int rights_report(const struct session_settings *settings, struct findings *findings, struct fault *fault) MUST_CHECK;

#endif
