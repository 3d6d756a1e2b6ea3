"""kill -9 at every step of the loop: each command keeps one draft and one visible answer, and the two agree.

Between the kill and the restart the outside state flips (the audience is being populated again), so that whatever was not
written by then is judged another way now. A success is right exactly where the dead worker had committed.
"""

import os
import signal
import time

import pytest

import control
from harness import Matrix, wait_until

# A dead worker's partitions are free again after this.
FAST = ("-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300")
# Step, and which pass of it: batches are of four records, so that an earlier one was published and a later one waits.
STEPS = {
    "claim-before": 1, "claim-after": 1, "check-before": 1, "check-after": 1,
    "poll": 2, "decode": 2, "begin": 2, "fence-after": 2, "statement-after": 2, "commit-before": 2, "commit-sent": 2,
    "commit-after": 2, "ktx-begin": 2, "produce": 6, "offsets-before": 2, "offsets-after": 2, "endtxn-before": 2,
    "endtxn-sent": 2, "endtxn-after": 2, "batch-end": 2, "revoke": 1, "close": 1,
}
LOOP = [step for step in STEPS if step not in ("claim-before", "claim-after", "check-before", "check-after", "revoke", "close")]
# So few commands make no batch that is begun while Kafka commits the one before, unless it is asked for.
CASES = [*STEPS, *("%s, ahead" % step for step in LOOP)]
LEAVING = ("revoke", "close")  # reached by SIGTERM, when everything is answered
PUBLISHED = ("endtxn-after", "batch-end")  # two batches are; PostgreSQL may have committed a third one


def good_commands(world):
    """Those that flip: good while the audience is ready."""
    return [world.command(accountGroupId=name) for name in world.add_account_groups(8)]


def other_commands(world, good):
    """Refused ones and repeated ones."""
    again, reused = dict(good[0]), dict(good[1], name="Another one")
    return [
        world.command(campaignId="65a0000000000000000000ff"), world.command(apiKeyDigest=None), world.command(expiresAt=1),
        again, reused, world.command(name=" "), world.command(audienceId="aud_busy"),
    ]


def send_all(world):
    good = good_commands(world)
    sent = world.send(*good[:5]) + world.send(*other_commands(world, good)) + world.send(*good[5:])
    sent += world.send_raw((b"ag_acme", b"not a command"))
    sent += world.send_raw((b"ag_acme", b"not one either"), headers={"traceId": b"only-in-the-header"})
    return good, sent


def set_ready(world, ready):
    world.sql("UPDATE audiences SET ready = %s WHERE id = 'aud_list'", ready)


def sessions(world):
    """Server processes that work for our workers."""
    rows = world.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'campaign-worker%%'", world.database)
    return {row["pid"] for row in rows}


def wait_for_sessions_to_end(world):
    """Until nothing of a dead worker can still commit."""
    wait_until(lambda: not sessions(world), 20, "no session of the dead worker")


def kill_and_restart(world, case):
    step, _, ahead = case.partition(", ")
    good, sent = send_all(world)
    worker = world.worker(
        fail="%s:kill:%d" % (step, STEPS[step]), ahead=bool(ahead), args=FAST, env={"CAMPAIGN_BATCH": "4"})
    if step in LEAVING:
        world.await_results(len(sent) - 1)
        worker.signal(signal.SIGTERM)
    assert worker.wait(30) == -signal.SIGKILL
    wait_for_sessions_to_end(world)
    if step in PUBLISHED:
        published = sum(offset or 0 for offset in world.committed().values())
        assert published >= 2
        world.await_results(published - 1)  # there is one command that nobody can be answered
    written = {draft["trace_id"] for draft in world.drafts()}
    unanswered = written - {result["traceId"] for result in world.all_results()}
    set_ready(world, False)
    late = world.command()
    sent += world.send(late)

    worker.fail = None
    worker.start()
    answers = world.verify(sent)
    assert len(answers) == len(sent) - 1 and len(world.all_dead_letters()) == 2
    by_trace = {}
    for answer in answers.values():
        by_trace.setdefault(answer["traceId"], []).append(answer)
    assert {c["traceId"] for c in good if by_trace[c["traceId"]][0]["success"]} == written
    assert by_trace[late["traceId"]][0]["reason"] == "audience_populating"
    assert len({d["id"] for d in world.drafts()}) == len(written)
    assert worker.stop() == 0
    return written, unanswered, by_trace


@pytest.fixture(scope="module")
def killed(services, request):
    matrix = Matrix(services, request, kill_and_restart, at_once=6)
    yield matrix
    matrix.close()


@pytest.mark.parametrize("case", CASES)
def test_killed_at(killed, case):
    written, unanswered, by_trace = killed.outcome(case)
    existed = {t for t in written if by_trace[t][0]["draftExisted"]}
    step = case.partition(", ")[0]
    if step in ("commit-after", "ktx-begin", "produce", "offsets-before", "offsets-after", "endtxn-before"):
        assert existed == unanswered, "what was committed and not published is answered from the table"
    if step in ("claim-before", "claim-after", "check-before", "check-after"):
        assert not written
    if step in LEAVING:
        assert not existed, "what was published is not done again"


def test_what_comes_while_kafka_commits(world):
    """A few commands wait for Kafka, and are one batch then."""
    sent = list(world.send(world.command()))
    worker = world.worker(fail="offsets-before:sleep:1:2000")
    worker.wait_for_point("offsets-before")
    behind = [world.command() for _ in range(3)]
    sent += world.send(*behind)
    time.sleep(1)
    assert len(world.drafts()) == 1
    answers = world.await_results(len(sent))
    traces = {command["traceId"] for command in behind}
    assert len({answer["processedAt"] for answer in answers if answer["traceId"] in traces}) == 1
    world.verify(sent)
    assert worker.stop() == 0


def test_executed_ahead(world):
    """So many that they are worth a batch of their own are executed while Kafka commits the batch before them."""
    sent = list(world.send(*(world.command() for _ in range(120))))
    worker = world.worker(fail="offsets-before:sleep:1:2000", args=(*FAST, "--batch", "40"))
    worker.wait_for_point("offsets-before")
    wait_until(lambda: len(world.drafts()) == 80, 2, "the second batch is executed")
    assert sum(offset or 0 for offset in world.committed().values()) == 0, "the first one is not published"
    world.verify(sent)
    assert worker.stop() == 0


def test_a_pipeline_that_runs_late(world):
    """PostgreSQL gets round to a dead worker's whole transaction, its COMMIT included, only when another verdict is out."""
    sent = world.send(*(world.command(name=str(i)) for i in range(3)))
    worker = world.worker(fail="begin:sleep:1:500,commit-sent:kill", args=FAST)
    worker.wait_for_point("begin")
    (backend,) = sessions(world)
    os.kill(backend, signal.SIGSTOP)
    try:
        assert worker.wait() == -signal.SIGKILL
        set_ready(world, False)
        worker.fail = None
        worker.start()
        world.await_results(len(sent))
        set_ready(world, True)
    finally:
        os.kill(backend, signal.SIGCONT)
    wait_until(lambda: backend not in sessions(world), 20, "the late transaction has ended")
    answers = world.verify(sent)
    assert {answers[place]["reason"] for place in sent} == {"audience_populating"} and not world.drafts()


# How soon

SESSION_S = 6  # worker/kafka/kafka.c, as it is the least that a broker takes by default
RESTART_S = 2  # deploy/campaign-worker.service


def drafts_of(world, commands):
    """Ids by traceId, of those that are written."""
    traces = {command["traceId"] for command in commands}
    return {d["trace_id"]: d["id"] for d in world.drafts() if d["trace_id"] in traces}


def check_answers(world, sent, written):
    """sent: commands by place. All are answered 201, those in written with the draft that the dead worker had made."""
    answers = world.verify(sent)
    assert written
    for place, command in sent.items():
        assert answers[place]["success"]
        assert answers[place]["draftExisted"] == (command["traceId"] in written)
        if command["traceId"] in written:
            assert answers[place]["data"]["id"] == written[command["traceId"]]


def restarted(world, pause_s, *args):
    """By the same instance, which its supervisor starts again: seconds from its start to the last answer, and the control's
    stretch."""
    worker = world.worker(fail="commit-after:kill", args=args)
    commands = [world.command(name=str(i)) for i in range(3)]
    sent = dict(zip(world.send(*commands), commands))
    assert worker.wait() == -signal.SIGKILL
    written = drafts_of(world, commands)
    time.sleep(pause_s)
    worker.fail = None
    with control.beside(world) as beside:
        begin = time.time()
        worker.start()
        world.await_results(len(sent))
        took = beside.took(begin)
    check_answers(world, sent, written)
    return took


def inherited(world, step):
    """By another instance, in the group all the time: seconds from the kill to the last answer, and the control's stretch."""
    groups = world.add_account_groups(8)
    heir = world.worker("two")
    heir.wait_for_log("running", running=world.partitions)
    # The pause lets the records reach the broker, which holds its readers back until their transaction has ended.
    worker = world.worker("one", fail="produce:sleep:1:500,%s:kill" % step)
    worker.wait_for_log("running", running=world.partitions // 2)
    heir.wait_for_log("running", running=world.partitions // 2)
    doomed = {row["partition"] for row in world.sql(
        "SELECT partition FROM partition_owner WHERE transactional_id LIKE '%%-one/0' AND topic = %s", world.commands)}

    commands = [world.command(accountGroupId=group) for group in groups]
    sent = dict(zip(world.send(*commands), commands))
    assert worker.wait() == -signal.SIGKILL
    begin = time.time()
    with control.beside(world) as beside:
        written = drafts_of(world, [command for place, command in sent.items() if place[0] in doomed])
        world.await_results(len(sent))
        took = beside.took(begin)
    check_answers(world, sent, written)
    # What it left pending hides its offsets and every result behind it: it is ended by name instead of waiting for its time-out.
    assert heir.events("predecessor_ended", transactionalId="%s.campaign-worker/%s-one/0" % (world.group, world.name))
    return took


def answer_soon(world, case):
    if case == "restarted":
        return restarted(world, RESTART_S)
    if case == "restarted at once": # the dead member's session is what is waited for: brokers must allow a short one
        return restarted(world, 0, "-X", "session.timeout.ms=3000")
    return inherited(world, case)


@pytest.fixture(scope="module")
def answered(services, request):
    matrix = Matrix(services, request, answer_soon, at_once=6)
    yield matrix
    matrix.close()


@pytest.mark.parametrize("case", ["restarted", "restarted at once", "commit-after", "offsets-before", "offsets-after", "endtxn-before"])
def test_how_soon(answered, case):
    took_s, stretch = answered.outcome(case)
    print("%s: answered after %.1f s, stretch %.1f" % (case, took_s, stretch))
    assert took_s < (5 if case.startswith("restarted") else SESSION_S + 5) * stretch
