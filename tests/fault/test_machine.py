"""What the clock may say: how long a round is waited for, and which samples of recovery are too long. No servers, no waiting:
the time is handed over."""

import collections
import json
import os
import pathlib
import random
import sys
import threading
import time
import types

import pytest

import cell
import control
import fault
import machine
import nemesis
import plans
import workload
from control import BEAT_S
from machine import IDLE_S, WHOLE_S, Patience


def looks(patience, *looks):
    """What it says to each: (second, progress, ...)."""
    return [patience.look(second, {"committed": progress}, *rest) for second, progress, *rest in looks]


# ---- rounds that are not quiet yet ----


def test_progress_is_waited_for():
    """One command a batch, for much longer than a round may stand still."""
    patience = Patience(0)
    assert looks(patience, *((second, second) for second in range(0, WHOLE_S, 50))) == [None] * (WHOLE_S // 50)
    assert not patience.stuck


def test_no_progress():
    patience = Patience(0)
    assert looks(patience, (0, 7), (30, 8), (30 + IDLE_S, 8)) == [None, None, None]
    assert looks(patience, (31 + IDLE_S, 8)) == ["no progress for 61 s"]
    assert patience.stuck


def test_no_progress_on_a_slow_machine():
    patience = Patience(0)
    assert looks(patience, (0, 7), (179, 7, 0, 3), (181, 7, 0, 3)) == [None, None, "no progress for 181 s"]


def test_no_progress_at_all():
    """What was done before it was waited for is none."""
    assert looks(Patience(0), (1, 1000), (IDLE_S + 1, 1000)) == [None, "no progress for 61 s"]


def test_a_step_back_is_no_progress():
    """Nor is the way back to where it was: offsets that are looked for in vain are told as less."""
    patience = Patience(0)
    assert looks(patience, (0, 50), (20, -1001), (40, 50), (IDLE_S + 1, 50)) == [None, None, None, "no progress for 61 s"]


def test_one_of_many_is_enough():
    patience = Patience(0)
    for second in range(0, 500, 50):
        assert patience.look(second, {"committed 0": 3, "committed 1": second}) is None
    assert patience.look(600, {"committed 0": 4}) is None
    assert patience.look(700, {}) == "no progress for 100 s"


def test_a_fault_gives_it_time_again():
    assert looks(Patience(0), (0, 5), (100, 5, 90), (151, 5, 90)) == [None, None, "no progress for 61 s"]


def test_the_whole_is_bounded_by_what_the_machine_gives():
    patience = Patience(0)
    assert looks(patience, (0, 0), *((second, second, 0, 2) for second in range(50, 2 * WHOLE_S, 50)))[-1] is None
    assert looks(patience, (2 * WHOLE_S + 1, 2 * WHOLE_S, 0, 2)) == ["still at work after 1201 s, where 1200 s are the most"]
    assert not patience.stuck
    faults = Patience(0)  # one after the other
    assert looks(faults, *((second, second, second) for second in range(0, WHOLE_S + 100, 50)))[-1] is not None


def test_who_is_blamed():
    found = ["C2: the command in partition 0 at offset 1 has no visible result"]
    quiet = machine.Settled(1, 0, 0, 1, [], None, False)
    assert machine.blame(quiet, found) == found and machine.blame(quiet, []) == []
    stuck = quiet._replace(quiet_ms=None, restless=["C4"], given_up="no progress for 61 s", stuck=True)
    assert machine.blame(stuck, found) == found
    assert machine.blame(stuck._replace(given_up="still at work", stuck=False), found) == ["C9: not judged: still at work"]


class Busy:
    """A world in which one more command is answered at each look, until all are."""

    commands, partitions = "commands", 1

    def __init__(self, left, answers):
        self.left, self.answers, self.at = left, answers, 0
        self.quiet = self.collector = self
        self.plain = self

    def patiently(self, ask):
        return ask()

    def faults(self):
        self.left, self.at = max(0, self.left - self.answers), self.at + self.answers
        return ["C4: %d to go" % self.left] if self.left else []

    def committed(self, places, timeout):
        return [types.SimpleNamespace(partition=0, offset=self.at)]

    def sql(self, text):
        return []


@pytest.fixture
def clock(monkeypatch):
    """A second passes with each pause."""
    now = [1000.0]
    monkeypatch.setattr(machine, "time", types.SimpleNamespace(time=lambda: now[0], sleep=lambda _: now.append(now.pop() + 1)))


def test_settles_while_it_makes_progress(clock):
    settled = machine.settle(Busy(300, 1), lambda: 0)
    assert settled.quiet_ms and settled.restless == [] and not settled.given_up
    assert settled.quiet_ms - settled.progress_ms <= 1000


def test_does_not_settle_without_progress(clock):
    settled = machine.settle(Busy(300, 0), lambda: 0)
    assert settled.stuck and settled.quiet_ms is None and settled.restless == ["C4: 300 to go"]


def test_does_not_settle_for_ever(clock):
    settled = machine.settle(Busy(3000, 1), lambda: 0)
    assert settled.given_up.startswith("still at work after 601 s") and not settled.stuck


def test_does_not_wait_in_vain(clock):
    """However much is left to do, and also when all seems to be done."""
    for left in 3000, 0:
        settled = machine.settle(Busy(left, 1), lambda: 0, hopeless=lambda: "C4: halted")
        assert settled.stuck and settled.quiet_ms is None and settled.given_up == "C4: halted" == settled.restless[0]
        assert machine.blame(settled, ["C9: not quiet: C4: halted"]) == ["C9: not quiet: C4: halted"]


# ---- recovery ----


def samples(*lengths, allowed_s=2):
    return [[length, 50, allowed_s] for length in lengths]


@pytest.mark.parametrize("lengths, well", [
    ([], False), ([1.9], True), ([1, 1, 1, 1, 1, 2.5], True), ([1, 1, 1, 1, 2.5, 2.5], False), ([1, 1, 1, 1, 1, 4.1], False),
    ([1] * 198 + [2.5] * 2, True), ([1] * 197 + [2.5] * 3, False)])
def test_recovery(lengths, well):
    assert machine.is_recovery_well(samples(*lengths)) == well


def test_allowance():
    """It grows with the control and is never less than that of a quiet machine."""
    assert control.stretch_of(None) == control.stretch_of(BEAT_S / 2) == 1
    assert control.stretch_of(BEAT_S * 4) == pytest.approx(4)
    assert control.stretch_of(BEAT_S * 1000) == 20
    assert fault.summary_of([[23.7, 400, 50], [3, 50, 7.5]])["part_of_allowance_max"] == 0.47


def beaten(*beats, begun=None):
    made = control.Control(types.SimpleNamespace(name="c"))
    made.beats, made.begun = list(beats), begun
    return made


def test_control_of_a_moment():
    made = beaten((0, 1), (10, 10.5), (11, 11.1), (20, 20.2))
    assert made.mean_s(10, 12) == pytest.approx(0.3)
    assert made.mean_s(15, 16) is None
    assert made.mean_s(10.4, 10.45) == pytest.approx(0.5)


def test_a_control_that_is_held_up_counts():
    now = time.time()
    assert beaten(begun=now - 3).mean_s(now - 1, now) == pytest.approx(3, abs=0.5)
    assert beaten((now - 4, now - 3.9), begun=now - 0.01).mean_s(now - 5, now) == pytest.approx(0.1)


def test_control_behind_an_outage():
    made = beaten((1, 2), (9, 14), (15, 16))
    assert made.through(10) == 14 and made.through(14.5) == 14.5
    now = time.time()
    assert beaten((1, 2), begun=9).through(10) >= now
    assert beaten((9, 14), begun=15).through(10) == 14


def test_time_that_a_process_waited():
    assert control.waited_s(os.getpid()) >= 0
    assert control.waited_s(2 ** 22 + 1) == 0


def test_calm_rounds_measure_no_backlog():
    for number in range(20):
        args = plans.calm("seed", number)["settings"]["args"]
        assert args[args.index("--batch") + 1] == "500" and args.count("--batch") == 1


# ---- a round that was given up ----


class Given(cell.Cell):
    """Without servers; its first round is given up."""

    made = []

    def __init__(self, config):
        if len(self.made) == 1:
            self.made.append(None)
            raise cell.psycopg2.OperationalError("the database is crashing")
        self.name, self.closed, self.rounds = config["name"], False, []
        self.made.append(self)

    def round(self, plan):
        self.rounds.append(plan)
        return {"given_up": "no progress for 61 s" if plan == 1 else None}

    def close(self):
        self.closed = True


def test_next_round_meets_no_leftovers(monkeypatch, capsys):
    monkeypatch.setattr(cell, "Cell", Given)
    monkeypatch.setattr(sys, "argv", ["cell.py", json.dumps({"name": "c3"})])
    monkeypatch.setattr(sys, "stdin", ["0", "1", "2", "3"])
    cell.main()
    first, _, second = Given.made
    assert (first.rounds, second.rounds) == ([0, 1], [2, 3])
    assert first.closed and second.closed and first.name != second.name
    assert len(capsys.readouterr().out.splitlines()) == 5


# ---- workers that give up ----


@pytest.mark.parametrize("event, msg, allowed", [
    ("drain_budget_exceeded", "not drained in time", True), ("fatal", "the producer was fenced again and again", True),
    ("fatal", "fsync is off: PostgreSQL may lose commits", False), ("stopped", "drained", False)])
def test_who_may_give_up(event, msg, allowed):
    one = cell.Cell.__new__(cell.Cell)
    one.counts, one.lock, one.problems = collections.Counter(), threading.Lock(), []
    one.count_surrender(types.SimpleNamespace(
        log_full=False, clock_wrong=False, log_path=pathlib.Path("one-1.log"), events=lambda asked: [{"msg": msg}] if asked == event else []))
    assert one.counts["gave_up"] == 1 and (one.problems == []) == allowed


# ---- what is drawn ----


def test_every_prelude_comes_about():
    drawn = [plans.make("seed", number, True)["prelude"] for number in range(400)]
    assert set(drawn) == set(plans.PRELUDES)
    assert drawn.count(None) > 200


@pytest.mark.parametrize("seed", range(10))
def test_every_action_comes_about_in_a_short_pass(seed):
    rounds = [plans.make(str(seed), number, False) for number in range(plans.rounds_per_pass(False))]
    preludes = [plan["prelude"] for plan in rounds]
    assert {trouble for plan in rounds for trouble in plan["troubles"]} == set(plans.TROUBLES)
    assert set(preludes) == set(plans.PRELUDES) and len(list(filter(None, preludes))) == len(plans.PRELUDES) - 1
    assert not any(preludes[:4])  # nothing is answered yet


def test_every_action_is_there():
    for name in plans.TROUBLES + [name for _, name in fault.GLOBAL]:
        assert callable(getattr(nemesis, name))
    assert all(hasattr(cell.Cell, "prelude_" + name) for name in plans.PRELUDES if name)


@pytest.mark.parametrize("missing, turns, troubles, prelude", [
    ([("poll", "kill"), "row_locked", "poisoned", "database_restored", "offsets_reset"], 1, ["row_locked", "poisoned"], "database_restored"),
    (["deadlock"], plans.TURNS_OF_A_SLOT, ["deadlock"], None), ([("poll", "kill")], 1, [], None)])
def test_what_did_not_come_about_is_tried_again(missing, turns, troubles, prelude):
    plan = plans.make_again("seed", 7, missing)
    assert (plan["troubles"], plan["prelude"]) == (troubles, prelude)
    assert len(plan["turns"]["one"]) + len(plan["turns"]["two"]) == turns


def test_copies_follow_each_other():
    """The same bytes under the same key, so in the same partition, behind the last command of all: a batch has both."""
    plan = workload.Plan(random.Random(1), workload.Population("seed"), "r1")
    records = [plan.record() for _ in range(2000)]
    of = [(n, max(m for m in range(n) if records[m][4])) for n, record in enumerate(records) if record[0] == "copy"]
    assert 0.07 < len(of) / len(records) < 0.13
    assert all(records[n][1:] == records[m][1:] and records[n][1] == records[n][4]["accountGroupId"].encode() for n, m in of)
    assert sum(n - m == 1 for n, m in of) > 0.9 * len(of)
    assert any(records[m][0] == "copy" for _, m in of) and len({records[m][0] for _, m in of}) > 8


def test_nothing_refuses_what_is_sure():
    """But its account group, source, audience and key are drawn as ever."""
    plan = workload.Plan(random.Random(1), workload.Population("seed"), "r1")
    commands = [plan.sure()[4] for _ in range(200)]
    for command in commands:
        assert command["campaignId"] in ("c_0", "c_1")
        assert command["audienceId"] == "a_list" and not set(command["leadIds"]) & {*workload.BUSY, *workload.LEADS[20:]}
        assert command["expiresAt"] is None and command["apiKeyDigest"] == plan.key("full")
    assert len({command["accountGroupId"] for command in commands}) == len(workload.GROUPS)
