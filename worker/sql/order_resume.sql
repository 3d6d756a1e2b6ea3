-- Records an order to resume a partition and gives it to this consumer group. The new epoch fences the worker that
-- runs it at this moment, so that the order is found at once. Rows of other clusters know nothing of what is executed from now
-- on: a topic that is moved back halts there.
-- $1 cluster, $2 topic, $3 partition, $4 consumer group, $5 from, $6 who
WITH before AS (
	SELECT o.group_id, o.confirmed_offset FROM partition_owner AS o
	WHERE o.cluster_id = $1::text AND o.topic = $2::text AND o.partition = $3::int
), recorded AS (
	INSERT INTO partition_resumes (cluster_id, topic, partition, group_id, previous_group_id, previous_confirmed_offset,
		resume_from, ordered_by)
	SELECT $1::text, $2::text, $3::int, $4::text, b.group_id, b.confirmed_offset, $5::bigint, $6::text
	FROM (SELECT 1) AS one LEFT JOIN before AS b ON true
), left_behind AS (
	UPDATE partition_owner SET executed_offset = -1
	WHERE cluster_id <> $1::text AND topic = $2::text AND partition = $3::int AND group_id = $4::text
)
INSERT INTO partition_owner AS o (cluster_id, topic, partition, group_id, epoch, resume_from, executed_offset)
VALUES ($1::text, $2::text, $3::int, $4::text, 1, $5::bigint, -1)
ON CONFLICT (cluster_id, topic, partition) DO UPDATE
	SET group_id = excluded.group_id, epoch = o.epoch + 1, resume_from = excluded.resume_from
