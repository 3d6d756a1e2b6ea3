-- How many drafts a command has, deleted or not: 0 or 1. Waits for no row's lock.
-- $1 account group, $2 trace, $3 the command's digest, as an array
SELECT count(*) FROM campaigns
WHERE account_group_id = $1::text AND trace_id = $2::text AND command_digest = ANY ($3::bytea[])
