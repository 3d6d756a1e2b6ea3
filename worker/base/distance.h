/* How near two names are, for "did you mean". */
#ifndef DISTANCE_H
#define DISTANCE_H

#include <stddef.h>

/* The number of edits (a character changed, added or left out) that turn a into b: a small number is a slip of the keyboard.
 * SIZE_MAX for names of 63 bytes and more. */
size_t distance_between(const char *a, const char *b);

#endif
