-- When the latest command that was charged to a grant arrived (its record's timestamp, microseconds since the epoch). A
-- command that is delivered again after a crash may be older than commands behind it that were charged already: it is judged
-- as if it had arrived with the latest of them. Judged at its own time it would look far too early, and be refused by a limit
-- that was never near.

SET LOCAL ROLE campaign_owner;

ALTER TABLE api_key_account_groups ADD COLUMN rate_at_us bigint NOT NULL DEFAULT 0;
GRANT SELECT (rate_at_us), UPDATE (rate_at_us) ON api_key_account_groups TO campaign_worker;
