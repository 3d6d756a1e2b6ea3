"""The history checker and C6 to C10, and the story that it tells."""

import pytest

from checker.made import GROUP, OTHER, SECRET, T0, WORKER, b64, place, populating

# ---- C6 ----


def test_out_of_order(breaks, made):
    first, row = made.good("t1")
    second, _ = made.good("t2", 1100)
    (a, b) = made.raw
    a["offset"], b["offset"] = b["offset"], a["offset"]
    breaks(made, "C6", "results partition 0", "offset 100 of commands partition 0 is answered after offset 101")


def test_two_results_partitions_have_no_order(passes, made):
    made.good("t1")
    made.good("t2", 1100)
    (a, b) = made.raw
    a["offset"], b["offset"], b["partition"] = b["offset"], a["offset"], 1
    passes(made)


# ---- C7 ----

@pytest.mark.parametrize("fields, words", [
    ({"accountGroupId": OTHER}, "has accountGroupId = ag_b, the command ag_a"),
    ({"sourceCampaignId": "c2"}, "has sourceCampaignId = c2"),
    ({"audienceId": None}, "has audienceId = None"),
    ({"issuedAt": T0}, "has issuedAt"),
    ({"processedAt": T0 + 900}, "processed at 14:13:20.900"),
    ({"processedAt": T0 + 1040}, "processed at 14:13:21.040"),
    ({"command": {"topic": "other", "partition": 0, "offset": 100, "timestamp": T0 + 1000}}, "stood in topic other"),
    ({"command": {"topic": "commands", "partition": 0, "offset": 100, "timestamp": T0 + 1001}}, "since 14:13:21.001"),
])


def test_result_of_another(breaks, made, fields, words):
    record, row = made.good("t1")
    made.raw.clear()
    made.results.clear()
    made.answer(record, 1020, row=row, **fields)
    if "accountGroupId" in fields:
        made.raw[0]["headers"][-1][1] = b64(OTHER.encode())
    breaks(made, "C7", place(record), words)


def test_result_under_another_key(breaks, made):
    record, _ = made.good("t1")
    made.raw[0]["key"] = "t9"
    breaks(made, "C7", place(record), "has the key t9")


def test_header_of_another_account_group(breaks, made):
    record, _ = made.good("t1")
    made.raw[0]["headers"][-1][1] = b64(OTHER.encode())
    breaks(made, "C7", place(record), "header accountGroupId = ag_b")


# ---- C8, C9 ----

@pytest.mark.parametrize("topic", ["results", "dead_letters"])


def test_open_transaction(breaks, made, topic):
    made.good("t1")
    made.ends = made.offsets()
    made.ends[topic]["0"]["stable"] -= 3
    breaks(made, "C8", made.meta[topic] + " [0]", "a transaction hangs")


def test_session_in_transaction(breaks, made):
    made.good("t1")
    made.sessions.append({"application_name": WORKER, "state": "idle in transaction", "wait_event": "ClientRead", "age_s": 7.5})
    breaks(made, "C8", WORKER, "idle in transaction", "7.5 s")


def test_session_whose_commit_is_held_up(passes, made):
    made.good("t1")
    made.sessions.append({"application_name": WORKER, "state": "active", "wait_event": "SyncRep", "age_s": 1.1})
    passes(made)


def test_never_quiet(breaks, made):
    made.good("t1")
    made.meta.update(quiet_ms=None, restless=["the group's offset in partition 3 is 7 of 9"])
    breaks(made, "C9", "partition 3 is 7 of 9")


@pytest.mark.parametrize("quiet, true", [(79999, True), (80001, False)])


def test_late_quiet(passes, breaks, made, quiet, true):
    made.good("t1")
    made.meta["quiet_ms"] = T0 + quiet
    if true:
        passes(made)
    else:
        breaks(made, "C9", "60.0 s after the last fault")


# ---- C10 ----

FORMS = {
    "plain": SECRET, "hex": SECRET.encode().hex(), "HEX": SECRET.encode().hex().upper(), "base64": b64(SECRET.encode()),
    "base64 within": b64(b"x=" + SECRET.encode() + b";"), "base64 within, shifted": b64(b"abcd" + SECRET.encode() + b"z"),
    "URL": "sk_planted_0123456789%20%C3%A4%C3%A9",
}


@pytest.mark.parametrize("form", FORMS)


def test_secret_in_a_log(breaks, made, form):
    made.good("t1")
    made.log.append({"time": made.log[0]["time"], "level": "warn", "event": "x", "msg": FORMS[form]})
    breaks(made, "C10", "secret 1 stands in logs/one-1.log, line 2")


def test_secret_in_error_details(breaks, made):
    record = made.ask("t1", 1000, campaignId="none")
    made.answer(record, 1010, "campaign_not_found", details="none planted-workflow-42")
    verdict = breaks(made, "C10", "secret 2 stands in the result in partition 0 at offset 3")
    assert "t1" in verdict.stories


def test_secret_in_an_aborted_result(breaks, made):
    record, row = made.good("t1")
    made.answer(record, 1015, row={**row, "name": SECRET}, visible=False)
    breaks(made, "C10", "secret 1 stands in the result in partition 0 at offset 5")


def test_secret_in_a_header_of_ours(breaks, made):
    record = made.put(b"garbage", GROUP, 1000)
    made.letter(record, 1010, "undecodable")["headers"].append(["kafka_dlt-exception-message", b64(SECRET.encode())])
    breaks(made, "C10", "secret 1 stands in the dead letter in partition 0 at offset 0")


def test_secret_of_the_publisher(passes, made):
    """What it writes into a record that cannot be read comes back in the dead letter."""
    record = made.put(SECRET.encode(), GROUP, 1000, headers=[["note", SECRET]])
    made.letter(record, 1010, "undecodable")
    passes(made)


@pytest.mark.parametrize("what, rise, seconds, true", [
    ("fds", 11, 30, True), ("fds", 13, 30, False), ("threads", 7, 30, False), ("rss_kib", 17000, 30, False), ("fds",
                                                                                                              100, 15, True)])


def test_resources(passes, breaks, made, what, rise, seconds, true):
    made.good("t1")
    for second in range(seconds + 1):
        sample = {"at_ms": T0 + second * 1000, "slot": "one", "run": 4, "pid": 1, "rss_kib": 20000, "fds": 20,
                  "threads": 9}
        sample[what] += round(rise * second / seconds) if second < seconds - 5 else rise
        made.samples.append(sample)
    for sample in made.samples[5:11]:
        sample[what] = made.samples[0][what]
    if true:
        passes(made)
    else:
        breaks(made, "C10", "worker one, run 4: %s rose" % what)


def test_a_peak_is_no_rise(passes, made):
    made.good("t1")
    for second in range(31):
        made.samples.append({"at_ms": T0 + second * 1000, "slot": "one", "run": 4, "pid": 1, "rss_kib": 20000, "fds": 99
                             if second == 28 else 20,
                             "threads": 9})
    passes(made)


def test_clients_made_late_are_no_rise(passes, made):
    """A worker without its coordinators stays without a consumer for a while."""
    made.good("t1")
    for second in range(41):
        late = second < 12
        made.samples.append({"at_ms": T0 + second * 1000, "slot": "one", "run": 4, "pid": 1, "rss_kib": 20000,
                             "fds": 15 if late else 30, "threads": 8 if late else 14})
    passes(made)


def test_two_processes_of_one_number_are_not_compared(passes, made):
    """A worker of the round before may have been looked at last in this one, and had the same number."""
    made.good("t1")
    for second in range(41):
        before = second < 15
        made.samples.append({"at_ms": T0 + second * 1000, "slot": "one", "run": 4, "pid": 1 if before else 2, "rss_kib": 20000,
                             "fds": 30, "threads": 14 if before else 27})
    passes(made)


# ---- the story ----


def test_story(judge, made):
    """In the order of time: what was asked, by whom it was delivered, what changed meanwhile, what was answered."""
    record = made.ask("t1", 1000)
    populating(made, 1005, 1006)
    made.faults.append({"at_ms": T0 + 1011, "until_ms": T0 + 1500, "what": "stop at commit-sent", "who": "slot one"})
    made.faults.append({"at_ms": T0 + 90000, "until_ms": T0 + 91000, "what": "later", "who": "slot one"})
    row = made.write(record, 1010)
    made.answer(record, 1020, row=row, visible=False)
    made.answer(record, 1800, "audience_populating", details="audience a1")
    for event, fields in (("refused", {"traceId": "t1"}), ("accepted", {"traceId": "t2"}), ("running", {}),
                          ("partition_halted", {"partition": "0", "offset": "100"}), ("partition_state",
                                                                                      {"partition": "3"})):
        made.log.append({"time": "2026-09-21T14:13:21.900Z", "level": "info", "event": event, "msg": "words", **fields})
    verdict = judge(made)
    assert [text[:3] for text in verdict.violations] == ["C3:"]
    lines = verdict.stories["t1"]
    assert lines == sorted(lines)
    kinds = [line.split()[1] for line in lines]
    assert kinds == ["command", "judge", "acked", "judge", "outside", "draft", "fault", "result", "result", "log",
                     "log", "log"]
    assert "NOT visible" in lines[7] and "[visible]" in lines[8] and "audit 1, change 1" in lines[4]
    assert "stop at commit-sent (slot one) until 14:13:21.500" in lines[6]
    assert ["refused", "running", "partition_halted"] == [event for event in ("refused", "running", "partition_halted")
                                                          if any(event in line for line in lines[9:])]
