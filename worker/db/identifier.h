/* Names in SQL. */
#ifndef IDENTIFIER_H
#define IDENTIFIER_H

#define IDENTIFIER_QUOTED_SIZE 256

/* Writes name as a quoted identifier: any name of up to 63 bytes, which is PostgreSQL's limit, fits. Returns quoted. */
char *identifier_quote(const char *name, char quoted[IDENTIFIER_QUOTED_SIZE]);

#endif
