"""Properties and groups that cannot work: said at the start, in a sentence, by `run` and by `check`."""

import time

import confluent_kafka
import pytest

from harness import run_program, wait_until


def run(world, *args):
    """A worker that has to end by itself."""
    worker = world.worker(args=args)
    status = worker.wait(30)
    return status, worker.text()


def findings(world, *args):
    done = world.program("campaign-worker", "check", *args, check=False)
    return done.returncode, [text for text in done.stdout.splitlines() if text.startswith("WRONG")], done.stderr


@pytest.mark.parametrize("properties, said", [
    (["queue.buffering.max.messages=10"], "queue.buffering.max.messages (command line): 10 cannot work, at least 1000"),
    (["queue.buffering.max.kbytes=64"], "queue.buffering.max.kbytes (command line): 64 cannot work"),
    (["session.timeout.ms=500"], "session.timeout.ms (command line): cannot work"),
    (["socket.timeout.ms=10"], "socket.timeout.ms (command line): 10 cannot work"),
    (["receive.message.max.bytes=1000"], "receive.message.max.bytes (command line): 1000 cannot work"),
    (["partition.assignment.strategy=roundrobin"], "partition.assignment.strategy (command line): this librdkafka property cannot be set"),
    (["group.instance.id=a"], "group.instance.id (command line): this librdkafka property cannot be set"),
])
def test_values_that_are_known_not_to_work(world, properties, said):
    options = [word for text in properties for word in ("-X", text)]
    for command in ("run", "check"):
        done = world.program("campaign-worker", command, *options, check=False)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("campaign-worker: " + said) and done.stderr.count("\n") == 1


@pytest.mark.parametrize("properties, said", [
    (["transaction.timeout.ms=3600000"], "transaction.timeout.ms is longer than the brokers take (transaction.max.timeout.ms)"),
    (["session.timeout.ms=600", "heartbeat.interval.ms=200"], "session.timeout.ms lies outside of what the brokers take"),
    (["session.timeout.ms=3000000", "max.poll.interval.ms=3000000"], "session.timeout.ms lies outside of what the brokers take"),
])
def test_values_that_the_broker_refuses(world, properties, said):
    options = [word for text in properties for word in ("-X", text)]
    status, text = run(world, *options)
    assert status == 1
    assert '"event":"fatal"' in text and said in text
    status, wrong, _ = findings(world, *options)
    named = said.split()[0]
    assert status == 1 and any(named in finding for finding in wrong), wrong


def stranger(world, heard):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": world.brokers, "group.id": world.group, "client.id": "a-stranger", "enable.auto.commit": False,
        "partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 6000, "error_cb": heard.append})
    consumer.subscribe([world.commands])
    return consumer


def test_a_group_of_another_strategy(world):
    """Who cannot join says so and ends; once the group is free, it joins."""
    heard = []
    consumer = stranger(world, heard)
    wait_until(lambda: consumer.poll(0.2) or consumer.assignment(), 30, "the stranger's assignment")
    status, wrong, _ = findings(world)
    assert status == 1 and any("a-stranger" in text and "cooperative-sticky" in text for text in wrong), wrong
    status, text = run(world)
    assert status == 1 and '"event":"fatal"' in text and "another assignment strategy" in text
    consumer.close()
    world.send(world.command())
    world.worker("two").wait_for_log("running")
    world.verify()


def test_a_stranger_does_not_disturb_those_who_run(world):
    worker = world.worker()
    worker.wait_for_log("running")
    heard = []
    consumer = stranger(world, heard)
    deadline = time.monotonic() + 20
    refused = False
    while not refused and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        codes = [error.code() for error in heard] + ([message.error().code()] if message and message.error() else [])
        refused = confluent_kafka.KafkaError.INCONSISTENT_GROUP_PROTOCOL in codes
    assert refused, heard
    world.send(world.command(), world.command())
    world.await_results(2)
    assert worker.alive() and not worker.events("fatal")
    consumer.close()
    world.verify()


def test_the_promised_protocol_cannot_be_changed(world):
    done = run_program("campaign-worker", "run", "-X", "group.protocol=consumer", check=False)
    assert done.returncode == 2 and "group.protocol (command line): this librdkafka property cannot be set" in done.stderr
