"""The history checker itself: it passes a history that keeps the promises, and reports each way of breaking one, by the number
of the check and the place. No servers: the histories are made up, their records with the real codec.
"""

import base64
import copy
import hashlib
import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

import check_history  # noqa: E402
from avrocodec import command_codec, result_codec  # noqa: E402

T0 = 1790000000000
GROUP, OTHER = "ag_a", "ag_b"
WORKER = "campaign-worker fault-one"
SECRET = "sk_planted_0123456789 äé"
PARENT = [["traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]]


def b64(data):
    return None if data is None else base64.b64encode(data).decode()


def digest(key):
    return hashlib.sha256(key.encode()).digest()


def iso(ms):
    return check_history.datetime.datetime.fromtimestamp(ms / 1000, check_history.datetime.timezone.utc).isoformat()


class Round:
    """A made-up round. Times are milliseconds after T0; what it does not say is as a good round has it."""

    def __init__(self):
        self.meta = {
            "seed": "1", "cell": "a", "round": 1, "group": "g", "commands": "commands", "results": "results", "dead_letters": "dead",
            "database": "db", "secrets": [SECRET,
                                          "planted-workflow-42"], "last_fault_ms": T0 + 20000, "quiet_ms": T0 + 25000,
            "restless": [], "quiet_limit_s": 60, "log_files": ["logs/one-1.log"],
        }
        self.commands, self.acked, self.results, self.raw, self.letters = [], [], [], [], []
        self.drafts, self.audit, self.changes, self.faults, self.sessions, self.samples = [], [], [], [], [], []
        self.log = [{"time": iso(T0 - 9000).replace("+00:00", ".000Z"), "level": "info", "event": "starting",
                     "msg": "here"}]
        self.next_offset = {}
        self.state = {
            "account_groups": [{"id": GROUP}, {"id": OTHER}],
            "api_keys": [self.api_key("full"), self.api_key("flip"), self.api_key("slow"),
                         self.api_key("read", ["campaigns:read"]),
                         self.api_key("alone"), self.api_key("gone", revoked_at=iso(T0 - 1e6))],
            "api_key_account_groups": [self.grant(group, key) for group in (GROUP, OTHER)
                                       for key in ("full", "flip", "read", "gone")]
            + [self.grant(GROUP, "slow", 1000000, 2)],
            "campaigns": [self.campaign(GROUP, "c1"), self.campaign(OTHER, "c1"),
                          self.campaign(GROUP, "c2", description=None),
                          self.campaign(GROUP, "busy", status="running"), self.campaign(GROUP, "old",
                                                                                        deleted_at=iso(T0 - 1e6))],
            "audiences": [self.audience(GROUP, "a1"), self.audience(OTHER, "a1"),
                          self.audience(GROUP, "f1", kind="folder"),
                          self.audience(GROUP, "a2", parent_id="f1"), self.audience(GROUP, "a3", parent_id="f1")],
            "audience_leads": [self.member(group, audience, lead) for group, audience, lead in (
                (GROUP, "a1", "l1"), (GROUP, "a1", "l2"), (GROUP, "a1", "l3"), (GROUP, "a2", "l2"), (GROUP, "a2", "l4"),
                (GROUP, "a3", "l5"), (OTHER, "a1", "l1"))],
            "campaign_leads": [self.enrolment(GROUP, "busy", "l3")],
        }

    # Rows

    def api_key(self, name, permissions=("campaigns:read", "campaigns:write"), revoked_at=None):
        return {"key_digest": digest(name).hex(), "public_id": "key_" + name, "permissions": list(permissions),
                "revoked_at": revoked_at}

    def grant(self, group, key, interval_us=1, burst=1000000):
        return {"account_group_id": group, "key_digest": digest(key).hex(), "rate_interval_us": interval_us,
                "rate_burst": burst,
                "rate_tat_us": 0}

    def campaign(self, group, name, **columns):
        return {"account_group_id": group, "id": name, "name": "Source " + name, "description": "of " + name,
                "status": "completed",
                "include_conversation_history": True, "auto_cancel_on_message_received": False, "outreach_language": "en",
                "trace_id": None, "command_digest": None, "deleted_at": None, **columns}

    def audience(self, group, name, kind="list", parent_id=None, ready=True):
        return {"account_group_id": group, "id": name, "kind": kind, "parent_id": parent_id, "ready": ready}

    def member(self, group, audience, lead):
        return {"account_group_id": group, "audience_id": audience, "lead_id": lead}

    def enrolment(self, group, campaign, lead, state="enrolled"):
        return {"account_group_id": group, "campaign_id": campaign, "lead_id": lead, "state": state}

    def row(self, table, **columns):
        """The state's row that has these columns."""
        return next(row for row in self.state[table] if all(row.get(name) == value for name, value in columns.items()))

    def change(self, at, known, *rows):
        """An outside change: (table, old, new)s."""
        number = len(self.changes) + 1
        self.changes.append({"id": number, "sent_ms": T0 + at - 1, "known_ms": T0 + known, "what": "change %d" % number})
        for table, old, new in rows:
            self.note(at, table, old, new, number, "flipper")

    def flip(self, at, known, table, columns, **new):
        """Changes columns of a row of the state; to be told in order."""
        old = self.current(table, columns)
        self.change(at, known, (table, old, {**old, **new}))

    def current(self, table, columns):
        rows = [entry["new"] for entry in reversed(self.audit) if entry["table"] == table
                and entry["new"]] + self.state[table]
        return next(row for row in rows if all(row.get(name) == value for name, value in columns.items()))

    def note(self, at, table, old, new, change=None, application=WORKER):
        def bytea(row):
            return row and {name: "\\x" + value.replace("\\x", "") if name in ("key_digest", "command_digest")
                            and value else value
                            for name, value in row.items()}

        op = "DELETE" if new is None else "INSERT" if old is None else "UPDATE"
        self.audit.append({"id": len(self.audit) + 1, "at_ms": T0 + at, "txid": 700 + len(self.audit), "change": change,
                           "application": application, "table": table, "op": op, "old": bytea(old), "new": bytea(new)})

    # Records

    def put(self, value, key, at, partition=0, headers=(), kind="good", trace=None, group=None):
        offset = self.next_offset.get(partition, 100)
        self.next_offset[partition] = offset + 1
        record = {"partition": partition, "offset": offset, "timestamp": T0 + at, "key": key, "value": b64(value),
                  "headers": [[name, b64(text.encode())] for name, text in headers]}
        self.commands.append(record)
        self.acked.append({"partition": partition, "offset": offset, "sha256": hashlib.sha256(value or b"").hexdigest(),
                           "traceId": trace,
                           "accountGroupId": group, "sent_ms": T0 + at - 1, "acked_ms": T0 + at + 2, "kind": kind})
        return record

    def ask(self, trace, at, partition=0, record_key=None, headers=(), **fields):
        command = {"traceId": trace, "accountGroupId": GROUP, "campaignId": "c1", "name": None, "audienceId": "a1",
                   "leadIds": ["l1"],
                   "apiKeyDigest": digest("full"), "issuedAt": T0 + at - 3, "expiresAt": None, **fields}
        if isinstance(command["apiKeyDigest"], str):
            command["apiKeyDigest"] = digest(command["apiKeyDigest"])
        record = self.put(command_codec.encode(command), record_key or command["accountGroupId"], at, partition, headers,
                          trace=trace, group=command["accountGroupId"])
        record["command"] = command
        return record

    def write(self, record, at, name=None, leads=None, **columns):
        """The draft of that command; its row."""
        command = record["command"]
        source = self.current("campaigns", {"account_group_id": command["accountGroupId"], "id": command["campaignId"]})
        leads = sorted(set(command["leadIds"])) if leads is None else leads
        row = {
            "account_group_id": command["accountGroupId"], "id": "%024x" % (len(self.drafts) + 1), "status": "draft",
            "name": name or command["name"] or source["name"], "description": source["description"], "selected_lead_count": len(leads),
            "selected_leads": leads, "include_conversation_history": True, "auto_cancel_on_message_received": False,
            "outreach_language": "en", "source_campaign_id": command["campaignId"], "trace_id": command["traceId"],
            "command_digest": check_history.digest_of(command), "created_by_key": "key_full", "created_at": iso(T0 + at),
            "updated_at": iso(T0 + at), "started_at": None, "rate_limited_until": None, "deleted_at": None, **columns,
        }
        self.note(at, "campaigns", None, row)
        self.drafts.append({**{name: value for name, value in row.items() if not name.endswith("_at")
                               and name != "rate_limited_until"},
                            **{name + "_ms": check_history.milliseconds(row[name]) for name in check_history.TIMES}})
        return row

    def delete(self, row, at, known):
        new = {**row, "deleted_at": iso(T0 + at)}
        self.change(at, known, ("campaigns", row, new))
        next(draft for draft in self.drafts if draft["id"] == row["id"])["deleted_at_ms"] = T0 + at

    def answer(self, record, at, reason=None, row=None, existed=False, details="", processed=None, partition=0,
               visible=True,
               trace=None, **fields):
        command = record.get("command", {})

        def mine(name):
            return command.get(name) if check_history.well_formed(command.get(name)) else None

        status, code, message, retryable = (201, None, None, False) if row else check_history.REASONS[reason]
        result = {
            "traceId": trace or command["traceId"], "success": row is not None, "data": None, "error": None, "httpStatus": status,
            "reason": reason, "retryable": retryable, "retryAfterSeconds": 7 if reason == "rate_limited" else None,
            "accountGroupId": mine("accountGroupId"), "sourceCampaignId": mine("campaignId"), "audienceId": mine("audienceId"),
            "draftExisted": existed, "issuedAt": command.get("issuedAt"), "processedAt": T0 + (at - 2
                                                                                               if processed is None else processed),
            "command": {"topic": "commands", **{name: record[name] for name in ("partition", "offset", "timestamp")}},
        }
        if row:
            result["data"] = check_history.data_of(check_history.plain(copy.deepcopy(row)))
        else:
            result["error"] = {"code": code, "message": message, "details": details}
        headers = [["httpStatus", str(status)]] + ([["code", code]] if code else [])
        if result["accountGroupId"]:
            headers.append(["accountGroupId", result["accountGroupId"]])
        result.update(fields)
        made = {"partition": partition, "offset": 2 * len(self.raw) + 3, "timestamp": T0 + at, "key": result["traceId"],
                "value": b64(result_codec.encode(result)), "headers": [[name, b64(text.encode())] for name,
                                                                       text in headers]}
        self.raw.append(made)
        if visible:
            self.results.append(made)
        return made

    def letter(self, record, at, reason, answered=None, **fields):
        headers = record["headers"] + [
            ["kafka_dlt-original-topic", b64(b"commands")], ["kafka_dlt-original-partition",
                                                             b64(record["partition"].to_bytes(4, "big"))],
            ["kafka_dlt-original-offset", b64(record["offset"].to_bytes(8, "big"))], ["kafka_dlt-exception-message",
                                                                                      b64(b"cause")],
            ["reason", b64(reason.encode())]]
        if answered:
            headers.append(["answered", b64(answered.encode())])
        made = {"partition": 0, "offset": len(self.letters), "timestamp": T0 + at, "key": record["key"],
                "value": record["value"],
                "headers": headers, **fields}
        self.letters.append(made)
        return made

    def good(self, trace, at=1000, **fields):
        record = self.ask(trace, at, **fields)
        row = self.write(record, at + 10)
        self.answer(record, at + 20, row=row)
        return record, row

    def offsets(self):
        commands = {"0": 100, "1": 100, "2": 100, **{str(p): end for p, end in self.next_offset.items()}}
        return {
            "commands": {p: {"committed": end, "low": 0, "high": end, "round_begin": 100} for p, end in commands.items()},
            "results": {"0": {"high": 900, "stable": 900}, "1": {"high": 0, "stable": 0}},
            "dead_letters": {"0": {"high": 90, "stable": 90}},
        }

    def save(self, folder):
        (folder / "logs").mkdir(parents=True)
        lines = {"commands": self.commands, "acked": self.acked, "results": self.results, "results_raw": self.raw,
                 "dead_letters": self.letters, "drafts": self.drafts, "audit": self.audit, "changes": self.changes,
                 "faults": self.faults, "sessions": self.sessions, "workers": self.samples, "logs/one-1": self.log}
        for name, entries in lines.items():
            texts = [json.dumps({k: v for k, v in entry.items() if k != "command"}) for entry in entries]
            (folder / (name + (".log" if "/" in name else ".jsonl"))).write_text("".join(text + "\n" for text in texts))
        for name, value in {"meta": self.meta, "state": self.state, "offsets": getattr(self, "ends", None)
                            or self.offsets()}.items():
            (folder / (name + ".json")).write_text(json.dumps(value))
        return folder


@pytest.fixture
def made():
    return Round()


@pytest.fixture
def judge(tmp_path):
    def run(made):
        return check_history.check(made.save(tmp_path / "round"))

    return run


@pytest.fixture
def passes(judge):
    def run(made):
        verdict = judge(made)
        assert not verdict.violations, verdict.text()
        return verdict

    return run


@pytest.fixture
def breaks(judge):
    """Asserts that these checks and no others are broken, the first with these words in one violation; the verdict."""
    def run(made, numbers, *words):
        verdict, numbers = judge(made), numbers.split()
        assert verdict.violations, "nothing was found"
        assert {text.split(":")[0] for text in verdict.violations} == set(numbers), verdict.text()
        assert any(text.startswith(numbers[0] + ":") and all(word in text for word in words)
                   for text in verdict.violations), verdict.text()
        return verdict

    return run


def place(record):
    return "partition %d at offset %d" % (record["partition"], record["offset"])


# ---- what is good ----

def everything():
    """A round with all that may rightly happen."""
    r = Round()
    record, row = r.good("t-plain", headers=PARENT)
    r.answer(record, 1015, row=row, visible=False)  # an aborted one before
    again = r.ask("t-plain", 1100, issuedAt=T0)
    r.answer(again, 1110, row=row, existed=True)
    other = r.ask("t-plain", 1120, name="another")
    r.answer(other, 1130, "trace_reused", details="traceId t-plain belongs to another command")
    twin = r.ask("t-plain", 1140, accountGroupId=OTHER, partition=1)
    r.answer(twin, 1160, row=r.write(twin, 1150), partition=1)
    r.delete(row, 1200, 1203)
    r.answer(r.ask("t-plain", 1210), 1220, "draft_deleted")

    whole = r.ask("t-whole", 2000, audienceId="f1", leadIds=None, campaignId="c2", name="Named")
    r.answer(whole, 2020, row=r.write(whole, 2010, leads=["l2", "l4", "l5"]))
    crashed = r.ask("t-crashed", 2100)
    row = r.write(crashed, 2110)  # then a crash; the state moves on
    r.flip(2200, 2205, "api_keys", {"public_id": "key_full"}, revoked_at=iso(T0 + 2200))
    r.answer(crashed, 3500, row=row, existed=True)
    r.answer(r.ask("t-revoked", 3600), 3610, "key_revoked", details="API key key_full has been revoked")
    r.flip(3700, 3705, "api_keys", {"public_id": "key_full"}, revoked_at=None)

    at = 4000
    for trace, reason, details, fields in REFUSED:
        r.answer(r.ask(trace, at, **fields), at + 10, reason, details=details)
        at += 20
    expired = r.ask("t-expired", 5000, expiresAt=T0 + 5004)
    r.answer(expired, 5012, "expired", processed=5010)
    r.faults.append({"at_ms": T0 + 5090, "until_ms": T0 + 5400, "what": "lock of a grant", "who": "nemesis"})
    r.answer(r.ask("t-locked", 5100), 5390, "rows_locked")

    for n in range(2):
        slow = r.ask("t-slow%d" % n, 5500 + n, apiKeyDigest="slow")
        r.answer(slow, 5520 + n, row=r.write(slow, 5510, created_by_key="key_slow"))
    r.answer(r.ask("t-slow2", 5600, apiKeyDigest="slow"), 5620, "rate_limited")

    bad = r.put(b"\xc3\x01garbage", GROUP, 6000, kind="bytes")
    r.letter(bad, 6010, "undecodable")
    named = r.put(None, None, 6020, headers=[["traceId", "t-tomb"]], kind="bytes")
    r.answer(named, 6030, "tombstone", trace="t-tomb")
    r.letter(named, 6030, "tombstone", "VALIDATION_ERROR")
    astray = r.ask("t-astray", 6040, record_key=OTHER)
    r.answer(astray, 6050, "key_mismatch")
    r.letter(astray, 6050, "key_mismatch", "VALIDATION_ERROR")
    odd = r.ask("not a trace", 6060, headers=[["traceId", "t-odd"]])
    r.answer(odd, 6070, "invalid_field", trace="t-odd")
    r.letter(odd, 6070, "invalid_field", "VALIDATION_ERROR")
    return r


REFUSED = [
    ("r1", "invalid_field", "", {"name": " "}),
    ("r2", "invalid_field", "", {"leadIds": []}),
    ("r3", "invalid_field", "", {"campaignId": "sk_1"}),
    ("r4", "key_missing", "", {"apiKeyDigest": None}),
    ("r5", "key_unknown", "", {"apiKeyDigest": "nobody's"}),
    ("r6", "key_revoked", "", {"apiKeyDigest": "gone"}),
    ("r7", "permission_missing", "", {"apiKeyDigest": "read"}),
    ("r8", "account_group_denied", "", {"apiKeyDigest": "alone"}),
    ("r9", "campaign_not_found", "no campaign none in account group ag_a", {"campaignId": "none"}),
    ("r10", "campaign_not_found", "no campaign old in account group ag_a", {"campaignId": "old"}),
    ("r11", "audience_not_found", "no audience none in account group ag_a", {"audienceId": "none"}),
    ("r12", "lead_not_in_audience", "leadIds not in audience a1: l4 and l5", {"leadIds": ["l5", "l1", "l4"]}),
    ("r13", "lead_active", "lead l3 is enrolled in campaign busy (running)", {"leadIds": None}),
    ("r14", "permission_missing", "", {"apiKeyDigest": "read", "campaignId": "none"}),
    ("r15", "campaign_not_found", "no campaign none in account group ag_a", {"campaignId": "none", "audienceId": "none"}),
    ("r16", "lead_not_in_audience", "leadIds not in audience a1: l9", {"leadIds": ["l3", "l9"]}),
]


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


def test_unknown_partition(breaks, made):
    made.good("t1", partition=7)
    made.ends = made.offsets()
    del made.ends["commands"]["7"]
    breaks(made, "C4", "in partition 7")


# ---- C5 ----

def populating(made, at, known):
    """Audience a1 is ready from the beginning, and not from then on."""
    made.flip(at, known, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=False)


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
    breaks(made, "C5", place(record), check_history.REASONS[reason][1] and reason)


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
