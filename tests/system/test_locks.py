"""Rows that another session has locked hold up their own partition at most (worker/lockwait.h), on the real servers."""

import itertools
import time

import pytest

from harness import Result, wait_until

GROUPS = 24


def hold(world, text):
    """A session that holds what the text locks until it is rolled back."""
    holder = world.session()
    with holder.cursor() as cursor:
        cursor.execute("SET application_name = 'night job'")
        cursor.execute(text)
        cursor.execute("SELECT pg_backend_pid()")
        return holder, cursor.fetchone()[0]


def grant_of(group):
    return "SELECT FROM api_key_account_groups WHERE account_group_id = '%s' FOR UPDATE" % group


def send_rounds(world, groups, n):
    """One command of each group, n times."""
    return [world.send(*[world.command(accountGroupId=group) for group in groups]) for _ in range(n)]


def partitions_of(groups, places):
    return {group: place[0] for group, place in zip(groups, places)}


def check_order(world):
    """In a results partition, the answers to one commands partition come in the commands' order."""
    told = {}
    for result in world.all_results():
        told.setdefault((result.record.partition, result.place[0]), []).append(result.place[1])
    assert all(offsets == sorted(offsets) for offsets in told.values())


@pytest.mark.parametrize("ahead", [False, True], ids=["", "ahead"])
def test_one_grant_for_twelve_seconds(world, ahead):
    groups = world.add_account_groups(GROUPS)
    worker = world.worker(ahead=ahead)
    where = partitions_of(groups, send_rounds(world, groups, 1)[0])
    world.await_results(GROUPS)
    assert len(set(where.values())) > 1
    victim = groups[0]
    others = [group for group in groups if where[group] != where[victim]]
    holder, pid = hold(world, grant_of(victim))
    begun = time.monotonic()
    sent = send_rounds(world, [victim], 1)
    reader = world.reader()
    waits, seen = [], 0
    while time.monotonic() - begun < 12:
        asked = time.monotonic()
        places = world.send(*[world.command(accountGroupId=group) for group in others])
        sent.append(places)
        missing = set(places)
        while missing:
            reader.poll(0.2)
            for record in reader.records[seen:]:
                missing.discard(Result(record).place)
            seen = len(reader.records)
            assert time.monotonic() - asked < 10, "other partitions wait while %s is locked" % victim
        waits.append(time.monotonic() - asked)
        if time.monotonic() - begun < 4:
            sent += send_rounds(world, [victim], 1)
        time.sleep(0.1)
    # While the lock lasted: each round of the others was answered, most of them far sooner than a wait for a lock takes.
    waits.sort()
    assert len(waits) > 3 and waits[len(waits) // 2] < 2, waits
    named = worker.events("rows_locked", accountGroupId=victim)
    assert named, worker.text()
    assert any(line.get("table") == "api_key_account_groups" and line.get("pid") == str(pid) and
               line.get("application_name") == "night job" for line in named), named
    holder.rollback()
    results = world.verify(list(itertools.chain(*sent)))
    check_order(world)
    assert all(result["success"] or result["reason"] == "rows_locked" for result in results.values())
    assert results[sent[0][0]]["reason"] == "rows_locked"  # after three times lock_timeout
    assert not worker.events("waiting") and not worker.events("batch_dropped")
    worker.stop()


LOCKS = {
    "grant": "SELECT FROM api_key_account_groups WHERE account_group_id = '%s' FOR UPDATE",
    "trace": "INSERT INTO campaigns (account_group_id, id, name, status, trace_id, command_digest) "
             "VALUES ('%s', 'held', 'n', 'draft', 'held', sha256('x'))",
    "fence": "SELECT FROM partition_owner WHERE partition = %d FOR UPDATE",
}


@pytest.mark.parametrize("kind", LOCKS)
def test_released_in_time(world, kind):
    """Nothing is lost or refused, the order holds, and others were answered meanwhile."""
    groups = world.add_account_groups(GROUPS)
    worker = world.worker(env={"CAMPAIGN_LOCK_TIMEOUT_MS": "20000"})
    where = partitions_of(groups, send_rounds(world, groups, 1)[0])
    world.await_results(GROUPS)
    victim = groups[0]
    holder, _ = hold(world, LOCKS[kind] % (where[victim] if kind == "fence" else victim))
    sent = world.send(world.command(accountGroupId=victim, traceId="held"))
    sent += itertools.chain(*send_rounds(world, groups, 40))
    free = sum(1 for place in sent if place[0] != where[victim])
    wait_until(lambda: len(world.all_results()) >= GROUPS + free, 30, "the results of all other partitions", 0.2)
    assert not [message for message in world.all_results() if message.place == sent[0]]
    holder.rollback()
    results = world.verify(sent)
    assert all(result["success"] for result in results.values())
    assert worker.events("partition_waits", partition=str(where[victim]))
    check_order(world)
    worker.stop()


def test_a_locked_owner_row_holds_up_its_partition_alone(world):
    """However long: what cannot be answered, and is put back each time, is no failure in a row."""
    groups = world.add_account_groups(GROUPS)
    worker = world.worker(env={"CAMPAIGN_LOCK_TIMEOUT_MS": "200"})
    where = partitions_of(groups, send_rounds(world, groups, 1)[0])
    world.await_results(GROUPS)
    holder, _ = hold(world, LOCKS["fence"] % where[groups[0]])
    sent = world.send(world.command(accountGroupId=groups[0]))
    wait_until(lambda: len(worker.events("waiting")) > 6, 30, "more tries than open a breaker", 0.2)
    others = send_rounds(world, [group for group in groups if where[group] != where[groups[0]]], 1)[0]
    wait_until(lambda: len(world.all_results()) >= GROUPS + len(others), 10, "the results of all other partitions", 0.2)
    assert not worker.events("breaker_open")
    holder.rollback()
    assert all(result["success"] for result in world.verify(sent + others).values())
    worker.stop()


def test_own_timestamps_are_told_at_the_start(make_world):
    worker = make_world(commands={"message.timestamp.type": "CreateTime"}).worker()
    line = worker.wait_for_log("topic_setting")[0]
    assert "message.timestamp.type is CreateTime, wanted LogAppendTime" in line["msg"]
