-- What this operation writes: beside the product's tables, by the test alone.
CREATE TABLE archived_campaigns (
	account_group_id text COLLATE "C" NOT NULL,
	id text COLLATE "C" NOT NULL,
	note text,
	forced boolean NOT NULL,
	keep_days integer,
	archived_at timestamptz(3) NOT NULL,
	trace_id text COLLATE "C" NOT NULL,
	command_digest bytea NOT NULL,
	PRIMARY KEY (account_group_id, id),
	UNIQUE (account_group_id, trace_id)
);
GRANT SELECT, INSERT ON archived_campaigns TO campaign_worker;
