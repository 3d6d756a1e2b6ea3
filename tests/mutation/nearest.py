"""Which files bugs are planted in, and which system tests are nearest to each: those that are there for what the file does.

A line: a pattern of files, how many bugs in a hundred are planted there, files of tests/system, whether a pass of the fault
suite is near as well (it costs minutes, and is run last).
"""

import fnmatch

TABLE = [
    ("worker/sql/execute.sql", 18, "test_outcomes test_database", False),
    ("worker/sql/*.sql", 6, "test_takeover test_offsets", True),
    ("schemas/sql/00[14]-*.sql", 3, "test_schema test_takeover", False),
    ("schemas/duplicate.c", 5, "test_outcomes test_commands", False),
    ("schemas/command.c", 3, "test_commands test_outcomes", False),
    ("schemas/digest.c", 3, "test_outcomes test_interop", False),
    ("schemas/result.c", 2, "test_outcomes", False),
    ("schemas/decode.c", 3, "test_commands test_hostile test_interop", False),
    ("schemas/guard.c", 4, "test_hostile", False),
    ("schemas/dead_letter.c", 3, "test_commands test_hostile", False),
    ("worker/batch.c", 7, "test_commands test_outcomes test_hostile test_crash", True),
    ("worker/executor.c", 7, "test_isolation test_database test_crash", True),
    ("worker/copies.c", 2, "test_copies", False),
    ("worker/parking.c", 1, "test_locks", False),
    ("worker/lockwait.c", 3, "test_locks test_database", False),
    ("worker/ends.c", 1, "test_ends", False),
    ("worker/breaker.c", 3, "test_isolation test_database", False),
    ("worker/suspect.c", 1, "test_isolation", False),
    ("worker/control.c", 1, "test_isolation", False),
    ("worker/setbacks.c", 1, "test_offsets", False),
    ("worker/sizing.c", 1, "test_throughput test_refused_records", False),
    ("worker/lane.c", 6, "test_takeover test_offsets test_drain test_crash test_locks test_database", True),
    ("worker/takeover.c", 5, "test_takeover test_offsets test_ends", True),
    ("worker/assignment.c", 3, "test_takeover test_offsets", True),
    ("worker/start.c", 3, "test_offsets test_strangers", False),
    ("worker/db/execution.c", 5, "test_database test_crash", True),
    ("worker/db/ownership.c", 4, "test_takeover test_offsets", True),
    ("worker/kafka/message.c", 2, "test_refused_records", False),
    ("worker/kafka/queue.c", 1, "test_crash", False),
    ("worker/kafka/positions.c", 1, "test_ends test_offsets", False),
    ("worker/kafka/publisher.c", 5, "test_outcomes test_refused_records test_crash", True),
]


def find(path):
    for pattern, share, tests, fault in TABLE:
        if fnmatch.fnmatch(path, pattern):
            return share, ["tests/system/%s.py" % name for name in tests.split()], fault
    raise KeyError(path)


def files(paths):
    """{file: its share}, of the files that exist; a pattern of several files gives each a part."""
    shares = {}
    for path in paths:
        for pattern, share, _, _ in TABLE:
            if fnmatch.fnmatch(path, pattern):
                shares.setdefault(pattern, (share, []))[1].append(path)
                break
    return {path: share / len(group) for share, group in shares.values() for path in group}
