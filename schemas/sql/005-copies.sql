-- A command and its copies in one batch share an outcome. A refusal by the rate limit hangs on a record's own timestamp, so a
-- copy with another timestamp cannot have it: nothing of the batch may stand, and its copies are executed apart.

SET LOCAL ROLE campaign_owner;
SET LOCAL search_path = public, pg_temp;

CREATE FUNCTION raise_shared_limit() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
BEGIN
	RAISE EXCEPTION 'a copy with a timestamp of its own cannot share a refusal by the rate limit' USING ERRCODE = 'CD003';
END $$;

REVOKE ALL ON FUNCTION raise_shared_limit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION raise_shared_limit TO campaign_worker;
