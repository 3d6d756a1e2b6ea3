/* A worker of that operation: `archive-worker run`, with the settings of campaign-worker. */
#include <stdio.h>
#include <stdlib.h>

#include "archive.h"
#include "worker/base/log.h"
#include "worker/run.h"

int main(int argc, char **argv)
{
	struct config config = { 0 };
	struct fault fault;
	int status;

	if (config_load(&config, FOR_WORKER, NULL, &argc, argv, &fault) < 0) {
		fprintf(stderr, "archive-worker: %s\n", fault.msg);
		return EXIT_FAILURE;
	}
	log_init(config.log_format, config.log_level);
	status = run_lanes(&config, &archive_operation);
	config_free(&config);
	return status;
}
