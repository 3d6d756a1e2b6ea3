-- An append-only record of every change of what commands are judged against, and of every draft. Run once by a superuser on
-- a migrated database. It is written in the transaction of the change itself, so it holds what was committed and nothing else;
-- "at" is the moment of the statement, before its COMMIT.
--
--   change       the number of the outside change (SET LOCAL fault.change = '17'); null for what workers write
--   old, new     the row as jsonb; of campaigns without the workflow, which is large and secret
--
-- The trigger functions are SECURITY DEFINER: the workers' role has no right on fault_audit.

BEGIN;
SET LOCAL search_path = public, pg_temp;

CREATE TABLE fault_audit (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT clock_timestamp(),
	txid bigint NOT NULL DEFAULT txid_current(),
	change bigint DEFAULT nullif(current_setting('fault.change', true), '')::bigint,
	application text NOT NULL DEFAULT current_setting('application_name'),
	table_name text NOT NULL,
	op text NOT NULL,
	old jsonb,
	new jsonb
);
REVOKE ALL ON fault_audit FROM PUBLIC;

CREATE FUNCTION fault_audit_note() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
	INSERT INTO public.fault_audit (table_name, op, old, new) VALUES (TG_TABLE_NAME, TG_OP,
		CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - 'workflow' END,
		CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - 'workflow' END);
	RETURN NULL;
END $$;

CREATE FUNCTION fault_audit_refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'fault_audit is append-only, and audited tables are not truncated';
END $$;

CREATE TRIGGER fault_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fault_audit
	FOR EACH STATEMENT EXECUTE FUNCTION fault_audit_refuse();

DO $$
DECLARE
	audited text;
BEGIN
	FOREACH audited IN ARRAY ARRAY['account_groups', 'api_keys', 'campaigns', 'audiences', 'audience_leads', 'campaign_leads'] LOOP
		EXECUTE format('CREATE TRIGGER fault_audit_note AFTER INSERT OR UPDATE OR DELETE ON %I '
			'FOR EACH ROW EXECUTE FUNCTION fault_audit_note()', audited);
	END LOOP;
	FOREACH audited IN ARRAY ARRAY['account_groups', 'api_keys', 'api_key_account_groups', 'campaigns', 'audiences',
			'audience_leads', 'campaign_leads'] LOOP
		EXECUTE format('CREATE TRIGGER fault_audit_whole BEFORE TRUNCATE ON %I '
			'FOR EACH STATEMENT EXECUTE FUNCTION fault_audit_refuse()', audited);
	END LOOP;
END $$;

-- Workers move rate_tat_us and rate_at_us with every batch: that alone is no change of a grant.
CREATE TRIGGER fault_audit_note AFTER INSERT OR DELETE ON api_key_account_groups
	FOR EACH ROW EXECUTE FUNCTION fault_audit_note();
CREATE TRIGGER fault_audit_note_update AFTER UPDATE ON api_key_account_groups
	FOR EACH ROW WHEN (to_jsonb(OLD) - 'rate_tat_us' - 'rate_at_us' IS DISTINCT FROM to_jsonb(NEW) - 'rate_tat_us' - 'rate_at_us')
	EXECUTE FUNCTION fault_audit_note();

COMMIT;
