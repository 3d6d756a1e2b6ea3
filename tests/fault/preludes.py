"""What is done in a cell between two rounds, when all is confirmed and nothing may be answered again; and the person who resumes
the partitions that halt.
"""

import collections
import contextlib
import random
import subprocess

import confluent_kafka
import psycopg2

import harness
import machine
import nemesis
import workload

KILLED_S = 10   # for a worker to come to the step at which it dies
ORDERED_S = 60  # for orders to resume, through other faults


class Preludes:
    """Of a cell (cell.py): prelude_NAME(rng) does it, and says whether it came about."""

    def play(self, rng):
        """As a rule nothing. Brokers may be crashed all the while."""
        what = self.plan["prelude"]
        done = False
        if what and self.await_confirmed():
            with contextlib.suppress(AssertionError, psycopg2.Error, confluent_kafka.KafkaException):
                done = getattr(self, "prelude_" + what)(rng)
        if what:
            self.count(("fired:" if done else "unfired:") + what)

    def await_confirmed(self):
        with contextlib.suppress(AssertionError):
            harness.wait_until(self.is_confirmed, 20, "all is confirmed", 0.1)
        return self.is_confirmed()

    def prelude_offsets_reset(self, rng):
        """By a person, while no worker runs."""
        self.end_workers("term")
        self.log_fault(nemesis.offsets_reset(self.ground, self, rng))
        return True

    def prelude_stranger_commits(self, rng):
        """Another consumer reads and commits what no worker has read. The partitions halt, and a person goes back."""
        self.end_workers("term")
        self.publish(rng, "stranger")
        unread = self.unread()
        if not unread:
            return False
        try:
            self.log_fault(nemesis.stranger_commits(self.ground, self, rng))
        finally:
            offered = self.go_back()
        return set(offered) == set(unread)

    def prelude_database_restored(self, rng):
        """To a copy that is made while all is confirmed, or when a worker has died between PostgreSQL and Kafka. More is done and
        published meanwhile, in an outside state that is lost, too; the group keeps its offsets. The partitions halt, and a person
        goes back."""
        self.end_workers("term")
        if len(self.ways_back()) < self.partitions:  # where nothing is known, no way back is offered
            return False
        if rng.random() < 0.5:
            self.leave_unpublished(rng)
        nemesis.copy_database(self.ground, self)
        flipper = workload.Flipper(self.connect, random.Random(rng.random()), self.collector.log_lost_change)
        flipper.start()
        try:
            self.start_worker("one", {})
            self.work_in_vain(rng)
        finally:
            self.end_workers(rng.choice(["term", "kill"]))
            flipper.ending.set()
            flipper.join()
            self.collector.note_restore(lambda: nemesis.database_restored(self.ground, self, rng))
            offered = self.go_back()  # also where the work met another fault: what is restored halts
        return bool(offered)

    def leave_unpublished(self, rng):
        """Some commands are executed, and their worker is killed. No change refuses them: what is executed once more, with another
        outcome and to the same end, goes unnoticed when it is lost (protocol.txt, rule 7)."""
        worker = self.start_worker("one", {"points": ["commit-after:kill:%d:1" % rng.randint(1, 2)]})
        self.publish(rng, "unpublished", record=workload.Plan.sure)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(KILLED_S)
        self.end_workers("kill")

    def work_in_vain(self, rng):
        """Until something is published, or all is."""
        def published():
            return sum(place["high"] for place in self.collector.patiently(self.collector.offsets)["results"].values())

        before, whole = published(), rng.random() < 0.5
        self.publish(rng, "lost")
        harness.wait_until(lambda: published() > before and not (whole and self.quiet.faults()), machine.IDLE_S, "results", 0.1)

    def prelude_records_deleted(self, rng):
        """Publishers have transactions. When all is answered, retention deletes everything, and the workers are killed."""
        if not any(worker.alive() for worker in self.by_slot.values()):
            self.start_worker("one", {})
        self.publish_in_transaction(rng, "kept", True)
        self.publish_in_transaction(rng, "aborted", False)
        harness.wait_until(lambda: not self.quiet.faults(), machine.IDLE_S, "all is answered", 0.2)
        self.collector.keep_commands()
        self.log_fault(nemesis.records_deleted(self.ground, self, rng))
        self.end_workers("kill")
        return True

    def publish(self, rng, name, make_producer=None, log=None, record=workload.Plan.record):
        """Some commands. How many a partition got."""
        counts = collections.Counter()

        def take(entry):
            counts[entry["partition"]] += 1
            (log or self.collector.log_acked)(entry)

        commands = workload.Plan(rng, self.population, "r%d-%s" % (self.plan["round"], name))
        generator = workload.Generator(make_producer or self.make_producer, self.commands, commands, take)
        for _ in range(rng.randint(4, 12)):
            generator.send(*record(commands))
        assert generator.producer.flush(60) == 0, "not everything is published"
        return counts

    def publish_in_transaction(self, rng, name, commit):
        """Each partition then ends with a control record. An aborted command is nobody's."""
        producer = confluent_kafka.Producer({
            "bootstrap.servers": self.brokers, "partitioner": "murmur2_random", "linger.ms": 2,
            "transactional.id": "%s-%s" % (self.name, name)})
        producer.init_transactions(30)
        producer.begin_transaction()
        acked = []
        counts = self.publish(rng, name, lambda: producer, acked.append)
        self.end_transaction(producer.commit_transaction if commit else producer.abort_transaction)
        for entry in acked if commit else ():
            self.collector.log_acked(entry)
        for partition, count in counts.items():
            self.collector.note_unreadable(partition, 1 if commit else 1 + count)

    @staticmethod
    def end_transaction(end):
        """Until it is known to have ended: brokers may be away."""
        for _ in range(5):
            try:
                return end(60)
            except confluent_kafka.KafkaException as error:
                if not error.args[0].retriable():
                    raise
        raise AssertionError("it is not known how a publisher's transaction ended")

    def unread(self):
        """By partition, up to where commands are executed, if there are more."""
        ends = self.collector.patiently(self.collector.offsets)["commands"]
        return {partition: row["executed_offset"] for partition, row in self.owned().items()
                if 0 <= row["executed_offset"] < ends[str(partition)]["high"]}

    def go_back(self):
        """A worker halts the partitions of which the group has committed more than PostgreSQL has executed, and a person resumes
        them where its log says. Where, by partition."""
        worker = self.start_worker("one", {})
        with contextlib.suppress(AssertionError):  # else it has met a fault, and is ended: the person knows all the same
            harness.wait_until(lambda: self.has_started(worker), machine.IDLE_S, "partitions are read, or halted", 0.1)
        ways_back, offered = self.ways_back(), nemesis.offers(worker)
        if any(offset != ways_back.get(partition) for partition, offset in offered.items()):
            self.problem("C4: offered are %s, and the ways back are %s" % (offered, ways_back))
        if not self.has_started(worker):
            offered = {partition: ways_back[partition] for partition in self.halted()}
        self.resume(offered)
        return offered

    def has_started(self, worker):
        """All its lanes, with all partitions."""
        lanes = {event["lane"]: int(event["running"]) + int(event["halted"]) for event in worker.events("running")}
        return len(lanes) == worker.lanes and sum(lanes.values()) == self.partitions

    def owned(self):
        return {row["partition"]: row for row in self.collector.patiently(lambda: self.collector.rows(
            "SELECT * FROM partition_owner WHERE topic = %s AND executed_offset IS NOT NULL", (self.commands,)))}

    def ways_back(self):
        """By partition, from where on nothing is lost."""
        return {partition: min(row["executed_offset"], row["confirmed_offset"] or 0) for partition, row in self.owned().items()}

    def halted(self):
        """The partitions of which the group has committed more than PostgreSQL has executed, and that nobody has resumed. They may
        be resumed, and go on, at this moment: whether an order waits is looked at first, and what is executed last."""
        ordered = [partition for partition, row in self.owned().items() if row["resume_from"] is not None]
        places = [confluent_kafka.TopicPartition(self.commands, p) for p in range(self.partitions)]
        committed = {place.partition: place.offset
                     for place in self.collector.patiently(lambda: self.quiet.plain.committed(places, timeout=20))}
        return [partition for partition, row in self.owned().items()
                if committed[partition] > row["executed_offset"] and partition not in ordered]

    def hopeless(self):
        """After a round: no fault of it makes the group's offset go ahead of PostgreSQL, or PostgreSQL go back."""
        halted = self.halted()
        return "C4: of partitions %s the group has committed more than PostgreSQL has executed" % halted if halted else None

    def resume(self, places):
        """An order for each. One that met a fault may stand all the same, and what is ordered twice is answered twice."""
        def order():
            left = set(places).intersection(self.halted())
            for partition in left:
                with contextlib.suppress(AssertionError, subprocess.SubprocessError):
                    nemesis.resume(self, {partition: places[partition]})
            return not left

        harness.wait_until(order, ORDERED_S, "orders to resume", 0.5)

    def is_confirmed(self):
        """Whether PostgreSQL knows of every answer."""
        ends = self.collector.ends.get((self.commands, "read_committed"), {})
        rows = self.collector.patiently(lambda: self.collector.rows(
            "SELECT partition, confirmed_offset FROM partition_owner WHERE topic = %s", (self.commands,)))
        confirmed = {row["partition"]: row["confirmed_offset"] for row in rows}
        return all(confirmed.get(partition, -1) >= end for partition, end in ends.items() if end > 0)
