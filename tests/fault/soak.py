"""Load with mild faults for as long as asked: `make soak`. Memory, descriptors, threads and open transactions stay flat.

One Kafka, one PostgreSQL, two released workers. The first one is never restarted and is watched; what happens around it is
what happens in production: a session is ended, the other worker is restarted, a third one comes and goes, PostgreSQL is
restarted. The load comes in windows of a minute. After each the history of that window is verified (history.py) and its
drafts are deleted, so that a long run needs no more memory and disk than a short one.

Environment:
  MINUTES=N  of load, at least 1 [2]
  SEED=TEXT  the order of commands and faults is drawn from it; printed [random]

Prints figures, keeps them in build/soak.json. Exit status 1 if a promise was broken or something was not flat.
"""

import contextlib
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time

import confluent_kafka
import psycopg2

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "system")]

import control  # noqa: E402
import harness  # noqa: E402
from avrocodec import command_codec  # noqa: E402

FIGURES = harness.BUILD / "soak.json"
WINDOW_S = 60
RATE = 300           # commands a second
TICK_S = 0.1
SAMPLE_S = 1
FAULT_EVERY_S = (5, 10)
RETURN_S = 20        # so soon after a fault descriptors and threads are at their level again
TRANSACTION_S = 5    # one that is open for so long hangs; both times the stretch of the control (control.py)
GROWTH = 1.05        # of the resident set, from the second quarter of the run to the last ...
GROWTH_KIB = 1024    # ... and that much more
KEPT_MS = 30 * 60 * 1000
SPARE = 2            # descriptors: connections that librdkafka opens and closes as it likes


class Reader(harness.Reader):
    """Reads a topic from given places: (topic, partition): offset."""

    def __init__(self, brokers, topic, isolation, begins):
        self.topic, self.records = topic, []
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": brokers, "group.id": "reader-" + secrets.token_hex(16), "isolation.level": isolation,
            "enable.auto.commit": False, "enable.partition.eof": True,
        })
        self.partitions = sorted(self.consumer.list_topics(topic, timeout=20).topics[topic].partitions)
        self.consumer.assign([
            confluent_kafka.TopicPartition(topic, p, begins.get((topic, p), confluent_kafka.OFFSET_BEGINNING))
            for p in self.partitions])


class Window(harness.World):
    """A world whose history begins anew with each window."""

    def __init__(self, services):
        kept = {"retention.ms": str(KEPT_MS), "segment.ms": str(KEPT_MS // 6)}
        super().__init__(services, "soak_" + secrets.token_hex(4), commands=kept, results=kept, dead_letters=kept)
        self.begins = {}

    def read_all(self, topic=None, isolation="read_committed"):
        with contextlib.closing(Reader(self.brokers, topic or self.results, isolation, self.begins)) as reader:
            return reader.to_end()

    def begin_anew(self):
        """Nothing is on its way, and what was is verified."""
        self.sql("DELETE FROM campaigns WHERE trace_id IS NOT NULL")
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": "watermarks-" + self.name})
        with contextlib.closing(consumer):
            for topic in self.commands, self.results, self.dead_letters:
                for partition in consumer.list_topics(topic, timeout=20).topics[topic].partitions:
                    place = confluent_kafka.TopicPartition(topic, partition)
                    self.begins[topic, partition] = consumer.get_watermark_offsets(place, timeout=20)[1]


class Load(threading.Thread):
    """Commands at a steady rate until it is stopped: good ones, refused ones, bytes that are none, and some once more."""

    TRACE = "0" * 32  # its place in an encoded command, which is much cheaper than encoding each

    def __init__(self, world, groups, random_):
        super().__init__()
        self.world, self.groups, self.random = world, groups, random_
        self.ending, self.error = threading.Event(), None
        self.sent = []
        self.last = None
        kinds = {
            "good": {}, "good, one lead": {"leadIds": ["lead_03"]}, "no such campaign": {"campaignId": "none"},
            "no key": {"apiKeyDigest": None}, "no such lead": {"leadIds": ["lead_03", "lead_99"]},
            "malformed": {"audienceId": "no id"},
        }
        self.templates = {
            (kind, group): command_codec.encode(world.command(accountGroupId=group, traceId=self.TRACE, **fields))
            for kind, fields in kinds.items() for group in groups}
        bad = [kind for kind in kinds if not kind.startswith("good")]
        self.kinds = 30 * ["good", "good, one lead"] + bad + 2 * ["again"] + ["another group's key", "no command"]

    def record(self):
        kind, group = self.random.choice(self.kinds), self.random.choice(self.groups)
        if kind == "again" and self.last:
            return self.last
        if kind == "no command":
            return group, self.random.randbytes(60)
        key = "another" if kind == "another group's key" else group
        template = self.templates.get((kind, group)) or self.templates["good", group]
        self.last = key, template.replace(self.TRACE.encode(), b"%032x" % self.random.getrandbits(128), 1)
        return self.last

    def run(self):
        begin, count = time.monotonic(), 0
        try:
            while not self.ending.wait(TICK_S):
                due = int((time.monotonic() - begin) * RATE) - count
                self.sent += self.world.send_raw(*(self.record() for _ in range(due)))
                count += due
        except Exception as error:  # for the thread that joins
            self.error = error

    def stop(self):
        self.ending.set()
        self.join()
        if self.error:
            raise self.error


class Sampler(threading.Thread):
    """What the watched worker holds, second by second."""

    def __init__(self, world, worker, beside):
        super().__init__(daemon=True)
        self.world, self.worker, self.beside = world, worker, beside
        self.ending = threading.Event()
        self.resident, self.fds, self.threads = [], [], []
        self.open_transactions, self.longest_s, self.hung_s = 0, 0.0, 0.0
        self.connection = None

    def now(self):
        """Descriptors and threads."""
        folder = "/proc/%d/" % self.worker.pid
        return len(os.listdir(folder + "fd")), len(os.listdir(folder + "task"))

    def ask(self):
        """Open transactions of any worker; not while PostgreSQL is down."""
        with contextlib.suppress(psycopg2.Error):
            if self.connection is None or self.connection.closed:
                self.connection = self.world.services.postgres.connect(self.world.database)
            with self.connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*), coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8 "
                    "FROM pg_stat_activity WHERE datname = %s AND xact_start IS NOT NULL "
                    "AND application_name LIKE 'campaign-worker%%'",
                    (self.world.database,))
                count, longest_s = cursor.fetchone()
                self.open_transactions = max(self.open_transactions, count)
                self.longest_s = max(self.longest_s, longest_s)
                self.hung_s = max(self.hung_s, longest_s / self.beside.took(time.time() - 10)[1])

    def run(self):
        while not self.ending.wait(SAMPLE_S):
            with contextlib.suppress(OSError):  # the worker ended: whoever waits for it says so
                fds, threads = self.now()
                self.resident.append(self.worker.resident_kib())
                self.fds.append(fds)
                self.threads.append(threads)
            self.ask()

    def stop(self):
        self.ending.set()
        self.join()
        if self.connection:
            self.connection.close()


class Soak:
    def __init__(self, services, minutes, seed):
        self.services, self.minutes, self.random = services, minutes, random.Random(seed)
        self.world = Window(services)
        self.figures = {
            "seed": seed, "minutes": minutes, "date": time.strftime("%Y-%m-%d", time.gmtime()), "commands": 0, "windows": 0,
            "successes": 0, "refusals": 0, "dead_letters_only": 0, "faults": {}, "slowest_return_s": 0.0}
        self.broken = []
        self.faults = []

    # Faults

    def backend_terminated(self):
        self.services.postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'campaign-worker%'")

    def worker_restarted(self):
        assert self.other.stop() == 0
        self.other.start()
        self.other.wait_for_log("running")

    def rebalanced_twice(self):
        third = self.world.worker("three", variant="release")
        third.wait_for_log("running")
        assert third.stop() == 0
        self.world.workers.remove(third)

    def postgres_restarted(self):
        self.services.postgres.run("restart")
        self.world.connection.close()

    def next_fault(self):
        """Each as often as the others."""
        if not self.faults:
            self.faults = [self.backend_terminated, self.worker_restarted, self.rebalanced_twice, self.postgres_restarted]
            self.random.shuffle(self.faults)
        return self.faults.pop()

    def inflict(self):
        fault = self.next_fault()
        if self.level is None:
            self.level = max(self.sampler.fds), max(self.sampler.threads)
        fault()
        begin = time.time()
        while not self.is_level():
            took_s, stretch = self.beside.took(begin)
            if took_s > RETURN_S * stretch:
                self.broken.append("%d descriptors and %d threads, %g s after: %s; before the first fault: %d and %d" % (
                    *self.sampler.now(), took_s, fault.__name__, *self.level))
                break
            time.sleep(0.1)
        counts, slowest = self.figures["faults"], self.figures["slowest_return_s"]
        counts[fault.__name__] = counts.get(fault.__name__, 0) + 1
        self.figures["slowest_return_s"] = round(max(slowest, time.time() - begin), 1)

    def is_level(self):
        fds, threads = self.sampler.now()
        return fds <= self.level[0] + SPARE and threads <= self.level[1]

    # Windows

    def window(self, seconds):
        load = Load(self.world, self.groups, self.random)
        end = time.monotonic() + seconds
        load.start()
        try:
            while True:
                pause = self.random.uniform(*FAULT_EVERY_S)
                if time.monotonic() + pause > end - 2:
                    break
                time.sleep(pause)
                self.inflict()
                assert self.watched.alive(), "the worker ended: %s" % self.watched.process.returncode
            time.sleep(max(0, end - time.monotonic()))
        finally:
            load.stop()
        self.count(load.sent, self.world.verify(load.sent))
        self.world.begin_anew()

    def count(self, sent, results):
        f = self.figures
        good = sum(result["success"] for result in results.values())
        for name, more in ("commands", len(sent)), ("windows", 1), ("successes", good), ("refusals", len(results) - good), (
                "dead_letters_only", len(sent) - len(results)):
            f[name] += more

    def run(self):
        self.groups = self.world.add_account_groups(8)
        self.watched, self.other = (self.world.worker(name, variant="release") for name in ("one", "two"))
        for worker in self.watched, self.other:
            worker.wait_for_log("running")
        self.level = None
        with control.beside(self.world) as self.beside:
            self.under_load()
        for worker in self.watched, self.other:
            assert worker.stop() == 0

    def under_load(self):
        self.sampler = Sampler(self.world, self.watched, self.beside)
        self.sampler.start()
        left_s = self.minutes * 60
        while left_s > 0:
            self.window(min(WINDOW_S, left_s))
            left_s -= WINDOW_S
            self.say()
        harness.wait_until(self.is_level, RETURN_S * self.beside.took(time.time() - RETURN_S)[1],
                           "descriptors and threads at their level in the end")
        self.sampler.stop()

    def say(self):
        f = self.figures
        print("soak: %g of %g min, %d commands, %d faults; worker one: %.1f MiB, %d descriptors, %d threads" % (
            min(f["windows"] * WINDOW_S / 60, self.minutes), self.minutes, f["commands"], sum(f["faults"].values()),
            self.sampler.resident[-1] / 1024, self.sampler.fds[-1], self.sampler.threads[-1]), flush=True)

    # The verdict

    def judge(self):
        s, n = self.sampler, len(self.sampler.resident)
        early, late = statistics.median(s.resident[n // 4:n // 2]), statistics.median(s.resident[3 * n // 4:])
        parts = min(12, n)
        self.figures.update({
            "samples": n, "resident_kib": {
                "second_quarter": early, "last_quarter": late, "highest": max(s.resident),
                "course": [statistics.median(s.resident[i * n // parts:(i + 1) * n // parts]) for i in range(parts)]},
            "descriptors": {"level": self.level[0], "highest": max(s.fds), "last": s.fds[-1]},
            "threads": {"level": self.level[1], "highest": max(s.threads), "last": s.threads[-1]},
            "transactions": {"most_open": s.open_transactions, "longest_s": round(s.longest_s, 2), "hung_s": round(s.hung_s, 2)},
        })
        if late > early * GROWTH + GROWTH_KIB:
            self.broken.append("the resident set grows: %d KiB in the second quarter, %d KiB in the last" % (early, late))
        if s.hung_s > TRANSACTION_S:
            self.broken.append("a transaction was open for %.1f s, and for %.1f s by the control" % (s.longest_s, s.hung_s))


def main():
    minutes, seed = max(1, float(os.environ.get("MINUTES") or 2)), os.environ.get("SEED") or secrets.token_hex(4)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="campaign-soak."))
    folder.chmod(0o755)
    services = harness.Services(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("soak: seed %s, %g minutes" % (seed, minutes), flush=True)
    try:
        services.start()
        soak = Soak(services, minutes, seed)
        try:
            soak.run()
        except (AssertionError, confluent_kafka.KafkaException, psycopg2.Error) as error:
            soak.broken.append(str(error))
        else:
            soak.judge()
        finally:
            soak.world.close()
    finally:
        services.stop()
        shutil.rmtree(folder / "kafka", ignore_errors=True)
    if soak.broken:
        soak.broken.append("the workers' logs are in %s" % soak.world.folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    soak.figures["broken"] = soak.broken
    FIGURES.write_text(json.dumps(soak.figures, indent=1) + "\n")
    print(json.dumps(soak.figures, indent=1))
    return 1 if soak.broken else 0


if __name__ == "__main__":
    sys.exit(main())
