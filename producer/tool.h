/* What the sub-commands of campaign-producer share. */
#ifndef TOOL_H
#define TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "producer/campaign.h"
#include "worker/base/config.h"
#include "worker/base/fault.h"

enum { TOOL_OK, TOOL_FAILED, TOOL_USAGE }; /* exit codes */

/* Sub-commands: their own options are argv[1..]; an exit code. */
extern const char send_help[], watch_help[];
extern const struct option send_options[], watch_options[];
int send_run(const struct config *config, int argc, char **argv);
int watch_run(const struct config *config, int argc, char **argv);

/* A client with those settings, whose trouble is logged. */
struct campaign_client *tool_client_new(const struct config *config, struct campaign_error *error) MUST_CHECK;

/* SIGINT and SIGTERM ask to stop, a second one ends at once. */
void tool_catch_signals(void);
bool tool_stopping(void);

/* One line of output; false once standard output cannot be written, which main tells (worker/base/streams.h). */
bool tool_print(const char *text);
/* The line for a result: the event as JSON, or, if http, the response that the API reference gives for it. */
const char *tool_format(const struct command_result *result, bool http, struct campaign_pool *pool);
void tool_complain(const char *fmt, ...) PRINTF(1, 2); /* a line on stderr; a progress line is wiped first */
/* The progress line, where stderr is a terminal: at most a few times a second. */
void tool_progress(const char *fmt, ...) PRINTF(1, 2);
void tool_wipe_progress(void);

bool tool_parse_integer(const char *text, int64_t least, int64_t most, int64_t *value) MUST_CHECK;

/* The SHA-256 of the API key in that file (without its final line break) or, if path is NULL, in CAMPAIGN_API_KEY. *given
 * is false when neither is there. */
int apikey_digest(const char *path, uint8_t digest[CAMPAIGN_DIGEST_BYTES], bool *given, struct fault *fault) MUST_CHECK;

#endif
