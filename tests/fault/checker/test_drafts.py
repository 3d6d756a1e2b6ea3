"""The history checker passes a history that keeps the promises, and reports each way of breaking C1 to C4, by the number of the
check and the place."""

import subprocess
import sys

import pytest

from checker import check_history
from checker.made import GROUP, OTHER, T0, WORKER, b64, digest, everything, iso, place

# ---- what is good ----


def test_good_round(passes):
    verdict = passes(everything())
    assert verdict.text().startswith("ok commands=")
    assert verdict.counts["aborted"] == 1 and verdict.counts["drafts"] == 6 and verdict.counts["found_again"] == 2
    assert verdict.counts["dead_letters"] == 4 and verdict.counts["across_partitions"] == 0


def test_program(tmp_path):
    """As a program: what it prints and how it ends."""
    def run(*folders):
        return subprocess.run([sys.executable, check_history.__file__, *map(str, folders)], stdout=subprocess.PIPE,
                              text=True)

    good, bad = everything().save(tmp_path / "good"), everything()
    bad.results.pop(0)
    bad = bad.save(tmp_path / "bad")
    done = run(good)
    assert done.returncode == 0 and ": ok commands=" in done.stdout
    done = run(good, bad)
    assert done.returncode == 1
    assert "C2: the command in partition 0 at offset 100 (traceId t-plain of ag_a) has no visible result" in done.stdout
    assert "The story of traceId t-plain:" in done.stdout


# ---- what is no round ----


def test_empty_folder(tmp_path):
    with pytest.raises(check_history.Unusable, match="meta.json"):
        check_history.check(tmp_path)
    assert check_history.main([str(tmp_path)]) == 2


def test_no_commands(judge, made):
    with pytest.raises(check_history.Unusable, match="proves nothing"):
        judge(made)


@pytest.mark.parametrize("name", ["acked.jsonl", "results_raw.jsonl", "audit.jsonl", "state.json", "workers.jsonl",
                                  "logs/one-1.log"])


def test_missing_file(tmp_path, name):
    folder = everything().save(tmp_path / "round")
    (folder / name).unlink()
    with pytest.raises(check_history.Unusable, match=name.split("/")[-1]):
        check_history.check(folder)


def test_cut_file(tmp_path):
    folder = everything().save(tmp_path / "round")
    text = (folder / "results.jsonl").read_text()
    (folder / "results.jsonl").write_text(text[:-30])
    with pytest.raises(check_history.Unusable, match="results.jsonl"):
        check_history.check(folder)


def test_change_that_nobody_logged(judge, made):
    made.good("t1")
    made.flip(1100, 1101, "audiences", {"id": "a1"}, ready=False)
    made.changes.clear()
    with pytest.raises(check_history.Unusable, match="change 1"):
        judge(made)


def test_changes_at_once(judge, made):
    made.good("t1")
    made.flip(1100, 1200, "audiences", {"id": "a1"}, ready=False)
    made.flip(1150, 1250, "audiences", {"id": "a1"}, ready=True)
    with pytest.raises(check_history.Unusable, match="before change 1 was known"):
        judge(made)


# ---- C1 ----


def test_two_drafts_of_a_trace(breaks, made):
    record, row = made.good("t1")
    made.write(record, 1030)
    breaks(made, "C1", "2 drafts", "t1", row["id"], "%024x" % 2)


def test_two_drafts_one_in_the_audit_only(breaks, made):
    record, row = made.good("t1")
    made.write(record, 1030)
    made.drafts.pop()
    breaks(made, "C1", "2 drafts", "t1")


def test_draft_nobody_asked_for(breaks, made):
    made.good("t1")
    made.write({"command": {**made.commands[0]["command"], "traceId": "t-ghost"}}, 1030)
    breaks(made, "C1", "traceId t-ghost", "no command asked for it")


def test_draft_of_another_digest(breaks, made):
    record = made.ask("t1", 1000, leadIds=["l4"])
    made.answer(record, 1020, "lead_not_in_audience", details="leadIds not in audience a1: l4")
    made.write({"command": {**record["command"], "leadIds": ["l2"]}}, 1010)
    breaks(made, "C1", "traceId t1", "no command with its digest")


def test_draft_gone_from_the_table(breaks, made):
    made.good("t1")
    made.drafts.clear()
    breaks(made, "C1", "t1", "is in the table no more")


def test_draft_without_audit(breaks, made):
    made.good("t1")
    made.audit.clear()
    breaks(made, "C1", "t1", "without an audit row")


def test_worker_changes_something_else(breaks, made):
    made.good("t1")
    row = made.row("audiences", id="a1")
    made.note(1050, "audiences", row, {**row, "ready": False})
    breaks(made, "C1", "UPDATE of table audiences by " + WORKER)


# ---- C2 ----


def test_no_result(breaks, made):
    record, _ = made.good("t1")
    made.good("t2", 1100)
    made.results.pop(0)
    verdict = breaks(made, "C2", place(record), "traceId t1", "no visible result")
    assert "NOT visible to read_committed" in verdict.text()


def test_two_results(breaks, made):
    record, row = made.good("t1")
    made.answer(record, 1040, row=row)
    breaks(made, "C2", place(record), "2 visible results: 201 with draft %s, 201" % row["id"])


def test_result_of_nothing(breaks, made):
    record, row = made.good("t1")
    made.answer({**record, "offset": 177}, 1040, row=row)
    breaks(made, "C2", "names partition 0 offset 177")


def test_aborted_result_of_nothing(breaks, made):
    record, row = made.good("t1")
    made.answer({**record, "offset": 177}, 1040, row=row, visible=False)
    breaks(made, "C2", "the raw result", "names partition 0 offset 177")


def test_aborted_result_of_an_earlier_round(passes, made):
    record, row = made.good("t1")
    made.answer({**record, "offset": 77}, 1040, row=row, visible=False)
    passes(made)


def test_visible_result_of_an_earlier_round(breaks, made):
    record, row = made.good("t1")
    made.answer({**record, "offset": 77}, 1040, row=row, partition=1)
    breaks(made, "C2", "names partition 0 offset 77")


def test_visible_and_not_in_the_topic(breaks, made):
    made.good("t1")
    gone = made.raw.pop()
    breaks(made, "C2", "partition 0 at offset %d is not in the raw topic" % gone["offset"])


def test_reads_otherwise_raw(breaks, made):
    record, row = made.good("t1")
    made.answer(record, 1019, row=row, existed=True)
    made.raw[0]["value"], made.results[:] = made.raw[1]["value"], [dict(made.raw[0])]
    del made.raw[1]
    breaks(made, "C2", "reads otherwise in the raw topic")


def test_read_twice(breaks, made):
    record, _ = made.good("t1")
    made.results.append(made.results[0])
    breaks(made, "C2", "was read twice")


def test_result_that_does_not_decode(breaks, made):
    record, _ = made.good("t1")
    made.raw[0]["value"] = b64(b"nothing")
    breaks(made, "C2", "cannot be decoded")


def test_no_dead_letter(breaks, made):
    made.good("t1")
    record = made.put(b"garbage", GROUP, 1100)
    breaks(made, "C2", place(record), "has 0 dead letters instead of 1")


def test_two_dead_letters(breaks, made):
    record = made.put(b"garbage", GROUP, 1100)
    made.letter(record, 1110, "undecodable")
    made.letter(record, 1120, "undecodable")
    breaks(made, "C2", place(record), "has 2 dead letters instead of 1")


def test_dead_letter_of_a_good_command(breaks, made):
    record, _ = made.good("t1")
    made.letter(record, 1110, "database_error")
    breaks(made, "C2", place(record), "1 dead letters instead of 0")


def test_dead_letter_of_nothing(breaks, made):
    record, _ = made.good("t1")
    made.letter({**record, "offset": 180}, 1110, "undecodable")
    breaks(made, "C2", "dead letter 0", "partition 0 offset 180")


def test_dead_letter_without_a_place(breaks, made):
    made.good("t1")
    record = made.put(b"garbage", GROUP, 1100)
    made.letter(record, 1105, "undecodable")
    made.letter(record, 1110, "undecodable", headers=[])
    breaks(made, "C2", "dead letter 1", "no place at all")


def test_dead_letter_with_other_bytes(breaks, made):
    record = made.put(b"garbage", GROUP, 1100)
    made.letter(record, 1110, "undecodable", value=b64(b"garbled"))
    breaks(made, "C2", place(record), "holds other bytes")


def test_dead_letter_says_otherwise(breaks, made):
    record = made.ask("t1", 1100, record_key=OTHER)
    made.answer(record, 1110, "key_mismatch")
    made.letter(record, 1110, "key_mismatch", "CONFLICT")
    breaks(made, "C2", place(record), "says that CONFLICT was answered, and VALIDATION_ERROR was")


def test_acknowledged_and_gone(breaks, made):
    made.good("t1")
    made.acked.append({**made.acked[0], "offset": 101, "traceId": "t-lost"})
    breaks(made, "C2", "acknowledged in partition 0 at offset 101 (traceId t-lost)")


def test_acknowledged_with_other_bytes(breaks, made):
    record, _ = made.good("t1")
    made.acked[0]["sha256"] = "00" * 32
    breaks(made, "C2", place(record), "other bytes than were acknowledged")


def test_result_without_a_trace(breaks, made):
    record = made.put(b"garbage", GROUP, 1100)
    made.letter(record, 1110, "undecodable", "VALIDATION_ERROR")
    made.answer(record, 1110, "undecodable", trace="invented")
    breaks(made, "C2 C7", place(record), "no traceId to answer to")


# ---- C3 ----


def test_success_without_a_draft(breaks, made):
    record, _ = made.good("t1")
    made.drafts.clear()
    made.audit.clear()
    breaks(made, "C3", place(record), "201 with draft", "there is no such draft")


def test_refused_and_yet_a_draft(breaks, made):
    made.flip(500, 502, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=False)
    record = made.ask("t1", 1000)
    made.answer(record, 1010, "audience_populating", details="audience a1")
    made.flip(1020, 1022, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=True)
    row = made.write(record, 1500)  # by one who was stopped
    verdict = breaks(made, "C3", place(record), "409 audience_populating", "yet there is a draft " + row["id"])
    story = verdict.stories["t1"]
    assert [line.split()[1] for line in story if line.split()[1] in ("command", "acked", "judge", "result", "outside",
                                                                     "draft")] == \
        ["outside", "command", "judge", "acked", "result", "outside", "draft"]


def test_another_id(breaks, made):
    record = made.ask("t1", 1000)
    row = made.write(record, 1010)
    made.answer(record, 1020, row={**row, "id": "f" * 24})
    breaks(made, "C3", place(record), "f" * 24, "the table has " + row["id"])


@pytest.mark.parametrize("columns", [{"name": "Other"}, {"selected_lead_count": 2}, {"description": None},
                                     {"created_at": iso(T0 + 1009)},
                                     {"status": "running"}])


def test_another_content(breaks, made, columns):
    record = made.ask("t1", 1000)
    row = made.write(record, 1010)
    made.answer(record, 1020, row={**row, **columns})
    breaks(made, "C3", place(record), "is not what its draft %s was" % row["id"])


def test_half_a_success(breaks, made):
    record, row = made.good("t1")
    made.raw.clear()
    made.results.clear()
    made.answer(record, 1020, row=row, httpStatus=200)
    made.raw[0]["headers"][0][1] = b64(b"200")
    breaks(made, "C3", place(record), "half a success")


def test_two_writers(breaks, made):
    record, row = made.good("t1")
    again = made.ask("t1", 1100)
    made.answer(again, 1110, row=row)
    breaks(made, "C3", place(again), "as if it had written the draft")


def test_two_writers_in_two_partitions(breaks, made):
    record, row = made.good("t1")
    again = made.ask("t1", 1000, partition=1)
    made.answer(again, 1110, row=row)
    breaks(made, "C3", place(again), "as if it had written draft " + row["id"])


def test_refused_behind_its_draft(breaks, made):
    made.good("t1")
    made.flip(1200, 1201, "api_keys", {"public_id": "key_full"}, revoked_at=iso(T0))
    again = made.ask("t1", 1300)
    made.answer(again, 1310, "key_revoked")
    breaks(made, "C3", place(again), "401 key_revoked", "was there since")


def test_refused_before_and_written_earlier(breaks, made):
    made.flip(500, 502, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=False)
    first = made.ask("t1", 1000)
    second = made.ask("t1", 1001)
    made.flip(1005, 1006, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=True)
    row = made.write(second, 1010)
    made.answer(first, 1030, "audience_populating", details="audience a1", processed=1020)
    made.answer(second, 1040, row=row)
    breaks(made, "C3", place(first), "was there since 14:13:21.010")


def test_refused_then_written_by_a_second_record(passes, made):
    made.flip(500, 502, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=False)
    made.answer(made.ask("t1", 1000), 1010, "audience_populating", details="audience a1")
    made.flip(1020, 1022, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=True)
    made.good("t1", 1100)
    passes(made)


def test_draft_older_than_its_command(breaks, made):
    record = made.ask("t1", 1000)
    row = made.write(record, 900)
    made.answer(record, 1020, row=row, existed=True)
    breaks(made, "C3", "written at 14:13:20.900", place(record))


def test_draft_of_another_command(breaks, made):
    record, row = made.good("t1")
    other = made.ask("t1", 1100, name="Else")
    made.answer(other, 1110, row=row, existed=True)
    breaks(made, "C3", place(other), "belongs to another command")


def test_draft_of_an_earlier_round(passes, made):
    record = made.ask("t1", 1000)
    row = made.write(record, -60000)
    made.audit.clear()
    made.answer(record, 1010, row=row, existed=True)
    made.answer(made.ask("t1", 1100, name="Else"), 1110, "trace_reused")
    passes(made)


def test_draft_of_an_earlier_round_not_found(breaks, made):
    record = made.ask("t1", 1000, leadIds=["l3"])
    made.write(record, -60000)
    made.audit.clear()
    made.answer(record, 1010, "lead_active", details="lead l3 is enrolled in campaign busy (running)")
    breaks(made, "C3", place(record), "409 lead_active", "was there since")


def test_draft_of_an_earlier_round_is_deleted(passes, made):
    """One that no command of this round is about."""
    made.good("t1")
    row = made.write({"command": {**made.commands[0]["command"], "traceId": "t-old"}}, -60000)
    made.audit.pop()
    made.drafts.pop()
    made.change(1100, 1101, ("campaigns", row, {**row, "deleted_at": iso(T0 + 1100)}))
    passes(made)


# ---- the same trace in two partitions ----


def contradiction(made, second_at):
    """Refused in one partition, accepted in the other."""
    first = made.ask("t1", 1000)
    made.answer(first, 1020, row=made.write(first, 1010))
    made.flip(1300, 1301, "api_keys", {"public_id": "key_full"}, revoked_at=iso(T0))
    second = made.ask("t1", second_at, partition=1)
    made.answer(second, 1400, "key_revoked")
    return second


def test_contradiction_across_partitions(passes, made):
    contradiction(made, 1022)
    verdict = passes(made)
    assert verdict.counts["across_partitions"] == 1 and verdict.counts["contradictions"] == 1


def test_contradiction_across_partitions_when_the_draft_was_known(breaks, made):
    second = contradiction(made, 1026)
    breaks(made, "C3", place(second), "401 key_revoked")


# ---- C4 ----


def test_committed_behind(breaks, made):
    made.good("t1")
    made.ends = made.offsets()
    made.ends["commands"]["0"]["committed"] = 100
    breaks(made, "C4", "partition 0 is 100, the partition ends at 101")


@pytest.mark.parametrize("committed, checks, count", [(101, "C4", 1), (102, "C2 C4", 2), (104, "C2", 3)])
def test_waiting(breaks, made, committed, checks, count):
    """In a round that was given up: of what no worker has done with, the partition is told, and not each command."""
    made.good("t1")
    for n in range(3):
        made.ask("w%d" % n, 1100 + n)
    made.ends = made.offsets()
    made.ends["commands"]["0"]["committed"] = committed
    assert len(breaks(made, checks).violations) == count


def test_committed_beyond(breaks, made):
    made.good("t1")
    made.ends = made.offsets()
    made.ends["commands"]["1"]["committed"] = 102
    breaks(made, "C4", "partition 1 is 102, the partition ends at 100")


def test_not_committed(breaks, made):
    made.good("t1")
    made.ends = made.offsets()
    made.ends["commands"]["0"]["committed"] = None
    breaks(made, "C4", "partition 0 is not committed")


def test_empty_partition_not_committed(passes, made):
    made.good("t1")
    made.ends = made.offsets()
    made.ends["commands"]["1"] = {"committed": None, "low": 0, "high": 0, "round_begin": 0}
    passes(made)


def test_gap(breaks, made):
    made.good("t1")
    made.next_offset[0] += 1
    made.good("t2", 1100)
    breaks(made, "C4", "partition 0 should hold offsets 100 to 102", "101")


@pytest.mark.parametrize("unreadable", [0, 1, 2])
def test_control_records(passes, breaks, made, unreadable):
    """As many offsets without a command as the publisher's transactions account for."""
    made.good("t1")
    made.next_offset[0] += 1
    made.good("t2", 1100)
    made.ends = made.offsets()
    made.ends["commands"]["0"]["unreadable"] = unreadable
    if unreadable == 1:
        passes(made)
    else:
        breaks(made, "C4", "partition 0 should hold offsets 100 to 102")


def test_unknown_partition(breaks, made):
    made.good("t1", partition=7)
    made.ends = made.offsets()
    del made.ends["commands"]["7"]
    breaks(made, "C4", "in partition 7")
