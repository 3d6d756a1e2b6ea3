"""Made-up rounds for the tests of the history checker. No servers: their records are made with the real codec."""

import base64
import copy
import datetime
import hashlib
import json

from avrocodec import command_codec, result_codec
from checker import drafts, folder, outside
from history import well_formed

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
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc).isoformat()


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
        self.next_offset, self.draft_number = {}, 0
        self.older = self.lost = None
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
        self.draft_number += 1
        row = {
            "account_group_id": command["accountGroupId"], "id": "%024x" % self.draft_number, "status": "draft",
            "name": name or command["name"] or source["name"], "description": source["description"], "selected_lead_count": len(leads),
            "selected_leads": leads, "include_conversation_history": True, "auto_cancel_on_message_received": False,
            "outreach_language": "en", "source_campaign_id": command["campaignId"], "trace_id": command["traceId"],
            "command_digest": folder.digest_of(command), "created_by_key": "key_full", "created_at": iso(T0 + at),
            "updated_at": iso(T0 + at), "started_at": None, "rate_limited_until": None, "deleted_at": None, **columns,
        }
        self.note(at, "campaigns", None, row)
        self.drafts.append({**{name: value for name, value in row.items() if not name.endswith("_at")
                               and name != "rate_limited_until"},
                            **{name + "_ms": folder.milliseconds(row[name]) for name in folder.TIMES}})
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
            return command.get(name) if well_formed(command.get(name)) else None

        status, code, message, retryable = (201, None, None, False) if row else outside.REASONS[reason]
        result = {
            "traceId": trace or command["traceId"], "success": row is not None, "data": None, "error": None, "httpStatus": status,
            "reason": reason, "retryable": retryable, "retryAfterSeconds": 7 if reason == "rate_limited" else None,
            "accountGroupId": mine("accountGroupId"), "sourceCampaignId": mine("campaignId"), "audienceId": mine("audienceId"),
            "draftExisted": existed, "issuedAt": command.get("issuedAt"), "processedAt": T0 + (at - 2
                                                                                               if processed is None else processed),
            "command": {"topic": "commands", **{name: record[name] for name in ("partition", "offset", "timestamp")}},
        }
        if row:
            result["data"] = drafts.data_of(folder.plain(copy.deepcopy(row)))
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
            ["campaign-dlt-reason", b64(reason.encode())]]
        if answered:
            headers.append(["campaign-dlt-answered", b64(answered.encode())])
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

    def copy(self, confirmed=None):
        """Of the database as it is: all is executed, and confirmed, or up to there in partition 0."""
        self.older = copy.deepcopy((self.audit, self.drafts, self.changes))
        executed = {str(p): end for p, end in self.next_offset.items()}
        self.meta["restored"] = {"executed": executed, "confirmed": dict(executed)}
        if confirmed is not None:
            self.meta["restored"]["confirmed"]["0"] = confirmed

    def restore(self, committed=None):
        """The copy takes its place. The group has committed all there is, or up to there in partition 0."""
        self.lost = {"lost_audit": self.audit, "lost_drafts": self.drafts, "lost_changes": self.changes}
        self.audit, self.drafts, self.changes = self.older
        ends = {str(p): end for p, end in self.next_offset.items()}
        published = max((result["offset"] for result in self.raw), default=0) + 1
        self.meta["restored"].update(
            committed=ends if committed is None else {**ends, "0": committed},
            ends={"commands": ends, "results": {"0": published, "1": published}, "dead_letters": {"0": len(self.letters)}})

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
                 "faults": self.faults, "sessions": self.sessions, "workers": self.samples, "logs/one-1": self.log, **(self.lost or {})}
        for name, entries in lines.items():
            texts = [json.dumps({k: v for k, v in entry.items() if k != "command"}) for entry in entries]
            (folder / (name + (".log" if "/" in name else ".jsonl"))).write_text("".join(text + "\n" for text in texts))
        for name, value in {"meta": self.meta, "state": self.state, "offsets": getattr(self, "ends", None)
                            or self.offsets()}.items():
            (folder / (name + ".json")).write_text(json.dumps(value))
        return folder


def place(record):
    return "partition %d at offset %d" % (record["partition"], record["offset"])



def populating(made, at, known):
    """Audience a1 is ready from the beginning, and not from then on."""
    made.flip(at, known, "audiences", {"id": "a1", "account_group_id": GROUP}, ready=False)


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
