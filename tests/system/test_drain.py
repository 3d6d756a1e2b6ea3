"""SIGTERM: the batch in hand is finished, the group is left, the exit status is 0; what cannot be finished within the
budget (drain-ms) is given up, with another status, and nothing of it is lost. A second one ends at once."""

import contextlib
import os
import signal
import time

import confluent_kafka.admin
import pytest

import control
from harness import Matrix, wait_until

PROMPT_S = 2
BUDGET_S = 2
BUDGET = {"CAMPAIGN_DRAIN_MS": str(BUDGET_S * 1000)}
FAST = ("-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300")


def one_batch(world, n=5):
    """Good commands of one partition, sent before the worker starts: it gets them in one batch."""
    return world.send(*(world.command(name="Copy %d" % i) for i in range(n)))


def drain(worker, timeout_s=30):
    """SIGTERM. The exit status, the seconds it took, and those of them in which a processor did something else."""
    begin, before_s = time.monotonic(), control.waited_s(worker.pid)
    worker.signal(signal.SIGTERM)
    waited_s = before_s
    while worker.alive() and time.monotonic() - begin < timeout_s:
        waited_s = max(waited_s, control.waited_s(worker.pid))
        time.sleep(0.01)
    return worker.wait(timeout_s), time.monotonic() - begin, waited_s - before_s


def check_nothing_lost(world, worker, sent):
    """Started again, with nothing in its way, it answers what is left."""
    worker.fail = None
    worker.start()
    answers = world.verify(sent)
    assert all(answers[place]["success"] for place in sent)
    assert worker.stop() == 0


def test_idle(world):
    worker = world.worker()
    worker.wait_for_log("running")
    worker.signal(signal.SIGHUP)
    worker.signal(signal.SIGPIPE)
    sent = world.send(world.command())
    world.await_results(1)
    assert worker.alive() and not worker.events("draining")
    status, took_s, waited_s = drain(worker)
    print("drained in %.2f s" % took_s)
    assert status == 0 and took_s < PROMPT_S + waited_s
    assert worker.events("stopped")
    world.verify(sent)


@pytest.mark.parametrize("heir_waits", [True, False], ids=["heir-in-the-group", "heir-comes-later"])
def test_others_take_over_at_once(world, heir_waits):
    """Not after the session timeout of six seconds: the broker knows at its end that it has left the group."""
    groups = world.add_account_groups(8)
    worker = world.worker("one")
    worker.wait_for_log("running", running=4)
    heir = world.worker("two") if heir_waits else None
    if heir:
        worker.wait_for_log("running", running=2)
        heir.wait_for_log("running", running=2)
    assert worker.stop() == 0
    begin = time.monotonic()
    (group,) = confluent_kafka.admin.AdminClient({"bootstrap.servers": world.brokers}).list_groups(world.group, timeout=20)
    members = group.members
    heir = heir or world.worker("two")
    sent = world.send(*(world.command(accountGroupId=group) for group in groups))
    world.await_results(len(sent))
    took_s = time.monotonic() - begin
    print("taken over after %.2f s" % took_s)
    assert not [member for member in members if member.client_id.startswith(world.name + "-one")]
    world.verify(sent)


# At which step the batch is held up while the signal comes, and whether it is finished all the same. Before a batch is
# fetched there is none.
STEPS = {
    "claim-before": False, "check-before": False, "poll": True, "begin": True, "fence-after": True, "statement-after": True,
    "commit-sent": True, "commit-after": True, "ktx-begin": True, "produce": True, "offsets-after": True, "endtxn-before": True,
    "endtxn-sent": True, "batch-end": True,
}


def drain_in_the_middle(world, step):
    sent = one_batch(world)
    worker = world.worker(fail=step + ":sleep:1:1000")
    worker.wait_for_point(step)
    status, took_s, waited_s = drain(worker)
    assert status == 0
    if STEPS[step]:
        answers = world.verify(sent)
        assert not any(answers[place]["draftExisted"] for place in sent)
    else:
        assert not world.all_results()
        check_nothing_lost(world, worker, sent)
    return took_s, waited_s


@pytest.fixture(scope="module")
def drained(services, request):
    matrix = Matrix(services, request, drain_in_the_middle)
    yield matrix
    matrix.close()


@pytest.mark.parametrize("case", STEPS)
def test_in_the_middle_at(drained, case):
    took_s, waited_s = drained.outcome(case)
    print("%s: drained in %.2f s" % (case, took_s))
    assert took_s < 1 + PROMPT_S + waited_s


def test_a_second_signal_ends_at_once(world):
    sent = one_batch(world)
    worker = world.worker(fail="begin:sleep:1:20000", args=FAST)
    worker.wait_for_point("begin")
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("draining")
    status, took_s, waited_s = drain(worker)
    assert status == 128 + signal.SIGTERM and took_s < 1 + waited_s
    check_nothing_lost(world, worker, sent)


@contextlib.contextmanager
def postgresql_hanging(world):
    """Every statement that writes a draft takes until the yielded function is called."""
    world.sql("""
        CREATE TABLE hanging AS SELECT 1;
        CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            WHILE EXISTS (SELECT FROM public.hanging) LOOP PERFORM pg_sleep(0.02); END LOOP;
            RETURN NEW;
        END $$;
        CREATE TRIGGER hang BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION hang()""")
    try:
        yield lambda: world.sql("DELETE FROM hanging")
    finally:
        world.sql("DELETE FROM hanging")
        world.sql("DROP FUNCTION hang CASCADE")


def wait_for_hanging_statement(world):
    wait_until(lambda: world.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'campaign-worker%%' "
        "AND wait_event = 'PgSleep'", world.database), 20, "the batch hangs")


def test_postgresql_hangs_for_a_while(world):
    worker = world.worker()
    worker.wait_for_log("running")
    with postgresql_hanging(world) as release:
        sent = one_batch(world)
        wait_for_hanging_statement(world)
        worker.signal(signal.SIGTERM)
        time.sleep(0.5)
        assert worker.alive()
        release()
        assert worker.wait() == 0
    world.verify(sent)


def test_postgresql_hangs(world):
    worker = world.worker(env=BUDGET, args=FAST)
    worker.wait_for_log("running")
    with postgresql_hanging(world):
        sent = one_batch(world)
        wait_for_hanging_statement(world)
        status, took_s, waited_s = drain(worker)
        assert status == 1 and BUDGET_S <= took_s < BUDGET_S + 1 + waited_s
        assert worker.events("drain_budget_exceeded")
    assert not world.all_results()
    check_nothing_lost(world, worker, sent)


def test_rows_stay_locked(world):
    """A batch that waits for rows is in nobody's hand: it is left to the next worker, at once."""
    worker = world.worker(args=FAST)
    worker.wait_for_log("running")
    holder = world.session()
    holder.cursor().execute("LOCK TABLE campaigns")
    sent = one_batch(world)
    worker.wait_for_log("partition_waits")
    status, took_s, waited_s = drain(worker)
    assert status == 0 and took_s < PROMPT_S + waited_s
    holder.rollback()
    assert not world.all_results()
    check_nothing_lost(world, worker, sent)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in-mid-batch"])
def test_postgresql_is_down(world, busy):
    worker = world.worker(args=FAST, fail="begin:sleep:1:1000" if busy else None)
    worker.wait_for_log("running")
    sent = one_batch(world) if busy else []
    if busy:
        worker.wait_for_point("begin")
    world.services.postgres.stop("immediate")
    try:
        sent += [] if busy else one_batch(world)
        worker.wait_for_log("waiting")
        status, took_s, waited_s = drain(worker)
        print("drained in %.2f s" % took_s)
        assert status == 0 and took_s < PROMPT_S + waited_s
    finally:
        world.services.postgres.start()
    check_nothing_lost(world, worker, sent)


@contextlib.contextmanager
def kafka_away(world):
    """The broker is stopped: connections stay, nothing is answered."""
    pid = int((world.services.kafka.folder / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield lambda: os.kill(pid, signal.SIGCONT)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_kafka_is_away(world):
    """The group cannot be left then, but there is nothing to lose either."""
    worker = world.worker(args=FAST)
    sent = one_batch(world)
    world.await_results(len(sent))
    with kafka_away(world):
        status, took_s, waited_s = drain(worker)
    print("drained in %.2f s" % took_s)
    assert status == 0 and took_s < 10 + waited_s
    world.verify(sent)


def test_kafka_is_away_for_a_while(world):
    sent = one_batch(world)
    worker = world.worker(fail="ktx-begin:sleep:1:500")
    worker.wait_for_point("ktx-begin")
    with kafka_away(world) as come_back:
        worker.signal(signal.SIGTERM)
        time.sleep(1.5)
        assert worker.alive()
        come_back()
        assert worker.wait() == 0
    answers = world.verify(sent)
    assert not any(answers[place]["draftExisted"] for place in sent)


def test_kafka_is_away_in_mid_batch(world):
    sent = one_batch(world)
    worker = world.worker(env=BUDGET, args=FAST, fail="ktx-begin:sleep:1:500")
    worker.wait_for_point("ktx-begin")
    with kafka_away(world):
        status, took_s, waited_s = drain(worker)
        assert status == 1 and BUDGET_S <= took_s < BUDGET_S + 1 + waited_s
    check_nothing_lost(world, worker, sent)
