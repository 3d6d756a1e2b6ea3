"""The history checker, and a database that was restored to an older state: what holds then, in each of the two histories."""

import pytest

from checker import check_history
from checker.made import GROUP, b64, place, populating

LOST = "before the restore"


@pytest.fixture
def restored(made):
    """One command is answered for good. Two are answered and lost, and one waits for its answer. All three are answered again."""
    made.kept, made.kept_row = made.good("t-kept")
    made.copy()
    made.one, made.one_row = made.good("t-one", 1100)
    populating(made, 1200, 1205)
    made.two = made.ask("t-two", 1300)
    made.answer(made.two, 1310, "audience_populating", details="audience a1")
    made.three = made.ask("t-three", 1400)
    made.restore(committed=made.three["offset"])
    return made


def answer_again(made):
    """By the state as it was restored, in which the audience is ready."""
    made.again = [made.write(record, 2000 + i) for i, record in enumerate((made.one, made.two, made.three))]
    for i, record in enumerate((made.one, made.two, made.three)):
        made.answer(record, 2010 + i, row=made.again[i])
    return made


def test_answered_again(passes, restored):
    """Another draft id, and another verdict."""
    verdict = passes(answer_again(restored))
    assert restored.one_row["id"] != restored.again[0]["id"]
    assert verdict.counts["commands"] == 4 and verdict.counts["results"] == 4 and verdict.counts["results_before_restore"] == 3


def test_refused_again_for_a_reason_of_its_own(passes, restored):
    """The deadline is over, or the state has changed behind the restore: then no draft is written again."""
    populating(restored, 1900, 1905)
    for i, record in enumerate((restored.one, restored.two, restored.three)):
        restored.answer(record, 2010 + i, "audience_populating", details="audience a1")
    passes(restored)


def test_refused_again_without_a_reason(breaks, restored):
    for i, record in enumerate((restored.one, restored.two, restored.three)):
        restored.answer(record, 2010 + i, "audience_populating", details="audience a1")
    breaks(restored, "C5", place(restored.one), "in no state")


def test_nobody_went_back(breaks, restored):
    """The offset of the group was taken as it was: a worker without rule 7."""
    restored.answer(restored.three, 2010, row=restored.write(restored.three, 2000))
    verdict = breaks(restored, "C2", place(restored.one), "no visible result")
    assert any(place(restored.two) in text for text in verdict.violations)


def test_not_answered_again_and_written(breaks, restored):
    answer_again(restored)
    del restored.results[-3], restored.raw[-3]
    breaks(restored, "C2", place(restored.one), "no visible result")


def test_answered_with_the_lost_draft(breaks, restored):
    answer_again(restored)
    restored.results[-3]["value"] = restored.results[1]["value"]
    breaks(restored, "C3", place(restored.one), "was answered 201 with draft %s" % restored.one_row["id"],
           "the table has %s" % restored.again[0]["id"])


def test_not_written_again(breaks, restored):
    answer_again(restored)
    restored.audit.pop()
    restored.drafts.pop()
    breaks(restored, "C3", place(restored.three), "there is no such draft")


def test_written_twice_again(breaks, restored):
    answer_again(restored)
    restored.write(restored.one, 2050)
    breaks(restored, "C1", "2 drafts", "t-one")


def test_answered_twice_again(breaks, restored):
    answer_again(restored)
    restored.answer(restored.three, 2050, row=restored.again[2], existed=True)
    breaks(restored, "C2", place(restored.three), "2 visible results")


def test_out_of_order_again(breaks, restored):
    answer_again(restored)
    a, b = restored.raw[-2:]
    a["offset"], b["offset"] = b["offset"], a["offset"]
    breaks(restored, "C6", "offset %d of commands partition 0 is answered after offset %d" % (
        restored.two["offset"], restored.three["offset"]))


def test_answered_once_more_below_the_copy(breaks, restored):
    """What the copy knew to be published is not answered again: somebody went back further than was offered."""
    restored.answer(restored.kept, 1990, row=restored.kept_row, existed=True)
    breaks(answer_again(restored), "C2", place(restored.kept), "2 visible results")


def test_draft_of_the_copy_is_gone(breaks, restored):
    """A result that is not published again needs its draft."""
    answer_again(restored)
    restored.drafts[:] = [draft for draft in restored.drafts if draft["trace_id"] != "t-kept"]
    restored.audit[:] = [entry for entry in restored.audit if entry["new"]["trace_id"] != "t-kept"]
    breaks(restored, "C3", place(restored.kept), "there is no such draft")


def test_published_of_what_the_copy_had_executed(passes, made):
    """The worker died between PostgreSQL and Kafka, the copy was made, and the batch was published. It is not beyond what
    the copy has executed."""
    record = made.ask("t-one", 1000)
    row = made.write(record, 1010)
    made.copy(confirmed=record["offset"])
    made.answer(record, 1500, row=row, existed=True)
    made.restore()
    passes(made)


def test_published_again_of_what_the_copy_had_executed(passes, made):
    """More was executed since: a person goes back to what the copy knows to be published."""
    record = made.ask("t-one", 1000)
    row = made.write(record, 1010)
    made.copy(confirmed=record["offset"])
    made.answer(record, 1500, row=row, existed=True)
    other, _ = made.good("t-two", 1600)
    made.restore()
    made.answer(record, 2000, row=row, existed=True)
    made.answer(other, 2010, row=made.write(other, 2005))
    passes(made)


def test_lost_before_the_restore(breaks, restored):
    """The lost history is held to the promises as well: no answer where the group had committed ..."""
    restored.meta["restored"]["committed"]["0"] += 1
    breaks(answer_again(restored), "C2", LOST, place(restored.three), "no visible result")


def test_twice_before_the_restore(breaks, restored):
    restored.results.append({**restored.results[1], "offset": 6})
    restored.raw.append({**restored.raw[1], "offset": 6})
    breaks(answer_again(restored), "C2", LOST, place(restored.one), "2 visible results")


def test_untrue_before_the_restore(breaks, restored):
    """... a verdict that was not true in any state that was lost ..."""
    answer_again(restored)
    restored.lost["lost_audit"][:] = [entry for entry in restored.lost["lost_audit"] if entry["change"] is None]
    breaks(restored, "C5", LOST, place(restored.two), "in no state")


def test_announced_and_never_written_before_the_restore(breaks, restored):
    """... or a draft that was announced and not even there before it was lost."""
    for name in "lost_audit", "lost_drafts":
        restored.lost[name][:] = [entry for entry in restored.lost[name]
                                  if (entry.get("new") or entry).get("trace_id") != "t-one"]
    breaks(answer_again(restored), "C3", LOST, place(restored.one), "there is no such draft")


def test_secret_before_the_restore(breaks, restored):
    restored.raw[1]["headers"].append(["note", b64(restored.meta["secrets"][0].encode())])
    restored.results[1] = restored.raw[1]
    breaks(answer_again(restored), "C10", LOST, "secret 1 stands in the result")


@pytest.mark.parametrize("times", [0, 1, 2])
def test_dead_letter_once_in_each(passes, breaks, made, times):
    made.copy()
    record = made.put(b"garbage", GROUP, 1000)
    made.letter(record, 1010, "undecodable")
    made.restore()
    for i in range(times):
        made.letter(record, 2000 + i, "undecodable")
    passes(made) if times == 1 else breaks(made, "C2", place(record), "%d dead letters instead of 1" % times)


def test_what_is_missing(restored, tmp_path):
    folder = answer_again(restored).save(tmp_path / "round")
    (folder / "lost_audit.jsonl").unlink()
    with pytest.raises(check_history.Unusable, match="lost_audit.jsonl"):
        check_history.check(folder)
