"""Copies of a command in one batch are not executed: they have the outcome of the first. Each has a result of its own."""

import time

import pytest

from avrocodec import command_codec

POISON = """
    CREATE FUNCTION guard_names() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.name = 'poison' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'XX000'; END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER guard BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION guard_names()"""
QUICK_LOCKS = ("--lock-timeout-ms", "50")


def statuses(results, sent):
    return [results[place]["httpStatus"] for place in sent]


def test_outcomes(world):
    """Between other commands, of every kind of outcome; each result is its own record's."""
    good, unknown = world.command(), world.command(campaignId="nobody")
    late = world.command(expiresAt=int(time.time() * 1000) - 60000)
    commands = [good, world.command(), good, unknown, late, good, unknown, world.command(), late, {**good, "issuedAt": good["issuedAt"] + 5}]
    headers = [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    sent = world.send(*commands[:-1]) + world.send(commands[-1], headers=headers)
    world.worker()
    results = world.verify(sent)
    assert statuses(results, sent) == [201, 201, 201, 404, 502, 201, 404, 201, 502, 201]
    assert [results[place]["draftExisted"] for place in sent] == [i in (2, 5, 9) for i in range(10)]
    for place, command in zip(sent, commands):
        assert results[place]["issuedAt"] == command["issuedAt"] and results[place].record.key == command["traceId"].encode()
    assert results[sent[9]].record.header("traceparent").startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert results[sent[0]].record.header("traceparent") is None
    assert results[sent[6]]["error"] == results[sent[3]]["error"]
    assert len(world.drafts()) == 3


def test_other_commands_of_a_trace(world):
    """Another digest is no copy, and another deadline is none either."""
    first = world.command()
    soon = {**first, "expiresAt": int(time.time() * 1000) - 1000}
    fresh = world.command(expiresAt=int(time.time() * 1000) - 1000)
    sent = world.send(first, {**first, "name": "another"}, first, soon, fresh, {**fresh, "expiresAt": None}, fresh)
    world.worker()
    results = world.verify(sent)
    assert [results[place]["reason"] for place in sent] == [None, "trace_reused", None, None, "expired", None, None]
    assert [results[place]["draftExisted"] for place in sent] == [False, False, True, True, False, False, True]


def test_another_account_group(world):
    (group,) = world.add_account_groups(1)
    command = world.command()
    other = {**command, "accountGroupId": group}
    sent = world.send(command, other, command, other)
    world.worker()
    results = world.verify(sent)
    assert [results[place]["draftExisted"] for place in sent] == [False, False, True, True]
    assert results[sent[0]]["data"]["id"] != results[sent[1]]["data"]["id"]


def test_another_partition(make_world):
    """Published where it does not belong, too: one draft, and two results."""
    world = make_world(partitions=2)
    command = world.command()
    value = [(c["accountGroupId"], command_codec.encode(c)) for c in [command] * 6]
    sent = world.send_raw(*value[:3], partition=0) + world.send_raw(*value[3:], partition=1)
    world.worker()
    results = world.verify(sent)
    assert statuses(results, sent) == [201] * 6 and len(world.drafts()) == 1
    assert sum(results[place]["draftExisted"] for place in sent) == 5


def test_refused_by_the_database(world):
    """The first is isolated in a split batch; its copies are answered and dead-lettered as it is."""
    world.sql(POISON)
    poison = world.command(name="poison")
    goods = [world.command() for _ in range(12)]
    commands = [poison, *goods, poison, goods[3], goods[3], poison]
    sent = world.send(*commands)
    worker = world.worker()
    results = world.verify(sent)
    assert statuses(results, sent) == [500, *[201] * 12, 500, 201, 201, 500]
    assert [results[place]["draftExisted"] for place in sent[-3:-1]] == [True, True]
    letters = world.all_dead_letters()
    assert len(letters) == 3 and {letter.header("campaign-dlt-answered") for letter in letters} == {"INTERNAL_ERROR"}
    assert len(worker.events("dead_letter")) == 3


def test_rows_locked(world):
    holder = world.session()
    holder.cursor().execute("SELECT FROM api_key_account_groups WHERE account_group_id = 'ag_acme' "
                            "AND key_digest = sha256('demo-key-other') FOR UPDATE")
    stuck = world.command(apiKeyDigest="demo-key-other")
    sent = world.send(stuck, world.command(), stuck)
    world.worker(args=QUICK_LOCKS)
    world.await_results(3, 60)
    holder.rollback()
    results = world.verify(sent)
    assert [results[place]["reason"] for place in sent] == ["rows_locked", None, "rows_locked"]


def test_while_the_breaker_is_open(world):
    worker = world.worker()
    before = world.send(world.command())
    world.await_results(1)
    world.sql("ALTER TABLE campaigns ADD CONSTRAINT nobody CHECK (trace_id IS NULL) NOT VALID")
    command = world.command()
    sent = world.send(command, command, world.command(), command)
    worker.wait_for_log("breaker_open", count=3)
    assert len(world.all_results()) == 1
    world.sql("ALTER TABLE campaigns DROP CONSTRAINT nobody")
    results = world.verify(before + sent)
    assert statuses(results, sent) == [201] * 4
    assert [results[place]["draftExisted"] for place in sent] == [False, True, False, True]


def test_rate_limit_is_judged_at_each_ones_own_time(world):
    """One a second, burst 1. The first of the copies comes too early, one that comes two seconds later does not: they share
    no verdict. Those of one timestamp do."""
    world.sql("UPDATE api_key_account_groups SET rate_interval_us = 1000000, rate_burst = 1")
    charged, command = world.command(), world.command()
    sent = world.send(charged, command, command, command)
    time.sleep(2)
    sent += world.send(command, command)
    assert len({record.timestamp_ms for record in world.read_all(world.commands)}) > 1
    worker = world.worker()
    results = world.verify(sent)
    assert statuses(results, sent)[0] == 201
    early = [place for place in sent[1:4] if results[place]["httpStatus"] == 429]
    assert len(early) == 3 and all(results[place]["retryAfterSeconds"] >= 1 for place in early)
    assert [(results[place]["httpStatus"], results[place]["draftExisted"]) for place in sent[4:]] == [(201, False), (201, True)]
    assert not worker.events("batch_split") and not worker.events("waiting")


def test_copies_are_charged_once(world):
    """One a second, burst 3: of six copies and two others all pass."""
    world.sql("UPDATE api_key_account_groups SET rate_interval_us = 1000000, rate_burst = 3")
    command = world.command()
    sent = world.send(*[command] * 6, world.command(), world.command())
    world.worker()
    assert statuses(world.verify(sent), sent) == [201] * 8


@pytest.mark.parametrize("times", [2, 1000], ids=["twice", "one"])
def test_repeated_commands_fill_a_batch(world, times):
    """A thousand records: each command twice in a row, or one over and over. They need no more batches than distinct ones."""
    commands = [command for _ in range(1000 // times) for command in [world.command()] * times]
    sent = world.send(*commands)
    worker = world.worker(args=("--batch-ms", "60000"))
    results = world.verify(sent)
    assert statuses(results, sent) == [201] * 1000
    assert sum(results[place]["draftExisted"] for place in sent) == 1000 - 1000 // times
    assert worker.stop() == 0
    (row,) = world.sql("SELECT n_tup_upd AS fences FROM pg_stat_user_tables WHERE relname = 'partition_owner'")
    assert row["fences"] < 30  # one a transaction; without copies 500 or 1000
