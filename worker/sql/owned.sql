-- What is known of partitions, a row for each: who else has it (another consumer group, or the topic under another cluster's
-- id), its offsets, the order to resume, and the owner.
-- $1 cluster, $2 topic, $3 consumer group, $4 partitions
SELECT p, nullif(o.group_id, $3::text), partition_moved_from($1::text, $2::text, $3::text, p), coalesce(o.confirmed_offset, -1),
	CASE WHEN o.partition IS NULL THEN -1 ELSE coalesce(o.executed_offset, -2) END, coalesce(o.resume_from, -1),
	o.transactional_id
FROM unnest($4::int[]) AS p
LEFT JOIN partition_owner AS o ON o.cluster_id = $1::text AND o.topic = $2::text AND o.partition = p
