-- The benchmark's data set, into a migrated and empty database: psql -v groups=1000 -f data.sql, as a superuser.
-- By formula, so that commands can be made without asking the database (commands.c). Ids have 24 characters: a letter, then
-- a number in hexadecimal digits. g: account group, from 0; i: within it.
--   account group a(g); API keys bench-key-G (never limited), bench-slow-G (one a second, burst 5), bench-revoked-G
--   campaign c(g * 100 + i): 0 to 19 to copy from, 20 to 23 running, 50 leads enrolled in each
--   leads 0 to 2499, of these 2300 to 2499 enrolled; lead j is e(g * 100,000 + j), in the order in which they came; in every
--     other account group e(g * 100,000 + j * 40503 % 65536): an audience's leads, and those enrolled, lie scattered
--   audience d(g * 100 + i): 0 to 19 lists of 25 to 200 leads; 20 has enrolled leads; 21 is still populating; 22 of 1,000
--     leads (groups 0 to 99); 23 of 20,000 (groups 0 to 3, leads 3000 to 22999); 24 a folder of the lists 25 and 26; 27 a folder of
--     200 lists b(g * 200 + i), which share the leads of 23 among them (groups 0 to 3)
\set ON_ERROR_STOP on
\if :{?groups}
\else
	\set groups 1000
\endif
SET client_min_messages = warning;
SET search_path = public, pg_temp;
SET session_replication_role = replica; -- no foreign keys are checked: they hold by construction
SET maintenance_work_mem = '256MB';

BEGIN;

CREATE FUNCTION pg_temp.id(letter text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT letter || lpad(to_hex(n), 23, '0') $$;

CREATE FUNCTION pg_temp.lead(g bigint, j bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_temp.id('e', g * 100000 + CASE g % 2 WHEN 0 THEN j ELSE j * 40503 % 65536 END) $$;

-- About 2 kB of steps, whose texts no compression shrinks to nothing.
CREATE FUNCTION pg_temp.workflow(n bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('version', 3, 'timezone', 'Europe/Zurich', 'steps', jsonb_agg(jsonb_build_object(
		'kind', CASE s % 2 WHEN 0 THEN 'message' ELSE 'wait' END, 'delayHours', s * 12,
		'template', md5(n || 'a' || s) || ' ' || md5(n || 'b' || s) || ' ' || md5(n || 'c' || s) || ' ' ||
			md5(n || 'd' || s) || ' ' || md5(n || 'e' || s)) ORDER BY s))
	FROM generate_series(1, 8) AS s
$$;

INSERT INTO account_groups (id, name)
SELECT pg_temp.id('a', g), 'Account group ' || g FROM generate_series(0, :groups - 1) AS g;

INSERT INTO api_keys (key_digest, public_id, name, permissions, revoked_at)
SELECT sha256(convert_to('bench-' || k.kind || '-' || g, 'UTF8')), 'bench-' || k.kind || '-' || g, 'Integration ' || g,
	'{campaigns:write}', k.revoked_at
FROM generate_series(0, :groups - 1) AS g,
	(VALUES ('key', NULL::timestamptz), ('slow', NULL), ('revoked', '2026-01-01T00:00:00Z')) AS k (kind, revoked_at);

INSERT INTO api_key_account_groups (account_group_id, key_digest, rate_interval_us, rate_burst)
SELECT pg_temp.id('a', g), sha256(convert_to('bench-' || k.kind || '-' || g, 'UTF8')), k.interval_us, k.burst
FROM generate_series(0, :groups - 1) AS g,
	(VALUES ('key', 1, 1000000), ('slow', 1000000, 5), ('revoked', 1, 1000000)) AS k (kind, interval_us, burst);

INSERT INTO campaigns (account_group_id, id, name, description, status, selected_lead_count, include_conversation_history,
	auto_cancel_on_message_received, outreach_language, workflow, created_at, updated_at, started_at)
SELECT pg_temp.id('a', g), pg_temp.id('c', g::bigint * 100 + i), 'Campaign ' || i || ' of account group ' || g,
	'First contact, then two reminders, then a closing message to all who have not answered; reviewed ' || i,
	CASE WHEN i >= 20 THEN 'running' WHEN i % 2 = 0 THEN 'completed' ELSE 'draft' END, CASE WHEN i >= 20 THEN 50 ELSE 0 END,
	i % 2 = 0, i % 3 = 0, 'en', pg_temp.workflow(g::bigint * 100 + i), '2026-01-05T08:00:00Z', '2026-01-06T08:00:00Z',
	CASE WHEN i >= 20 OR i % 2 = 0 THEN '2026-01-06T08:00:00Z'::timestamptz END
FROM generate_series(0, :groups - 1) AS g, generate_series(0, 23) AS i;

CREATE TEMPORARY TABLE list AS -- leads first to first + n - 1
SELECT g, i, i * 100 AS first, 25 + (g * 7 + i * 31) % 176 AS n, i <> 21 AS ready
FROM generate_series(0, :groups - 1) AS g, generate_series(0, 19) AS i
UNION ALL SELECT g, 20, 2290, 30, true FROM generate_series(0, :groups - 1) AS g
UNION ALL SELECT g, 21, 0, 50, false FROM generate_series(0, :groups - 1) AS g
UNION ALL SELECT g, 22, 0, 1000, true FROM generate_series(0, least(:groups, 100) - 1) AS g
UNION ALL SELECT g, 23, 3000, 20000, true FROM generate_series(0, least(:groups, 4) - 1) AS g
UNION ALL SELECT g, 25, 0, 40, true FROM generate_series(0, :groups - 1) AS g
UNION ALL SELECT g, 26, 20, 40, true FROM generate_series(0, :groups - 1) AS g;

INSERT INTO audiences (account_group_id, id, kind, parent_id, name, ready, lead_count)
SELECT pg_temp.id('a', g), pg_temp.id('d', g::bigint * 100 + 24), 'folder', NULL, 'Folder', true, 0
FROM generate_series(0, :groups - 1) AS g
UNION ALL
SELECT pg_temp.id('a', g), pg_temp.id('d', g::bigint * 100 + i), 'list',
	CASE WHEN i > 24 THEN pg_temp.id('d', g::bigint * 100 + 24) END, 'Audience ' || i, ready, n
FROM list;

INSERT INTO audiences (account_group_id, id, kind, name, ready, lead_count)
SELECT pg_temp.id('a', g), pg_temp.id('d', g::bigint * 100 + 27), 'folder', 'Large folder', true, 0
FROM generate_series(0, least(:groups, 4) - 1) AS g;

INSERT INTO audiences (account_group_id, id, kind, parent_id, name, ready, lead_count)
SELECT pg_temp.id('a', g), pg_temp.id('b', g * 200 + i), 'list', pg_temp.id('d', g::bigint * 100 + 27), 'Part ' || i, true, 100
FROM generate_series(0, least(:groups, 4) - 1) AS g, generate_series(0, 199) AS i;

INSERT INTO leads (account_group_id, id, name)
SELECT pg_temp.id('a', g), pg_temp.lead(g, j), 'Lead ' || j
FROM generate_series(0, :groups - 1) AS g, generate_series(0, 2499) AS j
UNION ALL
SELECT pg_temp.id('a', g), pg_temp.lead(g, j), 'Lead ' || j
FROM generate_series(0, least(:groups, 4) - 1) AS g, generate_series(3000, 22999) AS j;

INSERT INTO audience_leads (account_group_id, audience_id, lead_id)
SELECT pg_temp.id('a', g), pg_temp.id('d', g::bigint * 100 + i), pg_temp.lead(g, j)
FROM list, generate_series(first, first + n - 1) AS j
ORDER BY g, i, j;

INSERT INTO audience_leads (account_group_id, audience_id, lead_id)
SELECT pg_temp.id('a', g), pg_temp.id('b', g * 200 + i), pg_temp.lead(g, 3000 + i * 100 + j)
FROM generate_series(0, least(:groups, 4) - 1) AS g, generate_series(0, 199) AS i, generate_series(0, 99) AS j
ORDER BY g, i, j;

INSERT INTO campaign_leads (account_group_id, campaign_id, lead_id, state)
SELECT pg_temp.id('a', g), pg_temp.id('c', g::bigint * 100 + 20 + j / 50), pg_temp.lead(g, 2300 + j),
	'enrolled'
FROM generate_series(0, :groups - 1) AS g, generate_series(0, 199) AS j;

COMMIT;

VACUUM ANALYZE;
CHECKPOINT;
