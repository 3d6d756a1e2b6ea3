/* The built-in SQL texts: worker/sql/NAME.sql as sql_NAME, schemas/sql/NNN-name.sql as migrations[]. */
#ifndef SQL_H
#define SQL_H

#include <stddef.h>

struct migration {
	int version; /* 1, 2, ...; ascending */
	const char *name, *sql;
};

extern const struct migration migrations[];
extern const size_t migration_count;

/* What a statement needs of the login; a privilege of NULL ends a table of them. */
struct right {
	const char *privilege, *table, *columns; /* columns: separated by ", " */
};

extern const char sql_lock[];         /* locks the rate limits of a batch */
extern const char sql_execute[];      /* the set-based statement */
extern const char sql_written[];      /* whether a command's draft is there */
extern const char sql_claim[];        /* claims partitions */
extern const char sql_owned[];        /* what is known of partitions */
extern const char sql_blockers[];     /* whom a session waits for */
extern const char sql_unblock[];      /* ends sessions that hold partitions' rows */
extern const char sql_order_resume[]; /* records an order to resume */
extern const char sql_refuse_order[]; /* ends an order that cannot be carried out */

#endif
