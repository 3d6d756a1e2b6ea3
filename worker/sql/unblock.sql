-- Ends the sessions that hold these partitions' rows while they wait for their client. The client is a worker that was
-- stopped, or cut off, while it sent a batch, or before it read an answer that is larger than the sockets hold. Another worker
-- owns the partitions by now, so that batch is void. No time-out of PostgreSQL ends such a session:
-- idle_in_transaction_session_timeout begins behind a pipeline, not within, and no other one is checked while an answer is
-- written. Returns the number of sessions.
-- $1 cluster, $2 topic, $3 consumer group, $4 partitions
SELECT count(pg_terminate_backend(s.pid))
FROM (
	SELECT DISTINCT a.pid
	FROM partition_owner AS o
	JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.transactionid = o.xmax AND l.granted
	JOIN pg_stat_activity AS a ON a.pid = l.pid AND a.wait_event IN ('ClientRead', 'ClientWrite')
		AND pg_has_role(a.usesysid, 'USAGE')
	WHERE o.cluster_id = $1::text AND o.topic = $2::text AND o.group_id = $3::text AND o.partition = ANY ($4::int[])
) AS s
