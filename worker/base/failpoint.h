/* Exact stopping points for the fault tests. A release build contains none: no code, no name, no string.
 *
 * With -DFAILPOINTS, CAMPAIGN_FAILPOINT="step:action[:nth[:ms]],..." takes an action at the nth pass of a step (default 1;
 * "2+": at the second and every later pass). Actions: kill (SIGKILL), stop (SIGSTOP, until SIGCONT), term (SIGTERM), exit (at
 * once, status 70), sleep (ms, default 1000). Before the action a line "step action pid" is appended to
 * CAMPAIGN_FAILPOINT_FILE, so that a test knows that the step was reached. A value that cannot be read aborts the process.
 * Passes are counted over all threads. */
#ifndef FAILPOINT_H
#define FAILPOINT_H

#include <stdbool.h>

#ifdef FAILPOINTS
void failpoint(const char *step);
/* Whether a configured step lies between two statements of one pipeline (fence-after, statement-after, commit-before). The
 * sender then waits for the answer at each of them. */
bool failpoint_inside_pipeline(void);
/* Whether every batch is executed ahead of the one before (CAMPAIGN_FAILPOINT_AHEAD=1 in the environment). Faults then hit
 * that overlap also where batches are small. */
bool failpoint_always_ahead(void);
#else
#define failpoint(step) ((void)0)
#define failpoint_inside_pipeline() false
#define failpoint_always_ahead() false
#endif

#endif
