"""The ends of partitions that a publisher writes in Kafka transactions: control records and aborted batches, which no consumer is
given, and a transaction that its publisher does not end. What was answered may be deleted without a partition ever halting; the
lag of a topic that is read is 0; and whoever holds everybody up is named."""

import concurrent.futures
import contextlib
import time

import confluent_kafka
import pytest

from avrocodec import command_codec
from harness import wait_until
from test_offsets import delete_records, owner, send_to, set_offset, text

PLAIN, COMMITTED, ABORTED = "plain", "committed", "aborted"


class Publisher:
    """A publisher of commands that writes in transactions."""

    def __init__(self, world, timeout_ms=300000):
        self.world = world
        self.producer = confluent_kafka.Producer({
            "bootstrap.servers": world.brokers, "transactional.id": "publisher-" + world.name, "linger.ms": 0,
            "transaction.timeout.ms": timeout_ms,
        })
        self.producer.init_transactions(30)

    def begin(self, partition, count):
        """Writes so many commands into a transaction that is not ended. Returns their places."""
        places = []

        def delivered(error, message):
            assert error is None, error
            places.append((message.partition(), message.offset()))

        self.producer.begin_transaction()
        for _ in range(count):
            command = self.world.command()
            self.producer.produce(
                self.world.commands, command_codec.encode(command), command["accountGroupId"], partition, on_delivery=delivered)
        assert self.producer.flush(30) == 0
        return places

    def commit(self):
        self.producer.commit_transaction(30)

    def abort(self):
        self.producer.abort_transaction(30)

    def write(self, partition, count):
        places = self.begin(partition, count)
        self.commit()
        return places

    def write_nothing(self, partition, count):
        """An aborted batch."""
        self.begin(partition, count)
        self.abort()


def end_of(world, partition, isolation="read_uncommitted"):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": world.brokers, "group.id": "ends", "isolation.level": isolation})
    with contextlib.closing(consumer):
        return consumer.get_watermark_offsets(confluent_kafka.TopicPartition(world.commands, partition), timeout=20)[1]


def ends_of(world):
    return {p: end_of(world, p) for p in range(world.partitions)}


def await_ends(world):
    """Everything is committed, and confirmed before that."""
    wait_until(lambda: world.committed() == ends_of(world), 20, "the group's offsets are at the ends", pause_s=0.1)
    assert {p: owner(world, p)["confirmed_offset"] for p in range(world.partitions)} == ends_of(world)
    assert world.lag() == 0


def delete_all(world):
    """As retention does when the last segment is old enough."""
    for partition, end in ends_of(world).items():
        delete_records(world, partition, end)


def goes_on(world, worker):
    """A worker that starts now halts nothing, and answers what comes."""
    before = len(world.all_results())
    worker.start()
    worker.wait_for_log("running", running=world.partitions, halted=0)
    sent = [place for partition in range(world.partitions) for place in send_to(world, partition, 2)]
    results = world.await_results(before + len(sent))
    assert len(results) == before + len(sent) and {result.place for result in results} >= set(sent)
    assert not worker.events("partition_halted")
    assert worker.alive()


# ---- control records and aborted batches ----


def publish(world, publisher, kind):
    """Commands in each partition, the last records of which are of that kind. Returns how many are to be answered."""
    count = 0
    for partition in range(world.partitions):
        if kind == PLAIN:
            count += len(send_to(world, partition, 2))
        else:
            count += len(publisher.write(partition, 2))
        if kind == ABORTED:
            publisher.write_nothing(partition, 3)
    return count


@pytest.mark.parametrize("kind", [COMMITTED, ABORTED])
def test_what_was_answered_may_be_deleted(world, kind):
    worker = world.worker()
    publisher = Publisher(world)
    count = publish(world, publisher, kind)
    world.await_results(count)
    await_ends(world)
    worker.kill()
    delete_all(world)
    goes_on(world, worker)


def test_stopped_right_behind_the_last_answer(world):
    """It has a moment to see what lies behind that."""
    worker = world.worker()
    publisher = Publisher(world)
    worker.wait_for_log("running", running=4)
    for _ in range(3):
        count = len(world.all_results()) + sum(len(publisher.write(partition, 2)) for partition in range(4))
        world.await_results(count)
        assert worker.stop() == 0
        delete_all(world)
        goes_on(world, worker)


def test_a_partition_that_never_held_a_command(world):
    publisher = Publisher(world)
    for partition in range(4):
        publisher.write_nothing(partition, 2)
    worker = world.worker()
    worker.wait_for_log("running", running=4, halted=0)
    await_ends(world)
    assert worker.stop() == 0
    delete_all(world)
    goes_on(world, worker)


def test_what_came_while_no_worker_ran_is_control_records(world):
    worker = world.worker()
    world.await_results(publish(world, None, PLAIN))
    assert worker.stop() == 0
    publisher = Publisher(world)
    for partition in range(4):
        publisher.write_nothing(partition, 2)
    worker.start()
    await_ends(world)
    worker.kill()
    delete_all(world)
    goes_on(world, worker)


def test_a_halted_partition_keeps_its_offset(world):
    """A person decides about it; the ends of the others move."""
    worker = world.worker()
    world.await_results(publish(world, None, PLAIN))
    assert worker.stop() == 0
    set_offset(world, 1, 100)
    publisher = Publisher(world)
    for partition in range(4):
        publisher.write_nothing(partition, 2)
    worker.start()
    worker.wait_for_log("partition_halted", partition=1)
    wanted = {**ends_of(world), 1: 100}
    wait_until(lambda: world.committed() == wanted, 20, "the others' offsets are at the ends", pause_s=0.1)
    assert owner(world, 1)["confirmed_offset"] == 2


def test_ends_move_under_a_fleet_that_is_rebalanced(world):
    """Each end is committed by the partition's owner of the moment, and never behind a later one's back."""
    publisher = Publisher(world)
    workers = [world.worker("one")]
    sent = []
    for round in range(6):
        for partition in range(4):
            sent += publisher.write(partition, 3)
            publisher.write_nothing(partition, 2)
        if round % 2 == 0:
            workers.append(world.worker("other-%d" % round))
        else:
            assert workers.pop(0).stop() == 0
        time.sleep(0.3)
    assert set(world.verify(sent)) == set(sent)
    await_ends(world)


def commits(world):
    """How many offsets have been committed for the group so far."""
    records = world.read_all("__consumer_offsets", "read_uncommitted")
    group = text(world.group)
    return sum(record.key is not None and record.key[:2] in (b"\0\0", b"\0\1") and record.key[2:].startswith(group)
               for record in records)


def test_nothing_is_committed_where_nothing_moved(world):
    publisher = Publisher(world)
    world.worker().wait_for_log("running", running=4)
    world.await_results(publish(world, publisher, COMMITTED))
    await_ends(world)
    before = commits(world)
    time.sleep(3)
    assert commits(world) == before
    publisher.write_nothing(1, 1)
    await_ends(world)
    assert commits(world) == before + 4  # once, for all that the lane reads


def test_records_behind_the_end_are_read_in_order(world):
    """Ends move between the batches of a busy partition."""
    publisher = Publisher(world)
    world.worker(args=("--batch", "3"), ahead=True).wait_for_log("running", running=4)
    sent = []
    for i in range(40):
        sent += publisher.write(i % 2, 1 + i % 5)
        if i % 7 == 0:
            publisher.write_nothing(i % 2, 1)
    assert set(world.verify(sent)) == set(sent)
    await_ends(world)


# ---- transactions that hang ----


def open_transactions(world):
    """What check says of them."""
    done = world.program("campaign-worker", "check", check=False)
    lines = [line for line in done.stdout.splitlines() if "transaction is open" in line]
    assert done.returncode != 0 or not lines
    assert bool(lines) != ("ok    topic %s: no publisher's transaction stays open" % world.commands in done.stdout), done.stdout
    return lines


def test_a_transaction_that_hangs_is_named(world):
    publisher = Publisher(world)
    worker = world.worker()
    sent = send_to(world, 1, 2)
    world.await_results(2)
    assert not open_transactions(world)
    sent += publisher.begin(1, 3)
    sent += send_to(world, 1, 2) + send_to(world, 0, 1)  # the other partition's is answered
    assert [result.place for result in world.await_results(3)].count((0, 0)) == 1
    (line,) = open_transactions(world)
    for word in ("topic " + world.commands, "partition 1", "offset 2", "7", "kafka-transactions.sh", "--start-offset 2"):
        assert word in line, line
    (line, *_) = worker.wait_for_log("transaction_open", timeout_s=60, topic=world.commands, partition=1, offset=2, highWatermark=7)
    assert "kafka-transactions.sh" in line["msg"] and "--start-offset 2" in line["msg"] and line["since"]
    assert len(worker.events("transaction_open")) == 1
    publisher.commit()
    worker.wait_for_log("transaction_ended", partition=1, offset=2)
    assert set(world.verify(sent)) == set(sent)
    await_ends(world)
    assert not open_transactions(world)


def test_transactions_in_flight_are_no_finding(world):
    """A publisher that is in a transaction nearly always, whenever somebody looks."""
    publisher = Publisher(world)
    world.worker().wait_for_log("running", running=4)
    publisher.begin(2, 1)
    done = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        looking = pool.submit(open_transactions, world)
        while not looking.done():
            time.sleep(0.2)
            publisher.commit()
            done += publisher.begin(2, 1)
        publisher.commit()
    assert looking.result() == []
    world.verify(done)
