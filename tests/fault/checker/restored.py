"""A round in which the database was restored to an older state while Kafka kept its offsets. It leaves two histories.

    lost    up to the restore: the commands that stood in the topic, what was published by then, the database as it was
    final   all commands, what was published since, and the database as it is in the end

What holds: each history keeps C1 to C7 by itself. The final one is as if the lost one had never been: every command is
answered in it, once, with a draft if and only if it says so, by the state that was restored and has changed since. So a draft
that was announced in the lost history is written again; a command that is refused instead needs a state that says so (C5).
The partitions halt, and a person goes back; without that the final history lacks results (C2). In the lost history a command
may be without an answer from the committed offset on. What the older state knew to be published (confirmed_offset) is not
answered again: its result belongs to both histories, and its draft has to be there. What the older state had executed, and no
more, may be answered again or not: its earlier result counts only where there is no later one.

What cannot hold across a restore: a command that was answered in both has two visible results, whose verdicts and draft ids
may differ, and the answers to a partition begin once more (C6). The copy is taken, and put back, while no worker runs.
"""

import copy

from avrocodec import result_codec
from checker.answers import letter_place


def command_place(record):
    """Which command that result answers; None if it cannot be read."""
    try:
        command = result_codec.decode(record.value)["command"]
    except Exception:  # whatever the library raises
        return None
    return command["partition"], command["offset"]


def histories(folder):
    """(lost, final): two folders made of one."""
    restored, lost, final = folder.meta["restored"], copy.copy(folder), copy.copy(folder)

    def split(kind, records):
        """Before the restore, and since."""
        parts = [], []
        for record in records:
            parts[record.offset >= restored["ends"][kind].get(str(record.partition), 0)].append(record)
        return parts

    lost.commands, _ = split("commands", folder.commands)
    lost.results, results = split("results", folder.results)
    lost.raw, raw = split("results", folder.raw)
    lost.letters, letters = split("dead_letters", folder.letters)
    lost.audit, lost.drafts, lost.changes = (folder.lines("lost_" + name + ".jsonl") for name in ("audit", "drafts", "changes"))
    lost.acked, lost.logs, lost.samples = [], {}, []
    lost.offsets = {"commands": {partition: {**place, "committed": restored["committed"].get(partition)}
                                 for partition, place in folder.offsets["commands"].items()}}

    again = {*map(command_place, results), *map(letter_place, letters)}

    def stands(place):
        """Whether the answer that the lost history has is the final one's, too."""
        if place is None:
            return False
        confirmed, executed = (restored[name].get(str(place[0]), 0) for name in ("confirmed", "executed"))
        return place[1] < confirmed or place[1] < executed and place not in again

    final.results = [record for record in lost.results if stands(command_place(record))] + results
    final.raw = [record for record in lost.raw if stands(command_place(record))] + raw
    final.letters = [letter for letter in lost.letters if stands(letter_place(letter))] + letters
    return lost, final
