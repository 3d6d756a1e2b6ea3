-- Claims partitions: epoch + 1, or a new row, of which nothing was executed yet. No row comes back for a partition of another
-- consumer group, or of a topic that was moved here from another cluster.
-- $1 cluster, $2 topic, $3 consumer group, $4 transactional.id, $5 partitions
INSERT INTO partition_owner AS o (cluster_id, topic, partition, group_id, epoch, transactional_id, executed_offset)
SELECT $1::text, $2::text, p, $3::text, 1, $4::text, -1 FROM unnest($5::int[]) AS p
WHERE partition_moved_from($1::text, $2::text, $3::text, p) IS NULL ORDER BY p
ON CONFLICT (cluster_id, topic, partition) DO UPDATE
	SET epoch = o.epoch + 1, previous_transactional_id = o.transactional_id, transactional_id = excluded.transactional_id,
		claimed_at = clock_timestamp()
	WHERE o.group_id = excluded.group_id
RETURNING partition, epoch, previous_transactional_id
