#include "worker/base/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/base/must.h"

/* open() takes the lowest number that is free, and the lower ones are taken by then. */
void streams_open(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			must_be(open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) == fd);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

static int failure; /* errno of the first write that failed; what it was to write is gone */

bool streams_flush(void)
{
	if (failure == 0 && fflush(stdout) != 0)
		failure = errno;
	return failure == 0;
}

int streams_close(const char *program, int status)
{
	if (streams_flush() && ferror(stdout))
		failure = EIO;
	if (fclose(stdout) != 0 && failure == 0) /* some file systems write only then */
		failure = errno;
	if (failure == 0)
		return status;
	fprintf(stderr, "%s: standard output: %s\n", program, strerror(failure));
	return status ? status : EXIT_FAILURE;
}
