"""How long a partition stands still when its worker goes away: rounds of a cell in which one thing at a time happens, under
steady load, while nothing else is wrong.

    gone        kill -9 of an owner that does not come back
    back        kill -9 of an owner that is started again at once
    terminated  SIGTERM of an owner

What is allowed is what a quiet machine needs (plans.RECOVERIES) times the stretch of the control (control.py) meanwhile.

Measured from the end of the worker (or the signal) to the moment when a read_committed subscriber sees the answer to a command
that was sent after it, in each of the worker's partitions; the longest of them counts.
"""

import contextlib
import itertools
import random
import threading
import time

import confluent_kafka
import psycopg2

import control
import harness
import machine
import plans
import workload
from avrocodec import result_codec

# Where it dies: any time, or where its transaction hangs.
STEPS = [None, None, "commit-after", "produce", "offsets-after", "endtxn-before", "endtxn-sent"]
EVERY_S = 0.03
PATIENCE_S = 120  # for what has to come about before something is measured


class Load(threading.Thread):
    """A good command every EVERY_S, over all partitions."""

    def __init__(self, cell, plan):
        super().__init__(daemon=True)
        self.cell, self.plan, self.ending = cell, plan, threading.Event()
        self.generator = workload.Generator(cell.make_producer, cell.commands, plan, cell.collector.log_acked)

    def run(self):
        for group in itertools.cycle(workload.GROUPS):  # in turn: every partition is asked several times a second
            if self.ending.wait(EVERY_S):
                break
            command = self.plan.command(audienceId="a_list", accountGroupId=group)
            self.generator.send("good", command["accountGroupId"].encode(), workload.command_codec.encode(command), [], command)
            self.generator.producer.poll(0)
        self.generator.producer.flush(60)


class Watch(threading.Thread):
    """A subscriber: when the first answer to a command from a moment on was seen, by partition."""

    def __init__(self, cell):
        super().__init__(daemon=True)
        self.ending, self.lock, self.seen = threading.Event(), threading.Lock(), []
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": cell.brokers, "group.id": "watch-" + cell.name, "isolation.level": "read_committed",
            "enable.auto.commit": False, "fetch.wait.max.ms": 20, "auto.offset.reset": "latest"})
        self.consumer.assign([confluent_kafka.TopicPartition(cell.results, p, confluent_kafka.OFFSET_END) for p in range(2)])

    def run(self):
        while not self.ending.is_set():
            message = self.consumer.poll(0.1)
            if message is not None and message.error() is None:
                command = result_codec.decode(message.value())["command"]
                with self.lock:
                    self.seen.append((command["partition"], command["timestamp"], time.time() * 1000))
        self.consumer.close()

    def first_after(self, since_ms):
        """By partition, when the first answer to a command written after since_ms was seen."""
        with self.lock:
            found = {}
            for partition, written_ms, seen_ms in self.seen:
                if written_ms > since_ms:
                    found.setdefault(partition, seen_ms)
            return found


def owned(cell, slot):
    rows = cell.collector.rows("SELECT partition FROM partition_owner WHERE topic = %s AND transactional_id LIKE %s",
                               (cell.commands, "%" + cell.instance(slot) + "/%"))
    return {row["partition"] for row in rows}


def measure(cell, watch, kind, step, rng):
    """One sample: seconds, the control in ms, allowed seconds; None if the ground was not quiet."""
    victim, other = rng.sample(["one", "two"], 2)
    if not cell.by_slot[other].alive():
        cell.start_worker(other, {})
    points = [] if step is None or kind == "terminated" else ["%s:kill:%d" % (step, rng.randint(10, 40))]
    cell.end_worker(victim, "term")
    worker = cell.start_worker(victim, {"points": points})
    if not patiently(lambda: owned(cell, victim) and owned(cell, other), PATIENCE_S):
        return None
    if points:
        if not patiently(lambda: not worker.alive(), PATIENCE_S):
            return None
        cell.count("kills")
        cell.count("kill:" + step)
    else:
        time.sleep(rng.uniform(0.5, 1.5))
    partitions = owned(cell, victim)
    since_ms = time.time() * 1000
    if kind == "terminated":
        worker.signal(15)
    elif worker.alive():
        worker.kill()
        cell.count("kills")
        cell.count("kill:any time")
    if kind == "back":
        cell.start_worker(victim, {})
    seen = await_answers(cell.control, watch, partitions, since_ms)
    if kind != "back":
        cell.start_worker(victim, {})
    if cell.ground.was_disturbed(since_ms - 5000, time.time() * 1000) or not partitions:
        return None
    if not partitions <= set(seen):
        cell.problem("C9: partitions %s stood still for a minute after their worker was %s" % (sorted(partitions - set(seen)), kind))
        return None
    end_ms = max(seen[p] for p in partitions)
    control_s = cell.control.mean_s(since_ms / 1000, end_ms / 1000) or 0
    allowed_s = plans.RECOVERIES[kind] * control.stretch_of(control_s)
    return [round((end_ms - since_ms) / 1000, 3), round(control_s * 1000, 1), round(allowed_s, 3)]


def await_answers(beside, watch, partitions, since_ms):
    """By partition, when the first was seen; a minute at most, and as much more as the control takes longer."""
    begin = time.time()
    while not partitions <= set(watch.first_after(since_ms)):
        if time.time() - begin > machine.IDLE_S * beside.stretch(begin, time.time()):
            break
        time.sleep(0.02)
    return watch.first_after(since_ms)


def patiently(probe, limit_s):
    try:
        return harness.wait_until(probe, limit_s, "")
    except AssertionError:
        return False


def run(cell, rng):
    """The turns of one round; samples by kind, and in words those that took too long."""
    samples = {kind: [] for kind in plans.RECOVERIES}
    load, watch = Load(cell, workload.Plan(random.Random(rng.random()), cell.population, "r%d" % cell.plan["round"])), Watch(cell)
    for slot in ("one", "two"):
        cell.end_worker(slot, "kill")
        cell.start_worker(slot, {})
    load.start()
    watch.start()
    try:
        cell.control.awake.set()
        for kind in list(plans.RECOVERIES) * plans.RECOVERIES_OF_A_ROUND:
            sample = None
            with contextlib.suppress(psycopg2.Error):  # the ground was disturbed
                sample = measure(cell, watch, kind, rng.choice(STEPS), rng)
            if sample is not None:
                samples[kind].append(sample)
    finally:
        cell.control.awake.clear()
        load.ending.set()
        watch.ending.set()
        load.join()
        watch.join()
    cell.count("commands", load.generator.acknowledged)
    slow = ["%s took %g s, the control %g ms: at most %g s" % (kind, *sample)
            for kind, taken in samples.items() for sample in machine.beyond(taken)]
    return {"recovery": samples, "slow": slow}
