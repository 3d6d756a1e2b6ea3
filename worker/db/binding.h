/* Between the contract's tables and an operation's statements: which parameters these get, and what their rows say.
 *
 * The statement that executes gets an element a command in each array: $1 text[] new ids, $2 bytea[] the commands' digests,
 * $3 bigint[] the records' timestamps (-1: none); $4 int the operation's limit; then, from $5, an array for each field of the
 * command's table that is a parameter, in the table's order (schemas/field.h has the types; texts are joined by commas);
 * last, boolean[]: whether copies of the command take its outcome, whose records have other timestamps. If the statement would
 * refuse such a command for a reason that hangs on its timestamp (rate_limited), it raises SQLSTATE CD003 instead
 * (raise_shared_limit()): nothing may stand, and the copies are executed apart.
 * It answers a row a command:
 *
 *   1 integer      the command's place in the arrays, from 1
 *   2 timestamptz  the time at which all of them were judged
 *   3 text         the verdict: null: the work was done; 'existing': it had been done before; else a reason's word
 *   4 text[]       what the reason's details name
 *   5 text         the API key's public id, for the log; null: not known
 *   6 integer      seconds after which the same command may be tried again; null: not said
 *   7 any          a place for a function that raises when a race was lost
 *   8 ...          a column for each field of the data's table, in the table's order; read where the work was done or existed
 *
 * The statement that locks gets $1 text[] account groups, $2 bytea[] key digests. */
#ifndef BINDING_H
#define BINDING_H

#include <stddef.h>
#include <stdint.h>

#include "schemas/contract.h"
#include "schemas/record.h"
#include "worker/base/arena.h"
#include "worker/db/params.h"
#include "worker/db/rows.h"

void binding_add_locks(struct params *params, struct job *const *jobs, size_t n);
void binding_add_commands(struct params *params, const struct contract *contract, struct job *const *jobs, size_t n, int limit);

int64_t binding_now_ms(const struct pg_result *rows);
/* Gives each row's job its result and reason. jobs as they were added. */
void binding_read(const struct pg_result *rows, const struct contract *contract, struct job *const *jobs, struct arena *arena);

#endif
