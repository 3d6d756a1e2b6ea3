/* UTF-8 (Unicode 3.9, table 3-7): overlong forms, surrogates and anything above U+10FFFF are not well-formed. */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The code point at *s, which must lie before end; *s moves behind it. -1, and *s stays, if it is not well-formed. */
int32_t utf8_next(const char **s, const char *end);

/* Whether s is well-formed and has no U+0000, so that it can be a C string and a PostgreSQL text. */
bool utf8_is_text(const char *s, size_t len);

/* Whether the code point leaves no mark on a screen: white space, and what Unicode calls Default_Ignorable_Code_Point
 * (joiners, fillers, variation selectors, tags). */
bool utf8_is_blank(int32_t c);

/* U+FDD0 to U+FDEF, and the last two of each plane: never characters, in no version of Unicode. */
bool utf8_is_noncharacter(int32_t c);

#endif
