-- The first of the sessions that a session waits for, and the table whose row or lock it waits for, where that is known: fields
-- separated by chr(31). A prepared transaction is no session: its pid is 0. The setting campaign.waiting is the waiting session's pid.
SELECT concat_ws(chr(31), coalesce((
		SELECT c.relname FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
		WHERE l.pid = current_setting('campaign.waiting')::int AND (l.locktype = 'tuple' OR NOT l.granted) LIMIT 1), ''),
	b.pid, coalesce(a.application_name, CASE b.pid WHEN 0 THEN 'a prepared transaction' ELSE '' END), coalesce(a.usename, ''),
	coalesce(to_char(a.xact_start, 'YYYY-MM-DD"T"HH24:MI:SSOF'), ''))
FROM unnest(pg_blocking_pids(current_setting('campaign.waiting')::int)) AS b (pid)
LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
LIMIT 1
