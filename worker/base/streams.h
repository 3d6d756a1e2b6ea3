/* Standard input, output and error of a program that writes for others. */
#ifndef STREAMS_H
#define STREAMS_H

#include <stdbool.h>

/* The first call of a program. A stream that the caller closed gets a descriptor that fails with EBADF: no file or socket that is
 * opened later can take its number and receive what is meant for the stream. A pipe whose reader is gone, and a file that may
 * not grow, are errors of the write and no signals. */
void streams_open(void);

/* Writes out what was printed so far; false once that has failed. */
bool streams_flush(void);

/* The last call of a program: writes out standard output. The status, or 1 instead of 0 after a line on standard error that
 * names the program, if something that was printed could not be written. */
int streams_close(const char *program, int status);

#endif
