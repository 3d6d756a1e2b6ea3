-- The parameters and columns that worker/db/binding.h has: $5 trace, $6 account group, $7 campaign, $8 note, $9 force,
-- $10 days to keep, $11 key digest, $12 expiry in ms, $13 whether copies take its outcome, which never hangs on a record's
-- timestamp here. $4 is how long a note may be. No ids are needed.
WITH clock AS MATERIALIZED (
	SELECT date_trunc('milliseconds', clock_timestamp()) AS now
), command AS (
	SELECT c.*, clock.now
	FROM clock CROSS JOIN unnest($1::text[], $2::bytea[], $3::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
			$9::boolean[], $10::integer[], $11::bytea[], $12::bigint[], $13::boolean[])
		WITH ORDINALITY AS c (new_id, digest, stamp_ms, trace, ag, campaign, note, force, keep_days, key, expires_ms, shared, ord)
), judged AS MATERIALIZED (
	SELECT c.*, k.public_id, p.id AS prior_id, s.status, a.archived_at,
		CASE
			WHEN p.command_digest = c.digest THEN 'existing'
			WHEN c.expires_ms <= extract(epoch FROM c.now) * 1000 THEN 'expired'
			WHEN c.key IS NULL THEN 'key_missing'
			WHEN k.public_id IS NULL THEN 'key_unknown'
			WHEN k.revoked_at IS NOT NULL THEN 'key_revoked'
			WHEN p.id IS NOT NULL THEN 'trace_reused'
			WHEN s.status IS NULL THEN 'campaign_unknown'
			WHEN a.id IS NOT NULL THEN 'already_archived'
			WHEN char_length(c.note) > $4::int THEN 'note_too_long'
			WHEN s.status = 'running' AND NOT c.force THEN 'campaign_running'
		END AS verdict
	FROM command AS c
	LEFT JOIN archived_campaigns AS p ON p.account_group_id = c.ag AND p.trace_id = c.trace
	LEFT JOIN archived_campaigns AS a ON a.account_group_id = c.ag AND a.id = c.campaign
	LEFT JOIN api_keys AS k ON k.key_digest = c.key
	LEFT JOIN campaigns AS s ON s.account_group_id = c.ag AND s.id = c.campaign AND s.deleted_at IS NULL
), written AS (
	INSERT INTO archived_campaigns (account_group_id, id, note, forced, keep_days, archived_at, trace_id, command_digest)
	SELECT j.ag, j.campaign, j.note, j.force, j.keep_days, j.now, j.trace, j.digest FROM judged AS j WHERE j.verdict IS NULL
	ON CONFLICT DO NOTHING
	RETURNING 1
), settled AS MATERIALIZED (
	SELECT CASE WHEN (SELECT count(*) FROM written) < (SELECT count(*) FROM judged AS j WHERE j.verdict IS NULL)
		THEN raise_lost_race() END AS lost
)
SELECT j.ord::int, j.now, j.verdict,
	CASE j.verdict
		WHEN 'key_revoked' THEN ARRAY[j.public_id]
		WHEN 'already_archived' THEN ARRAY[to_char(j.archived_at, 'YYYY')]
		WHEN 'note_too_long' THEN ARRAY[($4::int)::text]
	END AS details, j.public_id, NULL::int AS retry_after_s, (SELECT s.lost FROM settled AS s) AS lost,
	j.campaign AS id, coalesce(p.note, j.note) AS note, coalesce(p.forced, j.force) AS forced,
	coalesce(p.keep_days, j.keep_days) AS keep_days, coalesce(p.archived_at, j.now) AS archived_at
FROM judged AS j
LEFT JOIN archived_campaigns AS p ON p.account_group_id = j.ag AND p.trace_id = j.trace
