"""Every fault of nemesis.py once, on the real ground, under a worker with a light load: it must have happened, be healed, and
leave a worker that answers; and all its answers must be right in the end. Prints what each took.

    /usr/bin/python3 -m pytest tests/fault/test_ground.py

Wants build/test/ (make VARIANT=test all, and the proxy). Two minutes; not among the tests that every change runs.
"""

import contextlib
import os
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

import confluent_kafka
import confluent_kafka.admin
import psycopg2
import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

from avrocodec import command_codec  # noqa: E402
import harness  # noqa: E402
import nemesis  # noqa: E402
from ground import Ground  # noqa: E402

LOAD_PAUSE_S = 0.1
WORKER_ARGS = (
    "-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=300", "-X", "transaction.timeout.ms=5000",
    "-X", "topic.metadata.refresh.interval.ms=2000", "--lock-timeout-ms", "1000",
)


class World(harness.World):
    """A cell's, with its workers behind the proxy."""

    def create_topics(self):
        settings = {"commands": {"message.timestamp.type": "LogAppendTime"}}
        made = self.services.admin.create_topics([
            confluent_kafka.admin.NewTopic(getattr(self, kind), partitions, 3, config=settings.get(kind, {}))
            for kind, partitions in (("commands", self.partitions), ("results", 2), ("dead_letters", 1))])
        for future in made.values():
            future.result()
        self.await_leaders()

    def await_leaders(self):
        """Brokers learn of new topics one after the other, and a consumer that meets one too early does not ask again."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": "ground"})

        def known():
            with contextlib.suppress(confluent_kafka.KafkaException):
                for topic, partitions in ((self.results, 2), (self.commands, self.partitions)):
                    for partition in range(partitions):
                        consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, partition), timeout=5)
                return True

        harness.wait_until(known, 30, "leaders of the topics")
        consumer.close()

    def environment(self, instance="one"):
        return {**super().environment(instance), "CAMPAIGN_BROKERS": self.services.proxied,
                "CAMPAIGN_DATABASE": self.services.worker_conninfo(self.database)}


class Load(threading.Thread):
    """Good commands, in pairs for two account groups."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world, self.names, self.sent, self.ending = world, world.add_account_groups(8), [], threading.Event()

    def run(self):
        rng = random.Random(1)
        while not self.ending.wait(LOAD_PAUSE_S):
            self.sent += self.world.send(*(self.world.command(accountGroupId=name, name="Named %d" % rng.randrange(10))
                                           for name in rng.sample(self.names, 2)))


class Scene:
    def __init__(self, ground):
        self.ground, self.cell = ground, World(ground, "ground")
        self.results, self.answered = self.cell.reader(), set()
        self.load = Load(self.cell)
        self.worker = self.cell.worker(args=WORKER_ARGS)
        self.load.start()

    def await_answer(self):
        """A command that is sent now is answered."""
        place, = self.cell.send(self.cell.command())
        deadline = time.monotonic() + 60
        while place not in self.answered:
            assert self.worker.alive(), "the worker ended: %s" % self.worker.text()[-2000:]
            assert time.monotonic() < deadline, "no answer: %s" % self.worker.text()[-2000:]
            self.results.poll(0.2)
            self.answered.update(harness.Result(record).place for record in self.results.records)
            self.results.records.clear()

    def sessions(self):
        return nemesis.worker_sessions(self.ground, self.cell)

    def ask(self, text, *values):
        return self.ground.postgres.ask(text, values or None)

    def sql(self, text, *values):
        """In the cell's database; its own session may have met a crash."""
        return self.ground.postgres.ask(text, values or None, database=self.cell.database)

    def waits(self, event):
        """Whether a worker's session waits for that."""
        return self.ask("SELECT 1 FROM pg_stat_activity WHERE datname = %s AND %s IN (wait_event, wait_event_type) AND "
                        + nemesis.WORKERS, self.cell.database, event)

    def close(self):
        self.load.ending.set()
        if self.load.is_alive():
            self.load.join()
        self.cell.close()


@pytest.fixture(scope="module")
def scene():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="campaign-ground."))
    folder.chmod(0o755)
    ground = Ground(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(ground.stop)
        ground.start()
        scene = Scene(ground)
        stack.callback(scene.close)
        scene.await_answer()
        yield scene


def busy_s():
    """Processor time that the whole machine has used."""
    with open("/proc/stat") as file:
        user, nice, system, idle, wait, *others = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def inflict(scene, capsys):
    """Runs a fault and waits until the worker answers again."""
    def run(fault, *args, **kwargs):
        begin, busy = time.monotonic(), busy_s()
        entry = fault(scene.ground, *args, **kwargs)
        healed = time.monotonic()
        scene.await_answer()
        with capsys.disabled():
            print("\n%-20s %-40s %5.1f s, answers %4.1f s later, processors busy %.1f s" % (
                entry["what"], entry["who"], healed - begin, time.monotonic() - healed, busy_s() - busy), end="")
        assert entry["until_ms"] - entry["at_ms"] <= (healed - begin) * 1000 + 1
        return entry

    return run


def drawing(options, wanted):
    """A generator whose first choice is the wanted one."""
    return next(random.Random(n) for n in range(1000) if random.Random(n).choice(options) == wanted)


@contextlib.contextmanager
def observed(probe, what):
    """Asks probe() again and again while it lasts; once it must have been true."""
    over, seen = threading.Event(), threading.Event()

    def look():
        while not over.wait(0.01) and not seen.is_set():
            with contextlib.suppress(OSError):
                if probe():
                    seen.set()

    observer = threading.Thread(target=look, daemon=True)
    observer.start()
    try:
        yield
    finally:
        over.set()
        observer.join()
    assert seen.is_set(), "not seen: " + what


def refused(conninfo, text="SELECT 1"):
    """SQLSTATE or message of what PostgreSQL refuses; "" if it does not."""
    try:
        with contextlib.closing(psycopg2.connect(conninfo)) as session, session.cursor() as cursor:
            cursor.execute(text)
            session.commit()
    except psycopg2.Error as error:
        return error.pgcode or str(error)
    return ""


# --- brokers -------------------------------------------------------------------------------------------------------------


def node_pids(scene):
    return {node: scene.ground.kafka.pid(node) for node in range(1, scene.ground.nodes + 1)}


def changed(before, after):
    assert None not in after.values()
    return {node for node in before if before[node] != after[node]}


@pytest.mark.parametrize("fault", ["broker_crash", "broker_restart"])
def test_broker(scene, inflict, fault):
    before = node_pids(scene)
    entry = inflict(getattr(nemesis, fault), random.Random(2))
    assert changed(before, node_pids(scene)) == {int(entry["who"].split()[1])}


def test_rolling_restart(scene, inflict):
    before = node_pids(scene)
    inflict(nemesis.rolling_restart, random.Random(2))
    assert changed(before, node_pids(scene)) == {1, 2, 3}


@pytest.mark.parametrize("what", ["group", "transactional_id"])
def test_coordinator_move(scene, inflict, what):
    name = scene.cell.group if what == "group" else "%s.campaign-worker/%s/0" % (scene.cell.group, scene.cell.environment()["CAMPAIGN_INSTANCE"])
    topic = "__consumer_offsets" if what == "group" else "__transaction_state"
    before, node = node_pids(scene), nemesis.coordinator(scene.ground, topic, name)[1]
    if what == "group":
        harness.wait_until(lambda: [group.broker.id for group in scene.ground.admin.list_groups(name, timeout=20)] == [node], 20,
                           "node %d says that it coordinates %s" % (node, name), 0.2)
    inflict(nemesis.coordinator_move, random.Random(2), **{what: name})
    assert changed(before, node_pids(scene)) == {node}


# --- PostgreSQL ----------------------------------------------------------------------------------------------------------


def postmaster_start(scene):
    return scene.ask("SELECT pg_postmaster_start_time() AS at")[0]["at"]


def test_postgres_crash(scene, inflict):
    before = postmaster_start(scene)
    inflict(nemesis.postgres_crash, random.Random(2))
    assert postmaster_start(scene) != before


def test_backend_crash(scene, inflict):
    start, sessions = postmaster_start(scene), scene.sessions()
    with contextlib.closing(scene.ground.postgres.connect()) as bystander:
        inflict(nemesis.backend_crash, random.Random(2))
        with pytest.raises(psycopg2.DatabaseError):
            bystander.cursor().execute("SELECT 1")
    assert postmaster_start(scene) == start
    assert not set(sessions) & set(scene.sessions())


@pytest.mark.parametrize("end", ["released", "cancelled", "terminated"])
def test_commit_hangs(scene, inflict, end):
    sessions = scene.sessions()
    with observed(lambda: scene.waits("SyncRep"), "a worker that waits for its COMMIT"):
        inflict(nemesis.commit_hangs, drawing(["released", "cancelled", "terminated"], end))
    assert (sessions == scene.sessions()) == (end == "released")
    assert scene.ask("SHOW synchronous_standby_names")[0]["synchronous_standby_names"] == ""


@pytest.mark.parametrize("frozen", [True, False])
def test_failover(scene, inflict, frozen):
    """To the other one, and back. It sees by itself that commits wait for the standby (pair.follow)."""
    def drafts():
        return scene.sql("SELECT count(*) AS n FROM campaigns WHERE trace_id IS NOT NULL")[0]["n"]

    pair = scene.ground.postgres
    written, before, pid = drafts(), pair.primary, pair.primary.pid()
    rng = next(random.Random(n) for n in range(1000) if (random.Random(n).random() < 0.5) == frozen)  # as it is drawn there
    inflict(nemesis.failover, rng)
    assert pair.primary is not before and not os.path.exists("/proc/%d" % pid)
    assert drafts() > written
    assert not scene.ask("SELECT 1 WHERE pg_is_in_recovery()")
    assert not scene.worker.events("partition_halted")


@pytest.mark.parametrize("what", ["data", "WAL"])
def test_disk_full(scene, inflict, what):
    if not scene.ground.disk.mounted:
        pytest.skip("no file system of its own for the database")
    conninfo = scene.ground.conninfo(scene.cell.database)
    insert = "INSERT INTO ballast SELECT repeat(md5(i::text), 200) FROM generate_series(1, 2000) AS i"
    assert refused(conninfo, "CREATE TABLE ballast (text text); ALTER TABLE ballast ALTER text SET STORAGE EXTERNAL") == ""
    sessions = scene.sessions()
    with observed(lambda: refused(conninfo, insert) == "53100" if what == "data" else refused(conninfo) != "", "a full disk"):
        inflict(nemesis.disk_full, drawing(["data", "WAL"], what))
    assert what == "data" or not set(sessions) & set(scene.sessions())  # it died of it
    assert refused(conninfo, insert) == ""
    assert refused(conninfo, "DROP TABLE ballast") == ""


# --- the cell's own ------------------------------------------------------------------------------------------------------


def test_connections_refused(scene, inflict):
    conninfo = scene.ground.worker_conninfo(scene.cell.database)
    with observed(lambda: "too many connections" in refused(conninfo), "connection refused"):
        inflict(nemesis.connections_refused, scene.cell, random.Random(2))
    assert refused(conninfo) == ""


def test_read_only(scene, inflict):
    conninfo = scene.ground.worker_conninfo(scene.cell.database) + " target_session_attrs=read-write"
    with observed(lambda: "read-only" in refused(conninfo), "a session that is read-only"):
        inflict(nemesis.read_only, scene.cell, random.Random(2))
    assert refused(conninfo) == ""


def test_sessions_terminated(scene, inflict):
    before = scene.sessions()
    inflict(nemesis.sessions_terminated, scene.cell, random.Random(2))
    assert not set(before) & set(scene.sessions())


@pytest.mark.parametrize("table", ["partition_owner", "api_key_account_groups"])
def test_rows_locked(scene, inflict, table):
    options = [("partition_owner", "partition"), ("api_key_account_groups", "account_group_id, key_digest")]
    with observed(lambda: scene.waits("Lock"), "a worker that waits for a lock"):
        inflict(nemesis.rows_locked, scene.cell, drawing(options, next(option for option in options if option[0] == table)))


@pytest.mark.parametrize("table", ["partition_owner", "api_key_account_groups"])
def test_row_locked(scene, inflict, table):
    options, before = ["partition_owner", "api_key_account_groups"], len(scene.worker.events("rows_locked"))
    with observed(lambda: scene.waits("Lock") or len(scene.worker.events("rows_locked")) > before, "a worker that waits for a lock"):
        inflict(nemesis.row_locked, scene.cell, drawing(options, table))


def test_deadlock(scene, inflict):
    def deadlocks():
        return scene.ask("SELECT deadlocks FROM pg_stat_database WHERE datname = %s", scene.cell.database)[0]["deadlocks"]

    before = deadlocks()
    inflict(nemesis.deadlock, scene.cell, random.Random(2))  # would have raised, had its own session been refused
    harness.wait_until(lambda: deadlocks() > before, 10, "a deadlock in the statistics")


def test_slow_database(scene, inflict):
    pids = scene.sessions()

    def stopped():
        return any(open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[0] == "T" for pid in pids)

    with observed(stopped, "a server process that is stopped"):
        inflict(nemesis.slow_database, scene.cell, random.Random(2))
    assert not stopped()


def test_partitions_added(scene, inflict):
    before = scene.cell.partitions
    inflict(nemesis.partitions_added, scene.cell, random.Random(2))
    harness.wait_until(lambda: scene.cell.committed()[before] is not None, 20, "the new partition's offset")


def test_offsets_reset(scene, inflict):
    def reset(ground):
        assert scene.worker.stop() == 0
        entry = nemesis.offsets_reset(ground, scene.cell, random.Random(2))
        assert set(scene.cell.committed().values()) == {0}
        scene.worker.start()
        return entry

    inflict(reset)


def test_poisoned(scene, inflict):
    def raised():
        return any(worker.events("dead_letter") for worker in scene.cell.workers)

    with observed(raised, "a command that the database fails alone"):
        inflict(nemesis.poisoned, scene.cell, random.Random(2))
    assert not scene.sql("SELECT 1 FROM pg_trigger WHERE tgname = 'poison'")


def test_copies(scene):
    """Of a command, each behind the other: the generator's way (workload.Plan), which the load of this scene has not."""
    command = scene.cell.command(name="Copied")
    places = scene.cell.send(*[command] * 6)
    scene.load.sent += places
    assert [(place[0], place[1] - places[0][1]) for place in places] == [(places[0][0], n) for n in range(6)]
    reader = scene.cell.reader()

    def results():
        reader.poll(0.1)
        found = {result.place: result for result in map(harness.Result, reader.records)}
        return [found[place] for place in places] if set(places) <= set(found) else None

    told = harness.wait_until(results, 60, "answers to copies")
    assert [result["success"] for result in told] == [True] * 6 and len({result["data"]["id"] for result in told}) == 1
    assert [result["draftExisted"] for result in told] == [False] + [True] * 5


def test_stranger_commits(scene, inflict):
    def commit(ground):
        assert scene.worker.stop() == 0
        executed = {row["partition"]: row["executed_offset"] for row in scene.sql("SELECT * FROM partition_owner")}
        time.sleep(1)  # the load goes on
        entry = nemesis.stranger_commits(ground, scene.cell, random.Random(2))
        unread = {partition for partition, offset in scene.cell.committed().items() if offset > executed[partition]}
        scene.worker.start()
        harness.wait_until(lambda: unread <= set(nemesis.offers(scene.worker)), 20, "partitions are halted")
        assert nemesis.resume_halted(scene.cell, scene.worker) == {partition: executed[partition] for partition in unread}
        return entry

    inflict(commit)


def test_everything_was_answered_rightly(scene):
    scene.load.ending.set()
    scene.load.join()
    scene.cell.connection.close()  # it has seen several crashes
    assert len(scene.cell.verify(scene.load.sent, 60)) > len(scene.load.sent) > 20


def test_database_restored(scene, inflict):
    """Behind the load: what was answered since the copy is answered again."""
    def committed():
        return scene.cell.committed()

    def restore(ground):
        assert scene.worker.stop() == 0
        nemesis.copy_database(ground, scene.cell)
        before, drafts = committed(), len(scene.cell.drafts())
        scene.worker.start()
        scene.await_answer()
        assert scene.worker.stop() == 0
        assert committed() != before and len(scene.cell.drafts()) > drafts
        entry = nemesis.database_restored(ground, scene.cell, random.Random(2))
        assert len(scene.cell.drafts()) == drafts
        scene.worker.start()
        harness.wait_until(lambda: nemesis.offers(scene.worker), 20, "a partition is halted")
        places = nemesis.resume_halted(scene.cell, scene.worker)
        assert places == {partition: before[partition] for partition in places}
        harness.wait_until(lambda: len(scene.cell.drafts()) > drafts, 20, "the draft is written again")
        return entry

    harness.wait_until(lambda: scene.cell.lag() == 0, 30, "all is answered")
    inflict(restore)


def test_records_deleted(scene, inflict):
    """Behind the load: what is not answered must not be deleted."""
    producer = confluent_kafka.Producer({"bootstrap.servers": scene.cell.brokers, "transactional.id": "ground-gateway"})
    producer.init_transactions(30)
    for end in producer.commit_transaction, producer.abort_transaction:
        producer.begin_transaction()
        command = scene.cell.command()
        producer.produce(scene.cell.commands, command_codec.encode(command), command["accountGroupId"])
        producer.flush(30)
        end(30)

    def ends():
        consumer = confluent_kafka.Consumer({"bootstrap.servers": scene.cell.brokers, "group.id": "ends"})
        with contextlib.closing(consumer):
            return {p: consumer.get_watermark_offsets(confluent_kafka.TopicPartition(scene.cell.commands, p), timeout=10)
                    for p in range(scene.cell.partitions)}

    def delete(ground):
        harness.wait_until(lambda: scene.cell.committed() == {p: high for p, (_, high) in ends().items()}, 30, "all is answered")
        entry = nemesis.records_deleted(ground, scene.cell, random.Random(2))
        assert all(low == high for low, high in ends().values())
        scene.worker.kill()
        scene.worker.start()
        return entry

    inflict(delete)
    assert not scene.worker.events("partition_halted")
