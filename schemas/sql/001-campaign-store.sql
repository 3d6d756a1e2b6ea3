-- The campaign store: what a command is judged against, where its draft is written, and who owns which partition.
-- Runs in one transaction (campaign-worker migrate), as a superuser or as a member of campaign_owner. No migration names a
-- schema: campaign-worker migrate makes the one of the setting database-schema the first of the search_path, and functions
-- keep that search_path. Whatever else there is in the schema is left alone.
--
-- Every key begins with the account group, so that the store can be partitioned or sharded by it; api_keys and
-- partition_owner belong to no account group. Every id is COLLATE "C": compared bytewise, in one way everywhere, and
-- faster than by a locale. Times of campaigns have milliseconds, as in the events, so that event and table agree.

-- Roles belong to the whole cluster: they may exist, and other databases may be migrated at this moment. A migrator
-- without CREATEROLE needs them to exist and to be a member of campaign_owner. Grant campaign_worker to the worker's login.
-- Since PostgreSQL 16 whoever creates a role is its member, but may not SET ROLE to it without a grant.
DO $$
DECLARE
	wanted text;
	ours text := current_schema();
	needed text := CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END;
BEGIN
	FOREACH wanted IN ARRAY ARRAY['campaign_owner', 'campaign_worker'] LOOP
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
			BEGIN
				EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
			EXCEPTION WHEN duplicate_object OR unique_violation THEN
				NULL; -- another database's migration was first
			END;
		END IF;
	END LOOP;
	IF NOT pg_has_role(current_user, 'campaign_owner', needed) THEN
		BEGIN
			EXECUTE format('GRANT campaign_owner TO %I', current_user);
		EXCEPTION
			WHEN unique_violation THEN
				NULL;
			WHEN insufficient_privilege THEN
				RAISE insufficient_privilege USING MESSAGE = format(
					'role campaign_owner exists, and %I may not become it: GRANT campaign_owner TO %I', current_user, current_user);
		END;
	END IF;
	IF NOT has_schema_privilege('campaign_owner', ours, 'USAGE') OR NOT has_schema_privilege('campaign_owner', ours, 'CREATE') THEN
		EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO campaign_owner', ours);
	END IF;
	IF NOT has_schema_privilege('campaign_worker', ours, 'USAGE') THEN
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO campaign_worker', ours);
	END IF;
	-- Who may not grant is only warned.
	IF NOT has_schema_privilege('campaign_owner', ours, 'USAGE') OR NOT has_schema_privilege('campaign_owner', ours, 'CREATE')
		OR NOT has_schema_privilege('campaign_worker', ours, 'USAGE') THEN
		RAISE insufficient_privilege USING MESSAGE = format('%I may not grant: GRANT USAGE, CREATE ON SCHEMA %I TO campaign_owner; '
			'GRANT USAGE ON SCHEMA %I TO campaign_worker', current_user, ours, ours);
	END IF;
END $$;

SET LOCAL ROLE campaign_owner;

CREATE TABLE schema_migrations (
	version integer PRIMARY KEY,
	name text NOT NULL,
	applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	applied_by text NOT NULL DEFAULT session_user
);

CREATE TABLE account_groups (
	id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
	name text NOT NULL,
	created_at timestamptz(3) NOT NULL DEFAULT now()
);

-- The key itself is nowhere: key_digest is the SHA-256 of its UTF-8 bytes. public_id may be shown and logged.
CREATE TABLE api_keys (
	key_digest bytea PRIMARY KEY CHECK (octet_length(key_digest) = 32),
	public_id text COLLATE "C" NOT NULL UNIQUE CHECK (public_id ~ '^[A-Za-z0-9_-]{1,64}$'),
	name text,
	permissions text[] NOT NULL DEFAULT '{}',
	created_at timestamptz(3) NOT NULL DEFAULT now(),
	revoked_at timestamptz(3)
);

-- A grant: this key may act for this account group, this fast. The limit is GCRA: one command every rate_interval_us,
-- rate_burst at once; rate_tat_us (the theoretical arrival time, microseconds since the epoch) is its state, to which 002
-- adds. The fill factor keeps the updates of every batch on the page.
CREATE TABLE api_key_account_groups (
	account_group_id text COLLATE "C" NOT NULL REFERENCES account_groups,
	key_digest bytea NOT NULL REFERENCES api_keys,
	rate_interval_us bigint NOT NULL CHECK (rate_interval_us BETWEEN 1 AND 86400000000),
	rate_burst integer NOT NULL CHECK (rate_burst BETWEEN 1 AND 1000000),
	rate_tat_us bigint NOT NULL DEFAULT 0,
	created_at timestamptz(3) NOT NULL DEFAULT now(),
	PRIMARY KEY (account_group_id, key_digest)
) WITH (fillfactor = 50);
CREATE INDEX ON api_key_account_groups (key_digest);

-- Campaigns, drafts among them. What bounds name, description and the short texts is that a result must always fit a
-- Kafka message, and that a copy of a campaign is never refused by the database.
--   selected_leads      the leads of a draft, as an array: rows per lead (campaign_leads) are written when it starts
--   source_campaign_id  without a foreign key: it stays true after the source is gone, and a source that is deleted at
--                       the wrong moment does not take a whole batch with it
--   account_group_id    without one as well: the grant that a batch has locked holds the account group in place
--   trace_id, command_digest, created_by_key  of the command that made the draft; the key's public id
--   deleted_at          a deleted campaign keeps its row, and so its trace
CREATE TABLE campaigns (
	account_group_id text COLLATE "C" NOT NULL,
	id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 64),
	name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
	description text CHECK (char_length(description) <= 10000),
	status text COLLATE "C" NOT NULL CHECK (status IN ('draft', 'running', 'paused', 'completed', 'cancelled')),
	selected_lead_count integer NOT NULL DEFAULT 0 CHECK (selected_lead_count >= 0),
	selected_leads text[] COLLATE "C",
	include_conversation_history boolean NOT NULL DEFAULT false,
	auto_cancel_on_message_received boolean NOT NULL DEFAULT false,
	outreach_language text CHECK (char_length(outreach_language) <= 64),
	workflow jsonb,
	source_campaign_id text COLLATE "C",
	trace_id text COLLATE "C" CHECK (octet_length(trace_id) BETWEEN 1 AND 64),
	command_digest bytea CHECK (octet_length(command_digest) = 32),
	created_by_key text COLLATE "C",
	created_at timestamptz(3) NOT NULL DEFAULT now(),
	updated_at timestamptz(3) NOT NULL DEFAULT now(),
	started_at timestamptz(3),
	rate_limited_until timestamptz(3),
	deleted_at timestamptz(3),
	PRIMARY KEY (account_group_id, id),
	CONSTRAINT campaigns_digest_of_trace CHECK ((trace_id IS NULL) = (command_digest IS NULL))
);
-- One draft per command. Partial, like every second index that begins with the account group, so that the planner cannot
-- take it for a look-up by id, which it would do while the table is small, and keep.
CREATE UNIQUE INDEX campaigns_trace_key ON campaigns (account_group_id, trace_id) WHERE trace_id IS NOT NULL;

-- A list of leads, or a folder: the union of its lists. Folders do not nest. ready is false while an import still fills
-- the list. lead_count is a hint that chooses how memberships are looked up (0: unknown); a wrong one costs time, never
-- correctness.
CREATE TABLE audiences (
	account_group_id text COLLATE "C" NOT NULL REFERENCES account_groups,
	id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 64),
	kind text COLLATE "C" NOT NULL CHECK (kind IN ('list', 'folder')),
	parent_id text COLLATE "C",
	name text NOT NULL,
	ready boolean NOT NULL DEFAULT true,
	lead_count integer NOT NULL DEFAULT 0,
	created_at timestamptz(3) NOT NULL DEFAULT now(),
	PRIMARY KEY (account_group_id, id),
	FOREIGN KEY (account_group_id, parent_id) REFERENCES audiences,
	CONSTRAINT audiences_folders_do_not_nest CHECK (kind = 'list' OR parent_id IS NULL)
);
CREATE INDEX ON audiences (account_group_id, parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE leads (
	account_group_id text COLLATE "C" NOT NULL REFERENCES account_groups,
	id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 64),
	name text,
	created_at timestamptz(3) NOT NULL DEFAULT now(),
	PRIMARY KEY (account_group_id, id)
);

CREATE TABLE audience_leads (
	account_group_id text COLLATE "C" NOT NULL,
	audience_id text COLLATE "C" NOT NULL,
	lead_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (account_group_id, audience_id, lead_id),
	FOREIGN KEY (account_group_id, audience_id) REFERENCES audiences ON DELETE CASCADE,
	FOREIGN KEY (account_group_id, lead_id) REFERENCES leads ON DELETE CASCADE
);

-- Enrolments in campaigns that were started. A lead that is enrolled in a running or paused one may not be selected.
CREATE TABLE campaign_leads (
	account_group_id text COLLATE "C" NOT NULL,
	campaign_id text COLLATE "C" NOT NULL,
	lead_id text COLLATE "C" NOT NULL,
	state text COLLATE "C" NOT NULL CHECK (state IN ('enrolled', 'finished', 'removed')),
	enrolled_at timestamptz(3) NOT NULL DEFAULT now(),
	PRIMARY KEY (account_group_id, campaign_id, lead_id),
	FOREIGN KEY (account_group_id, campaign_id) REFERENCES campaigns ON DELETE CASCADE,
	FOREIGN KEY (account_group_id, lead_id) REFERENCES leads
);
CREATE INDEX campaign_leads_enrolled ON campaign_leads (account_group_id, lead_id) INCLUDE (campaign_id)
	WHERE state = 'enrolled';

-- The fence. Whoever is assigned a partition claims its row (epoch + 1); each batch begins by updating it where the epoch
-- is still its own. Results of all offsets below confirmed_offset are published; -1: no batch yet. resume_from: an order
-- to resume at that offset (-2: at the earliest), until it was carried out.
CREATE TABLE partition_owner (
	cluster_id text COLLATE "C" NOT NULL,
	topic text COLLATE "C" NOT NULL,
	partition integer NOT NULL CHECK (partition >= 0),
	group_id text COLLATE "C" NOT NULL,
	epoch bigint NOT NULL CHECK (epoch > 0),
	transactional_id text,
	previous_transactional_id text,
	confirmed_offset bigint NOT NULL DEFAULT -1 CHECK (confirmed_offset >= -1),
	resume_from bigint CHECK (resume_from >= 0 OR resume_from = -2),
	claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (cluster_id, topic, partition)
) WITH (fillfactor = 50);

-- Who ordered which partition to resume where, and what it stood at.
CREATE TABLE partition_resumes (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	cluster_id text COLLATE "C" NOT NULL,
	topic text COLLATE "C" NOT NULL,
	partition integer NOT NULL,
	group_id text COLLATE "C" NOT NULL,
	previous_group_id text COLLATE "C",
	previous_confirmed_offset bigint,
	resume_from bigint NOT NULL,
	ordered_by text NOT NULL,
	ordered_as text NOT NULL DEFAULT session_user,
	ordered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The first statement of every batch. Raises CD001 unless every partition is still owned with this epoch: in a pipeline,
-- an UPDATE of no row would not stop the COMMIT behind it. The row locks it takes conflict with a claim, so a claim waits
-- for the batch in flight. Partitions come ascending: two batches lock them in one order. Returns the server's time.
CREATE FUNCTION partition_fence(p_cluster text, p_topic text, p_group text, p_partitions integer[], p_epochs bigint[],
	p_offsets bigint[]) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path FROM CURRENT AS $$
BEGIN
	FOR i IN 1 .. cardinality(p_partitions) LOOP
		UPDATE partition_owner SET confirmed_offset = p_offsets[i]
		WHERE cluster_id = p_cluster AND topic = p_topic AND partition = p_partitions[i]
			AND group_id = p_group AND epoch = p_epochs[i];
		IF NOT FOUND THEN
			RAISE EXCEPTION 'partition % of topic % is owned by somebody else', p_partitions[i], p_topic
				USING ERRCODE = 'CD001';
		END IF;
	END LOOP;
	RETURN clock_timestamp();
END $$;

-- A race that another transaction won (its draft of the same trace, its use of the same rate limit) was seen only when
-- writing: the whole batch is to be judged again, so nothing of it may stand.
CREATE FUNCTION raise_lost_race() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
BEGIN
	RAISE EXCEPTION 'another transaction was faster' USING ERRCODE = 'CD002';
END $$;

-- GCRA as an aggregate over commands in their order: the theoretical arrival time after them. first: the stored one;
-- at: when the command arrived; one that comes more than tolerance too early is refused and leaves it as it is.
CREATE FUNCTION rate_limit_next(tat bigint, first bigint, at bigint, emission bigint, tolerance bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE SECURITY INVOKER PARALLEL SAFE AS $$
BEGIN
	RETURN CASE WHEN coalesce(tat, first) - at > tolerance THEN coalesce(tat, first)
		ELSE greatest(coalesce(tat, first), at) + emission END;
END $$;
CREATE AGGREGATE rate_limit_tat(first bigint, at bigint, emission bigint, tolerance bigint) (
	SFUNC = rate_limit_next, STYPE = bigint
);

-- What the worker needs, and no more: it never deletes, and changes nothing but the rate limits' state and its partitions.
REVOKE ALL ON schema_migrations, account_groups, api_keys, api_key_account_groups, campaigns, audiences, leads, audience_leads,
	campaign_leads, partition_owner, partition_resumes FROM PUBLIC, campaign_worker;
REVOKE ALL ON FUNCTION partition_fence(text, text, text, integer[], bigint[], bigint[]), raise_lost_race(),
	rate_limit_next(bigint, bigint, bigint, bigint, bigint), rate_limit_tat(bigint, bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partition_fence(text, text, text, integer[], bigint[], bigint[]), raise_lost_race(),
	rate_limit_tat(bigint, bigint, bigint, bigint) TO campaign_worker;
GRANT SELECT ON schema_migrations TO campaign_worker;
GRANT SELECT (key_digest, public_id, permissions, revoked_at) ON api_keys TO campaign_worker;
GRANT SELECT (account_group_id, key_digest, rate_interval_us, rate_burst, rate_tat_us), UPDATE (rate_tat_us)
	ON api_key_account_groups TO campaign_worker;
GRANT SELECT (account_group_id, id, name, description, status, selected_lead_count, include_conversation_history,
		auto_cancel_on_message_received, outreach_language, workflow, trace_id, command_digest, created_at, updated_at,
		started_at, rate_limited_until, deleted_at),
	INSERT (account_group_id, id, name, description, status, selected_lead_count, selected_leads,
		include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow, source_campaign_id,
		trace_id, command_digest, created_by_key, created_at, updated_at)
	ON campaigns TO campaign_worker;
GRANT SELECT (account_group_id, id, kind, parent_id, ready, lead_count) ON audiences TO campaign_worker;
GRANT SELECT ON audience_leads TO campaign_worker;
GRANT SELECT (account_group_id, campaign_id, lead_id, state) ON campaign_leads TO campaign_worker;
GRANT SELECT, INSERT (cluster_id, topic, partition, group_id, epoch, transactional_id, resume_from),
	UPDATE (group_id, epoch, transactional_id, previous_transactional_id, confirmed_offset, resume_from, claimed_at)
	ON partition_owner TO campaign_worker;
GRANT INSERT (cluster_id, topic, partition, group_id, previous_group_id, previous_confirmed_offset, resume_from, ordered_by)
	ON partition_resumes TO campaign_worker;
