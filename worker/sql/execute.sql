-- The set-based statement: judges every command of a batch by rules 2 to 12 in their order, against one snapshot, and
-- writes the drafts and the rate limits. One row a command comes back, as worker/db/binding.h wants it.
--
-- What keeps it fast whatever the statistics say: each look-up of one command is a LATERAL subquery behind OFFSET 0, which
-- the planner can only run as an index look-up (the session has sequential scans off); memberships and missing leads are
-- compared by hashed subplans ("(x IN (SELECT ...)) IS ..." is never turned into a join); results of the CTEs are never
-- joined with each other. A verdict, once found, gates every later look-up.
--
-- One array element a command (worker/db/binding.h): $1 id for the draft, $2 command digest, $3 when the record arrived, by
-- the broker's clock, in ms (-1: not known, counts as now); then the fields of schemas/duplicate.c that are parameters: $5 trace, $6 account group, $7 source campaign,
-- $8 name (null: the source's), $9 audience, $10 leads, comma-separated, sorted, distinct (null: all of the audience),
-- $11 key digest (null: none), $12 expiry in ms (null: none), $13 whether copies of other timestamps take its outcome, $14 how
-- many bytes the draft's texts may have, so that the results topic takes the result. $4 is the largest audience that may be
-- duplicated whole.
WITH clock AS MATERIALIZED ( -- read once: what is expired, rated, written and answered is so by the same clock
	SELECT c.now, (extract(epoch FROM c.now) * 1000)::bigint AS now_ms
	FROM (SELECT date_trunc('milliseconds', clock_timestamp()) AS now OFFSET 0) AS c
), command AS (
	SELECT c.ord::int, c.trace, c.ag COLLATE "C" AS ag, c.source, c.audience, c.name, c.key, c.new_id, c.leads, c.digest,
		c.expires_ms, c.stamp_ms, c.shared, c.room
	FROM unnest($1::text[], $2::bytea[], $3::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
			$11::bytea[], $12::bigint[], $13::boolean[], $14::int[])
		WITH ORDINALITY AS c (new_id, digest, stamp_ms, trace, ag, source, name, audience, leads, key, expires_ms, shared, room, ord)
), judged AS ( -- rules 2 to 6
	SELECT c.ord, c.trace, c.ag, c.source, c.audience, c.name, c.key, c.new_id, c.digest, c.shared, c.room, clock.now,
		clock.now_ms,
		string_to_array(c.leads, ',') AS leads, p.id AS prior_id, k.public_id,
		g.rate_tat_us AS stored, least(g.rate_tat_us, clock.now_ms * 1000 + g.rate_interval_us * g.rate_burst) AS first,
		g.rate_interval_us AS emission, g.rate_burst AS burst,
		g.rate_interval_us * (g.rate_burst - 1) AS tolerance,
		CASE WHEN c.stamp_ms BETWEEN 0 AND clock.now_ms THEN c.stamp_ms ELSE clock.now_ms END * 1000 AS stamp_us,
		least(g.rate_at_us, clock.now_ms * 1000) AS rate_at_us,
		CASE
			WHEN p.command_digest = c.digest THEN CASE WHEN p.deleted_at IS NULL THEN 'existing' ELSE 'draft_deleted' END
			WHEN c.expires_ms <= clock.now_ms THEN 'expired'
			WHEN c.key IS NULL THEN 'key_missing'
			WHEN k.public_id IS NULL THEN 'key_unknown'
			WHEN k.revoked_at IS NOT NULL THEN 'key_revoked'
			WHEN NOT k.permissions @> '{campaigns:write}' THEN 'permission_missing'
			WHEN g.rate_tat_us IS NULL THEN 'account_group_denied'
			WHEN p.id IS NOT NULL THEN 'trace_reused'
		END AS verdict
	FROM clock CROSS JOIN command AS c
	LEFT JOIN LATERAL (SELECT p.id, p.command_digest, p.deleted_at FROM campaigns AS p
		WHERE p.account_group_id = c.ag AND p.trace_id = c.trace OFFSET 0) AS p ON true
	LEFT JOIN LATERAL (SELECT k.public_id, k.revoked_at, k.permissions FROM api_keys AS k
		WHERE k.key_digest = c.key OFFSET 0) AS k ON true
	LEFT JOIN LATERAL (SELECT g.rate_tat_us, g.rate_at_us, g.rate_interval_us, g.rate_burst FROM api_key_account_groups AS g
		WHERE g.account_group_id = c.ag AND g.key_digest = c.key OFFSET 0) AS g ON true
), arrived AS ( -- never before one that was charged: delivered again, or from another partition, a command may be older
	SELECT j.*, greatest(j.rate_at_us, max(j.stamp_us) FILTER (WHERE j.verdict IS NULL)
		OVER (PARTITION BY j.ag, j.key ORDER BY j.ord ROWS UNBOUNDED PRECEDING)) AS at_us
	FROM judged AS j
), rated AS MATERIALIZED ( -- rule 7: tat is what the command met, after all that were admitted before it
	SELECT j.*, CASE WHEN j.verdict IS NULL AND j.tat - j.at_us > j.tolerance THEN 'rate_limited' ELSE j.verdict END AS rated
	FROM (
		SELECT j.*, coalesce(rate_limit_tat(j.first, j.at_us, j.emission, j.tolerance) FILTER (WHERE j.verdict IS NULL)
			OVER (PARTITION BY j.ag, j.key ORDER BY j.ord ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), j.first) AS tat
		FROM arrived AS j
	) AS j
), charge AS MATERIALIZED ( -- also where nothing is admitted, if what is stored lay too far ahead: it would do so again
	SELECT r.ag, r.key, r.stored, coalesce(max(greatest(r.tat, r.at_us) + r.emission) FILTER (WHERE r.rated IS NULL), r.first) AS tat,
		coalesce(max(r.at_us) FILTER (WHERE r.rated IS NULL), r.rate_at_us) AS at_us
	FROM rated AS r WHERE r.verdict IS NULL GROUP BY r.ag, r.key, r.stored, r.first, r.rate_at_us
	HAVING bool_or(r.rated IS NULL) OR r.first < r.stored
), charged AS ( -- a grant that appeared after the locks were taken may have been used by another worker since
	UPDATE api_key_account_groups AS g SET rate_tat_us = c.tat, rate_at_us = c.at_us
	FROM charge AS c
	WHERE g.account_group_id = c.ag AND g.key_digest = c.key AND g.rate_tat_us = c.stored
	RETURNING 1
), found AS ( -- rules 8 and 9
	SELECT r.ord, r.trace, r.ag, r.source, r.audience, r.name, r.new_id, r.digest, r.room, r.now, r.leads, r.prior_id, r.public_id,
		r.emission, r.burst, least(2147483647,
			greatest(1, (r.tat - r.tolerance - r.now_ms * 1000 + 999999) / 1000000))::int AS retry_after_s,
		c.name AS source_name, c.description, c.include_conversation_history, c.auto_cancel_on_message_received,
		c.outreach_language, c.workflow, f.populating,
		CASE a.kind WHEN 'folder' THEN f.lists ELSE ARRAY[a.id] END AS lists,
		CASE a.kind WHEN 'folder' THEN 0 ELSE a.lead_count END AS lead_count,
		CASE WHEN r.rated IS NOT NULL THEN r.rated
			WHEN c.name IS NULL THEN 'campaign_not_found'
			WHEN a.id IS NULL THEN 'audience_not_found'
			WHEN NOT a.ready OR f.populating IS NOT NULL THEN 'audience_populating'
		END AS verdict
	FROM rated AS r
	LEFT JOIN LATERAL (SELECT c.name, c.description, c.include_conversation_history, c.auto_cancel_on_message_received,
			c.outreach_language, c.workflow FROM campaigns AS c
		WHERE r.rated IS NULL AND c.account_group_id = r.ag AND c.id = r.source AND c.deleted_at IS NULL OFFSET 0) AS c ON true
	LEFT JOIN LATERAL (SELECT a.id, a.kind, a.ready, a.lead_count FROM audiences AS a
		WHERE r.rated IS NULL AND a.account_group_id = r.ag AND a.id = r.audience OFFSET 0) AS a ON true
	LEFT JOIN LATERAL (SELECT ARRAY( -- of a folder: not all where there are far more than leads
			SELECT l.id FROM audiences AS l WHERE l.account_group_id = r.ag AND l.parent_id = r.audience
			LIMIT 8 * cardinality(r.leads) + 1) AS lists, (
			SELECT min(l.id) FROM audiences AS l
			WHERE l.account_group_id = r.ag AND l.parent_id = r.audience AND NOT l.ready) AS populating
		WHERE a.kind = 'folder' OFFSET 0) AS f ON true
), matched AS ( -- the leads to select, ascending: the wanted ones that are members, or all members up to one too many
	SELECT f.*, CASE
		WHEN f.verdict IS NOT NULL THEN NULL
		WHEN f.leads IS NULL AND cardinality(f.lists) = 1 THEN ARRAY(
			SELECT m.lead_id FROM audience_leads AS m
			WHERE m.account_group_id = f.ag AND m.audience_id = f.lists[1] ORDER BY m.lead_id LIMIT $4::int + 1)
		-- A folder: sorted and rid of duplicates by the aggregate, which compares no more than the leads. With more memberships than
		-- the limit nobody knows how many leads they are: UNION in a recursive query drops duplicates while it streams, and
		-- the LIMIT ends it.
		WHEN f.leads IS NULL THEN coalesce((
			SELECT CASE WHEN count(*) <= $4::int THEN array_agg(DISTINCT s.lead_id ORDER BY s.lead_id) END
			FROM (SELECT m.lead_id FROM audience_leads AS m
				WHERE m.account_group_id = f.ag AND m.audience_id = ANY (f.lists) LIMIT $4::int + 1) AS s), ARRAY(
			WITH RECURSIVE u (lead_id) AS (
				SELECT m.lead_id FROM audience_leads AS m
				WHERE m.account_group_id = f.ag AND m.audience_id = ANY (f.lists)
				UNION SELECT u.lead_id FROM u WHERE false)
			SELECT s.lead_id FROM (SELECT u.lead_id FROM u LIMIT $4::int + 1) AS s ORDER BY s.lead_id))
		-- A small list: one range scan and a hash. Its size is what the planner expects, too: each command's is that large
		-- from the start. What is not in it is looked up, in case that lead_count is wrong.
		WHEN f.lead_count BETWEEN 1 AND least(12 * cardinality(f.leads), 1000) THEN ARRAY(
			SELECT w FROM unnest(f.leads) AS w
			WHERE (w IN (SELECT m.lead_id FROM audience_leads AS m
					WHERE m.account_group_id = f.ag AND m.audience_id = f.lists[1] LIMIT 1000)) IS TRUE
				OR (SELECT true FROM audience_leads AS m
					WHERE m.account_group_id = f.ag AND m.audience_id = f.lists[1] AND m.lead_id = w LIMIT 1))
		WHEN cardinality(f.lists) = 1 THEN ARRAY( -- a large one: look each lead up
			SELECT w FROM unnest(f.leads) AS w
			WHERE (SELECT true FROM audience_leads AS m
				WHERE m.account_group_id = f.ag AND m.audience_id = f.lists[1] AND m.lead_id = w LIMIT 1))
		-- A folder: look up the lists of each lead, whose number does not grow with the folder's. They are compared with the
		-- folder's lists, or, if those are far more than the leads, with their own parent. OFFSET 0 keeps the comparison behind
		-- the look-up, which else would be one for each list of the folder.
		WHEN cardinality(f.lists) <= 8 * cardinality(f.leads) THEN ARRAY(
			SELECT w FROM unnest(f.leads) AS w
			WHERE (SELECT true FROM (SELECT m.audience_id FROM audience_leads AS m
					WHERE m.account_group_id = f.ag AND m.lead_id = w OFFSET 0) AS m
				WHERE (m.audience_id IN (SELECT l FROM unnest(f.lists) AS l)) IS TRUE LIMIT 1))
		ELSE ARRAY(
			SELECT w FROM unnest(f.leads) AS w
			WHERE (SELECT true FROM (SELECT m.audience_id FROM audience_leads AS m
					WHERE m.account_group_id = f.ag AND m.lead_id = w OFFSET 0) AS m
				WHERE (SELECT l.parent_id = f.audience FROM audiences AS l
					WHERE l.account_group_id = f.ag AND l.id = m.audience_id) LIMIT 1))
		END AS targets
	FROM found AS f OFFSET 0 -- once a command: what follows reads targets several times
), verdicts AS MATERIALIZED ( -- rules 10 and 11, and whether the result can be told
	SELECT m.*, b.lead_id AS busy_lead, b.campaign_id AS busy_campaign, b.status AS busy_status,
		CASE WHEN m.members IS NOT NULL THEN m.members WHEN b.lead_id IS NOT NULL THEN 'lead_active'
			WHEN octet_length(concat(coalesce(m.name, m.source_name), m.description, m.outreach_language)) > m.room
				THEN 'result_too_large' END AS final
	FROM (
		SELECT m.*, CASE WHEN m.verdict IS NOT NULL THEN m.verdict
			WHEN cardinality(m.targets) < cardinality(m.leads) THEN 'lead_not_in_audience'
			WHEN m.leads IS NULL AND cardinality(m.targets) > $4::int THEN 'audience_too_large' END AS members
		FROM matched AS m
	) AS m
	LEFT JOIN LATERAL (
		SELECT e.lead_id, e.campaign_id, a.status
		FROM unnest(m.targets) AS t (lead_id)
		CROSS JOIN LATERAL (SELECT e.lead_id, e.campaign_id FROM campaign_leads AS e
			WHERE e.account_group_id = m.ag AND e.lead_id = t.lead_id AND e.state = 'enrolled' OFFSET 0) AS e
		CROSS JOIN LATERAL (SELECT a.status FROM campaigns AS a
			WHERE a.account_group_id = m.ag AND a.id = e.campaign_id AND a.status IN ('running', 'paused')
				AND a.deleted_at IS NULL OFFSET 0) AS a
		-- Mostly nothing between the least and the greatest of them is enrolled: one look-up instead of one a lead.
		WHERE m.members IS NULL AND (SELECT true FROM campaign_leads AS r
			WHERE r.account_group_id = m.ag AND r.lead_id BETWEEN m.targets[1] AND m.targets[cardinality(m.targets)]
				AND r.state = 'enrolled' LIMIT 1)
		ORDER BY e.lead_id, e.campaign_id LIMIT 1
	) AS b ON true
), written AS ( -- rule 12
	INSERT INTO campaigns (account_group_id, id, name, description, status, selected_lead_count, selected_leads,
		include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow, source_campaign_id,
		trace_id, command_digest, created_by_key, created_at, updated_at)
	SELECT v.ag, v.new_id, coalesce(v.name, v.source_name), v.description, 'draft', cardinality(v.targets), v.targets,
		v.include_conversation_history, v.auto_cancel_on_message_received, v.outreach_language, v.workflow, v.source,
		v.trace, v.digest, v.public_id, v.now, v.now
	FROM verdicts AS v WHERE v.final IS NULL ORDER BY v.ag, v.trace
	ON CONFLICT DO NOTHING
	RETURNING 1
), settled AS MATERIALIZED (
	SELECT CASE WHEN (SELECT count(*) FROM written) < (SELECT count(*) FROM verdicts AS v WHERE v.final IS NULL)
		OR (SELECT count(*) FROM charged) < (SELECT count(*) FROM charge) THEN raise_lost_race()
		WHEN (SELECT true FROM rated AS r WHERE r.rated = 'rate_limited' AND r.shared LIMIT 1) THEN raise_shared_limit()
		END AS lost
)
SELECT v.ord, v.now, v.final, CASE v.final
		WHEN 'key_revoked' THEN ARRAY[v.public_id]
		WHEN 'permission_missing' THEN ARRAY[v.public_id]
		WHEN 'account_group_denied' THEN ARRAY[v.public_id]
		WHEN 'rate_limited' THEN ARRAY[v.emission::text, v.burst::text, v.retry_after_s::text]
		WHEN 'audience_populating' THEN ARRAY[v.populating]
		WHEN 'lead_not_in_audience' THEN ARRAY[array_to_string(ARRAY(
			SELECT w FROM unnest(v.leads) WITH ORDINALITY AS l (w, n)
			WHERE (w IN (SELECT t FROM unnest(v.targets) AS t)) IS NOT TRUE ORDER BY n LIMIT 5), ','),
			(cardinality(v.leads) - cardinality(v.targets))::text]
		WHEN 'audience_too_large' THEN ARRAY[($4::int)::text]
		WHEN 'result_too_large' THEN ARRAY[v.room::text]
		WHEN 'lead_active' THEN ARRAY[v.busy_lead, v.busy_campaign, v.busy_status]
	END AS details, v.public_id, CASE v.final WHEN 'rate_limited' THEN v.retry_after_s END AS retry_after_s,
	(SELECT s.lost FROM settled AS s) AS lost,
	coalesce(p.id, v.new_id) AS id,
	CASE WHEN p.id IS NULL THEN coalesce(v.name, v.source_name) ELSE p.name END AS name,
	CASE WHEN p.id IS NULL THEN v.description ELSE p.description END AS description,
	coalesce(p.status, 'draft') AS status,
	coalesce(p.selected_lead_count, cardinality(v.targets)) AS selected_lead_count,
	coalesce(p.include_conversation_history, v.include_conversation_history) AS include_conversation_history,
	coalesce(p.auto_cancel_on_message_received, v.auto_cancel_on_message_received) AS auto_cancel_on_message_received,
	CASE WHEN p.id IS NULL THEN v.outreach_language ELSE p.outreach_language END AS outreach_language,
	coalesce(p.created_at, v.now) AS created_at, coalesce(p.updated_at, v.now) AS updated_at, p.started_at,
	p.rate_limited_until
FROM verdicts AS v
LEFT JOIN LATERAL (SELECT p.id, p.name, p.description, p.status, p.selected_lead_count, p.include_conversation_history,
		p.auto_cancel_on_message_received, p.outreach_language, p.created_at, p.updated_at, p.started_at, p.rate_limited_until
	FROM campaigns AS p
	WHERE v.final = 'existing' AND p.account_group_id = v.ag AND p.id = v.prior_id OFFSET 0) AS p ON true
