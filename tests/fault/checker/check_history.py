#!/usr/bin/env python3
"""Decides from what a round of faults left behind whether the promises (worker/protocol.txt) were kept.

check_history.py FOLDER... prints "ok" and counts for each folder, or every violation in words and the whole story of the
traces concerned. Exit status: 0 if all is well, 1 if a promise was broken, 2 if a folder cannot be judged.

    C1   one draft per account group and traceId, ever; none that no command asked for
    C2   exactly one visible result per command whose traceId can be read, else exactly one dead letter; what was
         acknowledged stands in the topic; no result of nothing, and none that was aborted is visible
    C3   a draft if and only if success, the same id and content; of several records of one command the first success writes
         (or finds) the draft, all later ones find the same
    C4   the committed offset is the end of each partition, and there are no gaps
    C5   each verdict was true in some state between command and result
    C6   in a results partition, the answers to one commands partition come in the commands' order
    C7   result, row and command name the same account group, ids and times; the result's key is its traceId
    C8   no transaction hangs, in Kafka or in PostgreSQL
    C9   quiet within a minute of the last fault, or of the last command that was answered since
    C10  planted secrets appear nowhere; memory, descriptors and threads stay flat

restored.py says what becomes of them where the database was restored to an older state.

C5 rests on a judge of its own (Outside), written from the contract's rules and not from the worker's SQL. The outside state
changes one step at a time. Step i was committed between its audit rows (written before COMMIT) and the moment the flipper
knew of it; so the state behind it may have held from the one until step i + 1 was known. A verdict is true if a state that
may have held between the command's timestamp and the result's gives it, allowing ALLOWANCE_MS for clocks read apart.
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "system")]

from checker.answers import Answers  # noqa: E402
from checker.case import Case  # noqa: E402
from checker.drafts import Drafts  # noqa: E402
from checker.folder import Folder, Unusable  # noqa: E402
from checker.leaks import Leaks  # noqa: E402
from checker.quiet import Order, Quiet  # noqa: E402
from checker.rates import Rates  # noqa: E402
from checker.restored import histories  # noqa: E402
from checker.story import Story  # noqa: E402
from checker.verdicts import Verdicts  # noqa: E402

STORIES_MAX = 10


class Verdict:
    """violations: sentences, each beginning with the number of its check. stories: what they are about -> lines."""

    def __init__(self, violations, counts, stories):
        self.violations, self.counts, self.stories = violations, counts, stories

    def text(self):
        if not self.violations:
            return "ok " + " ".join("%s=%d" % pair for pair in self.counts.items()) + "\n"
        parts = ["%d violations\n" % len(self.violations), *("  %s\n" % text for text in self.violations)]
        for about, lines in self.stories.items():
            what = "traceId %s" % about if isinstance(about, str) else "partition %d offset %d" % about
            parts += ["\nThe story of %s:\n" % what, *("  %s\n" % line for line in lines)]
        return "".join(parts)


def check(folder):
    """Reads the round's folder and judges it. Unusable: it cannot be judged."""
    try:
        folder = Folder(folder)
        return check_both(folder) if folder.meta.get("restored") else Checker(folder).verdict()
    except KeyError as error:
        raise Unusable("%s: there is no %s" % (folder, error)) from error


def check_both(folder):
    """Of a round in which the database was restored."""
    before, since = histories(folder)
    lost, final = Lost(before).verdict(), Checker(since).verdict()
    told = [re.sub(r"^(C\d+: )", r"\1before the restore: ", text) for text in lost.violations]
    stories = {about: sorted({*lost.stories.get(about, ()), *final.stories.get(about, ())})
               for about in {**lost.stories, **final.stories}}
    return Verdict(told + final.violations, {**final.counts, "results_before_restore": lost.counts["results"]}, stories)


class Checker(Case):
    PARTS = Answers, Drafts, Verdicts, Rates, Order, Quiet, Leaks

    def verdict(self):
        for part in self.PARTS:
            part(self).check()
        self.found.sort(key=lambda one: one[0])
        abouts = list(dict.fromkeys(about for _, _, about in self.found if about is not None))
        stories = {about: Story(self, about).lines() for about in abouts[:STORIES_MAX]}
        return Verdict([text for _, text, _ in self.found], self.all_counts(), stories)

    def all_counts(self):
        return {
            "commands": len(self.asked), "acknowledged": len(self.folder.acked), "results": len(self.answers),
            "aborted": len(self.raw) - len(self.answers), "dead_letters": len(self.folder.letters),
            "drafts": sum(draft.written_ms is not None for draft in self.drafts.values()),
            "changes": len(self.outside.steps) - 1, "faults": len(self.folder.faults),
            **{name: self.counts[name] for name in ("found_again", "disputed", "across_partitions", "contradictions")},
        }


class Lost(Checker):
    """What came before a restore: it did not end."""

    PARTS = Answers, Drafts, Verdicts, Rates, Order, Leaks


def main(paths):
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    status = 0
    for path in paths:
        try:
            verdict = check(path)
        except Unusable as error:
            print("%s: cannot be judged: %s" % (path, error))
            status = 2
            continue
        sys.stdout.write("%s: %s" % (path, verdict.text()))
        status = status or int(bool(verdict.violations))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
