"""What happens in a round, drawn from the seed and the round's number alone: the same two numbers give the same plan.

A pass goes through every failpoint with every action and through every cut, in a shuffled order; rounds take their turns
from it one after the other, so that passes are covered whole whatever the number of cells.
"""

import random

# worker/base/failpoint.h; protocol.txt has what happens between them.
STEPS = [
    "poll", "decode", "claim-before", "claim-after", "check-before", "check-after", "begin", "fence-after", "statement-after",
    "commit-before", "commit-sent", "commit-after", "ktx-begin", "produce", "offsets-before", "offsets-after", "endtxn-before",
    "endtxn-sent", "endtxn-after", "batch-end", "revoke", "close",
]
ACTIONS = ["kill", "stop", "sleep", "exit", "term"]
TIMES = {"kill": 12, "stop": 3}  # in a long pass
LEAVING = ("revoke", "close")  # reached when the worker is told to end
ONCE = ("claim-before", "claim-after", "check-before", "check-after", *LEAVING)  # reached once in a worker's short life
# (link, event, action, longest ms, times in a long pass): Kafka's EndTxn is api 26, TxnOffsetCommit 28, AddOffsetsToTxn 25,
# AddPartitionsToTxn 24, InitProducerId 22, DescribeGroups (is the last owner gone?) 15, OffsetCommit (the check behind a
# claim) 8, Produce 0.
CUTS = [
    ("pg", "commit", "mute-back", 2500, 3), ("pg", "commit", "answer-lost", 1500, 3), ("pg", "commit", "reset", 0, 1),
    ("pg", "commit", "mute-forth", 2500, 2), ("pg", "commit", "half-open", 2500, 1), ("pg", "commit", "hold", 3000, 1),
    ("pg", "commit", "detach", 3000, 2), ("pg", "begin", "detach", 4000, 3), ("pg", "begin", "mute-forth", 2500, 1),
    ("pg", "now", "reset", 0, 1), ("pg", "now", "slow", 3000, 1),
    ("kafka", "api:26", "detach", 3000, 24), ("kafka", "api:26", "answer-lost", 1500, 2), ("kafka", "api:26", "mute-back", 3000, 1),
    ("kafka", "api:26", "reset", 0, 1), ("kafka", "api:26", "hold", 4000, 1), ("kafka", "api:28", "answer-lost", 1000, 1),
    ("kafka", "api:28", "detach", 2000, 1), ("kafka", "api:25", "answer-lost", 1000, 1), ("kafka", "api:25", "detach", 2000, 1),
    ("kafka", "api:24", "answer-lost", 1000, 1), ("kafka", "api:22", "answer-lost", 1000, 1), ("kafka", "api:8", "detach", 3000, 1),
    ("kafka", "api:8", "answer-lost", 1000, 1), ("kafka", "api:0", "answer-lost", 1000, 1), ("kafka", "api:0", "reset", 0, 1),
    ("kafka", "now", "half-open", 3000, 1), ("kafka", "now", "slow", 2000, 1),
]
SLOW_STEPS = ["begin", "commit-after", "ktx-begin", "offsets-after", "endtxn-before", "claim-after", "check-before", "produce"]
# What is done to a cell's database or topics meanwhile (nemesis.py).
TROUBLES = [
    "sessions_terminated", "rows_locked", "row_locked", "deadlock", "slow_database", "read_only", "connections_refused",
    "partitions_added", "poisoned",
]
# What is done between two rounds, while nothing else is wrong (cell.py), and how often.
PRELUDES = {None: 70, "offsets_reset": 7, "stranger_commits": 7, "records_deleted": 7, "database_restored": 9}
# How often a wrong clock is which. A worker whose clock is slow never gets to its turn's end, and spins all the while.
CLOCKS = {"+1h": 5, "-1h": 5, "+0 x10": 5, "+0 x0.1": 1}
TURNS_OF_A_SLOT, LONG_TURNS_OF_A_SLOT = 5, 12  # becoming quiet costs a round as much time as many turns
# recovery.py; at most so many seconds, on a machine that has nothing else to do: the longest session that is chosen here,
# and 5 s; a worker that comes back; one that is told to end.
RECOVERIES = {"gone": 7.5, "back": 5, "terminated": 2}
RECOVERIES_OF_A_ROUND = 2  # of each


def name(what):
    """Of a pair or a cut, and of the turn that is to bring it about; of an action."""
    return what if isinstance(what, str) else "%s %s" % what if len(what) == 2 else "%s %s %s" % what[:3]


def describe(turn):
    if "cut" in turn:
        return name((turn["cut"]["link"], turn["cut"]["event"], turn["cut"]["action"]))
    return name((turn["step"], turn["action"]))


def wanted(long):
    """What a pass has to bring about: pairs of step and action, and cuts."""
    pairs = [(step, action) for step in STEPS for action in ACTIONS for _ in range(TIMES.get(action, 1) if long else 1)]
    cuts = [cut for cut in CUTS for _ in range(cut[4] if long else 1)]
    return pairs + cuts


def actions():
    """What else it has to bring about: of what is done to a cell, and between two rounds."""
    return TROUBLES + [prelude for prelude in PRELUDES if prelude]


def turns_of_a_round(long):
    return 2 * (LONG_TURNS_OF_A_SLOT if long else TURNS_OF_A_SLOT)


def turns_per_pass(long):
    return len(wanted(long))


def rounds_per_pass(long):
    return -(-turns_per_pass(long) // turns_of_a_round(long))


def point_turn(rng, step, action, session_ms):
    nth = 1 if step in ONCE else rng.randint(1, 12) if step == "produce" else rng.choice([1, 1, 2, 3])
    ms = {"stop": session_ms + rng.randint(300, 2500) if rng.random() < 0.8 else rng.randint(50, session_ms),
          "sleep": rng.choice([50, 300, 1000, 2500, 5000])}.get(action, 0)
    points = ["%s:%s:%d:%d" % (step, action, nth, ms or 1)]
    if rng.random() < 0.25:
        points.append("%s:sleep:1+:%d" % (rng.choice([s for s in SLOW_STEPS if s != step]), rng.randint(5, 250)))
    return {"step": step, "action": action, "points": points, "ms": ms, "leave": step in LEAVING}


def cut_turn(rng, cut):
    link, event, action, longest_ms, _ = cut
    return {"step": event, "action": "cut", "cut": {
        "link": link, "event": event, "action": action,
        "nth": 1 if event in ("now", "api:22", "api:15", "api:8") else rng.randint(1, 3),
        "ms": rng.randint(min(100, longest_ms), longest_ms)}}


def turn(rng, what, session_ms):
    made = point_turn(rng, *what, session_ms) if len(what) == 2 else cut_turn(rng, what)
    made["before"] = rng.choice(["kill", "kill", "term"])
    made["away_ms"] = rng.choice([0, 0, 0, 200, 1000])
    made["live_ms"] = rng.choice([0, 100, 400, 1200])
    made["thaw"] = rng.random() < 0.75
    made["settings"] = {}
    if rng.random() < 0.05:
        made["settings"]["clock"] = rng.choices(list(CLOCKS), list(CLOCKS.values()))[0]
    elif rng.random() < 0.05:
        made["settings"]["log"] = "full"
    return made


def settings(rng):
    session_ms = rng.choice([1500, 2000, 2500])
    return {
        "lanes": rng.choice([1, 1, 2]), "drain_ms": 6000, "session_ms": session_ms,
        "args": ["--batch", str(rng.choice([1, 4, 20, 500])), "--drain-ms", "6000",
                 "--lock-timeout-ms", str(rng.choice([300, 1000])), "--statement-timeout-ms", "5000", "-X", "session.timeout.ms=%d" % session_ms, "-X", "heartbeat.interval.ms=300",
                 "-X", "max.poll.interval.ms=4000", "-X", "transaction.timeout.ms=%d" % rng.choice([3000, 10000])],
    }


def make(seed, number, long):
    """The plan of one round."""
    per_pass, per_round = rounds_per_pass(long), turns_of_a_round(long)
    rng, place = random.Random("%s/%d/pass" % (seed, number // per_pass)), number % per_pass
    deck = wanted(long)
    rng.shuffle(deck)
    plan = make_of(seed, number, deck[place * per_round:(place + 1) * per_round])
    return plan if long else {**plan, **dealt(rng, place, per_pass)}


def dealt(rng, place, per_pass):
    """A pass that is short has each action at least once; between two rounds when every cell has had one."""
    troubles, preludes = rng.sample(TROUBLES, len(TROUBLES)), rng.sample(list(PRELUDES), len(PRELUDES))
    turn = {per_pass - 2 * n: prelude for n, prelude in enumerate(filter(None, preludes), 1)}
    return {"troubles": [troubles[place % len(troubles)]], "prelude": turn.get(place)}


def make_of(seed, number, deck):
    rng = random.Random("%s/%d/plan" % (seed, number))
    chosen = settings(rng)
    turns = [turn(rng, what, chosen["session_ms"]) for what in deck]
    return {
        "kind": "faults", "seed": seed, "round": number, "settings": chosen, "turns": {"one": turns[0::2], "two": turns[1::2]},
        "troubles": rng.sample(TROUBLES, rng.choice([0, 1, 1, 2])),
        "prelude": rng.choices(list(PRELUDES), list(PRELUDES.values()))[0],
    }


def make_again(seed, number, missing):
    """A plan of what did not come about: turns, and actions."""
    turns = [what for what in missing if what not in actions()]
    troubles = [what for what in missing if what in TROUBLES]
    others = random.Random("%s/%d/again" % (seed, number)).sample(wanted(False), TURNS_OF_A_SLOT)
    plan = make_of(seed, number, turns[:turns_of_a_round(False)] or others)
    return {**plan, "troubles": troubles[:3], "prelude": next((what for what in missing if what in PRELUDES), None)}


def calm(seed, number):
    """A round that measures recovery, one thing at a time: in batches of the size that is set by default, as in small ones an
    heir that is back at once answers the newest command only when it has worked off all before it."""
    chosen = settings(random.Random("%s/%d/calm" % (seed, number)))
    args = ["500" if before == "--batch" else arg for before, arg in zip(["", *chosen["args"]], chosen["args"])]
    return {"kind": "recovery", "seed": seed, "round": 1000000 + number, "settings": {**chosen, "args": args, "lanes": 1}}
