/* Exact stopping points for the fault tests. A release build contains none: no code, no name, no string.
 *
 * With -DFAILPOINTS, CAMPAIGN_FAILPOINT="step:action[:nth[:ms]],..." makes the nth pass of that step (default 1, once;
 * "2+": the second and every later one) do something first: kill (SIGKILL), stop (SIGSTOP, until SIGCONT), term (SIGTERM),
 * exit (at once, status 70) or sleep (ms, default 1000). CAMPAIGN_FAILPOINT_FILE gets a line "step action pid" appended
 * before that, so that a test knows the point was reached. A value that cannot be read aborts the process.
 * Passes are counted over all threads. */
#ifndef FAILPOINT_H
#define FAILPOINT_H

#include <stdbool.h>

#ifdef FAILPOINTS
void failpoint(const char *step);
/* Whether a configured step lies between two statements that are normally sent in one go (fence-after, statement-after,
 * commit-before), so that the store has to wait for each answer there. */
bool failpoint_inside_pipeline(void);
/* Whether every batch goes ahead of the one before (CAMPAIGN_FAILPOINT_AHEAD=1 in the environment), so that faults meet that
 * with a few commands, too. */
bool failpoint_always_ahead(void);
#else
#define failpoint(step) ((void)0)
#define failpoint_inside_pipeline() false
#define failpoint_always_ahead() false
#endif

#endif
