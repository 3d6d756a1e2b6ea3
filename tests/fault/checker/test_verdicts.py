"""The history checker and C5: verdicts that were true in some state, and those that were in none."""

import pytest

from checker.made import GROUP, T0, digest, iso, place, populating
from checker.outside import REASONS

# ---- C5 ----


@pytest.mark.parametrize("at, known, asked, answered, true", [
    (1000, 1100, 1010, 1090, True),     # may have been seen already
    (1000, 1100, 990, 996, True),       # just inside: the row was written within the allowance after the result
    (1000, 1100, 980, 994, False),      # just outside
    (1000, 1100, 900, 1001, True),
])


def test_refused_by_a_coming_state(passes, breaks, made, at, known, asked, answered, true):
    populating(made, at, known)
    record = made.ask("t1", asked)
    made.answer(record, answered, "audience_populating", details="audience a1 is still being populated")
    if true:
        passes(made)
    else:
        breaks(made, "C5", place(record), "409 audience_populating", "they say 201")


@pytest.mark.parametrize("known, asked, true", [(1100, 1104, True), (1100, 1106, False), (1100, 1050, True),
                                                (1101, 1106, True)])


def test_refused_by_a_passing_state(passes, breaks, made, known, asked, true):
    populating(made, 500, 510)
    made.flip(1000, known, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=True)
    record = made.ask("t1", asked)
    made.answer(record, asked + 50, "audience_populating", details="audience a1")
    if true:
        passes(made)
    else:
        breaks(made, "C5", place(record), "they say 201")


@pytest.mark.parametrize("known, asked, true", [(1100, 1104, True), (1100, 1106, False), (1100, 1000, True)])


def test_accepted_by_a_passing_state(passes, breaks, made, known, asked, true):
    populating(made, 990, known)
    record, _ = made.good("t1", asked)
    if true:
        passes(made)
    else:
        breaks(made, "C5", place(record), "they say audience_populating")


def test_accepted_by_a_state_behind_its_draft(breaks, made):
    """The state that would allow the draft came after its row, though before the result."""
    populating(made, 500, 510)
    record = made.ask("t1", 1000)
    row = made.write(record, 1010)
    made.flip(1100, 1101, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=True)
    made.answer(record, 1200, row=row, existed=True)
    breaks(made, "C5", place(record), "they say audience_populating")


def test_two_halves_of_two_states(breaks, made):
    """Never was the key revoked and the audience populating at once; nor was there a state with neither."""
    made.flip(500, 501, "api_keys", {"public_id": "key_full"}, revoked_at=iso(T0))
    here = {"id": "a1", "account_group_id": GROUP}
    made.change(1010, 1011, ("audiences", made.row("audiences", **here),
                             {**made.row("audiences", **here), "ready": False}),
                ("api_keys", made.current("api_keys", {"public_id": "key_full"}),
                 made.row("api_keys", public_id="key_full")))
    record = made.ask("t1", 1000)
    made.answer(record, 1030, row=made.write(record, 1020))
    breaks(made, "C5", place(record), "key_revoked, then audience_populating")


WRONG = [
    ("key_missing", "", {}), ("key_unknown", "", {}), ("key_revoked", "", {}), ("permission_missing", "", {}),
    ("account_group_denied", "", {}), ("campaign_not_found", "c1", {}), ("audience_not_found", "a1",
                                                                         {}), ("lead_not_in_audience", "l1", {}),
    ("audience_too_large", "a1", {"leadIds": None}), ("lead_active", "l1 busy", {}), ("invalid_field", "", {}),
    ("campaign_not_found", "c1", {"audienceId": "none"}), ("audience_not_found", "none",
                                                           {"audienceId": "none", "campaignId": "none"}),
    ("account_group_denied", "", {"apiKeyDigest": "read"}), ("key_missing", "", {"apiKeyDigest": "gone"}),
    ("lead_active", "l3 busy", {"leadIds": ["l3", "l9"]}), ("campaign_not_found", "none",
                                                            {"campaignId": "none", "name": "\u202e"}),
    ("trace_reused", "", {}), ("expired", "", {}), ("rows_locked", "", {}),
    ("lead_active", "lead l2 is enrolled in campaign busy (running)", {"leadIds": ["l2", "l3"]}),
    ("lead_not_in_audience", "leadIds not in audience a1: l1", {"leadIds": ["l1", "l9"]}),
]


@pytest.mark.parametrize("reason, details, fields", WRONG, ids=lambda value: value if isinstance(value, str)
                         and " " not in value else None)


def test_wrong_reason(breaks, made, reason, details, fields):
    record = made.ask("t1", 1000, **fields)
    made.answer(record, 1020, reason, details=details)
    breaks(made, "C5", place(record), REASONS[reason][1] and reason)


def test_database_error_for_no_cause(breaks, made):
    record = made.ask("t1", 1000)
    made.answer(record, 1020, "database_error")
    made.letter(record, 1020, "database_error", "INTERNAL_ERROR")
    breaks(made, "C5", place(record), "500 database_error", "nothing was done at that time")


@pytest.mark.parametrize("begin, until, true", [(900, 1005, True), (900, 990, False), (1030, 1100, False),
                                                (900, None, True)])


def test_rows_locked(passes, breaks, made, begin, until, true):
    record = made.ask("t1", 1000)
    made.answer(record, 1020, "rows_locked")
    made.faults.append({"at_ms": T0 + begin, "until_ms": until and T0 + until, "what": "lock of all grants",
                        "who": "nemesis"})
    made.faults.append({"at_ms": T0, "until_ms": None, "what": "broker 1 killed", "who": "nemesis"})
    if true:
        passes(made)
    else:
        breaks(made, "C5", place(record), "502 rows_locked")


@pytest.mark.parametrize("expires, processed, true", [(1012, 1010, True), (1016, 1010, False), (None, 1010, False)])


def test_expired(passes, breaks, made, expires, processed, true):
    record = made.ask("t1", 1000, expiresAt=expires and T0 + expires)
    made.answer(record, 1020, "expired", processed=processed)
    if true:
        passes(made)
    else:
        breaks(made, "C5", place(record), "502 expired", "deadline")


def test_refused_behind_the_deadline(breaks, made):
    record = made.ask("t1", 1000, expiresAt=T0 + 1010, apiKeyDigest="gone")
    made.answer(record, 1020, "key_revoked")
    breaks(made, "C5", place(record), "401 key_revoked", "was over")


def test_written_behind_the_deadline(breaks, made):
    record, _ = made.good("t1", expiresAt=T0 + 1001)
    breaks(made, "C5", place(record), "was to expire")


@pytest.mark.parametrize("columns", [{"name": "Other"}, {"leads": ["l2"]}, {"selected_lead_count": 7},
                                     {"description": "other"},
                                     {"created_by_key": "key_read"}, {"outreach_language": None}])


def test_draft_of_no_state(breaks, made, columns):
    record = made.ask("t1", 1000)
    made.answer(record, 1020, row=made.write(record, 1010, **columns))
    breaks(made, "C5", place(record), "that no state", "201 with " + {"leads": "selected_leads"}.get(*columns, *columns))


def test_whole_audience_as_it_was(passes, breaks, made):
    """All of an audience: those who were in it in a state of the time."""
    made.change(1000, 1010, ("audience_leads", None, made.member(GROUP, "a2", "l9")))
    record = made.ask("t1", 1005, audienceId="f1", leadIds=None)
    made.answer(record, 1030, row=made.write(record, 1020, leads=["l2", "l4", "l5", "l9"]))
    passes(made)


def test_whole_audience_as_it_never_was(breaks, made):
    made.change(1000, 1010, ("audience_leads", made.row("audience_leads", audience_id="a2", lead_id="l4"), None))
    record = made.ask("t1", 1020, audienceId="f1", leadIds=None)
    made.answer(record, 1040, row=made.write(record, 1030, leads=["l2", "l4", "l5"]))
    breaks(made, "C5", place(record), "selected_leads = ['l2', 'l5']")


def test_enrolment_comes_and_goes(passes, made):
    lead = made.row("campaign_leads", lead_id="l3")
    made.change(1000, 1001, ("campaign_leads", lead, {**lead, "state": "finished"}))
    made.good("t1", 1010, leadIds=["l3"])
    made.change(1050, 1051, ("campaign_leads", {**lead, "state": "finished"}, lead))
    record = made.ask("t2", 1100, leadIds=["l3"])
    made.answer(record, 1110, "lead_active", details="lead l3 is enrolled in campaign busy (running)")
    made.flip(1200, 1201, "campaigns", {"id": "busy"}, status="completed")
    made.good("t3", 1300, leadIds=["l3"])
    passes(made)


def test_grant_that_is_gone(passes, made):
    grant = made.row("api_key_account_groups", account_group_id=GROUP, key_digest=digest("full").hex())
    made.change(1000, 1001, ("api_key_account_groups", grant, None))
    made.answer(made.ask("t1", 1100), 1110, "account_group_denied")
    made.change(1200, 1201, ("api_key_account_groups", None, grant))
    made.good("t2", 1300)
    passes(made)


def test_list_of_a_folder_is_populating(passes, made):
    made.flip(1000, 1001, "audiences", {"id": "a2"}, ready=False)
    made.answer(made.ask("t1", 1100, audienceId="f1", leadIds=None), 1110, "audience_populating",
                details="list a2 of audience f1 is still being populated")
    passes(made)


def test_deleted_when_it_was_not(breaks, made):
    record, row = made.good("t1")
    again = made.ask("t1", 1100)
    made.answer(again, 1110, "draft_deleted")
    made.delete(row, 1200, 1201)
    breaks(made, "C5", place(again), "was not deleted then")


def test_found_when_it_was_deleted(breaks, made):
    record, row = made.good("t1")
    made.delete(row, 1100, 1101)
    again = made.ask("t1", 1200)
    made.answer(again, 1210, row=row, existed=True)
    breaks(made, "C3", place(again), "is not what its draft %s was" % row["id"])


def test_lost_answer_and_deleted_since(passes, made):
    """Its draft was written and deleted before the only visible result."""
    record = made.ask("t1", 1000)
    row = made.write(record, 1010)
    made.delete(row, 1100, 1101)
    made.answer(record, 2000, "draft_deleted")
    passes(made)


def test_reused_before_there_was_a_draft(breaks, made):
    other = made.ask("t1", 1000, name="Else")
    made.answer(other, 1010, "trace_reused")
    made.good("t1", 1100)
    breaks(made, "C5", place(other), "was written at 14:13:21.110 only")


def test_rule_six_is_passed_over(breaks, made):
    made.good("t1")
    other = made.ask("t1", 1100, campaignId="none")
    made.answer(other, 1110, "campaign_not_found", details="none")
    breaks(made, "C5", place(other), "rule 6 comes before")


def test_words_that_do_not_fit_the_reason(breaks, made):
    record = made.ask("t1", 1000, campaignId="none")
    made.answer(record, 1010, "campaign_not_found", details="none", retryable=True)
    breaks(made, "C5", place(record), "has reason campaign_not_found and says (404, 'NOT_FOUND'")


def test_retry_after_nothing(breaks, made):
    record = made.ask("t1", 1000, campaignId="none")
    made.answer(record, 1010, "campaign_not_found", details="none", retryAfterSeconds=3)
    breaks(made, "C5", place(record), "retryAfterSeconds = 3")


def test_readable_and_yet_undecodable(breaks, made):
    record = made.ask("t1", 1000)
    made.answer(record, 1010, "undecodable")
    made.letter(record, 1010, "key_mismatch", "VALIDATION_ERROR")
    breaks(made, "C5 C2", place(record), "rules 0 and 1 say that it is good")


# rate limits


def limited(made, *times, key="slow", again=20):
    """Commands of a key with burst 2, one a second: (when, 201 or 429)."""
    made.records = []
    for n, (at, status) in enumerate(times):
        record = made.ask("t%d" % n, at, apiKeyDigest=key)
        made.records.append(record)
        if status == 201:
            made.answer(record, at + 20, row=made.write(record, at + 10, created_by_key="key_" + key))
        else:
            made.answer(record, at + again, "rate_limited")
    return made


def test_rate_is_kept(passes, made):
    passes(limited(made, (1000, 201), (1001, 201), (1900, 429), (2000, 201), (2500, 429), (3001, 201)))


def test_rate_is_exceeded(breaks, made):
    breaks(limited(made, (1000, 201), (1001, 201), (1900, 201)), "C5", place(made.records[2]),
           "beyond the rate limit of ag_a: burst 2")


def test_429_too_early(breaks, made):
    breaks(limited(made, (1000, 201), (1100, 429)), "C5", place(made.records[1]), "429", "only 1 commands")


def test_429_a_second_late(breaks, made):
    breaks(limited(made, (1000, 201), (1001, 201), (2000, 429)), "C5", place(made.records[2]), "429")


def test_429_without_a_tight_limit(breaks, made):
    breaks(limited(made, (1000, 201), (1001, 201), (1002, 429), key="full"), "C5", place(made.records[2]), "429",
           "burst 1000000")


def test_429_of_one_that_was_charged_before(passes, made):
    """A command that is delivered again may have been charged the first time."""
    passes(limited(made, (1000, 201), (1100, 429), again=2000))


def test_429_of_one_that_was_delivered_again_without_a_tight_limit(breaks, made):
    breaks(limited(made, (1000, 201), (1100, 429), (2900, 201), key="full", again=2000), "C5", place(made.records[1]), "burst 1000000")


def test_429_after_the_round_before(passes, made):
    made.row("api_key_account_groups", key_digest=digest("slow").hex())["rate_tat_us"] = (T0 + 2500) * 1000
    passes(limited(made, (1000, 429)))
