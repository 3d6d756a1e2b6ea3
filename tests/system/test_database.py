"""PostgreSQL at its worst: away, cut off in the middle of a COMMIT, broken for everybody, broken for one command, locked by
others, changed by others. What the worker promises is checked on the whole history each time (World.verify).

Longer than 600 lines: the tests share a server that they break, and each other's ways to break it."""

import collections
import contextlib
import copy
import os
import random
import signal
import socket
import subprocess
import threading
import time

import psycopg2
import pytest

import control
from harness import SEED, Postgres, Reader, Result, wait_until

SHORT_SESSION = ("-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=500", "-X", "max.poll.interval.ms=3000")
NO_CAMPAIGN = "65affffffffffffffffffff0"


# ---- tools ----


@pytest.fixture(scope="module")
def own_services(services):
    """The same Kafka beside a PostgreSQL of this module's own, which may be stopped and reconfigured."""
    own = copy.copy(services)
    own.postgres = Postgres(services.folder / "postgres-own")
    try:
        own.postgres.start()
        own.make_template()
        yield own
    finally:
        own.postgres.remove()


@pytest.fixture
def own_world(own_services, make_world):
    world = own_services.world()
    make_world.worlds.append(world)
    try:
        yield world
    finally:
        own_services.postgres.start()
        for name in "synchronous_standby_names", "default_transaction_read_only":
            configure(world, name, None)
        world.close()


def configure(world, name, value):
    """Sets a parameter of the server for all of its sessions at once; None: back to its default."""
    connection = world.services.postgres.connect()
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off; SET synchronous_commit = local")
        cursor.execute("ALTER SYSTEM RESET " + name if value is None else "ALTER SYSTEM SET %s = '%s'" % (name, value))
        cursor.execute("SELECT pg_reload_conf()")


def stop_server(world, mode="fast"):
    if world.connection is not None:
        world.connection.close()
    world.services.postgres.stop(mode)


def backends(world, condition="true"):
    """The processes that serve the worker."""
    return [row["pid"] for row in world.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'campaign-worker%' AND "
        + condition)]


def terminate_backends(world):
    for pid in backends(world):
        world.sql("SELECT pg_terminate_backend(%s)", pid)
    wait_until(lambda: not backends(world), 10, "the worker's sessions are gone")


def generation(world):
    """The group's generation as the coordinator last wrote it down."""
    newest = None
    reader = Reader(world.brokers, "__consumer_offsets")
    with contextlib.closing(reader):
        for record in reader.to_end():
            if record.value and record.key == b"\0\2" + len(world.group).to_bytes(2, "big") + world.group.encode():
                at = 4 + int.from_bytes(record.value[2:4], "big")  # behind a version and the protocol's type
                newest = int.from_bytes(record.value[at:at + 4], "big")
    return newest


def add_groups(world, count):
    """Account groups ag_0 ... with what SEED names, so that commands spread over the partitions."""
    world.sql("""
        INSERT INTO account_groups (id, name) SELECT 'ag_' || i, 'Group ' || i FROM generate_series(0, %(n)s - 1) AS i;
        INSERT INTO api_key_account_groups (account_group_id, key_digest, rate_interval_us, rate_burst)
            SELECT 'ag_' || i, key_digest, 1000, 10000 FROM generate_series(0, %(n)s - 1) AS i, api_keys WHERE public_id = 'key_full';
        INSERT INTO campaigns (account_group_id, id, name, status, workflow)
            SELECT 'ag_' || i, %(campaign)s, 'Spring', 'running', '{}' FROM generate_series(0, %(n)s - 1) AS i;
        INSERT INTO audiences (account_group_id, id, kind, name) SELECT 'ag_' || i, %(audience)s, 'list', 'Fair'
            FROM generate_series(0, %(n)s - 1) AS i;
        INSERT INTO leads (account_group_id, id) SELECT 'ag_' || i, 'lead_01' FROM generate_series(0, %(n)s - 1) AS i;
        INSERT INTO audience_leads SELECT 'ag_' || i, %(audience)s, 'lead_01' FROM generate_series(0, %(n)s - 1) AS i;
        """ % {"n": count, "campaign": "'%s'" % SEED["campaignId"], "audience": "'%s'" % SEED["audienceId"]})
    return ["ag_%d" % i for i in range(count)]


def statuses(results):
    return dict(collections.Counter(result["httpStatus"] for result in results))


def deadlocks(world):
    return world.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0]["deadlocks"]


# ---- PostgreSQL is away ----


def test_away_for_longer_than_max_poll_interval(own_world):
    world = own_world
    world.sql("UPDATE api_key_account_groups SET rate_interval_us = 100000, rate_burst = 2 "
              "WHERE key_digest = sha256('demo-key-slow')")
    worker = world.worker(args=SHORT_SESSION)
    reader = world.reader()
    sent = world.send(*[world.command() for _ in range(10)])
    reader.wait(10, 30)
    before = generation(world)
    sent += world.send(*[world.command() for _ in range(600)])  # under load: a batch is in hand
    with control.beside(world) as beside:
        stop_server(world)
        down_at = time.monotonic()
        while time.monotonic() - down_at < 5:
            sent += world.send(world.command(apiKeyDigest="demo-key-slow"))  # as fast as that key may for ever, and no faster
            time.sleep(0.1)
        known = len(world.all_results())
        assert worker.wait_for_log("waiting") and not worker.events("revoked")
        world.services.postgres.start()
        reader.wait(known + 1, 30)
        back = world.sql("SELECT extract(epoch FROM pg_postmaster_start_time())::float8 AS at")[0]["at"]
        back_s = time.time() - beside.through(back)
    assert back_s < 5, "%g s from when the control came through to the first result" % back_s
    assert statuses(world.verify(sent).values()) == {201: len(sent)}  # and no 429
    assert not worker.events("revoked") and len(worker.events("assigned")) == 1
    assert generation(world) == before


def test_hangs_for_longer_than_max_poll_interval(world):
    """A server that does not answer and does not hang up: nothing can be done but to wait, and to stay in the group."""
    worker = world.worker(args=SHORT_SESSION)
    sent = world.send(*[world.command() for _ in range(5)])
    world.await_results(5)
    (pid,) = backends(world)
    os.kill(pid, signal.SIGSTOP)
    try:
        sent += world.send(*[world.command() for _ in range(50)])
        time.sleep(4.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert statuses(world.verify(sent).values()) == {201: 55}
    assert not worker.events("revoked") and len(worker.events("assigned")) == 1


def test_rebalance_while_away(own_world):
    world = own_world
    groups = add_groups(world, 16)
    one = world.worker(args=SHORT_SESSION)
    sent = world.send(*[world.command(accountGroupId=group) for group in groups])
    world.await_results(16)
    stop_server(world)
    sent += world.send(*[world.command(accountGroupId=group) for group in groups * 5])
    two = world.worker("two", args=SHORT_SESSION)
    two.wait_for_log("waiting")
    time.sleep(1)
    world.services.postgres.start()
    one.wait_for_log("assigned", partitions=2)
    two.wait_for_log("assigned", partitions=2)
    one.wait_for_log("running", running=2)
    two.wait_for_log("running", running=2)
    assert statuses(world.verify(sent).values()) == {201: len(sent)}
    assert one.stop() == 0 and two.stop() == 0


@pytest.mark.parametrize("step", ["fence-after", "commit-before", "commit-sent"])
def test_immediate_stop_in_mid_batch(own_world, step):
    world = own_world
    worker = world.worker(fail=step + ":stop:2")  # the second batch
    sent = world.send(*[world.command() for _ in range(5)])
    world.await_results(5)
    sent += world.send(*[world.command() for _ in range(100)])
    wait_until(worker.frozen, 10, "the worker stands at " + step)
    stop_server(world, "immediate")
    worker.thaw()
    worker.wait_for_log("waiting")
    world.services.postgres.start()
    assert statuses(world.verify(sent).values()) == {201: 105}


STEPS = ["begin", "fence-after", "statement-after", "commit-before", "commit-sent", "commit-after", "claim-before", "claim-after"]


def test_backend_terminated_at_each_step(world):
    """At every step of a batch and of a takeover (not the first, at the start): one session after the other is killed."""
    worker = world.worker(fail=",".join(step + (":stop:2" if step.startswith("claim") else ":stop") for step in STEPS))
    sent = world.send(*[world.command() for _ in range(20)])
    for met in range(len(STEPS)):
        wait_until(worker.frozen, 20, "the worker stands at its next step, after %d" % met)
        terminate_backends(world)
        worker.thaw()
        wait_until(lambda: not worker.frozen() or len(worker.points_path.read_text().splitlines()) > met + 1, 5, "it goes on")
    assert sorted(line.split()[0] for line in worker.points_path.read_text().splitlines()) == sorted(STEPS)
    assert statuses(world.verify(sent).values()) == {201: 20}


# ---- COMMITs of which nobody knows ----


@pytest.mark.parametrize("end", ["succeeds", "cancelled", "terminated"])
def test_commit_that_hangs_in_synchronous_replication(own_world, end):
    world = own_world
    worker = world.worker()
    sent = world.send(world.command())
    world.await_results(1)
    configure(world, "synchronous_standby_names", "ghost")
    sent += world.send(*[world.command() for _ in range(20)])
    (pid,) = wait_until(lambda: backends(world, "wait_event = 'SyncRep'"), 20, "a COMMIT that waits for the standby")
    if end != "succeeds":
        world.sql("SET synchronous_commit = local")
        world.sql("SELECT pg_%s_backend(%%s)" % ("cancel" if end == "cancelled" else "terminate"), pid)
        worker.wait_for_log("commit_in_doubt")
        written = len(world.drafts()) - 1  # by the batch that hung
        assert written > 0
    assert len(world.all_results()) == 1
    configure(world, "synchronous_standby_names", None)
    results = world.verify(sent).values()
    assert statuses(results) == {201: 21}
    assert sum(result["draftExisted"] for result in results) == (0 if end == "succeeds" else written)


class OneWay:
    """A TCP server before PostgreSQL's socket that can keep the server's answers to itself."""

    def __init__(self, postgres):
        self.path = "%s/.s.PGSQL.%d" % (postgres.host, postgres.port)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.silent = threading.Event()
        self.pairs = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                backend = socket.socket(socket.AF_UNIX)
                backend.connect(self.path)
                self.pairs.append((client, backend))
                for pair, mute in ((client, backend), None), ((backend, client), self.silent):
                    threading.Thread(target=self.forward, args=(*pair, mute), daemon=True).start()

    def forward(self, source, target, mute):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if mute is None or not mute.is_set():
                    target.sendall(data)
        for end in source, target:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """Ends all connections; those to come are whole again."""
        pairs, self.pairs = self.pairs, []
        self.silent.clear()
        for client, backend in pairs:
            for end in client, backend:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.server.close()
        self.cut()


def test_answer_to_commit_lost_on_the_way(world):
    proxy = OneWay(world.services.postgres)
    world.closers.append(proxy.close)
    database = "host=127.0.0.1 port=%d user=%s dbname=%s" % (proxy.port, world.services.LOGIN, world.database)
    worker = world.worker(database=database, fail="commit-before:stop:2")
    sent = world.send(world.command())
    world.await_results(1)
    sent += world.send(*[world.command() for _ in range(30)])
    wait_until(worker.frozen, 10, "the worker stands before its COMMIT")
    proxy.silent.set()
    worker.thaw()
    wait_until(lambda: len(world.drafts()) > 1, 10, "the COMMIT has arrived")
    assert len(world.all_results()) == 1
    written = len(world.drafts()) - 1
    proxy.cut()
    worker.wait_for_log("commit_in_doubt")
    results = world.verify(sent).values()
    assert statuses(results) == {201: 31}
    assert sum(result["draftExisted"] for result in results) == written


# ---- the system's faults ----

RAISE = """
    CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER broken BEFORE INSERT ON campaigns FOR EACH STATEMENT EXECUTE FUNCTION broken()"""
FAULTS = [
    ("42P01", "ALTER TABLE campaigns RENAME TO campaigns_away", "ALTER TABLE campaigns_away RENAME TO campaigns"),
    ("42501", "REVOKE INSERT ON campaigns FROM campaign_worker", "GRANT INSERT ON campaigns TO campaign_worker"),
    ("42703", "ALTER TABLE audiences RENAME COLUMN ready TO done", "ALTER TABLE audiences RENAME COLUMN done TO ready"),
    ("53100", RAISE, "DROP FUNCTION broken() CASCADE"),
]


def send_steadily(world, seconds):
    """Ten commands a tenth of a second."""
    sent, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        sent += world.send(*[world.command() for _ in range(10)])
        time.sleep(0.1)
    return sent


@pytest.mark.parametrize("sqlstate, wreck, mend", FAULTS, ids=[fault[0] for fault in FAULTS])
def test_fault_of_the_system_answers_nothing(world, sqlstate, wreck, mend):
    worker = world.worker()
    reader = world.reader()
    sent = send_steadily(world, 0.3)
    reader.wait(len(sent), 30)
    world.sql(wreck)
    before = len(sent)
    sent += send_steadily(world, 0.3)
    worker.wait_for_log(None, sqlstate=sqlstate, level="error")
    assert len(world.all_results()) == before
    world.sql(mend)
    assert statuses(world.verify(sent).values()) == {201: len(sent)}
    assert not world.all_dead_letters()


def test_too_many_connections(world):
    worker = world.worker()
    sent = send_steadily(world, 0.3)
    world.sql("ALTER DATABASE %s CONNECTION LIMIT 0" % world.database)
    terminate_backends(world)
    sent += send_steadily(world, 0.3)
    wait_until(lambda: any("too many connections" in line["msg"] for line in worker.events("waiting")), 20, "it says so")
    world.sql("ALTER DATABASE %s CONNECTION LIMIT -1" % world.database)
    assert statuses(world.verify(sent).values()) == {201: len(sent)}
    assert not worker.events("revoked")


def test_read_only(own_world):
    world = own_world
    worker = world.worker()
    sent = send_steadily(world, 0.3)
    configure(world, "default_transaction_read_only", "on")
    sent += send_steadily(world, 0.3)
    worker.wait_for_log("waiting", sqlstate="25006")
    wait_until(lambda: any("read-only" in line["msg"] for line in worker.events("waiting")), 10, "no new session either")
    configure(world, "default_transaction_read_only", None)
    assert statuses(world.verify(sent).values()) == {201: len(sent)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_disk_full(world):
    folder = world.folder / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "tmpfs", str(folder)], stderr=subprocess.PIPE)
    if mounted.returncode != 0:
        pytest.skip("no small disk can be mounted here")
    space = "space_" + world.name
    try:
        (folder / "data").mkdir()
        (server,) = world.sql("SELECT pg_backend_pid() AS pid")
        os.chown(folder / "data", os.stat("/proc/%d" % server["pid"]).st_uid, -1)
        world.sql("CREATE TABLESPACE %s LOCATION '%s'" % (space, folder / "data"))
        world.sql("ALTER TABLE campaigns SET TABLESPACE " + space)
        worker = world.worker()
        reader = world.reader()
        sent = send_steadily(world, 0.3)
        reader.wait(len(sent), 20)
        fill = folder / "fill"
        with contextlib.suppress(OSError), open(fill, "wb", buffering=0) as full:
            while True:
                full.write(bytes(4096))
        sent += world.send(*[world.command(name="x" * 250) for _ in range(500)])
        worker.wait_for_log("waiting", sqlstate="53100")
        fill.unlink()
        assert statuses(world.verify(sent).values()) == {201: len(sent)}
    finally:
        world.close()
        with contextlib.suppress(psycopg2.Error):
            world.services.postgres.execute("DROP TABLESPACE IF EXISTS " + space)
        subprocess.run(["umount", "-l", str(folder)])


# ---- poison ----

POISON = """
    ALTER TABLE campaigns ADD CONSTRAINT no_poison CHECK (name <> 'poison check');
    CREATE FUNCTION no_poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.name = 'poison raise' THEN RAISE EXCEPTION 'no'; END IF;
        IF NEW.name = 'poison zero' THEN PERFORM 1 / (length(NEW.name) - 11); END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER no_poison BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION no_poison();
    CREATE FUNCTION no_late_poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.name = 'poison late' THEN RAISE EXCEPTION 'late' USING ERRCODE = 'check_violation'; END IF;
        RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER no_late_poison AFTER INSERT ON campaigns DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION no_late_poison()"""
POISONS = {"poison check": "23514", "poison raise": "P0001", "poison zero": "22012", "poison late": "23514"}


def test_poison_is_answered_alone(world):
    world.sql(POISON)
    names = ["good %d" % i for i in range(500)]
    scattered = {0: "poison check", 63: "poison raise", 64: "poison late", 250: "poison zero", 499: "poison check"}
    for place, name in scattered.items():
        names[place] = name
    sent = world.send(*[world.command(name=name) for name in names])
    worker = world.worker()
    results = world.verify(sent)
    for place, name in zip(sent, names):
        result = results[place]
        if name not in POISONS:
            assert result["httpStatus"] == 201 and result["data"]["name"] == name
            continue
        assert (result["httpStatus"], result.code, result["reason"]) == (500, "INTERNAL_ERROR", "database_error")
        assert POISONS[name] in result["error"]["details"]
    letters = world.all_dead_letters()
    assert len(letters) == 5 and {letter.header("campaign-dlt-answered") for letter in letters} == {"INTERNAL_ERROR"}
    assert not worker.events("breaker_open") and not worker.events("waiting")
    assert "poison check" not in worker.text() and "good 1" not in worker.text()


BREAK_CHECK = ("ALTER TABLE campaigns ADD CONSTRAINT nobody CHECK (trace_id IS NULL) NOT VALID",
               "ALTER TABLE campaigns DROP CONSTRAINT nobody")
BREAK_LATE = ("""
    CREATE FUNCTION nobody() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'nobody' USING ERRCODE = 'check_violation'; END $$;
    CREATE CONSTRAINT TRIGGER nobody AFTER INSERT ON campaigns DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION nobody()""", "DROP FUNCTION nobody() CASCADE")


@pytest.mark.parametrize(
    "batch, fault", [(500, BREAK_CHECK), (1, BREAK_CHECK), (500, BREAK_LATE)], ids=["batch", "single", "late"])
def test_breaker(world, batch, fault):
    """Commands that the rules refuse lie between those that fail: they do not show that the database takes commands."""
    worker = world.worker(args=["--batch", str(batch), "--breaker", "4"])
    sent = world.send(*[world.command() for _ in range(5)])
    world.await_results(5)
    world.sql(fault[0])
    sent += world.send(*[world.command(campaignId=NO_CAMPAIGN if i % 2 else SEED["campaignId"]) for i in range(30)])
    worker.wait_for_log("breaker_open", count=3)
    while_open = statuses(world.all_results())
    assert 500 not in while_open and while_open[201] == 5
    world.sql(fault[1])
    worker.wait_for_log("breaker_closed")
    assert statuses(world.verify(sent).values()) == {201: 20, 404: 15}
    assert not world.all_dead_letters()


@pytest.mark.parametrize("batch_ms, least, most", [(10, 12, 400), (60000, 4, 9)], ids=["ten-milliseconds", "a-minute"])
def test_a_batch_is_bounded_by_time(world, batch_ms, least, most):
    """Batches shrink to what PostgreSQL does in that time; without need they are full."""
    (group,) = world.add_account_groups(1)
    world.sql("""
        CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
        CREATE TRIGGER dawdle BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION dawdle()""")
    sent = world.send(*[world.command(accountGroupId=group) for _ in range(400)])
    world.worker(args=["--batch", "100", "--batch-ms", str(batch_ms)])
    assert all(answer["success"] for answer in world.verify(sent).values())
    (row,) = world.sql("SELECT count(DISTINCT xmin::text) AS transactions FROM campaigns WHERE trace_id IS NOT NULL")
    assert least <= row["transactions"] <= most


def test_breaker_answers_what_needs_no_write(world):
    """A batch in which nothing would be written is answered while the breaker is open."""
    worker = world.worker(args=["--breaker", "1", "--batch", "10"])
    world.sql(BREAK_CHECK[0])
    sent = world.send(world.command())
    worker.wait_for_log("breaker_open", count=2)
    world.sql("DELETE FROM campaigns WHERE id = %s AND account_group_id = 'ag_acme'", SEED["campaignId"])
    (result,) = world.verify(sent).values()
    assert result["reason"] == "campaign_not_found"
    assert not worker.events("breaker_closed")


def test_run_of_poison_ends_at_the_first_good_command(world):
    world.sql(POISON)
    poison = [world.command(name="poison check") for _ in range(5)]
    sent = world.send(*poison, *[world.command() for _ in range(40)])
    worker = world.worker(args=["--breaker", "3"])
    worker.wait_for_log("breaker_closed", timeout_s=40)
    results = world.verify(sent)
    assert [results[place]["httpStatus"] for place in sent] == [500] * 5 + [201] * 40


# ---- locks of others ----

QUICK_LOCKS = ("--lock-timeout-ms", "50")


@pytest.mark.parametrize("blocked", [{7, 30}, set(range(20, 27))], ids=["scattered", "run"])
def test_locked_grant(world, blocked):
    """Exactly the commands that need the locked row are given up, and stay so after it is free. The breaker stays closed, however
    many of them there are in a row: others pass."""
    holder = world.session()
    holder.cursor().execute("SELECT FROM api_key_account_groups WHERE account_group_id = 'ag_acme' "
                            "AND key_digest = sha256('demo-key-other') FOR UPDATE")
    keys = ["demo-key-other" if i in blocked else "demo-key-full" for i in range(60)]
    sent = world.send(*[world.command(apiKeyDigest=key) for key in keys])
    worker = world.worker(args=QUICK_LOCKS)
    world.await_results(60)
    holder.rollback()
    results = world.verify(sent)
    assert {i for i, place in enumerate(sent) if results[place]["httpStatus"] != 201} == blocked
    for i in blocked:
        result = results[sent[i]]
        assert (result["httpStatus"], result["reason"], result["retryable"]) == (502, "rows_locked", True)
    assert not worker.events("breaker_open")


def test_statement_that_takes_too_long(world):
    """The batch is split until it is alone, and nobody says that it was a lock of somebody else's."""
    holder = world.session()
    holder.cursor().execute("SELECT FROM api_key_account_groups WHERE account_group_id = 'ag_acme' "
                            "AND key_digest = sha256('demo-key-other') FOR UPDATE")
    sent = world.send(*[world.command(apiKeyDigest="demo-key-other" if i == 7 else "demo-key-full") for i in range(20)])
    worker = world.worker(args=("--lock-timeout-ms", "20000", "--statement-timeout-ms", "300"))
    world.await_results(20)
    holder.rollback()
    results = world.verify(sent)
    assert [i for i, place in enumerate(sent) if results[place]["httpStatus"] != 201] == [7]
    assert results[sent[7]]["reason"] == "rows_locked"
    assert results[sent[7]]["error"]["details"] == "the command could not be judged or written in time; nothing was written"
    splits = worker.events("batch_split")
    assert splits and {event["sqlstate"] for event in splits} == {"57014"}


def test_locked_grant_of_a_command_that_has_its_draft(world):
    """Delivered again, it is answered with its draft, whoever holds its key's rate limit: 502 would say that nothing was written."""
    sent = world.send(world.command(), world.command())
    worker = world.worker(args=QUICK_LOCKS, fail="commit-after:kill")
    worker.wait()
    holder = world.session()
    holder.cursor().execute("SELECT FROM api_key_account_groups FOR UPDATE")
    late = world.send(world.command())
    worker.fail = None
    worker.start()
    world.await_results(3)
    holder.rollback()
    results = world.verify(sent + late)
    assert [(results[place]["success"], results[place]["draftExisted"]) for place in sent] == [(True, True)] * 2
    assert results[late[0]]["reason"] == "rows_locked"


def test_locked_table_when_a_command_comes_again(world):
    """Whether its draft is there cannot be seen: then it is not refused either."""
    groups = add_groups(world, 16)
    one = world.worker(args=(*SHORT_SESSION, *QUICK_LOCKS), fail="commit-after:kill")
    two = world.worker("two", args=(*SHORT_SESSION, *QUICK_LOCKS))
    one.wait_for_log("running", running=2)
    two.wait_for_log("running", running=2)
    sent = world.send(*[world.command(accountGroupId=group) for group in groups])
    one.wait()
    world.await_results(1)
    holder = world.session()
    holder.cursor().execute("LOCK TABLE campaigns IN ACCESS EXCLUSIVE MODE")
    two.wait_for_log("assigned", partitions=4)
    two.wait_for_log("waiting", sqlstate="55P03")
    holder.rollback()
    results = world.verify(sent)
    assert statuses(results.values()) == {201: len(sent)}
    assert any(result["draftExisted"] for result in results.values())


def test_rate_limit_of_commands_delivered_again(world):
    """What was charged behind a command, before a crash, does not make it look too early when it is delivered again."""
    world.sql("UPDATE api_key_account_groups SET rate_interval_us = 1, rate_burst = 100000")  # never near
    world.sql("UPDATE audiences SET ready = false WHERE id = 'aud_second'")
    sent = world.send(world.command(audienceId="aud_second"))
    time.sleep(0.3)  # longer than the burst lasts
    sent += world.send(world.command())
    worker = world.worker(fail="commit-after:kill")
    worker.wait()
    worker.fail = None
    worker.start()
    results = world.verify(sent)
    assert [results[place]["reason"] for place in sent] == ["audience_populating", None]
    assert results[sent[1]]["draftExisted"]


def insert_draft(session, command, digest=bytes(32)):
    session.cursor().execute(
        "INSERT INTO campaigns (account_group_id, id, name, status, trace_id, command_digest) "
        "VALUES (%s, %s, 'theirs', 'draft', %s, %s)",
        (command["accountGroupId"], "their" + command["traceId"][:19], command["traceId"], digest))


def test_uncommitted_draft_of_the_same_trace(world):
    holder = world.session()
    commands = [world.command() for _ in range(40)]
    insert_draft(holder, commands[17])
    sent = world.send(*commands)
    world.worker(args=QUICK_LOCKS)
    world.await_results(40)
    holder.rollback()
    results = world.verify(sent)
    assert [i for i, place in enumerate(sent) if results[place]["httpStatus"] != 201] == [17]
    assert results[sent[17]]["reason"] == "rows_locked"
    # One that is committed while it is waited for: the command is judged again, and finds it.
    late = world.command()
    insert_draft(holder, late)
    world.send(late)
    wait_until(lambda: backends(world, "wait_event_type = 'Lock'"), 10, "the worker waits for the other session")
    holder.commit()
    assert world.await_results(41)[-1]["reason"] == "trace_reused"


def test_deadlock_with_another_session(world):
    world.sql("ALTER DATABASE %s SET deadlock_timeout = '100ms'" % world.database)
    command, holder = world.command(), world.session()
    holder.cursor().execute("SET deadlock_timeout = '30s'")  # the worker is the one that is sacrificed
    holder.commit()
    insert_draft(holder, command)
    worker = world.worker()
    sent = world.send(command, *[world.command() for _ in range(10)])
    wait_until(lambda: backends(world, "wait_event_type = 'Lock'"), 10, "the worker waits for the other session")
    holder.cursor().execute("UPDATE api_key_account_groups SET rate_burst = rate_burst WHERE account_group_id = 'ag_acme'")
    holder.rollback()
    assert statuses(world.verify(sent).values()) == {201: 11}
    wait_until(lambda: deadlocks(world) > 0, 5, "there was a deadlock")
    assert not worker.events("waiting")


def test_locked_partition_row(world):
    """Nothing can be known without the fence: the worker waits, for as long as it takes."""
    worker = world.worker(args=QUICK_LOCKS)
    sent = world.send(world.command())
    world.await_results(1)
    holder = world.session()
    holder.cursor().execute("SELECT FROM partition_owner FOR UPDATE")
    sent += world.send(*[world.command() for _ in range(30)])
    worker.wait_for_log(None, count=3, sqlstate="55P03")
    assert len(world.all_results()) == 1
    holder.rollback()
    assert statuses(world.verify(sent).values()) == {201: 31}


# ---- a world that changes all the time ----


class Flipper(threading.Thread):
    """Makes one condition of the rules true and false again, and remembers when it may have been which."""

    def __init__(self, world, reason, wreck, mend):
        super().__init__(daemon=True)
        self.session = world.session()
        self.session.autocommit = True
        self.reason, self.statements = reason, {True: mend, False: wreck}
        self.ending = threading.Event()
        self.changes = [(0, 0, True)]  # ms from which on, ms by which, it was good (or not)
        self.error = None

    def run(self):
        try:
            good = True
            while not (self.ending.is_set() and good):
                self.ending.wait(random.uniform(0.03, 0.15) if good else random.uniform(0.005, 0.02))
                good = not good
                self.flip(good)
        except psycopg2.Error as error:
            self.error = error

    def flip(self, good):
        before = time.time() * 1000
        while True:
            try:
                self.session.cursor().execute(self.statements[good])
                break
            except psycopg2.errors.DeadlockDetected:
                pass
        self.changes.append((before, time.time() * 1000, good))

    def may_have_been(self, good, from_ms, to_ms):
        """Whether it may have been so at some moment between these, both included."""
        ends = [change[1] for change in self.changes[1:]] + [float("inf")]
        return any(state is good and start <= to_ms + 1 and end >= from_ms - 1
                   for (start, _, state), end in zip(self.changes, ends))


CONDITIONS = [
    ("key_revoked", "UPDATE api_keys SET revoked_at = now() WHERE public_id = 'key_full'",
     "UPDATE api_keys SET revoked_at = NULL WHERE public_id = 'key_full'"),
    ("permission_missing", "UPDATE api_keys SET permissions = '{campaigns:read}' WHERE public_id = 'key_full'",
     "UPDATE api_keys SET permissions = '{campaigns:write}' WHERE public_id = 'key_full'"),
    ("account_group_denied", "DELETE FROM api_key_account_groups WHERE account_group_id LIKE 'ag__'",
     "INSERT INTO api_key_account_groups (account_group_id, key_digest, rate_interval_us, rate_burst) "
     "SELECT id, sha256('demo-key-full'), 1000, 10000 FROM account_groups WHERE id LIKE 'ag__'"),
    ("campaign_not_found", "UPDATE campaigns SET deleted_at = now() WHERE trace_id IS NULL AND name = 'Spring'",
     "UPDATE campaigns SET deleted_at = NULL WHERE trace_id IS NULL AND name = 'Spring'"),
    ("audience_populating", "UPDATE audiences SET ready = false WHERE name = 'Fair'",
     "UPDATE audiences SET ready = true WHERE name = 'Fair'"),
    ("lead_active", "INSERT INTO campaign_leads (account_group_id, campaign_id, lead_id, state) "
     "SELECT account_group_id, id, 'lead_01', 'enrolled' FROM campaigns WHERE trace_id IS NULL AND name = 'Spring'",
     "DELETE FROM campaign_leads WHERE account_group_id LIKE 'ag__'"),
]


def test_others_change_everything_all_the_time(world):
    groups = add_groups(world, 8)
    flippers = [Flipper(world, *condition) for condition in CONDITIONS]
    workers = [world.worker(name) for name in ("one", "two")]
    for worker in workers:
        worker.wait_for_log("running", running=2)
    for flipper in flippers:
        flipper.start()
    sent = []
    for _ in range(60):
        sent += world.send(*[world.command(accountGroupId=random.choice(groups)) for _ in range(25)])
        time.sleep(0.03)
    results = world.verify(sent)
    for flipper in flippers:
        flipper.ending.set()
    for flipper in flippers:
        flipper.join()
        assert flipper.error is None, flipper.error
    by_reason = collections.Counter(result["reason"] for result in results.values())
    assert set(by_reason) == {None} | {flipper.reason for flipper in flippers}, by_reason
    for result in results.values():
        window = result["command"]["timestamp"], result["processedAt"]
        for flipper in flippers:
            if result["success"]:
                assert flipper.may_have_been(True, *window), "%s, and it was never so: %s" % (flipper.reason, result)
            elif result["reason"] == flipper.reason:
                assert flipper.may_have_been(False, *window), "it was never so: %s" % result
    for worker in workers:
        assert not worker.events("waiting") and worker.stop() == 0
