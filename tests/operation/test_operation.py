"""A second operation, "archive a campaign", on the real Kafka and PostgreSQL: the product's archives with another row
instead of duplicate's. That the rest of the worker does not know what its operation does is shown by its working."""

import pathlib
import subprocess
import time
import uuid

import pytest

from avrocodec import Codec
from harness import SEED, binary, digest, wait_until

HERE = pathlib.Path(__file__).resolve().parent
COMMAND, RESULT = (Codec((HERE / name).read_text()) for name in ("command.avsc", "result.avsc"))
RUNNING, DRAFT, PAUSED = ("65a00000000000000000000%d" % i for i in (1, 2, 3))


@pytest.fixture
def archive(world):
    """The world, with this operation's table."""
    world.sql((HERE / "table.sql").read_text())
    return world


def command(**fields):
    return {
        "traceId": uuid.uuid4().hex, "accountGroupId": SEED["accountGroupId"], "campaignId": DRAFT, "note": None, "force": False,
        "keepDays": None, "apiKeyDigest": SEED["apiKeyDigest"], "issuedAt": int(time.time() * 1000), "expiresAt": None, **fields,
    }


def send(world, *commands):
    """Their results, in the same order."""
    places = world.send_raw(*((c["accountGroupId"].encode(), COMMAND.encode(c)) for c in commands))

    def find():
        results = (RESULT.decode(record.value) for record in world.read_all())
        by_place = {(r["command"]["partition"], r["command"]["offset"]): r for r in results}
        return by_place if all(place in by_place for place in places) else None

    by_place = wait_until(find, 30, "results of %s" % places)
    return [by_place[place] for place in places]


def start(world, **options):
    return world.worker(program=binary("archive-worker"), **options)


def archived(world):
    return world.sql("SELECT id, note, forced, keep_days, trace_id FROM archived_campaigns ORDER BY id")


def test_another_programs_operation_is_not_in_it():
    """Of duplicate nothing is linked: nothing of the rest refers to it."""
    symbols = subprocess.run(["nm", binary("archive-worker")], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    assert "archive_operation" in symbols and "execution_send" in symbols
    assert [s for s in symbols if s.startswith("duplicate_")] == []


def test_outcomes(archive):
    start(archive)
    good = command(note="over", keepDays=30)
    forced = command(campaignId=RUNNING, force=True)
    cases = [
        (good, 200, None, None),
        (command(campaignId=RUNNING), 409, "campaign_running", "campaign %s is running" % RUNNING),
        (command(campaignId=RUNNING, note="soon"), 409, "campaign_running", "campaign %s is running: soon" % RUNNING),
        (command(campaignId="none"), 404, "campaign_unknown", "no campaign none in account group ag_acme"),
        (command(campaignId=PAUSED, note="x" * 21), 400, "note_too_long", "note has more than 20 characters"),
        (command(campaignId=PAUSED, keepDays=0), 400, "invalid_field", "keepDays is 0: at least 1"),
        (command(campaignId="no id"), 400, "invalid_field", "campaignId is not a well-formed id: 1 to 64 of A-Z a-z 0-9 _ -"),
        (command(apiKeyDigest=None), 401, "key_missing", "apiKeyDigest is missing"),
        (command(apiKeyDigest=digest("demo-key-revoked")), 401, "key_revoked", "API key key_revoked has been revoked"),
        (command(expiresAt=1), 502, "expired", "expiresAt 1970-01-01T00:00:00.001Z had passed"),
        (forced, 200, None, None),
    ]
    results = send(archive, *(case[0] for case in cases))
    for (sent, status, reason, details), result in zip(cases, results):
        assert (result["httpStatus"], result["reason"]) == (status, reason), result
        assert result["success"] == (reason is None) and not result["draftExisted"]
        assert (result["traceId"], result["accountGroupId"]) == (sent["traceId"], "ag_acme")
        assert result["issuedAt"] == sent["issuedAt"]
        assert (result["error"] or {}).get("details") == details
    data = results[0]["data"]
    assert {**data, "archivedAt": 0} == {"id": DRAFT, "note": "over", "forced": False, "keepDays": 30, "archivedAt": 0}
    assert data["archivedAt"] == results[0]["processedAt"]
    assert results[-1]["data"]["forced"] and results[-1]["data"]["keepDays"] is None
    assert archived(archive) == [
        {"id": RUNNING, "note": None, "forced": True, "keep_days": None, "trace_id": forced["traceId"]},
        {"id": DRAFT, "note": "over", "forced": False, "keep_days": 30, "trace_id": good["traceId"]},
    ]

    again, reused, late = send(archive, good, {**good, "keepDays": 31}, command())
    assert again["success"] and again["draftExisted"] and again["data"] == data
    assert reused["reason"] == "trace_reused"
    assert late["reason"] == "already_archived"
    assert late["error"]["details"] == "campaign %s was archived in %d" % (DRAFT, time.gmtime(data["archivedAt"] / 1000).tm_year)


def test_dead_letters(archive):
    start(archive)
    archive.send_raw((b"ag_acme", b"nothing"), (b"other", COMMAND.encode(command())))
    letters = wait_until(lambda: len(found := archive.all_dead_letters()) == 2 and found, 30, "two dead letters")
    assert sorted(letter.header("campaign-dlt-reason") for letter in letters) == ["key_mismatch", "undecodable"]
    assert archived(archive) == []


@pytest.mark.parametrize("step", ["commit-before", "commit-after", "endtxn-before"])
def test_killed_between_the_commits(archive, step):
    """Delivered again, a command finds its work, where it was done."""
    worker = start(archive, fail=step + ":kill:1", args=("-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300"))
    good, refused = command(note="over"), command(campaignId=RUNNING)
    archive.send_raw(*((c["accountGroupId"].encode(), COMMAND.encode(c)) for c in (good, refused)))
    assert worker.wait(30) == -9
    written = len(wait_for_rows(archive))
    assert written == (0 if step == "commit-before" else 1)
    worker.fail = None
    worker.start()
    wait_until(lambda: not archive.lag(), 30, "everything answered")
    results = [RESULT.decode(record.value) for record in archive.read_all()]
    answers = {result["traceId"]: result for result in results}
    assert len(results) == len(answers) == 2
    assert answers[good["traceId"]]["success"] and answers[good["traceId"]]["draftExisted"] == (written == 1)
    assert answers[refused["traceId"]]["reason"] == "campaign_running"
    assert len(archived(archive)) == 1


def wait_for_rows(world):
    """What is written once no session of the dead worker can commit any more."""
    wait_until(lambda: not world.sql(
        "SELECT FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'campaign-worker%%'", world.database), 20,
        "no session of the dead worker")
    return archived(world)
