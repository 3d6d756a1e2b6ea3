-- A small store for the demo and the tests: something to meet every outcome with. Run it after the migrations, with their
-- schema first in the search_path; running it again changes nothing. DEMO ONLY: the API keys below are public, never load this
-- into a database that matters.
--
-- API keys (the plain text that a caller would send; the store holds its SHA-256):
--   demo-key-full       key_full      may write, in ag_acme and 64f1a2b3c4d5e6f708192a3b; 1000 a second, burst 10000
--   demo-key-other      key_other     as key_full: another key of the same account groups
--   demo-key-readonly   key_readonly  granted ag_acme, but has no campaigns:write
--   demo-key-nogroup    key_nogroup   may write, but only in 64f1a2b3c4d5e6f708192a3b
--   demo-key-revoked    key_revoked   revoked
--   demo-key-slow       key_slow      may write in ag_acme, one a minute, burst 2
--
-- Account group ag_acme:
--   campaigns  65a000000000000000000001 (running), 65a000000000000000000002 (draft, no description),
--              65a000000000000000000003 (paused), 65a000000000000000000004 (deleted)
--   audiences  aud_list (lead_01 to lead_10), aud_second (lead_09 to lead_15), aud_folder (the two above: 15 leads),
--              aud_busy (lead_16 to lead_20; lead_18 is enrolled in the running campaign, lead_19 in the paused one),
--              aud_empty, aud_empty_folder, aud_populating, aud_populating_folder (one of its lists still populating)
-- Account group 64f1a2b3c4d5e6f708192a3b ("Beta"): campaign 65b000000000000000000001, audience aud_beta (lead_b1 to lead_b5)

BEGIN;

INSERT INTO account_groups (id, name) VALUES ('ag_acme', 'Acme Outreach'), ('64f1a2b3c4d5e6f708192a3b', 'Beta')
ON CONFLICT DO NOTHING;

INSERT INTO api_keys (key_digest, public_id, name, permissions, revoked_at) VALUES
	(sha256('demo-key-full'), 'key_full', 'full rights', '{campaigns:read,campaigns:write}', NULL),
	(sha256('demo-key-other'), 'key_other', 'full rights, another key', '{campaigns:read,campaigns:write}', NULL),
	(sha256('demo-key-readonly'), 'key_readonly', 'no write permission', '{campaigns:read}', NULL),
	(sha256('demo-key-nogroup'), 'key_nogroup', 'another account group only', '{campaigns:write}', NULL),
	(sha256('demo-key-revoked'), 'key_revoked', 'revoked', '{campaigns:read,campaigns:write}', '2026-01-01T00:00:00Z'),
	(sha256('demo-key-slow'), 'key_slow', 'a tiny rate limit', '{campaigns:write}', NULL)
ON CONFLICT DO NOTHING;

INSERT INTO api_key_account_groups (account_group_id, key_digest, rate_interval_us, rate_burst)
SELECT g.ag, k.key_digest, g.interval_us, g.burst
FROM (VALUES ('ag_acme', 'key_full', 1000, 10000), ('64f1a2b3c4d5e6f708192a3b', 'key_full', 1000, 10000),
	('ag_acme', 'key_other', 1000, 10000), ('64f1a2b3c4d5e6f708192a3b', 'key_other', 1000, 10000),
	('ag_acme', 'key_readonly', 1000, 10000), ('64f1a2b3c4d5e6f708192a3b', 'key_nogroup', 1000, 10000),
	('ag_acme', 'key_revoked', 1000, 10000), ('ag_acme', 'key_slow', 60000000, 2)) AS g (ag, public_id, interval_us, burst)
JOIN api_keys k USING (public_id)
ON CONFLICT DO NOTHING;

INSERT INTO campaigns (account_group_id, id, name, description, status, selected_lead_count, include_conversation_history,
	auto_cancel_on_message_received, outreach_language, workflow, created_at, updated_at, started_at, deleted_at) VALUES
	('ag_acme', '65a000000000000000000001', 'Spring outreach', 'First contact, then two reminders', 'running', 1, true, true,
	'en', '{"steps": [{"kind": "message", "template": "intro"}, {"kind": "wait", "days": 3}, {"kind": "message", "template": "reminder"}]}',
	'2026-02-01T08:00:00.123Z', '2026-02-03T09:30:00.456Z', '2026-02-03T09:30:00.456Z', NULL),
	('ag_acme', '65a000000000000000000002', 'Événement d''automne "été" 🍂', NULL, 'draft', 0, false, true, NULL,
	'{"steps": []}', '2026-02-02T08:00:00Z', '2026-02-02T08:00:00Z', NULL, NULL),
	('ag_acme', '65a000000000000000000003', 'Win-back', 'Paused over the holidays', 'paused', 1, true, false, 'de',
	'{"steps": [{"kind": "message", "template": "win-back"}]}',
	'2026-01-10T08:00:00Z', '2026-01-20T08:00:00Z', '2026-01-11T08:00:00Z', NULL),
	('ag_acme', '65a000000000000000000004', 'Given up', NULL, 'cancelled', 0, false, false, 'en', NULL,
	'2025-11-01T08:00:00Z', '2025-12-01T08:00:00Z', NULL, '2025-12-01T08:00:00Z'),
	('64f1a2b3c4d5e6f708192a3b', '65b000000000000000000001', 'Beta launch', 'Another tenant''s campaign', 'running', 0, true,
	true, 'en', '{"steps": [{"kind": "message", "template": "launch"}]}',
	'2026-02-01T08:00:00Z', '2026-02-01T08:00:00Z', '2026-02-01T08:00:00Z', NULL)
ON CONFLICT DO NOTHING;

INSERT INTO audiences (account_group_id, id, kind, parent_id, name, ready, lead_count) VALUES
	('ag_acme', 'aud_folder', 'folder', NULL, 'All of spring', true, 0),
	('ag_acme', 'aud_empty_folder', 'folder', NULL, 'Nothing in it', true, 0),
	('ag_acme', 'aud_populating_folder', 'folder', NULL, 'One list still imported', true, 0)
ON CONFLICT DO NOTHING;
INSERT INTO audiences (account_group_id, id, kind, parent_id, name, ready, lead_count) VALUES
	('ag_acme', 'aud_list', 'list', 'aud_folder', 'Trade fair', true, 10),
	('ag_acme', 'aud_second', 'list', 'aud_folder', 'Newsletter', true, 7),
	('ag_acme', 'aud_busy', 'list', NULL, 'Being written to', true, 5),
	('ag_acme', 'aud_empty', 'list', NULL, 'Nobody yet', true, 0),
	('ag_acme', 'aud_populating', 'list', 'aud_populating_folder', 'Being imported', false, 3),
	('ag_acme', 'aud_imported', 'list', 'aud_populating_folder', 'Imported', true, 2),
	('64f1a2b3c4d5e6f708192a3b', 'aud_beta', 'list', NULL, 'Beta testers', true, 5)
ON CONFLICT DO NOTHING;

INSERT INTO leads (account_group_id, id, name)
SELECT 'ag_acme', 'lead_' || to_char(n, 'FM00'), 'Lead ' || n FROM generate_series(1, 20) AS n
UNION ALL
SELECT '64f1a2b3c4d5e6f708192a3b', 'lead_b' || n, 'Beta lead ' || n FROM generate_series(1, 5) AS n
ON CONFLICT DO NOTHING;

INSERT INTO audience_leads (account_group_id, audience_id, lead_id)
SELECT 'ag_acme', m.audience, 'lead_' || to_char(n, 'FM00')
FROM (VALUES ('aud_list', 1, 10), ('aud_second', 9, 15), ('aud_busy', 16, 20), ('aud_populating', 1, 3), ('aud_imported', 4, 5))
	AS m (audience, first, last), generate_series(m.first, m.last) AS n
UNION ALL
SELECT '64f1a2b3c4d5e6f708192a3b', 'aud_beta', 'lead_b' || n FROM generate_series(1, 5) AS n
ON CONFLICT DO NOTHING;

INSERT INTO campaign_leads (account_group_id, campaign_id, lead_id, state) VALUES
	('ag_acme', '65a000000000000000000001', 'lead_17', 'finished'),
	('ag_acme', '65a000000000000000000001', 'lead_18', 'enrolled'),
	('ag_acme', '65a000000000000000000003', 'lead_19', 'enrolled')
ON CONFLICT DO NOTHING;

COMMIT;
