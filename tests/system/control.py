"""What the machine gives at a moment, so that no verdict is the clock's: a control beside what is measured, and how long a
process had to wait for a processor.

What is allowed is what a machine with nothing else to do needs, times the control's stretch: how much longer than there the
control takes at that moment.
"""

import contextlib
import os
import threading
import time
import uuid

import confluent_kafka
import confluent_kafka.admin
import psycopg2

BEAT_S = 0.03  # what a beat takes on two processors that have nothing else to do than a few workers
PAUSE_S = 0.1
STRETCH_MAX = 20  # a control that takes longer than this is not held up by a slow machine


class Control(threading.Thread):
    """What a command takes without a worker, over and over: a row is committed in PostgreSQL, and a record published in a
    transaction and read by a read_committed consumer. What fails is begun anew, and takes the longer."""

    def __init__(self, cell):
        super().__init__(daemon=True)
        self.cell, self.name = cell, "control-" + cell.name
        self.awake, self.ending, self.lock = threading.Event(), threading.Event(), threading.Lock()
        self.beats, self.begun = [], None  # (begin, end) each, and when the one that goes on began
        self.clients = contextlib.ExitStack()
        self.ready = False

    @contextlib.contextmanager
    def beating(self):
        self.awake.set()
        try:
            yield self
        finally:
            self.awake.clear()

    def run(self):
        while not self.ending.is_set():
            if self.awake.wait(0.2):
                self.beat()
                self.ending.wait(PAUSE_S)
        self.clients.close()

    def beat(self):
        failing = (confluent_kafka.KafkaException, psycopg2.Error, TimeoutError)
        if not self.ready:  # making clients is no part of it, but for those that a fault has taken
            with contextlib.suppress(*failing):
                self.connect()
        with self.lock:
            self.begun = time.time()
        while not self.ending.is_set():
            try:
                if not self.ready:
                    self.connect()
                self.round_trip()
                break
            except failing:
                self.ready = False
                self.ending.wait(0.2)
        with self.lock:
            self.beats.append((self.begun, time.time()))
            self.begun = None

    def connect(self):
        self.clients.close()
        brokers = {"bootstrap.servers": self.cell.brokers, "log_level": 0}
        admin = confluent_kafka.admin.AdminClient(brokers)
        if self.name not in admin.list_topics(timeout=20).topics:
            replicas = min(3, len(admin.list_topics(timeout=20).brokers))
            admin.create_topics([confluent_kafka.admin.NewTopic(self.name, 1, replicas)])[self.name].result(20)
        self.producer = confluent_kafka.Producer({**brokers, "transactional.id": self.name})
        self.producer.init_transactions(20)
        self.consumer = confluent_kafka.Consumer({**brokers, "group.id": self.name, "isolation.level": "read_committed",
                                                  "enable.auto.commit": False, "fetch.wait.max.ms": 20})
        self.clients.callback(self.consumer.close)
        self.session = self.cell.services.postgres.connect(self.cell.database)
        self.clients.callback(self.session.close)
        place = confluent_kafka.TopicPartition(self.name, 0)
        place.offset = self.consumer.get_watermark_offsets(place, timeout=20)[1]
        self.consumer.assign([place])
        with self.session.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS fault_control (beat text)")
        self.round_trip()  # the first one takes much longer
        self.ready = True

    def round_trip(self):
        token = uuid.uuid4().hex
        with self.session.cursor() as cursor:
            cursor.execute("INSERT INTO fault_control VALUES (%s)", (token,))
        self.producer.begin_transaction()
        self.producer.produce(self.name, token)
        self.producer.commit_transaction(20)
        deadline = time.monotonic() + 20
        while True:
            message = self.consumer.poll(0.5)
            if message is not None and message.error() is None and message.value() == token.encode():
                return
            if time.monotonic() > deadline or self.ending.is_set():
                raise TimeoutError

    def mean_s(self, since, until):
        """Of the beats in that time, of which the last may go on still; None if there were none."""
        with self.lock:
            lengths = [end - begin for begin, end in self.beats if begin <= until and end >= since]
            if self.begun is not None:
                lengths.append(time.time() - self.begun)
                if len(lengths) > 1 and lengths[-1] < lengths[-2]:  # it tells nothing yet
                    lengths.pop()
        return sum(lengths) / len(lengths) if lengths else None

    def through(self, back):
        """When the beat ended that an outage held up until then; now, if it goes on."""
        with self.lock:
            if self.begun is not None and self.begun < back:
                return time.time()
            return max([back, *(end for begin, end in self.beats if begin < back)])

    def took(self, since):
        """Seconds until now, and the stretch meanwhile."""
        now = time.time()
        return now - since, self.stretch(since, now)

    def stretch(self, since, until):
        return stretch_of(self.mean_s(since, until))

    def end(self):
        self.ending.set()
        self.join(60)


def stretch_of(mean_s):
    return 1 if mean_s is None else min(STRETCH_MAX, max(1, mean_s / BEAT_S))


@contextlib.contextmanager
def beside(world):
    """A control, from its first beat on."""
    control = Control(world)
    control.start()
    control.awake.set()
    try:
        deadline = time.monotonic() + 120
        while not control.beats:
            assert time.monotonic() < deadline, "the control does not come about"
            time.sleep(0.01)
        yield control
    finally:
        control.end()


def waited_s(pid):
    """How long that process had to wait for a processor so far: its thread that waited longest. 0 where nobody counts."""
    waits = [0]
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/%d/task" % pid):
            with contextlib.suppress(OSError), open("/proc/%d/task/%s/schedstat" % (pid, task)) as file:
                waits.append(int(file.read().split()[1]))
    return max(waits) / 1e9
