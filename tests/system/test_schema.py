"""Other people's tables in the database, and a schema of one's choice."""

import contextlib

from harness import ROOT
from test_database import statuses

SCHEMA = "Camp-aigns"
OTHERS = """
    CREATE SCHEMA "%(schema)s";
    CREATE TABLE "%(schema)s".invoices (id int); GRANT SELECT ON "%(schema)s".invoices TO PUBLIC;
    CREATE VIEW "%(schema)s".open_invoices AS SELECT id FROM "%(schema)s".invoices;
    GRANT SELECT ON "%(schema)s".open_invoices TO PUBLIC, campaign_worker;
    ALTER DATABASE %(database)s SET search_path = "%(schema)s"; -- of what checks the world
    """


def test_a_schema_beside_another_installation(world):
    """Two installations in one database, one of them in a schema that others use, too."""
    world.sql(OTHERS % {"schema": SCHEMA, "database": world.database})
    world.connection.close()
    own = {"CAMPAIGN_DATABASE_SCHEMA": SCHEMA}
    admin = {**own, "CAMPAIGN_DATABASE": world.services.postgres.conninfo(world.database)}
    assert "applied 001" in world.program("campaign-worker", "migrate", env=admin).stdout
    assert "nothing to do" in world.program("campaign-worker", "migrate", env=admin).stdout
    world.sql((ROOT / "schemas" / "sql" / "seed.sql").read_text())
    found = world.program("campaign-worker", "check", env=own, check=False).stdout
    assert "has the rights" in found and "migrations complete" in found
    worker = world.worker(env=own)
    sent = world.send(*[world.command() for _ in range(50)], world.command(campaignId="none"))
    assert statuses(world.verify(sent).values()) == {201: 50, 404: 1}
    assert worker.stop() == 0
    assert "is halted" not in world.program("campaign-worker", "check", env=own, check=False).stdout
    world.program("campaign-worker", "resume", "--partition", "0", "--from", "earliest", env=own)
    assert world.sql("SELECT count(*) AS n FROM partition_resumes")[0]["n"] == 1
    assert world.sql("SELECT (SELECT count(*) FROM public.partition_owner) AS owned, (SELECT count(*) FROM public.partition_resumes) "
                     "AS resumed, (SELECT count(*) FROM public.campaigns WHERE trace_id IS NOT NULL) AS drafts") == [
                         {"owned": 0, "resumed": 0, "drafts": 0}]
    with contextlib.closing(world.services.postgres.connect(world.database, world.services.LOGIN)) as theirs:
        with theirs.cursor() as cursor:
            cursor.execute('SELECT count(*) FROM "%s".invoices' % SCHEMA)
            cursor.execute('SELECT count(*) FROM "%s".open_invoices' % SCHEMA)


def test_schema_that_is_not_there(world):
    worker = world.worker(env={"CAMPAIGN_DATABASE_SCHEMA": "elsewhere"})
    assert worker.wait() != 0
    assert "database-schema" in worker.events("fatal")[0]["msg"]
    found = world.program("campaign-worker", "check", env={"CAMPAIGN_DATABASE_SCHEMA": "elsewhere"}, check=False)
    assert found.returncode == 1 and "database-schema" in found.stdout
