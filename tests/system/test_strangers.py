"""Offsets of our group that are not ours: another consumer commits in it, offsets are set forward, the database is an older one
or not the one of the group, or knows the topic from another cluster. Each time the partition halts, alone, with both sides, and
a person has the way back. And what a worker of an earlier version left behind goes on."""

import contextlib
import threading
import time

import confluent_kafka
import pytest

from avrocodec import command_codec
from harness import wait_until
from test_offsets import delete_group, delete_records, halted, owner, resume, send_to, set_offset, start_and_stop

FAST = ("-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=500")
PENDING_MS = 600_000  # a transaction that nobody ends stays open for that long


def wrong(done):
    return [line for line in done.stdout.splitlines() if line.startswith("WRONG")]


def check(world):
    return world.program("campaign-worker", "check", check=False)


def halt_of(worker, partition, nth=0):
    return worker.wait_for_log("partition_halted", partition=partition, count=nth + 1)[nth]["msg"]


def go_back(world, worker, partition, words):
    """Runs the command that a message offers for going back."""
    text = "campaign-worker resume --partition %d --from " % partition
    start = words.split(text)[1].split(";")[0]
    world.program("campaign-worker", "resume", "--partition", str(partition), "--from", start)
    worker.wait_for_log("partition_resumed", partition=partition, offset=start)


def answered(world):
    return {result.place for result in world.all_results()}


@contextlib.contextmanager
def stranger(world, **settings):
    """A consumer of somebody else, as kafka-console-consumer with our group: it commits what it reads, unasked."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": world.brokers, "group.id": world.group, "client.id": "console-consumer",
        "auto.commit.interval.ms": 100, "auto.offset.reset": "earliest", "session.timeout.ms": 6000, **settings})
    ending = threading.Event()
    consumer.subscribe([world.commands])

    def read():
        while not ending.is_set():
            consumer.poll(0.1)
        consumer.close()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield consumer
    finally:
        ending.set()
        thread.join()


def test_another_consumer_commits_in_our_group(world):
    worker = world.worker(args=FAST)
    sent = [place for partition in range(4) for place in send_to(world, partition, 6)]
    world.await_results(len(sent))
    with stranger(world):
        worker.wait_for_log("assigned", partitions=2)
        worker.wait_for_log("running", running=2)
        said = wrong(check(world))
        assert any("member console-consumer at /127.0.0.1 is no campaign-worker" in line for line in said), said
        for _ in range(60):
            sent += [place for partition in range(4) for place in send_to(world, partition, 1)]
        wait_until(lambda: all(offset == 66 for offset in world.committed().values()), 20, "all of it is read")
    worker.wait_for_log("assigned", partitions=4, count=2)
    unanswered = set(sent) - answered(world)
    print("%d of %d commands are not answered when the stranger has left" % (len(unanswered), len(sent)))
    halts = {line["partition"]: line["msg"] for line in wait_until(lambda: worker.events("partition_halted"), 20, "a halt")}
    assert unanswered and {str(partition) for partition, _ in unanswered} == set(halts)
    said = wrong(check(world))
    for partition, msg in halts.items():
        executed = owner(world, int(partition))["executed_offset"]
        assert "committed offset 66" in msg and "up to %d" % executed in msg and "another consumer committed" in msg
        assert any("partition %s is halted" % partition in line and "up to %d" % executed in line for line in said), said
    assert not any("console-consumer" in line for line in said)
    for partition, msg in halts.items():
        go_back(world, worker, int(partition), msg)
    assert set(world.verify(sent)) == set(sent)
    assert not wrong_of_group(world)


def wrong_of_group(world):
    """What check has to say of the group and its partitions."""
    return [line for line in wrong(check(world)) if "consumer group" in line or "is halted" in line]


def test_another_consumer_commits_inside_of_the_last_batch(world):
    """The batch is executed and not published: PostgreSQL knows its end, and yet nothing of it is answered."""
    worker = world.worker(args=FAST, fail="commit-after:kill")
    sent = send_to(world, 1, 5)
    worker.wait(20)
    with stranger(world):
        wait_until(lambda: world.committed().get(1) == 5, 20, "the stranger has read the batch")
    assert owner(world, 1)["executed_offset"] == 5 and not answered(world)
    (line,) = wrong_of_group(world)
    assert "committed offset 5, which no worker committed" in line and "--partition 1 --from 0" in line
    worker.fail = None
    worker.start()
    msg = halt_of(worker, 1)
    assert "which no worker committed" in msg
    go_back(world, worker, 1, msg)
    assert set(world.verify(sent)) == set(sent)


def test_offsets_set_forward(world):
    sent, worker = start_and_stop(world)
    sent += send_to(world, 1, 7) + send_to(world, 2, 1)
    set_offset(world, 1, 8)
    (line,) = wrong_of_group(world)
    assert "partition 1 is halted" in line and "committed offset 8" in line and "--partition 1 --from 3" in line
    worker.start()
    msg = halt_of(worker, 1)
    assert "committed offset 8" in msg and "up to 3" in msg and "set forward" in msg
    worker.wait_for_log("running", running=3, halted=1)
    go_back(world, worker, 1, msg)
    assert set(world.verify(sent)) == set(sent)


def test_a_person_may_skip_what_a_stranger_read(world):
    """The other way out: what lies between stays unanswered, because a person says so."""
    sent, worker = start_and_stop(world)
    skipped, behind = send_to(world, 1, 5), None
    set_offset(world, 1, 8)
    worker.start()
    halt_of(worker, 1)
    resume(world, 1, 8)
    worker.wait_for_log("partition_resumed", partition=1, offset=8)
    behind = send_to(world, 1, 2)
    wait_until(lambda: set(behind) <= answered(world), 20, "what is behind is answered")
    assert not set(skipped) & answered(world)
    assert worker.stop() == 0
    worker.start()
    worker.wait_for_log("running", running=4, halted=0)


def replace_database(world, template):
    if world.connection is not None:
        world.connection.close()
    world.services.postgres.execute("DROP DATABASE %s WITH (FORCE)" % world.database)
    world.services.postgres.execute("CREATE DATABASE %s TEMPLATE %s" % (world.database, template))


def test_database_restored_to_an_older_state(world):
    sent, worker = start_and_stop(world)
    backup = world.database + "_backup"
    if world.connection is not None:
        world.connection.close()
    world.services.postgres.execute("CREATE DATABASE %s TEMPLATE %s" % (backup, world.database))
    try:
        worker.start()
        sent += send_to(world, 0, 4) + send_to(world, 3, 2)
        world.await_results(len(sent))
        assert worker.stop() == 0
        announced = {result["data"]["id"] for result in world.all_results()}
        replace_database(world, backup)
    finally:
        world.services.postgres.execute("DROP DATABASE %s" % backup)
    assert len(announced - {draft["id"] for draft in world.drafts()}) == 6
    assert len(wrong_of_group(world)) == 2
    worker.start()
    for partition, committed in (0, 7), (3, 5):
        msg = halt_of(worker, partition)
        assert "committed offset %d" % committed in msg and "up to 3" in msg and "restored from an older state" in msg
    worker.wait_for_log("running", running=2, halted=2)
    for partition in 0, 3:
        go_back(world, worker, partition, halt_of(worker, partition))
    wait_until(lambda: len(world.drafts()) == len(sent), 20, "every command has its draft again")
    wait_until(lambda: world.lag() == 0, 20, "all is answered again")
    newest = {result.place: result for result in sorted(world.all_results(), key=lambda r: r.record.timestamp_ms)}
    drafts = {draft["trace_id"]: draft["id"] for draft in world.drafts()}
    assert all(result["success"] and result["data"]["id"] == drafts[result["traceId"]] for result in newest.values())


def test_worker_of_another_database(world):
    """Staging with production's brokers: it halts what it is given, and answers nothing."""
    sent, worker = start_and_stop(world)
    other = world.database + "_other"
    world.services.postgres.execute("CREATE DATABASE %s TEMPLATE %s" % (other, world.services.TEMPLATE))
    try:
        conninfo = world.services.postgres.conninfo(other, world.services.LOGIN)
        strange = world.worker("staging", database=conninfo, args=FAST)
        for partition in range(4):
            halted(strange, partition, "committed offset 3", "executed nothing", "not the one that the group's offsets belong to")
        sent += [place for partition in range(4) for place in send_to(world, partition, 2)]
        done = world.program("campaign-worker", "check", check=False, env={"CAMPAIGN_DATABASE": conninfo})
        assert sum("is halted" in line and "executed nothing" in line for line in wrong(done)) == 4, done.stdout
        # It knows of the partition from now on, and halts it again: the row that its claim made is no history.
        assert strange.stop() == 0
        strange.start()
        for partition in range(4):
            halted(strange, partition, "executed nothing")
        assert len(world.all_results()) == 12 and strange.stop() == 0
        worker.start()
        assert set(world.verify(sent)) == set(sent)
        assert not worker.events("partition_halted") and worker.stop() == 0
        # Its own group's offsets are its own business; a person may also say so.
        strange.start()
        halt_of(strange, 2)
        world.program("campaign-worker", "resume", "--partition", "2", "--from", "5", env={"CAMPAIGN_DATABASE": conninfo})
        strange.wait_for_log("partition_resumed", partition=2, offset=5)
        strange.kill()
    finally:
        world.services.postgres.execute("DROP DATABASE %s WITH (FORCE)" % other)


def test_installations_from_before_pass_once(world):
    """Rows that an earlier version wrote say nothing of what is executed; from the first takeover on they do."""
    sent, worker = start_and_stop(world)
    world.sql("UPDATE partition_owner SET executed_offset = NULL")
    assert not wrong_of_group(world)
    worker.start()
    worker.wait_for_log("running", running=4, halted=0)
    assert [owner(world, p)["executed_offset"] for p in range(4)] == [3, 3, 3, 3]
    assert worker.stop() == 0
    sent += send_to(world, 2, 2)
    set_offset(world, 2, 4)
    worker.start()
    go_back(world, worker, 2, halt_of(worker, 2))
    assert set(world.verify(sent)) == set(sent)


@pytest.mark.parametrize("step", ["claim-after", "check-before", "check-after"])
@pytest.mark.parametrize("start", ["first", "ordered"])
def test_killed_at_a_start(world, start, step):
    """PostgreSQL knows of a start before the group does: a worker that dies in between is not taken for a stranger."""
    worker = world.worker(args=FAST, fail=step + ":kill" if start == "first" else None)
    if start == "ordered":
        worker.wait_for_log("running", running=4)
        assert worker.stop() == 0
        send_to(world, 1, 4)
        resume(world, 1, 3)
        worker.fail = step + ":kill"
        worker.start()
    worker.wait()
    worker.fail = None
    worker.start()
    worker.wait_for_log("running", running=4, halted=0)
    sent = send_to(world, 1, 2) + send_to(world, 0, 1)
    wait_until(lambda: set(sent) <= answered(world), 20, "what comes is answered")
    assert not worker.events("partition_halted")


# ---- another cluster ----


def move(world):
    """As if the topic had been mirrored to the cluster that it is on now."""
    world.sql("UPDATE partition_owner SET cluster_id = 'the-old-cluster'")


def rows_of(world):
    return {(row["cluster_id"], row["partition"]) for row in world.sql("SELECT cluster_id, partition FROM partition_owner")}


def cluster_of(world):
    (cluster,) = {row["cluster_id"] for row in world.sql("SELECT cluster_id FROM partition_owner")}
    return cluster


def test_topic_moved_to_another_cluster(world):
    refused = world.command(campaignId="missing")
    sent = world.send_raw((refused["accountGroupId"], command_codec.encode(refused)), partition=2)
    worker = world.worker()
    world.await_results(1)
    assert worker.stop() == 0
    cluster = cluster_of(world)
    move(world)
    # A mirror carries the commands over, and no offsets.
    delete_group(world)
    world.sql("INSERT INTO campaigns (account_group_id, id, name, status, workflow) SELECT account_group_id, 'missing', name, status, "
              "workflow FROM campaigns WHERE account_group_id = %s AND id = %s", refused["accountGroupId"], "65a000000000000000000001")
    old = rows_of(world)
    worker.start()
    for partition in range(4):
        halted(worker, partition, "the-old-cluster", cluster)
    worker.wait_for_log("running", running=0, halted=4)
    assert rows_of(world) == old, "nothing is claimed"
    said = wrong_of_group(world)
    assert len(said) == 4 and all("the-old-cluster" in line and cluster in line for line in said), said
    # A person says where each partition goes on: behind what was answered on the old one.
    resume(world, 2, 1)
    worker.wait_for_log("partition_resumed", partition=2, offset=1)
    assert worker.stop() == 0
    worker.start()
    for partition in 0, 1, 3:
        halted(worker, partition, "the-old-cluster", cluster)
    worker.wait_for_log("running", running=1, halted=3)
    for partition in 0, 1, 3:
        resume(world, partition, "earliest")
    sent += [place for partition in range(4) for place in send_to(world, partition, 1)]
    assert set(world.verify(sent)) == set(sent)
    assert not world.sql("SELECT FROM campaigns WHERE trace_id = %s", refused["traceId"])
    # And back again: what the old cluster's rows say is the past.
    assert worker.stop() == 0
    world.sql("DELETE FROM partition_owner WHERE cluster_id = %s", cluster)
    world.sql("UPDATE partition_owner SET cluster_id = %s", cluster)
    worker.start()
    for partition in range(4):
        halted(worker, partition, "executed nothing", "was on another cluster")


def test_partitions_added_on_the_cluster_it_moved_to(make_world):
    """Partitions that were never on the old cluster, once a person has let the others go on, are new ones as ever."""
    world = make_world(partitions=3)
    sent, worker = start_and_stop(world)
    move(world)
    world.sql("DELETE FROM partition_owner WHERE partition = 1")
    worker.start()
    halted(worker, 1, "the-old-cluster")
    for partition in 0, 2:
        resume(world, partition, 3)
        worker.wait_for_log("partition_resumed", partition=partition)
    assert worker.stop() == 0
    worker.start()
    # Its offset is committed, and this database has nothing of it: that is rule 7, not 8.
    assert "executed nothing" in halt_of(worker, 1)


# ---- an order that cannot be carried out ----


def test_a_stale_order_is_refused_once(world):
    sent, worker = start_and_stop(world)
    resume(world, 2, 1)
    delete_records(world, 2, 2)
    sent = [place for place in sent if place[0] != 2 or place[1] >= 2]
    worker.start()
    halted(worker, 2, "order to resume by", "@", "is refused", "the offset 1 to resume from is outside", "2 to 3")
    worker.wait_for_log("running", running=3, halted=1)
    (order,) = world.sql("SELECT * FROM partition_resumes")
    assert order["refused_at"] and "the offset 1" in order["refused_because"]
    assert owner(world, 2)["resume_from"] is None
    epochs = [owner(world, p)["epoch"] for p in range(4)]
    time.sleep(7)  # orders are looked for every two seconds
    print("epochs %s, 7 s later %s" % (epochs, [owner(world, p)["epoch"] for p in range(4)]))
    assert [owner(world, p)["epoch"] for p in range(4)] == epochs
    assert len(worker.events("partition_halted")) == 1 and len(worker.events("running")) == 1
    resume(world, 2, 2)
    worker.wait_for_log("partition_resumed", partition=2, offset=2)
    assert [o["refused_at"] is None for o in world.sql("SELECT refused_at FROM partition_resumes ORDER BY id")] == [False, True]
    wait_until(lambda: world.lag() == 0, 20, "all is answered")


def test_a_rolled_back_order_is_not_recorded(world):
    """A constraint that is checked at the COMMIT refuses it: no order, and the command says so."""
    sent, worker = start_and_stop(world)
    world.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
              "'BEGIN RAISE EXCEPTION ''two persons have to agree'' USING ERRCODE = ''23514''; END'")
    world.sql("CREATE CONSTRAINT TRIGGER two_persons AFTER INSERT ON partition_resumes DEFERRABLE INITIALLY DEFERRED "
              "FOR EACH ROW EXECUTE FUNCTION refuse()")
    done = resume(world, 1, 0, check=False)
    assert done.returncode == 1 and "recorded" not in done.stdout and "23514" in done.stderr, done.stdout + done.stderr
    assert not world.sql("SELECT FROM partition_resumes") and owner(world, 1)["resume_from"] is None


# ---- names ----


def test_names_with_dots_are_not_taken_for_each_other(make_world):
    """Two fleets whose groups and instances are the same text when they are put in a row."""
    one, two = make_world(), make_world()
    for world, group, instance in (one, one.name, "aa.bb"), (two, one.name + ".aa", "bb"):
        world.group = group
        world.worker(args=FAST, env={"CAMPAIGN_INSTANCE": instance, "CAMPAIGN_GROUP": group})
    sent = {one: [], two: []}
    for _ in range(10):
        for world in one, two:
            sent[world] += [place for partition in range(4) for place in send_to(world, partition, 1)]
            world.await_results(len(sent[world]))
    for world in one, two:
        world.verify(sent[world])
        (worker,) = world.workers
        assert not worker.events("client_rebuilt") and not worker.events("transaction_aborted") and not worker.events("fatal")
        assert worker.stop() == 0


def leave_pending(world, transactional_id):
    """A transaction with a result and the group's offsets, whose producer is gone."""
    producer = confluent_kafka.Producer({
        "bootstrap.servers": world.brokers, "transactional.id": transactional_id, "transaction.timeout.ms": PENDING_MS})
    consumer = confluent_kafka.Consumer({"bootstrap.servers": world.brokers, "group.id": world.group})
    producer.init_transactions(20)
    producer.begin_transaction()
    for partition in range(world.partitions):
        producer.produce(world.results, b"never seen", partition=partition)
    assert producer.flush(20) == 0
    offsets = [confluent_kafka.TopicPartition(world.commands, p, 1) for p in range(world.partitions)]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 20)
    consumer.close()
    return producer  # ended by nobody: it is to be kept until the test is over


@pytest.mark.parametrize("owner_was", ["this one", "another one", "forgotten"])
def test_upgrade_ends_what_the_earlier_name_left_pending(world, owner_was):
    """The earlier version's transactional.id was group.instance.lane. A successor has another one: initialising its own ends
    nothing of its predecessor's, which would hide offsets and results until its time-out, ten minutes here."""
    former = "%s.%s-%s.0" % (world.group, world.name, "gone" if owner_was == "another one" else "one")
    sent, worker = start_and_stop(world)
    if owner_was != "forgotten":
        world.sql("UPDATE partition_owner SET transactional_id = %s", former)
    pending = leave_pending(world, former)
    sent += [place for partition in range(4) for place in send_to(world, partition, 2)]
    begin = time.monotonic()
    worker.start()
    worker.wait_for_log("running", timeout_s=60, running=4)
    world.await_results(len(sent), timeout_s=60)
    print("answered and visible after %.1f s; the pending transaction had %d s" % (time.monotonic() - begin, PENDING_MS / 1000))
    assert worker.events("predecessor_ended", transactionalId=former)
    assert set(world.verify(sent)) == set(sent)
    del pending
