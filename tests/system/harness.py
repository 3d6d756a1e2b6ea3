"""The system tests' tools: Apache Kafka and PostgreSQL as real servers, workers as processes, and for every test a world
of its own: topics, consumer group, database. Longer than 600 lines: servers, worlds, workers and programs stand on each other.

Environment: CAMPAIGN_TEST_VARIANT (build variant of the worker: test), CAMPAIGN_TEST_DIR (where servers and logs live; a
temporary folder), CAMPAIGN_TEST_BROKERS and CAMPAIGN_TEST_PGENV (servers that run already: host:port, and the env file
that deploy/postgres.sh wrote).
"""

import concurrent.futures
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import shlex
import signal
import subprocess
import time
import uuid

import confluent_kafka
import confluent_kafka.admin
import psycopg2
import psycopg2.extras

import history
from avrocodec import command_codec, result_codec

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build")).resolve()
VARIANT = os.environ.get("CAMPAIGN_TEST_VARIANT", "test")
PARTITIONS = 4
TRACE = "traceId"


def binary(name, variant=VARIANT):
    return str(BUILD / name if variant == "release" else BUILD / variant / name)


def wait_until(probe, timeout_s, what, pause_s=0.02):
    """The first true value of probe(), which is asked again and again; AssertionError after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not within %g s: %s" % (timeout_s, what))
        time.sleep(pause_s)


def tail(path, lines=40):
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""


def read_env(path):
    """A file of NAME=value lines, as the scripts in deploy/ write them for a shell."""
    env = {}
    for word in shlex.split(pathlib.Path(path).read_text()):
        name, equals, value = word.partition("=")
        if equals:
            env[name] = value
    return env


class Script:
    """A throw-away server behind one of deploy/'s scripts."""

    def __init__(self, script, folder):
        self.script, self.folder = str(ROOT / "deploy" / script), pathlib.Path(folder)

    def run(self, verb, *args):
        done = subprocess.run(
            ["sh", self.script, verb, str(self.folder), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, "%s %s: %s" % (self.script, verb, done.stdout)

    def env(self):
        return read_env(self.folder / "env")


class Kafka(Script):
    def __init__(self, folder):
        super().__init__("kafka.sh", folder)

    def start(self):
        self.run("start")
        self.brokers = self.env()["BROKERS"]

    def stop(self):
        self.run("stop")

    def kill(self):
        self.run("kill")


class Postgres(Script):
    def __init__(self, folder):
        super().__init__("postgres.sh", folder)

    def start(self):
        self.run("start")
        self.load(self.env())

    def load(self, env):
        self.host, self.port, self.user = env["PGHOST"], int(env["PGPORT"]), env["PGUSER"]
        self.password = env.get("PGPASSWORD", "")

    def stop(self, mode="fast"):
        self.run("stop", mode)

    def remove(self):
        self.run("remove")

    def conninfo(self, database="postgres", user=None):
        return "host=%s port=%d user=%s dbname=%s" % (self.host, self.port, user or self.user, database)

    def connect(self, database="postgres", user=None):
        connection = psycopg2.connect(self.conninfo(database, user))
        connection.autocommit = True
        return connection

    def execute(self, text, database="postgres"):
        with contextlib.closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(text)


class Services:
    """Kafka, PostgreSQL and the migrated database that every test's own is a copy of."""

    TEMPLATE = "campaign_template"
    LOGIN = "campaign_worker_login"  # may do what the role campaign_worker may, and nothing else

    def __init__(self, folder, whose=""):
        self.folder = pathlib.Path(folder)
        self.kafka, self.postgres = Kafka(self.folder / ("kafka" + whose)), Postgres(self.folder / ("postgres" + whose))
        self.ours = []
        self.numbers = itertools.count(1)

    def start(self):
        brokers, pgenv = os.environ.get("CAMPAIGN_TEST_BROKERS"), os.environ.get("CAMPAIGN_TEST_PGENV")
        if brokers:
            self.kafka.brokers = brokers
        else:
            self.ours.append(self.kafka.stop)
            self.kafka.start()
        if pgenv:
            self.postgres.load(read_env(pgenv))
        else:
            self.ours.append(self.postgres.remove)
            self.postgres.start()
        self.make_template()

    def stop(self):
        for stop in self.ours:
            stop()

    def make_template(self):
        pg = self.postgres
        pg.execute("DROP DATABASE IF EXISTS %s" % self.TEMPLATE)
        pg.execute("CREATE DATABASE %s" % self.TEMPLATE)
        run_program("campaign-worker", "migrate", env={"CAMPAIGN_DATABASE": pg.conninfo(self.TEMPLATE)})
        pg.execute(
            "DO $$ BEGIN CREATE ROLE {0} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
            "GRANT campaign_worker TO {0}".format(self.LOGIN)
        )
        pg.execute((ROOT / "schemas" / "sql" / "seed.sql").read_text(), self.TEMPLATE)

    def world(self, **settings):
        return World(self, "t%d_%s" % (next(self.numbers), uuid.uuid4().hex[:8]), **settings)


def run_program(name, *args, env=None, check=True, input=None, timeout=60, variant=VARIANT, text=True):
    """Runs one of our programs to its end. Text in, text out; bytes if not text."""
    done = subprocess.run(
        [binary(name, variant), *args], env={**clean_environment(), **(env or {})}, input=input, timeout=timeout,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text,
    )
    assert not check or done.returncode == 0, "%s %s: exit %d\n%s%s" % (
        name, " ".join(args), done.returncode, done.stdout, done.stderr)
    return done


def clean_environment():
    """Without anything that would configure our programs or libpq behind the test's back."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("CAMPAIGN_", "PG", "FAILPOINT"))}


class World:
    """One test's own topics, group, database and workers. Everything started in it is ended by close()."""

    def __init__(self, services, name, partitions=PARTITIONS, **topic_settings):
        self.services, self.name = services, name
        self.brokers = services.kafka.brokers
        self.group = "group-" + name
        self.database = "db_" + name
        self.commands, self.results, self.dead_letters = ("%s-%s" % (kind, name) for kind in ("commands", "results", "dead"))
        self.folder = services.folder / "tests" / name
        self.folder.mkdir(parents=True)
        self.partitions = partitions
        self.topic_settings = topic_settings  # by kind (commands, results, dead_letters): settings of Kafka's
        self.workers, self.closers = [], []
        self.create_topics()
        services.postgres.execute("CREATE DATABASE %s TEMPLATE %s" % (self.database, services.TEMPLATE))
        self.connection = None
        self._producer = None

    def create_topics(self):
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.brokers})

        def topic(kind, partitions, **settings):
            settings.update(self.topic_settings.get(kind, {}))
            return confluent_kafka.admin.NewTopic(getattr(self, kind), partitions, 1, config=settings)

        made = admin.create_topics([
            topic("commands", self.partitions, **{"message.timestamp.type": "LogAppendTime"}),
            topic("results", self.partitions),
            topic("dead_letters", 1),
        ])
        for future in made.values():
            future.result()

    def environment(self, instance="one"):
        """What our programs need to work in this world."""
        return {
            "CAMPAIGN_BROKERS": self.brokers,
            "CAMPAIGN_GROUP": self.group,
            "CAMPAIGN_INSTANCE": "%s-%s" % (self.name, instance),
            "CAMPAIGN_COMMANDS": self.commands,
            "CAMPAIGN_RESULTS": self.results,
            "CAMPAIGN_DEAD_LETTERS": self.dead_letters,
            "CAMPAIGN_DATABASE": self.services.postgres.conninfo(self.database, self.services.LOGIN),
        }

    def program(self, name, *args, env=None, **options):
        ours = self.environment()
        if name == "campaign-producer":
            ours = {k: ours[k] for k in ("CAMPAIGN_BROKERS", "CAMPAIGN_COMMANDS", "CAMPAIGN_RESULTS", "CAMPAIGN_DEAD_LETTERS")}
        return run_program(name, *args, env={**ours, **(env or {})}, **options)

    # Workers

    def worker(self, instance="one", **options):
        """A worker, started."""
        worker = Worker(self, instance, **options)
        self.workers.append(worker)
        worker.start()
        return worker

    # PostgreSQL

    def sql(self, text, *values):
        """Runs a statement as the database's superuser; rows as dicts, if it returns any. values: for %s, or one dict."""
        if self.connection is None or self.connection.closed:
            self.connection = self.services.postgres.connect(self.database)
        try:
            with self.connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(text, values[0] if values and isinstance(values[0], dict) else values or None)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        except psycopg2.OperationalError:
            self.connection.close()
            raise

    def session(self):
        """A further session, for locks and changes beside the worker; not in autocommit."""
        connection = psycopg2.connect(self.services.postgres.conninfo(self.database))
        self.closers.append(connection.close)
        return connection

    def add_account_groups(self, n):
        """n further account groups with all that a good command needs, under the ids of SEED. Their names; eight or more
        of them lie in all of PARTITIONS partitions."""
        names = ["ag_more_%d" % i for i in range(n)]
        for name in names:
            self.sql("""
                INSERT INTO account_groups (id, name) VALUES (%(new)s, %(new)s);
                INSERT INTO api_key_account_groups (account_group_id, key_digest, rate_interval_us, rate_burst)
                    SELECT %(new)s, key_digest, rate_interval_us, rate_burst FROM api_key_account_groups
                    WHERE account_group_id = %(old)s AND key_digest = %(key)s;
                INSERT INTO campaigns (account_group_id, id, name, status, workflow)
                    SELECT %(new)s, id, name, status, workflow FROM campaigns WHERE account_group_id = %(old)s AND id = %(campaign)s;
                INSERT INTO audiences (account_group_id, id, kind, name, ready, lead_count)
                    SELECT %(new)s, id, kind, name, ready, lead_count FROM audiences
                    WHERE account_group_id = %(old)s AND id = %(audience)s;
                INSERT INTO leads (account_group_id, id) SELECT %(new)s, id FROM leads WHERE account_group_id = %(old)s;
                INSERT INTO audience_leads (account_group_id, audience_id, lead_id)
                    SELECT %(new)s, audience_id, lead_id FROM audience_leads
                    WHERE account_group_id = %(old)s AND audience_id = %(audience)s""", {
                "new": name, "old": SEED["accountGroupId"], "key": SEED["apiKeyDigest"], "campaign": SEED["campaignId"],
                "audience": SEED["audienceId"]})
        return names

    # Commands

    def command(self, **fields):
        """A good command of the seed, but for the fields given. leadIds None: all of the audience."""
        now_ms = int(time.time() * 1000)
        command = {
            "traceId": uuid.uuid4().hex, "name": None, "leadIds": None, "issuedAt": now_ms, "expiresAt": None, **SEED, **fields,
        }
        if isinstance(command["apiKeyDigest"], str):  # a key of the seed, in plain text
            command["apiKeyDigest"] = digest(command["apiKeyDigest"])
        return command

    def producer(self):
        if self._producer is None:
            self._producer = confluent_kafka.Producer({
                "bootstrap.servers": self.brokers, "partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 2,
                "message.max.bytes": 8000000,
            })
        return self._producer

    def send(self, *commands, headers=None):
        """Publishes commands (dicts) as another language's client would. Returns their (partition, offset)s."""
        return self.send_raw(*((c["accountGroupId"], command_codec.encode(c)) for c in commands), headers=headers)

    def send_raw(self, *records, headers=None, partition=-1):
        """Publishes (key, value) pairs as they are."""
        places = [None] * len(records)

        def delivered(i, error, message):
            assert error is None, error
            places[i] = (message.partition(), message.offset())

        for i, (key, value) in enumerate(records):
            while True:
                try:
                    self.producer().produce(
                        self.commands, value, key, partition, headers=headers,
                        on_delivery=lambda error, message, i=i: delivered(i, error, message))
                    break
                except BufferError:
                    self.producer().poll(0.1)
        assert self.producer().flush(60) == 0
        return places

    # Results

    def reader(self, topic=None, isolation="read_committed"):
        reader = Reader(self.brokers, topic or self.results, isolation)
        self.closers.append(reader.close)
        return reader

    def read_all(self, topic=None, isolation="read_committed"):
        """Every record of a topic up to its present end."""
        reader = Reader(self.brokers, topic or self.results, isolation)
        try:
            return reader.to_end()
        finally:
            reader.close()

    def all_results(self, isolation="read_committed"):
        return [Result(record) for record in self.read_all(self.results, isolation)]

    def await_results(self, n, timeout_s=30):
        """Waits for n visible results and returns all there are."""
        reader = self.reader()
        reader.wait(n, timeout_s)
        return [Result(record) for record in reader.records]

    def all_dead_letters(self):
        return self.read_all(self.dead_letters)

    def committed(self):
        """Committed offsets of the group by partition; None where nothing is committed."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": self.group})
        try:
            places = [confluent_kafka.TopicPartition(self.commands, p) for p in range(self.partitions)]
            return {p.partition: p.offset if p.offset >= 0 else None for p in consumer.committed(places, timeout=20)}
        finally:
            consumer.close()

    def lag(self):
        """Records of the commands topic that the group has not committed."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": "lag-" + self.name})
        try:
            committed, lag = self.committed(), 0
            for partition in range(self.partitions):
                place = confluent_kafka.TopicPartition(self.commands, partition)
                low, high = consumer.get_watermark_offsets(place, timeout=20)
                lag += high - (committed[partition] or low)
            return lag
        finally:
            consumer.close()

    def drafts(self):
        return self.sql("SELECT * FROM campaigns WHERE trace_id IS NOT NULL ORDER BY account_group_id, trace_id")

    def verify(self, sent=(), timeout_s=30):
        """Waits until everything in the commands topic is answered and nothing is on its way, while there is progress and for
        timeout_s without, and checks every promise on the whole history (history.py has the list). sent: places that send() returned and that
        must be there. AssertionError: what is wrong, in words. Returns the visible results by place.
        """
        return history.verify(self, sent, timeout_s)

    def close(self):
        for worker in self.workers:
            worker.kill()
        for close in self.closers:
            close()
        self._producer = None
        if self.connection is not None:
            self.connection.close()
        with contextlib.suppress(psycopg2.Error):
            self.services.postgres.execute("DROP DATABASE IF EXISTS %s WITH (FORCE)" % self.database)
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.brokers})
        for future in admin.delete_topics([self.commands, self.results, self.dead_letters]).values():
            with contextlib.suppress(confluent_kafka.KafkaException):
                future.result()

    def logs(self):
        """The ends of the workers' logs, for the report of a failed test."""
        return "\n".join("--- %s\n%s" % (path, tail(path)) for path in sorted(self.folder.glob("*.log")))


class Matrix:
    """Cases that mostly wait, run side by side, each in a world of its own: run(world, case). A fixture makes one for its
    module, and a test that is parametrised with the cases asks for the outcome of each."""

    def __init__(self, services, request, run, at_once=4, **settings):
        self.services, self.run, self.settings = services, run, settings
        self.pool = concurrent.futures.ThreadPoolExecutor(at_once)
        wanted = [i.callspec.params["case"] for i in request.session.items if request.fixturename in i.fixturenames]
        self.outcomes = {case: self.pool.submit(self.run_case, case) for case in wanted}

    def run_case(self, case):
        world = self.services.world(**self.settings)
        try:
            return self.run(world, case)
        except Exception as error:
            raise AssertionError("%s\n%s" % (error, world.logs())) from error
        finally:
            world.close()

    def outcome(self, case):
        return self.outcomes[case].result()

    def close(self):
        self.pool.shutdown()


class Record:
    """A Kafka record, read whole."""

    def __init__(self, message):
        self.topic, self.partition, self.offset = message.topic(), message.partition(), message.offset()
        self.key, self.value = message.key(), message.value()
        self.header_list = message.headers() or []
        self.headers = dict(self.header_list)
        self.timestamp_type, self.timestamp_ms = message.timestamp()

    def header(self, name):
        value = self.headers.get(name)
        return None if value is None else value.decode()


class Result(dict):
    """A decoded result; .record is what it was decoded from."""

    def __init__(self, record):
        super().__init__(result_codec.decode(record.value))
        self.record = record

    @property
    def place(self):
        """(partition, offset) of the command."""
        return self["command"]["partition"], self["command"]["offset"]

    @property
    def code(self):
        return self["error"]["code"] if self["error"] else None


class Reader:
    """Reads a topic from its beginning, without a group."""

    def __init__(self, brokers, topic, isolation="read_committed"):
        self.topic, self.records, self.isolation = topic, [], isolation
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": brokers, "group.id": "reader-" + uuid.uuid4().hex, "isolation.level": isolation,
            "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 50,
        })
        self.partitions = sorted(self.consumer.list_topics(topic, timeout=20).topics[topic].partitions)
        self.consumer.assign([confluent_kafka.TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in self.partitions])

    def poll(self, timeout_s):
        """Takes what comes within timeout_s at most; the partition that has ended, or None."""
        message = self.consumer.poll(timeout_s)
        if message is None:
            return None
        if message.error() is None:
            self.records.append(Record(message))
            return None
        if message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
            return message.partition()
        if message.error().retriable() or message.error().code() == confluent_kafka.KafkaError._TRANSPORT:
            return None
        raise confluent_kafka.KafkaException(message.error())

    def wait(self, n, timeout_s):
        deadline = time.monotonic() + timeout_s
        while len(self.records) < n:
            left = deadline - time.monotonic()
            assert left > 0, "%d of %d records of %s within %g s" % (len(self.records), n, self.topic, timeout_s)
            self.poll(min(left, 0.5))
        return self.records

    def to_end(self, timeout_s=30):
        ended = set()
        deadline = time.monotonic() + timeout_s
        while len(ended) < len(self.partitions):
            assert time.monotonic() < deadline, "no end of %s within %g s" % (self.topic, timeout_s)
            ended.add(self.poll(0.5))
            ended.discard(None)
        return self.records

    def close(self):
        self.consumer.close()


class Worker:
    """A campaign-worker process. Its log is JSON lines in a file."""

    def __init__(self, world, instance, lanes=1, args=(), env=None, variant=VARIANT, database=None, fail=None, ahead=False,
                 program=None):
        """program: another build's. ahead: begins every batch while Kafka commits the one before it, and not only large ones."""
        self.world, self.instance = world, instance
        self.args = [program or binary("campaign-worker", variant), "run", *args]
        self.env = {
            **clean_environment(), **world.environment(instance), "CAMPAIGN_LANES": str(lanes), "CAMPAIGN_LOG_FORMAT": "json",
            **(env or {}),
        }
        if ahead:
            self.env["CAMPAIGN_FAILPOINT_AHEAD"] = "1"
        if database is not None:
            self.env["CAMPAIGN_DATABASE"] = database
        self.fail = fail
        self.runs = 0
        self.process = None

    def start(self):
        """Starts it (again). fail: failpoints as worker/base/failpoint.h has them, "step:action[:nth[:ms]],..."."""
        assert self.process is None or self.process.poll() is not None
        self.runs += 1
        self.log_path = self.world.folder / ("%s-%d.log" % (self.instance, self.runs))
        self.points_path = self.log_path.with_suffix(".points")
        fail = {"CAMPAIGN_FAILPOINT": self.fail, "CAMPAIGN_FAILPOINT_FILE": str(self.points_path)} if self.fail else {}
        with self.open_log() as log:
            self.process = subprocess.Popen(
                self.args, env={**self.env, **fail}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def open_log(self):
        return open(self.log_path, "wb")

    def wait_for_point(self, step, timeout_s=20):
        """Waits until a failpoint at that step was reached."""
        def look():
            return self.points_path.exists() and step in [line.split()[0] for line in self.points_path.read_text().splitlines()]

        wait_until(look, timeout_s, "failpoint %s in %s" % (step, self.log_path))

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, timeout_s=20):
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s=20):
        """Waits for its end; the exit status (negative: the signal)."""
        return self.process.wait(timeout_s)

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()

    def freeze(self):
        self.signal(signal.SIGSTOP)
        wait_until(self.frozen, 5, "worker stopped")

    def frozen(self):
        """Whether it is stopped by a signal, its own or ours."""
        with open("/proc/%d/stat" % self.pid) as f:
            return f.read().rpartition(")")[2].split()[0] in "Tt"

    def thaw(self):
        self.signal(signal.SIGCONT)

    def cpu_s(self):
        with open("/proc/%d/stat" % self.pid) as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self):
        with open("/proc/%d/status" % self.pid) as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))

    def text(self):
        return self.log_path.read_text(errors="replace")

    def events(self, event=None, **fields):
        """The log's lines (dicts) of that event whose fields have these values."""
        found = []
        for line in self.text().split("\n")[:-1]:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if (event is None or entry.get("event") == event) and all(str(entry.get(k)) == str(v) for k, v in fields.items()):
                    found.append(entry)
        return found

    def wait_for_log(self, event, timeout_s=20, count=1, **fields):
        def look():
            found = self.events(event, **fields)
            if len(found) >= count:
                return found
            assert self.alive(), "the worker ended (%s) before event %s" % (self.process.returncode, event)
            return None

        return wait_until(look, timeout_s, "%d of event %s %s in %s" % (count, event, fields or "", self.log_path))


def digest(api_key):
    """What a command carries of an API key."""
    return hashlib.sha256(api_key.encode()).digest()


# A good command of schemas/sql/seed.sql; its comments say what else there is.
SEED = {
    "accountGroupId": "ag_acme", "campaignId": "65a000000000000000000001", "audienceId": "aud_list",
    "apiKeyDigest": digest("demo-key-full"),
}
