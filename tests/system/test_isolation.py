"""One command that PostgreSQL cannot execute, whatever it raises, holds up nobody; a fault that meets every command answers
nobody, not even the first. Both are told apart by looking at others (worker/breaker.h), on the real servers."""

import time

import pytest

from harness import wait_until

POISON = "poison secret-4711"  # a name that no log line and no dead letter's headers may show
AT_ONCE = """
    CREATE FUNCTION guard_names() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.name LIKE 'poison%' THEN BODY END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER guard BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION guard_names()"""
AT_COMMIT = AT_ONCE.replace("CREATE TRIGGER guard BEFORE", "CREATE CONSTRAINT TRIGGER guard AFTER").replace(
    "ON campaigns", "ON campaigns DEFERRABLE INITIALLY DEFERRED")
EVERYBODY = AT_ONCE.replace("NEW.name LIKE 'poison%'", "true")
RAISE = "RAISE EXCEPTION 'no %', NEW.name USING ERRCODE = 'XXXXX';"
NO_RIGHT = """
    CREATE TABLE audit_of_names (name text);
    GRANT SELECT ON audit_of_names TO campaign_worker"""
MEND = "DROP FUNCTION IF EXISTS guard_names() CASCADE"
# Classes that no list of a command's own errors has.
CODES = ["XX000", "P0002", "21000", "44000", "42883", "42501", "0A000", "58030", "08001", "25001", "55000", "ABCDE"]


def trigger_raising(trigger, code):
    return trigger.replace("BODY", RAISE.replace("XXXXX", code))


def answered_before(world, n=3):
    sent = world.send(*[world.command() for _ in range(n)])
    world.await_results(n)
    return sent


def check_isolated(world, worker, sent, poison):
    """Exactly those places are answered with 500 and dead-lettered, and nothing of the data is shown."""
    results = world.verify(sent)
    assert {place for place in results if not results[place]["success"]} == set(poison)
    for place in poison:
        assert (results[place]["httpStatus"], results[place]["reason"]) == (500, "database_error")
    letters = world.all_dead_letters()
    assert len(letters) == len(poison)
    shown = worker.text() + "".join(repr(letter.header_list) for letter in letters)
    assert "secret-4711" not in shown
    return letters


# ---- one command's own fault ----


@pytest.mark.parametrize("trigger", [AT_ONCE, AT_COMMIT], ids=["statement", "commit"])
@pytest.mark.parametrize("code", CODES)
def test_any_sqlstate(world, code, trigger):
    world.sql(trigger_raising(trigger, code))
    names = ["good %d" % i for i in range(9)]
    names[5] = POISON
    sent = world.send(*[world.command(name=name) for name in names])
    worker = world.worker()
    (letter,) = check_isolated(world, worker, sent, [sent[5]])
    message = letter.header("kafka_dlt-exception-message")
    assert code in message and "function guard_names" in message
    (line,) = worker.events("dead_letter")
    assert code in line["msg"] and "function guard_names" in line["msg"]
    assert not worker.events("breaker_open") and not worker.events("waiting")


def test_real_errors_of_one_command(world):
    """A right that is missing in one branch only, a function that is not there, two rows where one is wanted."""
    world.sql(NO_RIGHT)
    world.sql("""
        CREATE FUNCTION guard_names() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.name = 'poison right' THEN INSERT INTO audit_of_names VALUES (NEW.name); END IF;
            IF NEW.name = 'poison function' THEN PERFORM no_such_function(NEW.name); END IF;
            IF NEW.name = 'poison rows' THEN PERFORM (SELECT * FROM generate_series(1, 2)); END IF;
            IF NEW.name = 'poison syntax secret-4711' THEN EXECUTE 'SELECT ' || NEW.name; END IF;
            IF NEW.name = 'poison none' THEN SELECT name INTO STRICT NEW.name FROM audit_of_names; END IF;
            RETURN NEW; END $$;
        CREATE TRIGGER guard BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION guard_names()""")
    codes = {"poison right": "42501", "poison function": "42883", "poison rows": "21000", "poison none": "P0002",
             "poison syntax secret-4711": "42601"}
    names = ["good %d" % i for i in range(200)]
    for i, name in enumerate(codes):
        names[40 * i] = name
    sent = world.send(*[world.command(name=name) for name in names])
    worker = world.worker()
    letters = check_isolated(world, worker, sent, [sent[40 * i] for i in range(len(codes))])
    for letter in letters:
        assert any(code in letter.header("kafka_dlt-exception-message") for code in codes.values())
    assert not worker.events("breaker_open")


def test_a_damaged_value(world):
    """XX001: a piece of one source's workflow is gone. Commands of other sources are none the worse."""
    (group,) = world.add_account_groups(1)
    world.sql("UPDATE campaigns SET workflow = (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 2000) AS n) "
              "WHERE account_group_id = %s", group)
    (toast,) = world.sql("SELECT reltoastrelid::regclass::text AS name FROM pg_class WHERE oid = 'campaigns'::regclass")
    world.sql("UPDATE pg_class SET relkind = 'r' WHERE oid = '%s'::regclass" % toast["name"])
    world.sql("DELETE FROM %s WHERE chunk_seq = 1" % toast["name"])
    world.sql("UPDATE pg_class SET relkind = 't' WHERE oid = '%s'::regclass" % toast["name"])
    commands = [world.command(**({"accountGroupId": group} if i in (3, 17) else {})) for i in range(30)]
    sent = world.send(*commands)
    worker = world.worker()
    for letter in check_isolated(world, worker, sent, [sent[3], sent[17]]):
        assert "XX001" in letter.header("kafka_dlt-exception-message")


def test_names_of_a_constraint(world):
    world.sql("ALTER TABLE campaigns ADD CONSTRAINT decent_names CHECK (name NOT LIKE 'poison%')")
    sent = world.send(world.command(), world.command(name=POISON))
    worker = world.worker()
    (letter,) = check_isolated(world, worker, sent, sent[1:])
    for text in letter.header("kafka_dlt-exception-message"), worker.events("dead_letter")[0]["msg"]:
        assert "constraint decent_names" in text and "table campaigns" in text and "schema public" in text


def test_half_of_a_batch(world):
    """More poison than the breaker lets pass in a row: it pauses, and all is answered."""
    world.sql(trigger_raising(AT_ONCE, "XX000"))
    names = [POISON if i % 40 < 20 else "good" for i in range(120)]
    sent = world.send(*[world.command(name=name) for name in names])
    worker = world.worker()
    check_isolated(world, worker, sent, [place for place, name in zip(sent, names) if name == POISON])


# ---- alone ----


def test_poison_alone_behind_good_ones(world):
    """What passed before is tried again: it passes, and the poison is answered at once."""
    worker = world.worker()
    sent = answered_before(world)
    world.sql(trigger_raising(AT_ONCE, "42501"))
    poison = world.send(world.command(name=POISON))
    world.await_results(4, 10)
    check_isolated(world, worker, sent + poison, poison)
    assert not worker.events("breaker_open") and not worker.events("waiting")


def test_poison_alone_in_a_fresh_worker(world):
    """Nobody can tell: it is answered in the end. A second one in a row is not, until somebody else passes."""
    world.sql(trigger_raising(AT_ONCE, "XX000"))
    worker = world.worker()
    first = world.send(world.command(name=POISON))
    worker.wait_for_log("waiting", sqlstate="XX000")
    assert not world.all_results()
    assert world.await_results(1, 60)[0]["httpStatus"] == 500
    second = world.send(world.command(name=POISON))
    worker.wait_for_log("breaker_open", sqlstate="XX000", count=3)
    assert len(world.all_results()) == 1
    good = world.send(world.command())
    check_isolated(world, worker, first + second + good, first + second)


def test_the_first_command_ever_in_small_batches(world):
    """A batch of one is no company: others are fetched to be looked at."""
    world.sql(trigger_raising(AT_ONCE, "42501"))
    sent = world.send(world.command(name=POISON), *[world.command() for _ in range(12)])
    worker = world.worker(args=("--batch", "1"))
    world.await_results(13, 15)
    check_isolated(world, worker, sent, sent[:1])


# ---- everybody's fault ----

FAULTS = {
    "trigger": (trigger_raising(EVERYBODY, "XX000"), MEND),
    "trigger-P0001": (EVERYBODY.replace("BODY", "RAISE EXCEPTION 'no';"), MEND),
    "commit": (trigger_raising(AT_COMMIT.replace("NEW.name LIKE 'poison%'", "true"), "23514"), MEND),
    "constraint": ("ALTER TABLE campaigns ADD CONSTRAINT nobody CHECK (trace_id IS NULL) NOT VALID",
                   "ALTER TABLE campaigns DROP CONSTRAINT nobody"),
    "right": ("REVOKE INSERT ON campaigns FROM campaign_worker", "GRANT INSERT ON campaigns TO campaign_worker"),
    "right-to-lock": ("REVOKE UPDATE ON api_key_account_groups FROM campaign_worker",
                      "GRANT UPDATE (rate_tat_us, rate_at_us) ON api_key_account_groups TO campaign_worker"),
    "table": ("ALTER TABLE audience_leads RENAME TO away", "ALTER TABLE away RENAME TO audience_leads"),
}


@pytest.mark.parametrize("wreck, mend", FAULTS.values(), ids=FAULTS)
def test_the_first_ones_are_not_answered(world, wreck, mend):
    """They come one at a time, after others were answered: none of them is blamed, and none is lost."""
    worker = world.worker()
    sent = answered_before(world)
    world.sql(wreck)
    for _ in range(8):
        sent += world.send(world.command())
        time.sleep(0.3)
    wait_until(lambda: worker.events("breaker_open") or worker.events("waiting"), 20, "it waits")
    assert len(world.all_results()) == 3 and not world.all_dead_letters()
    world.sql(mend)
    assert {result["httpStatus"] for result in world.verify(sent).values()} == {201}
    assert not world.all_dead_letters()


@pytest.mark.parametrize("fault", ["trigger", "right", "table"])
def test_the_first_one_of_a_fresh_worker(world, fault):
    """It waits for another one; when that fails too, nobody is answered, however long it lasts."""
    wreck, mend = FAULTS[fault]
    worker = None if fault == "table" else world.worker()
    if worker:
        worker.wait_for_log("running")
    world.sql(wreck)
    worker = worker or world.worker()
    sent = world.send(world.command())
    worker.wait_for_log("waiting")
    sent += world.send(world.command())
    if fault != "table":  # without which there is no session
        worker.wait_for_log("breaker_open", count=3)
    time.sleep(2)
    assert not world.all_results() and not world.all_dead_letters()
    world.sql(mend)
    assert {result["httpStatus"] for result in world.verify(sent).values()} == {201}


def test_a_statement_that_is_stale(world):
    """A column changes its type: the statement that was prepared before raises 0A000 for ever, and nobody is at fault."""
    worker = world.worker()
    sent = answered_before(world)
    world.sql("ALTER TABLE campaigns ALTER COLUMN outreach_language TYPE varchar(40)")
    sent += world.send(*[world.command() for _ in range(3)])
    assert {result["httpStatus"] for result in world.verify(sent).values()} == {201}
    assert not world.all_dead_letters()
    assert worker.alive()


# ---- commands that end their PostgreSQL process ----

BREAK_OFF = {
    "terminated": "PERFORM pg_terminate_backend(pg_backend_pid());",
    "killed": "COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID';",  # the whole server starts again
}


@pytest.mark.parametrize("how", BREAK_OFF)
def test_a_command_that_ends_its_process(world, how):
    """Again and again, until it is alone, and everything else passes on the same connection."""
    world.sql(AT_ONCE.replace("BODY", BREAK_OFF[how]))
    world.sql("ALTER FUNCTION guard_names() SECURITY DEFINER")
    world.connection.close()  # it would break, too
    names = ["good %d" % i for i in range(9)]
    names[5] = POISON
    sent = world.send(*[world.command(name=name) for name in names])
    worker = world.worker()
    world.await_results(9, 90)
    check_isolated(world, worker, sent, [sent[5]])


def test_connections_that_break_for_everybody(world):
    """However often: nobody is blamed."""
    worker = world.worker()
    sent = answered_before(world)
    world.sql(EVERYBODY.replace("BODY", "PERFORM pg_terminate_backend(pg_backend_pid());"))
    sent += world.send(*[world.command() for _ in range(5)])
    worker.wait_for_log("waiting", count=10, timeout_s=60)
    assert len(world.all_results()) == 3
    world.sql(MEND)
    assert {result["httpStatus"] for result in world.verify(sent).values()} == {201}
    assert not world.all_dead_letters()
