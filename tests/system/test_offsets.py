"""Where a partition is read from: offsets lost, set back, set beyond the end, commands deleted before they were read, a topic
made anew, another group's partition, partitions added. What cannot be known halts that partition alone, until a person says
where to go on (campaign-worker resume)."""

import contextlib
import socket
import struct

import confluent_kafka
import confluent_kafka.admin
import pytest

from avrocodec import command_codec
from harness import wait_until

QUICK_METADATA = ("-X", "topic.metadata.refresh.interval.ms=500")


# ---- what this Python client lacks of Kafka's administration ----


def text(string):
    return struct.pack(">h", len(string)) + string.encode()


def ask_kafka(world, api, version, body):
    """One request, and the answer behind its correlation id."""
    host, port = world.brokers.split(",")[0].rsplit(":", 1)
    request = struct.pack(">hhi", api, version, 1) + text("test") + body
    with socket.create_connection((host, int(port)), timeout=20) as connection, connection.makefile("rb") as answers:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", answers.read(4))
        return answers.read(size)[4:]


def delete_group(world):
    def try_it():
        answer = ask_kafka(world, 42, 0, struct.pack(">i", 1) + text(world.group))
        return answer[-2:] == b"\0\0"

    wait_until(try_it, 20, "the group is deleted")


def delete_offset(world, partition):
    def try_it():  # throttle time, then the group's error (it may still be thought to be in use)
        answer = ask_kafka(
            world, 47, 0, text(world.group) + struct.pack(">i", 1) + text(world.commands) + struct.pack(">ii", 1, partition))
        return answer[:2] == b"\0\0" and answer[-2:] == b"\0\0"

    wait_until(try_it, 20, "the offset of partition %d is deleted" % partition)


def delete_records(world, partition, below):
    answer = ask_kafka(
        world, 21, 0, struct.pack(">i", 1) + text(world.commands) + struct.pack(">iiqi", 1, partition, below, 10000))
    assert answer[-2:] == b"\0\0", answer


def set_offset(world, partition, offset):
    """By hand, as an administrator would while no worker runs."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": world.brokers, "group.id": world.group})
    with contextlib.closing(consumer):
        consumer.commit(offsets=[confluent_kafka.TopicPartition(world.commands, partition, offset)], asynchronous=False)


# ---- tools ----


def admin_of(world):
    return confluent_kafka.admin.AdminClient({"bootstrap.servers": world.brokers})


def send_to(world, partition, count):
    commands = [world.command() for _ in range(count)]
    return world.send_raw(*((c["accountGroupId"], command_codec.encode(c)) for c in commands), partition=partition)


def owner(world, partition):
    (row,) = world.sql("SELECT * FROM partition_owner WHERE topic = %s AND partition = %s", world.commands, partition)
    return row


def resume(world, partition, start, **options):
    return world.program("campaign-worker", "resume", "--partition", str(partition), "--from", str(start), **options)


def halted(worker, partition, *words):
    """Waits until that partition is halted, with these words, and the way out named."""
    (line, *_) = worker.wait_for_log("partition_halted", partition=partition)
    for word in (*words, "campaign-worker resume --partition %d --from OFFSET|earliest" % partition):
        assert word in line["msg"], line["msg"]


def start_and_stop(world, count=3):
    """A worker has answered so many commands in each partition, and has left."""
    worker = world.worker(args=QUICK_METADATA)
    sent = [place for partition in range(world.partitions) for place in send_to(world, partition, count)]
    world.await_results(len(sent))
    assert worker.stop() == 0
    return sent, worker


# ---- tests ----


def test_first_claim_starts_at_the_beginning_and_says_so(world):
    sent = send_to(world, 1, 3)
    worker = world.worker()
    assert len(worker.wait_for_log("partition_start", count=4, offset=0)) == 4
    worker.wait_for_log("running", running=4)
    assert set(world.verify(sent)) == set(sent)
    assert world.committed() == {0: 0, 1: 3, 2: 0, 3: 0}
    # A second worker, and a second life: nothing is "never claimed" any more, the idle partitions included.
    assert worker.stop() == 0
    worker.start()
    worker.wait_for_log("running", running=4, halted=0)
    assert not worker.events("partition_start")


def test_a_lost_offset_halts_that_partition_alone(world):
    sent, worker = start_and_stop(world)
    delete_offset(world, 2)
    sent += [place for partition in range(4) for place in send_to(world, partition, 2)]
    worker.start()
    halted(worker, 2, "committed offset is lost")
    worker.wait_for_log("running", running=3, halted=1)
    world.await_results(12 + 6)
    assert worker.alive() and {p: world.committed()[p] for p in (0, 1, 3)} == {0: 5, 1: 5, 3: 5}
    # Refused: an offset that the partition does not hold, a partition that there is not.
    for partition, start in (2, 6), (7, 0):
        refused = resume(world, partition, start, check=False)
        assert refused.returncode != 0 and len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert not world.sql("SELECT FROM partition_resumes")
    done = resume(world, 2, 3)
    assert "%s [2] goes on from 3" % world.commands in done.stdout
    worker.wait_for_log("partition_resumed", timeout_s=10, partition=2, offset=3)
    assert set(world.verify(sent)) == set(sent)
    (order,) = world.sql("SELECT * FROM partition_resumes")
    assert (order["partition"], order["resume_from"], order["previous_confirmed_offset"]) == (2, 3, 3)
    assert order["group_id"] == order["previous_group_id"] == world.group
    assert order["ordered_by"] and owner(world, 2)["resume_from"] is None


def test_a_deleted_group_halts_every_partition(world):
    sent, worker = start_and_stop(world)
    delete_group(world)
    sent += send_to(world, 0, 2)
    worker.start()
    for partition in range(4):
        halted(worker, partition, "committed offset is lost", "below 3")
    assert worker.alive() and len(world.all_results()) == 12
    for partition in range(4):
        resume(world, partition, 3)
    assert set(world.verify(sent)) == set(sent)


def test_confirmed_while_others_are_busy(world):
    """What is published of a partition that fell silent is confirmed soon, however busy the worker is with others."""
    send_to(world, 2, 3)
    sent = send_to(world, 0, 6000)
    world.worker(args=("--batch", "10")).wait_for_log("running")
    wait_until(lambda: owner(world, 2)["confirmed_offset"] == 3, 15, "it says what is published of partition 2")
    assert 0 < world.committed()[0] < len(sent), "partition 0 is to be busy meanwhile"


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_offsets_set_back_repeat_nothing(world, end):
    worker = world.worker(args=("-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=500"))
    sent = [place for partition in range(4) for place in send_to(world, partition, 5)]
    world.await_results(20)
    if end == "stopped":
        assert worker.stop() == 0
    else:  # a worker that had nothing to do for a second before
        wait_until(lambda: all(owner(world, p)["confirmed_offset"] == 5 for p in range(4)), 10, "it says what is published")
        worker.kill()
        wait_until(lambda: not group_is_active(world), 20, "the group has forgotten it")
    for partition in 0, 1, 3:
        set_offset(world, partition, partition)  # 0: all of it, 1 and 3: a part
    sent += send_to(world, 0, 2)
    worker.start()
    for partition in 0, 1, 3:
        (line,) = worker.wait_for_log("partition_start", partition=partition)
        assert "set back" in line["msg"] and line["offset"] == "5"
    assert set(world.verify(sent)) == set(sent)


def group_is_active(world):
    return any(group.members for group in admin_of(world).list_groups(world.group, timeout=10))


def test_offset_beyond_the_end(world):
    sent, worker = start_and_stop(world)
    set_offset(world, 1, 100)
    sent += [place for partition in range(4) for place in send_to(world, partition, 1)]
    worker.start()
    halted(worker, 1, "offset 100", "up to 3")
    world.await_results(12 + 3)
    resume(world, 1, 3)
    assert set(world.verify(sent)) == set(sent)


def test_commands_deleted_before_they_were_read(world):
    """Retention was shorter than an outage: what is gone is gone, and somebody is told."""
    worker = world.worker()
    worker.wait_for_log("running", running=4)
    assert worker.stop() == 0
    lost, sent = send_to(world, 3, 2), send_to(world, 3, 2) + send_to(world, 0, 2)
    delete_records(world, 3, 2)
    worker.start()
    halted(worker, 3, "offset 0 up to 2", "deleted")
    world.await_results(2)
    resume(world, 3, "earliest")
    worker.wait_for_log("partition_resumed", timeout_s=10, partition=3, offset=2)
    results = world.verify(sent)
    assert set(results) == set(sent) and not set(lost) & set(results)


def test_commands_deleted_under_a_running_worker(world):
    """As a partition that falls behind its retention while it is read: the fetch fails, and only that partition halts."""
    fence = "EXECUTE ON FUNCTION partition_fence(text, text, text, integer[], bigint[], bigint[], bigint[])"
    worker = world.worker(args=("--batch", "1"))
    worker.wait_for_log("running", running=4)
    world.sql("REVOKE %s FROM campaign_worker" % fence)
    send_to(world, 2, 3)
    worker.wait_for_log("waiting")
    delete_records(world, 2, 2)
    world.sql("GRANT %s TO campaign_worker" % fence)
    sent = send_to(world, 0, 2)
    halted(worker, 2, "deleted")
    world.await_results(2)
    resume(world, 2, "earliest")
    worker.wait_for_log("partition_resumed", timeout_s=10, partition=2, offset=2)
    assert set(world.verify(sent)) >= set(sent)


@pytest.mark.parametrize("meanwhile", ["stopped", "running"])
def test_topic_deleted_and_created_again(world, meanwhile):
    sent, worker = start_and_stop(world)
    if meanwhile == "running":
        worker.start()
        worker.wait_for_log("running", running=4)
    recreate(world)
    send_to(world, 0, 1)
    if meanwhile == "stopped":
        worker.start()
    for partition in range(4):
        halted(worker, partition, "deleted and created again")
    assert len(world.all_results()) == len(sent)
    for partition in range(4):
        resume(world, partition, "earliest")
    world.await_results(len(sent) + 1)


def partitions_known(world):
    return len(admin_of(world).list_topics(world.commands, timeout=10).topics[world.commands].partitions)


def recreate(world):
    admin = admin_of(world)
    admin.delete_topics([world.commands])[world.commands].result()
    topic = confluent_kafka.admin.NewTopic(world.commands, 4, 1, config={"message.timestamp.type": "LogAppendTime"})

    def try_it():
        with contextlib.suppress(confluent_kafka.KafkaException):
            admin.create_topics([topic])[world.commands].result()
            return True
        return False

    wait_until(try_it, 20, "the topic is created again", pause_s=0.2)
    wait_until(lambda: partitions_known(world) == 4, 20, "it is known")
    world._producer = None  # a client that knew the old one


def test_partition_of_another_group(world):
    """Two groups on one topic and one database would answer everything twice."""
    sent, worker = start_and_stop(world)
    stranger = world.worker("stranger", env={"CAMPAIGN_GROUP": "other"})
    for partition in range(4):
        halted(stranger, partition, "consumer group " + world.group)
    assert stranger.stop() == 0 and len(world.all_results()) == 12
    world.sql("UPDATE partition_owner SET group_id = 'other' WHERE partition = 1")
    sent += [place for partition in range(4) for place in send_to(world, partition, 1)]
    worker.start()
    halted(worker, 1, "consumer group other")
    world.await_results(12 + 3)
    assert owner(world, 1)["group_id"] == "other"
    resume(world, 1, 3)  # a person takes it away from them
    assert set(world.verify(sent)) == set(sent)
    (order,) = world.sql("SELECT previous_group_id, group_id FROM partition_resumes")
    assert (order["previous_group_id"], order["group_id"]) == ("other", world.group)


def test_partitions_are_added(make_world):
    world = make_world(partitions=2)
    workers = [world.worker(name, args=QUICK_METADATA) for name in ("one", "two")]
    for worker in workers:
        worker.wait_for_log("running", running=1)
    sent = send_to(world, 0, 2) + send_to(world, 1, 2)
    more = confluent_kafka.admin.NewPartitions(world.commands, 5)
    admin = admin_of(world)  # must outlive its answers
    admin.create_partitions([more])[world.commands].result()
    world.partitions = 5
    wait_until(lambda: partitions_known(world) == 5, 20, "they are known")
    world._producer = None
    sent += [place for partition in range(5) for place in send_to(world, partition, 2)]
    assert set(world.verify(sent)) == set(sent)
    assert sum(line["offset"] == "0" for worker in workers for line in worker.events("partition_start")) == 5
