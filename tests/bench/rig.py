"""The benchmark's servers and what runs on them: one Kafka node, one PostgreSQL with the data set, the released worker, its
peer, the tool; and how a piece of work is measured on them, and verified.

Every client speaks TCP with PostgreSQL, so that the worker, the tool and the peer are alike and bytes can be counted.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time

os.environ["CAMPAIGN_TEST_VARIANT"] = "release"  # of what harness starts by itself
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

import confluent_kafka.admin  # noqa: E402

import harness  # noqa: E402
import meter  # noqa: E402

PARTITIONS, RESULT_PARTITIONS = 8, 4
READY_S, STALL_S, STOP_S = 60, 60, 60
SAMPLE_S = 0.5
FAR_US = 1000  # one way to a server of the next zone
# A data set that fits into memory, and no checkpoint in the middle of a measurement.
POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}


class Wrong(AssertionError):
    """A measurement that cannot count: results are missing, or not what they should be."""


def check(condition, text, *values):
    if not condition:
        raise Wrong(text % values)


class Lines(threading.Thread):
    """The words that a process says on stderr, one a line, as they come."""

    def __init__(self, process, path):
        super().__init__(daemon=True)
        self.process, self.path = process, path
        self.words, self.said = set(), threading.Condition()
        self.start()

    def run(self):
        with open(self.path, "w") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                self.say(line.strip())
        self.say(None)  # the end

    def say(self, word):
        with self.said:
            self.words.add(word)
            self.said.notify_all()

    def wait(self, word, timeout_s=None):
        with self.said:
            self.said.wait_for(lambda: self.words & {word, None}, timeout_s)
            check(word in self.words, "no %r from %s:\n%s", word, self.path.stem, harness.tail(self.path, 15))


class Program:
    """A program of the benchmark that runs beside others: its words on stderr, one JSON object at its end."""

    def __init__(self, path, args, env=None):
        self.process = subprocess.Popen(
            args, env={**harness.clean_environment(), **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.lines = Lines(self.process, path)

    @property
    def pid(self):
        return self.process.pid

    def wait_for(self, word, timeout_s=None):
        self.lines.wait(word, timeout_s)

    def result(self, timeout_s=STOP_S):
        output = self.process.stdout.read()
        status = self.process.wait(timeout_s)
        self.lines.join()
        check(status == 0, "%s: exit status %d\n%s%s", self.lines.path.stem, status, output, harness.tail(self.lines.path, 15))
        return json.loads(output) if output.strip() else {}

    def stop(self):
        self.process.terminate()
        return self.result()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def build_peer():
    done = subprocess.run(["sh", str(HERE / "peer" / "build.sh")], env={**os.environ, "BUILD": str(harness.BUILD)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode == 0, "the peer could not be built:\n%s", done.stdout)


class Peer(Program):
    """The worker of another team, in Java."""

    def __init__(self, run, mode="rows"):
        pg = run.rig.postgres
        super().__init__(run.folder / "peer.log", ["sh", str(HERE / "peer" / "run.sh")], {
            "BUILD": str(harness.BUILD), "BROKERS": run.rig.brokers, "COMMANDS": run.commands, "RESULTS": run.results,
            "GROUP": run.group, "INSTANCE": run.name, "MODE": mode, "PGUSER": harness.Services.LOGIN,
            "PGPASSWORD": run.rig.password, "JDBC_URL": "jdbc:postgresql://127.0.0.1:%d/%s" % (pg.port, run.database)})


class Run:
    """One measurement's topics and group. What is started for it is ended by close()."""

    def __init__(self, rig, name, database, partitions, far):
        self.rig, self.name, self.database, self.far = rig, name, database, far
        self.folder = rig.folder / "runs" / name
        self.folder.mkdir(parents=True)
        self.group = name
        self.commands, self.results, self.dead_letters = ("%s-%s" % (name, kind) for kind in ("commands", "results", "dead"))
        self.processes = []
        rig.create_topics({self.commands: partitions, self.results: RESULT_PARTITIONS, self.dead_letters: 1})
        if far:
            self.program("relay", "%d:%d" % (rig.far_kafka, rig.far_listener), "%d:%d" % (rig.far_postgres, rig.postgres.port),
                         us=FAR_US).wait_for("ready", READY_S)

    def environment(self, instance):
        """What a worker needs (harness.Worker asks)."""
        return {
            "CAMPAIGN_BROKERS": "127.0.0.1:%d" % self.rig.far_kafka if self.far else self.rig.brokers,
            "CAMPAIGN_GROUP": self.group, "CAMPAIGN_COMMANDS": self.commands,
            "CAMPAIGN_INSTANCE": "%s-%s" % (self.name, instance), "CAMPAIGN_RESULTS": self.results,
            "CAMPAIGN_DEAD_LETTERS": self.dead_letters, "CAMPAIGN_DATABASE": self.rig.conninfo(self.database, self.far)}

    def worker(self, instance="one", cgroup=None, **options):
        """A released worker, started, with the settings given and all others as they are by default."""
        worker = harness.Worker(self, instance, variant="release", **options)
        if cgroup:
            worker.args = ["sh", "-c", 'echo $$ >"$0"/cgroup.procs && exec "$@"', str(cgroup), *worker.args]
        self.processes.append(worker)
        worker.start()
        return worker

    def peer(self, mode="rows"):
        peer = Peer(self, mode)
        self.processes.append(peer)
        return peer

    def program(self, name, *args, **options):
        program = Program(self.folder / (name + ".log"), self.rig.arguments(name, *args, brokers=self.rig.brokers, **options))
        self.processes.append(program)
        return program

    def publish(self, path, **options):
        """Publishes a file; what it took the publisher and the broker."""
        before = meter.tree_s(self.rig.broker)
        done = self.rig.tool("publish", path, brokers=self.rig.brokers, topic=self.commands, **options)
        n = done["commands"]
        return {"commands": n, "per_s": n / done["seconds"], "bytes": done["bytes"] / n, "cpu_us": {
            "publisher": done["cpu_s"] * 1e6 / n, "broker": (meter.tree_s(self.rig.broker) - before) * 1e6 / n}}

    def close(self):
        for process in self.processes:
            process.kill()
        self.rig.delete_topics(self.commands, self.results, self.dead_letters)


class Rig:
    def __init__(self, folder, seed, groups):
        self.folder, self.seed, self.groups = pathlib.Path(folder), seed, groups
        self.services = harness.Services(self.folder)
        self.postgres = self.services.postgres
        self.numbers = itertools.count(1)
        self.password = secrets.token_hex(16)
        self.connections = {}

    def start(self):
        self.far_kafka, self.far_postgres = free_ports(2)
        os.environ["ADVERTISE"] = str(self.far_kafka)  # kafka.sh: where the clients of its second listener are sent to
        self.services.start()
        self.far_listener = int(self.services.kafka.env()["PROXIED"].rpartition(":")[2])
        for name, value in POSTGRES.items():
            self.postgres.execute("ALTER SYSTEM SET %s = '%s'" % (name, value))
        self.postgres.execute("ALTER ROLE %s PASSWORD '%s'" % (self.services.LOGIN, self.password))
        self.postgres.run("restart")
        self.postgres.load(self.postgres.env())
        self.brokers = self.services.kafka.brokers
        self.broker = int((self.services.kafka.folder / "pid").read_text())
        data = pathlib.Path(self.postgres.env()["PGDATA"])
        self.postmaster = int((data / "postmaster.pid").read_text().split()[0])
        self.admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        self.load("bench", self.groups)

    def stop(self):
        for connection in self.connections.values():
            connection.close()
        self.services.stop()

    # PostgreSQL

    def load(self, database, groups):
        """A database with the data set."""
        self.postgres.execute("CREATE DATABASE %s TEMPLATE %s" % (database, self.services.TEMPLATE))
        done = subprocess.run(
            ["psql", "-X", "-q", "-v", "groups=%d" % groups, "-f", str(HERE / "data.sql"), self.postgres.conninfo(database)],
            env=harness.clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True)
        check(done.returncode == 0, "the data set could not be loaded:\n%s", done.stderr)

    def conninfo(self, database, far=False):
        return "host=127.0.0.1 port=%d dbname=%s user=%s password=%s" % (
            self.far_postgres if far else self.postgres.port, database, self.services.LOGIN, self.password)

    def ask(self, text, database="bench"):
        """One value."""
        if database not in self.connections:
            self.connections[database] = self.postgres.connect(database)
        with self.connections[database].cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchone()[0]

    def drafts(self, database="bench"):
        return self.ask("SELECT count(*) FROM campaigns WHERE trace_id IS NOT NULL", database)

    # Kafka

    def create_topics(self, topics):
        wanted = [confluent_kafka.admin.NewTopic(name, partitions, 1, config={
            "message.timestamp.type": "LogAppendTime", "file.delete.delay.ms": "1000"}) for name, partitions in topics.items()]
        for future in self.admin.create_topics(wanted).values():
            future.result()
        reader = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": "bench-topics"})
        with contextlib.closing(reader):
            for name in topics:
                harness.wait_until(lambda: has_leaders(reader, name), READY_S, "leaders of topic %s" % name)

    def delete_topics(self, *names):
        for future in self.admin.delete_topics(list(names)).values():
            with contextlib.suppress(confluent_kafka.KafkaException):
                future.result()

    # The tool

    def arguments(self, name, *args, **options):
        options = ["%s=%s" % option for option in options.items()]
        return [harness.binary("bench-tool", "release"), name, *options, *map(str, args)]

    def tool(self, name, *args, **options):
        """Runs a sub-command to its end; what it printed."""
        done = subprocess.run(
            self.arguments(name, *args, **options), env=harness.clean_environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(done.returncode == 0, "bench-tool %s: exit status %d\n%s%s", name, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def commands(self, count, groups=None, **options):
        """A file of commands that nobody has used before."""
        number = next(self.numbers)
        path = self.folder / ("commands-%d" % number)
        with open(path, "wb") as file:
            done = subprocess.run(
                self.arguments("make", count=count, seed=self.seed * 10000 + number, groups=groups or self.groups, **options),
                env=harness.clean_environment(), stdout=file, stderr=subprocess.PIPE, text=True)
        check(done.returncode == 0, "bench-tool make: %s", done.stderr)
        try:
            yield path
        finally:
            path.unlink()

    @contextlib.contextmanager
    def run(self, name, database="bench", partitions=PARTITIONS, far=False):
        """far: the workers' way to the servers takes FAR_US, and the way back, too."""
        run = Run(self, "%s-%d" % (re.sub("[^a-z0-9]+", "-", name), next(self.numbers)), database, partitions, far)
        try:
            yield run
        finally:
            run.close()

    # Measuring

    def look(self, pids=()):
        """What has been used so far; pids: the processes of the worker (or of what is in its place)."""
        look = {
            "time_s": time.monotonic(), "worker": sum(map(meter.tree_s, pids)), "postgres": meter.tree_s(self.postmaster),
            "broker": meter.tree_s(self.broker), "machine": meter.machine_s()}
        look["wal"] = self.ask("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8")
        return look

    def wire(self, pids, count):
        """Bytes a command that these processes have sent and received since they were started."""
        sides = {side: {"sent": 0, "received": 0} for side in ("kafka", "database")}
        for pid in pids:
            for port, (sent, received) in meter.socket_bytes(pid).items():
                side = sides["database" if port in (self.postgres.port, self.far_postgres) else "kafka"]
                side["sent"] += sent / count
                side["received"] += received / count
        return sides

    def store_work(self, kind, path, database="bench", **options):
        """sql or copy: PostgreSQL's side alone."""
        before = self.look()
        done = self.tool(kind, path, database=self.conninfo(database), **options)
        after = self.look()
        n = done["commands"]
        return {
            **done, "per_s": n / done["seconds"], "cpu_us": {
                "tool": done["cpu_s"] * 1e6 / n, "postgres": (after["postgres"] - before["postgres"]) * 1e6 / n},
            "wal_bytes": (after["wal"] - before["wal"]) / n}

    def drain(self, run, path, count, start, flawless=True, times=1):
        """Publishes the file, lets start() begin to answer it (it returns the processes that do), and measures while the middle
        of it is answered. Every command has to have one result, and every success a draft. flawless: every result has to be a
        success. times: so often each command stands in the file, and all of its results name one draft."""
        drafts = self.drafts(run.database)
        subscriber = run.program("subscribe", topic=run.results, count=count, timeout=STALL_S)
        subscriber.wait_for("ready", READY_S)
        published = run.publish(path)
        pids = [process.pid for process in start()]
        subscriber.wait_for("begin")
        before = self.look(pids)
        subscriber.wait_for("end")
        after = self.look(pids)
        seen = subscriber.result()
        check(seen["count"] == seen["distinct"] * times == count == published["commands"],
              "%d commands, %d results of %d traces", published["commands"], seen["count"], seen["distinct"])
        drafts = self.drafts(run.database) - drafts
        check(drafts * times == seen["codes"].get("ok", 0), "%d successes, %d drafts", seen["codes"].get("ok", 0), drafts)
        check(not flawless or drafts * times == count, "results other than successes: %s", seen["codes"])
        return {
            **figures(before, after, seen), "codes": seen["codes"], "publish": published, "wire_bytes": self.wire(pids, count),
            "rss_max_mib": max(meter.memory_kib(pid, "VmHWM") for pid in pids) / 1024}


def free_ports(n):
    with contextlib.ExitStack() as holders:
        sockets = [holders.enter_context(socket.socket()) for _ in range(n)]
        for holder in sockets:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in sockets]


def held(processes):
    """Stops them; what is returned lets them go on. Otherwise they would have begun before anybody looks."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)

    def go_on():
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)
        return processes

    return go_on


def has_leaders(reader, name):
    """Whether each partition answers: whatever the metadata say, clients of a new topic are refused for a while."""
    try:
        partitions = reader.list_topics(name, timeout=READY_S).topics[name].partitions
        for partition in partitions:
            reader.get_watermark_offsets(confluent_kafka.TopicPartition(name, partition), timeout=READY_S)
    except confluent_kafka.KafkaException:
        return False
    return bool(partitions)


def figures(before, after, seen):
    """Of the part of the work between two looks."""
    n = seen["window"]
    machine = {part: after["machine"][part] - before["machine"][part] for part in after["machine"]}
    whole = sum(machine.values()) or 1 / meter.TICKS  # of a very short window

    def each(name):
        return (after[name] - before[name]) / n

    return {
        "commands": seen["count"], "seconds": seen["seconds"], "per_s": n / max(seen["window_seconds"], 1e-6),
        "per_second": seen["per_second"],
        "cpu_us": {name: each(name) * 1e6 for name in ("worker", "postgres", "broker")}, "wal_bytes": each("wal"),
        "result_bytes": seen["bytes"] / seen["count"], "busy": machine["busy"] / whole, "stolen": machine["stolen"] / whole,
        "postgres_cores": (after["postgres"] - before["postgres"]) / (after["time_s"] - before["time_s"])}


class Sampler(threading.Thread):
    """The resident set of a process over time: (seconds, MiB)."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.begin, self.ending, self.course = pid, time.monotonic(), threading.Event(), []
        self.start()

    def run(self):
        with contextlib.suppress(OSError):  # it ended: whoever waits for it says so
            while True:
                self.course.append((round(time.monotonic() - self.begin, 1), round(meter.memory_kib(self.pid) / 1024, 2)))
                if self.ending.wait(SAMPLE_S):
                    return

    def stop(self):
        self.ending.set()
        self.join()
        return self.course


@contextlib.contextmanager
def memory_cgroup(limit_mib):
    """A cgroup for a process that may use so much; None where this user may not make one."""
    folder, name = None, "campaign-bench-%d" % os.getpid()
    for base, file in ("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"):
        made = pathlib.Path(base) / name
        try:
            made.mkdir()
            if (made / file).exists():
                (made / file).write_text(str(limit_mib << 20))
                folder = made
                break
            made.rmdir()
        except OSError:
            with contextlib.suppress(OSError):
                made.rmdir()
    try:
        yield folder
    finally:
        if folder:
            harness.wait_until(lambda: not (folder / "cgroup.procs").read_text(), STOP_S, "cgroup %s is empty" % folder)
            folder.rmdir()
