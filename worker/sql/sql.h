/* The SQL texts built in: worker/sql/NAME.sql as sql_NAME, schemas/sql/NNN-name.sql as migrations[]. */
#ifndef SQL_H
#define SQL_H

#include <stddef.h>

struct migration {
	int version; /* 1, 2, ...; ascending */
	const char *name, *sql;
};

extern const struct migration migrations[];
extern const size_t migration_count;

extern const char sql_lock[];         /* locks the rate limits of a batch */
extern const char sql_execute[];      /* the set-based statement */
extern const char sql_written[];      /* whether a command's draft is there */
extern const char sql_claim[];        /* takes partitions over */
extern const char sql_unblock[];      /* ends what holds partitions back */
extern const char sql_order_resume[]; /* records an order to resume */

#endif
