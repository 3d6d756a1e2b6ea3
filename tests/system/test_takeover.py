"""Partitions that change hands: zombies that come back, rebalances under load, lanes, and two processes of one name.

A zombie is a worker that is stopped past its session timeout at an exact step, while another one finishes its work. The
outside state differs between the two verdicts (a conflict exists while the heir judges, and vanishes before the zombie goes
on): without the fence the zombie would write drafts of commands that are answered 409 already.
"""

import threading
import time

import confluent_kafka
import pytest

import control
from harness import Matrix, command_codec, wait_until

SESSION_S = 1.5
FAST = ("-X", "session.timeout.ms=%d" % (SESSION_S * 1000), "-X", "heartbeat.interval.ms=300")
DEBUG = {"CAMPAIGN_LOG_LEVEL": "debug"}
# Whether what the zombie had in hand was committed to PostgreSQL, and published.
STEPS = {
    "claim-before": "nothing", "check-before": "nothing", "check-after": "nothing", "begin": "nothing",
    "fence-after": "nothing", "statement-after": "nothing", "commit-before": "nothing",
    "commit-sent": "committed", "commit-after": "committed", "ktx-begin": "committed", "offsets-before": "committed",
    "offsets-after": "committed", "endtxn-before": "committed", "endtxn-sent": "published",
}
HOLDING_LOCKS = ("fence-after", "statement-after", "commit-before")
LOCK_S = 2  # so long the heir waits for them before it ends the session that holds them


def set_ready(world, ready):
    world.sql("UPDATE audiences SET ready = %s WHERE id = 'aud_list'", ready)


def one_each(world, groups):
    return [world.command(accountGroupId=group) for group in groups]


def send(world, commands):
    """The commands by place, of which every partition has some."""
    sent = dict(zip(world.send(*commands), commands))
    assert {partition for partition, _ in sent} == set(range(world.partitions))
    return sent


def owners(world):
    """Partitions by the instance that owns them, as the table has it."""
    found = {}
    for row in world.sql("SELECT partition, transactional_id FROM partition_owner WHERE topic = %s", world.commands):
        found.setdefault(row["transactional_id"].rpartition("-")[2].partition("/")[0], set()).add(row["partition"])
    return found


def share_alike(world, *workers):
    """Waits until each of them reads its half."""
    half = world.partitions // len(workers)
    wait_until(lambda: all(len(owners(world).get(w.instance, ())) == half and w.events("running")[-1:] and
                           w.events("running")[-1]["running"] == str(half) for w in workers), 30, "each worker has its half")


def answered_by(worker):
    """traceIds of the commands whose results it published (needs the log level debug)."""
    return {entry["traceId"] for event in ("accepted", "refused") for entry in worker.events(event)}


def check_first_answers(answers, sent, written, published):
    for place, command in sent.items():
        answer = answers[place]
        assert answer["success"] == (command["traceId"] in written), answer
        if answer["success"]:
            assert answer["data"]["id"] == written[command["traceId"]]
            assert answer["draftExisted"] != (command["traceId"] in published)
        else:
            assert answer["reason"] == "audience_populating"


def check_works_on(world, zombie, heir, groups):
    """Back in the group, it does its share."""
    share_alike(world, zombie, heir)
    more = send(world, one_each(world, groups))
    theirs = {command["traceId"] for place, command in more.items() if place[0] in owners(world)["one"]}
    answers = world.verify(more)
    assert all(answers[place]["success"] for place in more)
    assert theirs and theirs <= answered_by(zombie)


def stop_and_continue(world, step):
    groups = world.add_account_groups(8)
    sent = send(world, one_each(world, groups))
    zombie = world.worker("one", fail=step + ":stop", args=FAST, env=DEBUG)
    zombie.wait_for_point(step)
    wait_until(zombie.frozen, 10, "stopped at " + step)
    begin = time.time()
    published = set()
    if step == "commit-sent":
        wait_until(world.drafts, 10, "what was sent is committed")
    if STEPS[step] == "published":
        wait_until(world.all_results, 10, "what was sent is published")
        published = {result["traceId"] for result in world.all_results()}

    set_ready(world, False)
    with control.beside(world) as beside:
        heir = world.worker("two", args=FAST, env=DEBUG)
        world.await_results(len(sent))
        took_s, stretch = beside.took(begin)
    assert took_s < (SESSION_S + 5 + (LOCK_S if step in HOLDING_LOCKS else 0)) * stretch, "stretch %.1f" % stretch
    # The heir writes nothing. PostgreSQL goes on alone with what the zombie sent, until the heir's claim.
    written = {draft["trace_id"]: draft["id"] for draft in world.drafts()}
    assert bool(written) == (STEPS[step] != "nothing")
    first = world.verify(sent)
    check_first_answers(first, sent, written, published)
    done_by_zombie = answered_by(zombie)

    set_ready(world, True)
    zombie.thaw()
    check_works_on(world, zombie, heir, groups)
    last = world.verify(sent)
    assert {place: last[place] for place in sent} == {place: first[place] for place in sent}
    assert {d["trace_id"] for d in world.drafts()} & {c["traceId"] for c in sent.values()} == set(written)
    if STEPS[step] != "published":
        assert not done_by_zombie and answered_by(heir) >= {c["traceId"] for c in sent.values()}
        assert not answered_by(zombie) & {c["traceId"] for c in sent.values()}
    assert zombie.stop() == 0 and heir.stop() == 0
    return took_s


@pytest.fixture(scope="module")
def zombies(services, request):
    matrix = Matrix(services, request, stop_and_continue, at_once=5)
    yield matrix
    matrix.close()


@pytest.mark.parametrize("case", STEPS)
def test_zombie_at(zombies, case):
    print("%s: the heir was done after %.1f s" % (case, zombies.outcome(case)))


def test_stopped_before_it_reads_an_answer(world):
    """The answer to the batch ahead is larger than the sockets hold: PostgreSQL waits before the COMMIT, with its locks, for a
    worker that is stopped in the Kafka transaction of the batch before."""
    (group,) = world.add_account_groups(1)
    world.sql("UPDATE campaigns SET description = repeat('x', 10000) WHERE account_group_id = %s", group)
    sent = list(world.send(*[world.command(accountGroupId=group) for _ in range(400)]))
    zombie = world.worker("one", fail="ktx-begin:stop", args=(*FAST, "--batch", "200"))
    zombie.wait_for_point("ktx-begin")
    writing = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'"
    wait_until(lambda: world.sql(writing), 20, "PostgreSQL waits for its reader")
    heir = world.worker("two", args=FAST)
    answers = world.await_results(len(sent))
    assert all(answer["success"] for answer in answers)
    zombie.thaw()
    world.verify(sent)
    assert zombie.stop() == 0 and heir.stop() == 0


def test_assignment_replaced_during_a_takeover(world):
    """What a worker had begun to take over, and does not own any more, it leaves alone: an offset that it fetched early, and
    committed late, would undo its new owner's."""
    sent = list(world.send(*one_each(world, world.add_account_groups(8))))
    world.worker("zero", args=FAST).wait_for_log("running")
    world.await_results(len(sent))
    assert world.workers[0].stop() == 0
    holder = world.session()
    holder.cursor().execute("SELECT FROM partition_owner FOR UPDATE")
    patient = (*FAST, "--lock-timeout-ms", "20000")
    one = world.worker("one", args=patient, env=DEBUG, fail="check-before:sleep:1:3000")
    one.wait_for_log("assigned", partitions=4)
    two = world.worker("two", args=patient, env=DEBUG)
    one.wait_for_log("assigned", partitions=2)
    two.wait_for_log("assigned", partitions=2)
    holder.rollback()
    sent += world.send(*one_each(world, ["ag_more_%d" % i for i in range(8)]))
    # Asked once: the other claim, which was begun for all four, may come behind it.
    theirs = wait_until(lambda: len(two_s := owners(world).get("two", ())) == 2 and two_s, 20, "two has what is its own")
    ends = {p: 1 + max(offset for q, offset in sent if q == p) for p in theirs}
    wait_until(lambda: all(world.committed()[p] == ends[p] for p in theirs), 20, "two has published")
    one.wait_for_log("running", running=2)
    assert all(world.committed()[p] == ends[p] for p in theirs)
    world.verify(sent)
    assert one.stop() == 0 and two.stop() == 0


def wait_for_go(world, condition):
    """Drafts are written when nextval('go') was called, if the condition is true of them."""
    world.sql("""
        CREATE SEQUENCE go;
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN WHILE NOT (SELECT is_called FROM go) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NEW; END$$;
        CREATE TRIGGER wait BEFORE INSERT ON campaigns FOR EACH ROW WHEN (%s) EXECUTE FUNCTION wait()""" % condition)


def revoke_meanwhile(world, names, condition, **settings):
    """Commands of these names, in a partition that moves while PostgreSQL executes those that the condition is true of. Their
    worker is a member again when it goes on: it could publish and commit as one. The answers are its heir's."""
    wait_for_go(world, condition)
    last = world.partitions - 1
    commands = [world.command(name=name) for name in names]
    sent = world.send_raw(*((c["accountGroupId"], command_codec.encode(c)) for c in commands), partition=last)
    one = world.worker("one", args=FAST, **settings)
    wait_until(lambda: world.sql("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"), 30,
               "PostgreSQL executes a batch")
    two = world.worker("two", args=FAST, env=DEBUG)
    one.wait_for_log("assigned", partitions=2)
    world.sql("SELECT nextval('go')")
    world.verify(sent)
    wait_until(lambda: last in owners(world)["two"], 20, "the partition has moved")
    assert not answered_by(one) and len(answered_by(two)) == len(sent)
    assert one.events("batch_dropped")
    assert one.stop() == 0 and two.stop() == 0


def test_revoked_while_a_batch_is_executed(world):
    revoke_meanwhile(world, ["n"] * 8, "true", env=DEBUG)


def test_revoked_while_a_batch_is_sent(world):
    """The batch before it is executed, and is to be published next. What is sent step by step is sent for as long as it is
    executed."""
    revoke_meanwhile(world, ["first", "second"], "NEW.name = 'second'", env={**DEBUG, "CAMPAIGN_BATCH": "1"}, ahead=True,
                     fail="commit-before:sleep:99")


def test_stopped_while_offsets_are_unstable(world):
    """A stranger's open transaction hides the group's offsets, until its time-out. A stop is not kept waiting for that."""
    stranger = confluent_kafka.Producer({"bootstrap.servers": world.brokers, "transactional.id": "stranger-" + world.name})
    reader = confluent_kafka.Consumer({"bootstrap.servers": world.brokers, "group.id": world.group})
    stranger.init_transactions(20)
    stranger.begin_transaction()
    stranger.send_offsets_to_transaction([confluent_kafka.TopicPartition(world.commands, 0, 0)], reader.consumer_group_metadata(), 20)
    reader.close()
    worker = world.worker(args=FAST)
    worker.wait_for_log("positions_unknown", count=3)
    assert worker.stop() == 0
    stranger.abort_transaction(20)


class Load:
    """Commands without end, good ones and refused ones, from a thread; the audience becomes ready and unready meanwhile."""

    def __init__(self, world):
        self.world, self.groups, self.sent = world, world.add_account_groups(8), {}
        self.ending, self.thread = threading.Event(), threading.Thread(target=self.run)
        self.flips = world.session()
        self.flips.autocommit = True

    def run(self):
        while not self.ending.wait(0.02):
            refused = [self.world.command(campaignId="none"), self.world.command(apiKeyDigest=None)]
            commands = one_each(self.world, self.groups) + refused
            self.sent.update(zip(self.world.send(*commands), commands))
            with self.flips.cursor() as cursor:
                cursor.execute("UPDATE audiences SET ready = NOT ready WHERE id = 'aud_list'")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()


def progress(worker, n=1):
    """Waits until it has answered n more commands."""
    before = len(answered_by(worker))
    wait_until(lambda: len(answered_by(worker)) >= before + n, 20, "%s answers" % worker.instance)


def test_rebalances_under_load(world):
    with Load(world) as load:
        one = world.worker("one", args=FAST, env=DEBUG)
        progress(one, 20)
        two = world.worker("two", args=FAST, env=DEBUG)
        share_alike(world, one, two)
        progress(one, 20)
        progress(two, 20)
        assert two.stop() == 0
        share_alike(world, one)
        progress(one, 20)
        two.start()
        share_alike(world, one, two)
        progress(two, 20)
        two.kill()
        share_alike(world, one)
        progress(one, 20)
    answers = world.verify(load.sent)
    assert {answer["reason"] for answer in answers.values()} == {None, "audience_populating", "campaign_not_found", "key_missing"}
    assert one.stop() == 0


def test_two_lanes(world):
    with Load(world) as load:
        worker = world.worker("one", lanes=2, args=FAST, env=DEBUG)
        worker.wait_for_log("running", lane=0, running=2)
        worker.wait_for_log("running", lane=1, running=2)
        progress(worker, 100)
    answers = world.verify(load.sent)
    assert len(answers) == len(load.sent)
    names = world.sql("SELECT transactional_id, count(*) AS n FROM partition_owner GROUP BY 1 ORDER BY 1")
    assert [(row["transactional_id"].rpartition("-")[2], row["n"]) for row in names] == [("one/0", 2), ("one/1", 2)]
    assert worker.stop() == 0


def test_two_processes_of_one_name(world):
    """They take the transactional.id from each other. That ends: one of them gives up and says why."""
    with Load(world) as load:
        workers = [world.worker("one", args=FAST, env=DEBUG)]
        progress(workers[0], 20)
        workers.append(world.worker("copy", args=FAST, env={**DEBUG, "CAMPAIGN_INSTANCE": world.name + "-one"}))
        begin = time.monotonic()
        loser = wait_until(lambda: next((w for w in workers if not w.alive()), None), 60, "one of the two gives up")
        print("gave up after %.1f s" % (time.monotonic() - begin))
        (winner,) = set(workers) - {loser}
        progress(winner, 100)
    assert loser.wait() == 1
    assert "same group and instance" in loser.events("fatal")[0]["msg"]
    world.verify(load.sent)
    assert winner.stop() == 0
