-- What makes a folder as fast as a list, however many lists it has: the lists of a lead, and the lists that an import still
-- fills. Both are partial, so that the planner cannot take them for a look-up by list, or by folder: a look-up by lead implies
-- that lead_id is not null. CREATE INDEX holds up who writes audience_leads meanwhile; where that matters, create the first one
-- before this migration, CONCURRENTLY and by this name.

SET LOCAL ROLE campaign_owner;
SET LOCAL search_path = public, pg_temp;

CREATE INDEX IF NOT EXISTS audience_leads_lead ON audience_leads (account_group_id, lead_id, audience_id) WHERE lead_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS audiences_populating ON audiences (account_group_id, parent_id, id) WHERE parent_id IS NOT NULL AND NOT ready;
