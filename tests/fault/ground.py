"""The ground that the fault suite stands on: a three-node Kafka, a PostgreSQL whose disk can be full and which can fail over to
another one (pair.py), and a TCP proxy between them and the workers. What is done to it is in nemesis.py.

The process that starts the ground owns it; others attach to it by its description().
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import confluent_kafka
import confluent_kafka.admin

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

import harness  # noqa: E402
import pair  # noqa: E402
from orderly import Orderly  # noqa: E402

DISK_BYTES = 1500 << 20
# Many cells' workers; faults that are found out soon; nothing written to the log that a fault calls forth a thousand times.
POSTGRES_SETTINGS = {
    "max_connections": "200", "superuser_reserved_connections": "20", "track_commit_timestamp": "on", "log_lock_waits": "off",
    "deadlock_timeout": "200ms", "max_wal_size": "256MB", "log_min_error_statement": "panic",
    # For a standby, and so that nothing outlives a kill -9.
    "wal_keep_size": "128MB", "wal_retrieve_retry_interval": "100ms", "dynamic_shared_memory_type": "mmap",
}


class Kafka(Orderly, harness.Kafka):
    """A cluster; its nodes are numbered from one."""

    def start(self):
        super().start()
        self.listeners = self.env()["PROXIED"].split(",")

    def start_node(self, node):
        self.run("start", str(node))

    def stop_node(self, node):
        self.run("stop", str(node))

    def kill_node(self, node):
        self.run("kill", str(node))

    def pid(self, node):
        """None if it does not run."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / ("node-%d" % node) / "pid").read_text())
        return None

    def end(self):
        self.ended = True
        self.call("kill")  # a start in another thread fails with this
        with self.lock:
            self.call("kill")


class Disk:
    """A file system of its own, in memory, for a database: it can be full for a while, and fsync costs nothing there."""

    def __init__(self, folder):
        self.folder = folder
        self.mounted = False

    def mount(self):
        """Nothing is mounted where that is not allowed; why, in words, or None."""
        if os.geteuid() != 0:
            return "only root may mount a file system for the database"
        self.folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "mode=755,size=%d" % DISK_BYTES, "campaign-fault", str(self.folder)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.mounted = done.returncode == 0
        return None if self.mounted else done.stdout.strip()

    def fill(self, left_bytes):
        """Makes it as large as what is in it, give or take: takes no memory, unlike a file that fills it."""
        def shrink():
            state = os.statvfs(self.folder)
            return self.resize((state.f_blocks - state.f_bfree) * state.f_frsize + left_bytes)

        harness.wait_until(shrink, 10, "%s made smaller" % self.folder, 0)  # refused while it fills faster than we look

    def empty(self):
        assert self.resize(DISK_BYTES), "%s cannot be made larger again" % self.folder

    def resize(self, size_bytes):
        return subprocess.run(["mount", "-o", "remount,size=%d" % size_bytes, str(self.folder)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0

    def unmount(self):
        if self.mounted and subprocess.run(["umount", str(self.folder)]).returncode != 0:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
        self.mounted = False


class Rule:
    """One break of a connection, ordered from the proxy. fired and done: set when the proxy says so; who: of the connection."""

    def __init__(self, proxy, name):
        self.proxy, self.name, self.who = proxy, name, None
        self.fired, self.done = threading.Event(), threading.Event()

    def delete(self):
        """Calls it off; False if it has fired."""
        return self.proxy.ask("del " + self.name).startswith("ok")


class Proxy:
    """A control connection to the fault proxy. proxy.c says what the words mean. Any thread may use it."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.lock, self.rules, self.number = threading.Lock(), {}, 0
        self.answers = []
        self.answered = threading.Condition()
        self.gone = False
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        with contextlib.suppress(OSError), self.socket.makefile() as lines:
            for line in lines:
                self.hear(line.rstrip("\n"))
        with self.answered:
            self.gone = True
            self.answered.notify()

    def hear(self, line):
        word, _, rest = line.partition(" ")
        if word in ("fired", "done"):
            name, _, who = rest.partition(" ")
            rule = self.rules[name]
            rule.who = who or rule.who
            getattr(rule, word).set()
            return
        with self.answered:
            self.answers.append(line)
            self.answered.notify()

    def ask(self, line):
        with self.lock, self.answered:
            self.socket.sendall(line.encode() + b"\n")
            assert self.answered.wait_for(lambda: self.answers or self.gone, 20) and self.answers, "the proxy does not answer"
            return self.answers.pop()

    def add(self, kind, who, event, nth, action, ms):
        with self.lock:
            self.number += 1
            rule = self.rules[str(self.number)] = Rule(self, str(self.number))
        answer = self.ask("add %s %s %s %s %d %s %d" % (rule.name, kind, who, event, nth, action, ms))
        assert answer.startswith("ok"), answer
        return rule

    def stat(self):
        """{"kafka": {"connections": N, "open": N, "forth": BYTES, "back": BYTES}, "pg": ...}"""
        found, counters = {}, None
        for word in self.ask("stat").split()[1:]:
            name, equals, value = word.partition("=")
            if equals:
                counters[name] = int(value)
            else:
                counters = found[name] = {}
        return found

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def reserve_port():
    """A socket that keeps a port from others until it is closed; below the range from which the kernel serves."""
    while True:
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", random.SystemRandom().randrange(15000, 32000)))
            return holder
        except OSError:
            holder.close()


@contextlib.contextmanager
def undisturbed():
    """Ctrl-C reaches every program of the terminal, those that clean up among them: not while this lasts."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


class Ground(harness.Services):
    """brokers leads to Kafka, proxied too, but through the proxy; conninfo() to PostgreSQL, worker_conninfo() through it. Both
    name two servers."""

    def __init__(self, folder, nodes=3):
        super().__init__(folder)
        self.folder, self.nodes = self.folder.resolve(), nodes
        self.kafka = Kafka(self.folder / "kafka", NODES=str(nodes))
        folders = [self.folder / "postgres", self.folder / "standby"]
        self.postgres, self.disks = pair.Postgres(folders), [Disk(folder) for folder in folders]
        self.ending = contextlib.ExitStack()
        self.stopping = threading.Lock()
        self._admin = None

    @classmethod
    def attached(cls, description):
        """One that another process has started."""
        ground = cls(description["folder"], description["nodes"])
        ground.proxied, ground.ports = description["proxied"], description["ports"]
        ground.kafka.brokers = ground.kafka.env()["BROKERS"]
        ground.postgres.attach()
        ground.proxy = Proxy(ground.control_path())
        return ground

    def description(self):
        return {"folder": str(self.folder), "nodes": self.nodes, "proxied": self.proxied, "ports": self.ports}

    # Start and end

    def start(self):
        """Call it in the main thread: the proxy ends with the thread that started it."""
        try:
            self.reserve_ports()
            self.start_postgres()
            self.ending.callback(self.kafka.end)
            self.kafka.start()
            self.start_proxy()
            self.make_template()
            self.warm()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        with undisturbed(), self.stopping:
            self.ending.close()

    def reserve_ports(self):
        """The proxy's, which Kafka tells its clients before there is a proxy."""
        self.holders = [reserve_port() for _ in range(self.nodes + 2)]
        for holder in self.holders:
            self.ending.callback(holder.close)
        *kafka, one, two = [holder.getsockname()[1] for holder in self.holders]
        self.ports = [one, two]
        self.kafka.settings["ADVERTISE"] = " ".join(map(str, kafka))
        self.proxied = ",".join("127.0.0.1:%d" % port for port in kafka)

    def start_postgres(self):
        for disk in self.disks:
            self.ending.callback(disk.unmount)
            why = disk.mount()
        if why:
            print("SKIPPED: disk_full cannot be done here: %s" % why, flush=True)
        self.ending.callback(self.postgres.end)
        with contextlib.closing(reserve_port()) as holder:
            port = holder.getsockname()[1]
        self.postgres.start(port)
        self.postgres.set(**POSTGRES_SETTINGS)
        self.postgres.run("restart")

    def control_path(self):
        return self.folder / "proxy.sock"

    def start_proxy(self):
        specs = ["kafka:%s:%s" % (address.rpartition(":")[2], target)
                 for address, target in zip(self.proxied.split(","), self.kafka.listeners)]
        specs += ["pg:%d:%s" % (port, node.socket()) for port, node in zip(self.ports, self.postgres.nodes)]
        log = open(self.folder / "proxy.log", "wb")
        self.ending.callback(log.close)
        for holder in self.holders:
            holder.close()
        process = subprocess.Popen([harness.binary("fault-proxy"), "-p", str(self.control_path()), *specs],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.ending.callback(process.wait)
        self.ending.callback(process.kill)

        def connect():
            assert process.poll() is None, "the proxy ended: %s" % harness.tail(self.folder / "proxy.log")
            with contextlib.suppress(OSError):
                return Proxy(self.control_path())

        self.proxy = harness.wait_until(connect, 20, "the proxy")
        self.ending.callback(self.proxy.close)

    def warm(self):
        """Makes Kafka's own topics, so that they are there to be disturbed."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self.brokers, "transactional.id": "ground"})
        producer.init_transactions(60)
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": "ground"})

        def committed():
            with contextlib.suppress(confluent_kafka.KafkaException):
                return consumer.committed([confluent_kafka.TopicPartition("__consumer_offsets", 0)], timeout=20)

        harness.wait_until(committed, 60, "a group coordinator", 0.1)
        consumer.close()
        self.wait_whole()

    # Ways to the servers

    @property
    def brokers(self):
        return self.kafka.brokers

    def conninfo(self, database, user=None):
        return self.postgres.conninfo(database, user)

    def worker_conninfo(self, database):
        return "host=127.0.0.1,127.0.0.1 port=%d,%d user=%s dbname=%s sslmode=disable gssencmode=disable" % (
            *self.ports, self.LOGIN, database)

    @property
    def disk(self):
        """The primary's."""
        return self.disks[self.postgres.nodes.index(self.postgres.primary)]

    @property
    def admin(self):
        if self._admin is None:
            self._admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        return self._admin

    def topics(self):
        """Metadata as a broker has it."""
        return self.admin.list_topics(timeout=5)

    def is_whole(self):
        """Whether every node serves and every replica is in sync."""
        try:
            metadata = self.topics()
        except confluent_kafka.KafkaException:
            return False
        partitions = [p for topic in metadata.topics.values() for p in topic.partitions.values()]
        return len(metadata.brokers) == self.nodes and all(p.leader >= 0 and len(p.isrs) == len(p.replicas) for p in partitions)

    def wait_whole(self, timeout_s=120):
        harness.wait_until(self.is_whole, timeout_s, "all replicas in sync", 0.1)

    # What was done to it, for every process that is attached

    @contextlib.contextmanager
    def disturbed(self):
        """Around a fault of the whole ground, with its healing."""
        self.note("disturbed", "begin %.3f" % (time.time() * 1000))
        try:
            yield
        finally:
            self.note("disturbed", "end %.3f" % (time.time() * 1000))

    def disturbances(self):
        """(begin, end) in ms, in order; a last one that still goes on ends now."""
        spans = []
        for line in self.notes("disturbed"):
            word, ms = line.split()
            if word == "begin":
                spans.append((float(ms), time.time() * 1000))
            else:
                spans[-1] = spans[-1][0], float(ms)
        return spans

    def last_fault_ms(self):
        """When the whole ground was last disturbed; 0: never."""
        return max((end_ms for _, end_ms in self.disturbances()), default=0)

    def was_disturbed(self, from_ms, to_ms):
        return any(begin_ms <= to_ms and end_ms >= from_ms for begin_ms, end_ms in self.disturbances())

    def note_fault(self, entry):
        self.note("faults.jsonl", json.dumps(entry))

    def faults(self):
        return [json.loads(line) for line in self.notes("faults.jsonl")]

    def note(self, name, line):
        with open(self.folder / name, "a") as file:
            file.write(line + "\n")

    def notes(self, name):
        """The whole lines of that file: the last one may be being written."""
        try:
            return (self.folder / name).read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
