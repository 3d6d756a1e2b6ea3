-- Before the set-based statement, in the same transaction: the rate limits that its commands will be charged to, locked in
-- the order of their key, so that two workers never wait for each other in a circle. The statement that follows has a
-- snapshot of its own and sees what the last holder of the locks wrote.
-- $1 account groups, $2 key digests
SELECT
FROM (SELECT DISTINCT ag, key FROM unnest($1::text[], $2::bytea[]) AS c (ag, key)) AS c
JOIN api_key_account_groups AS g ON g.account_group_id = c.ag AND g.key_digest = c.key
ORDER BY g.account_group_id, g.key_digest
FOR NO KEY UPDATE OF g
