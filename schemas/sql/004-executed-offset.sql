-- Who commits offsets of our consumer group besides us, and whether this database is the one that they belong to: an owner's
-- row also holds the end of the last batch that was executed here. An offset of the group beyond it is not ours.
--   executed_offset    the offset behind the last batch that PostgreSQL committed, or where the partition was begun; -1: there
--                      was none; null: an earlier version wrote the row last, and nothing is known
-- An order to resume whose offset is gone when a worker takes it up is refused once.

SET LOCAL ROLE campaign_owner;
SET LOCAL search_path = public, pg_temp;

ALTER TABLE partition_owner ADD COLUMN executed_offset bigint CHECK (executed_offset >= -1);
ALTER TABLE partition_resumes ADD COLUMN refused_at timestamptz, ADD COLUMN refused_because text;

-- As before, and p_ends becomes executed_offset. A null leaves its column as it is.
CREATE FUNCTION partition_fence(p_cluster text, p_topic text, p_group text, p_partitions integer[], p_epochs bigint[],
	p_offsets bigint[], p_ends bigint[]) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
	FOR i IN 1 .. cardinality(p_partitions) LOOP
		UPDATE partition_owner SET confirmed_offset = coalesce(p_offsets[i], confirmed_offset),
			executed_offset = coalesce(p_ends[i], executed_offset)
		WHERE cluster_id = p_cluster AND topic = p_topic AND partition = p_partitions[i]
			AND group_id = p_group AND epoch = p_epochs[i];
		IF NOT FOUND THEN
			RAISE EXCEPTION 'partition % of topic % is owned by somebody else', p_partitions[i], p_topic
				USING ERRCODE = 'CD001';
		END IF;
	END LOOP;
	RETURN clock_timestamp();
END $$;

-- Workers of the earlier version go on with this one during an upgrade.
CREATE OR REPLACE FUNCTION partition_fence(p_cluster text, p_topic text, p_group text, p_partitions integer[],
	p_epochs bigint[], p_offsets bigint[]) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
	FOR i IN 1 .. cardinality(p_partitions) LOOP
		UPDATE partition_owner SET confirmed_offset = p_offsets[i], executed_offset = NULL
		WHERE cluster_id = p_cluster AND topic = p_topic AND partition = p_partitions[i]
			AND group_id = p_group AND epoch = p_epochs[i];
		IF NOT FOUND THEN
			RAISE EXCEPTION 'partition % of topic % is owned by somebody else', p_partitions[i], p_topic
				USING ERRCODE = 'CD001';
		END IF;
	END LOOP;
	RETURN clock_timestamp();
END $$;

-- The other cluster that this partition came from, if its topic was moved here: it has a row there and none here, or others
-- of its topic and group have one there and none has one here. What was refused there must not be judged anew here unasked.
CREATE FUNCTION partition_moved_from(p_cluster text, p_topic text, p_group text, p_partition integer) RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = pg_catalog, public, pg_temp AS $$
	SELECT there.cluster_id
	FROM partition_owner AS there
	WHERE there.topic = p_topic AND there.group_id = p_group AND there.cluster_id <> p_cluster
		AND NOT EXISTS (
			SELECT FROM partition_owner AS here
			WHERE here.cluster_id = p_cluster AND here.topic = p_topic
				AND (here.partition = p_partition OR here.group_id = p_group AND there.partition <> p_partition))
	ORDER BY there.partition <> p_partition, there.claimed_at DESC
	LIMIT 1
$$;

REVOKE ALL ON FUNCTION partition_fence(text, text, text, integer[], bigint[], bigint[], bigint[]), partition_moved_from
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partition_fence(text, text, text, integer[], bigint[], bigint[], bigint[]), partition_moved_from
	TO campaign_worker;
GRANT INSERT (executed_offset), UPDATE (executed_offset) ON partition_owner TO campaign_worker;
GRANT SELECT (id, cluster_id, topic, partition, ordered_by, ordered_at),
	UPDATE (refused_at, refused_because) ON partition_resumes TO campaign_worker;
