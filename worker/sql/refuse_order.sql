-- Ends an order to resume that cannot be carried out, while the partition is still ours; returns who gave it, and when.
-- $1 cluster, $2 topic, $3 consumer group, $4 partition, $5 epoch, $6 why
WITH ended AS (
	UPDATE partition_owner SET resume_from = NULL
	WHERE cluster_id = $1::text AND topic = $2::text AND group_id = $3::text AND partition = $4::int AND epoch = $5::bigint
	RETURNING 1
), latest AS (
	SELECT id FROM partition_resumes
	WHERE cluster_id = $1::text AND topic = $2::text AND partition = $4::int AND EXISTS (SELECT FROM ended)
	ORDER BY id DESC LIMIT 1
), refused AS (
	UPDATE partition_resumes SET refused_at = clock_timestamp(), refused_because = $6::text
	WHERE id = (SELECT id FROM latest)
	RETURNING ordered_by, ordered_at
)
SELECT (SELECT ordered_by || ' at ' || to_char(ordered_at, 'YYYY-MM-DD HH24:MI:SS TZ') FROM refused) FROM ended
