"""What a round leaves behind, read: the records, the answers, the drafts."""

import base64
import datetime
import hashlib
import json
import pathlib
import struct
import unicodedata

from history import well_formed

ALLOWANCE_MS = 5
AGAIN_AFTER_MS = 250  # an answer that took longer may be that of a second delivery


class Unusable(Exception):
    """The folder is not what a round leaves behind: nothing is known, and that is no pass."""


class Folder:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.meta, self.state, self.offsets = (self.whole(name + ".json") for name in ("meta", "state", "offsets"))
        self.commands, self.results, self.raw, self.letters = (
            self.lines(name + ".jsonl", Record) for name in ("commands", "results", "results_raw", "dead_letters"))
        self.acked, self.drafts, self.audit, self.changes, self.faults, self.sessions, self.samples = (
            self.lines(name + ".jsonl")
            for name in ("acked", "drafts", "audit", "changes", "faults", "sessions", "workers"))
        if not self.commands:
            raise Unusable("%s: commands.jsonl is empty: a round without commands proves nothing" % self.path)
        try:
            self.logs = {name: (self.path / name).read_bytes() for name in self.meta["log_files"]}
        except (OSError, KeyError, TypeError) as error:
            raise Unusable("%s: log files: %s" % (self.path, error)) from error

    def read(self, name, parse):
        try:
            with open(self.path / name) as file:
                return parse(file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unusable("%s: %s: %r" % (self.path, name, error)) from error

    def whole(self, name):
        return self.read(name, json.load)

    def lines(self, name, make=lambda entry: entry):
        return self.read(name, lambda file: [make(json.loads(line)) for line in file])


class Record:
    __slots__ = ("partition", "offset", "timestamp", "key", "value", "headers")

    def __init__(self, entry):
        self.partition, self.offset, self.timestamp = entry["partition"], entry["offset"], entry["timestamp"]
        self.key = entry["key"]
        self.value = None if entry["value"] is None else base64.b64decode(entry["value"])
        self.headers = [(name, None if value is None else base64.b64decode(value)) for name, value in entry["headers"]]

    @property
    def place(self):
        return self.partition, self.offset

    def header(self, name):
        """The last one of that name, as bytes."""
        return next((value for other, value in reversed(self.headers) if other == name), None)

    def header_text(self, name):
        value = self.header(name)
        return None if value is None else value.decode(errors="replace")


class Asked:
    """A record of the commands topic."""

    def __init__(self, record, command):
        self.record, self.place = record, record.place
        self.command = command  # None: these bytes are nobody's
        self.results, self.letters, self.raw = [], [], []
        self.digest = digest_of(command) if command else None
        self.refusal = refuse_unread(record.key, command) if command else None  # by rules 0 and 1
        self.trace = self.readable_trace()

    def readable_trace(self):
        """The traceId it must be answered to; None if it cannot be read."""
        if self.own_trace:
            return self.own_trace
        trace = self.record.header_text("traceId")
        return trace if well_formed(trace) else None

    @property
    def own_trace(self):
        return self.command["traceId"] if self.command and well_formed(self.command["traceId"]) else None

    def is_unreadable(self):
        """To the worker, that is, whose limits of what it takes are narrower than this library's."""
        self.command = self.digest = self.refusal = None
        self.trace = self.readable_trace()

    @property
    def key(self):
        return self.command["accountGroupId"], self.command["traceId"]

    @property
    def ms(self):
        return self.record.timestamp

    @property
    def answer(self):
        return self.results[0] if self.results else None

    @property
    def about(self):
        """Whose story tells of it."""
        return self.trace or self.place

    def __str__(self):
        whose = "traceId %s of %s" % (self.trace, self.command["accountGroupId"]) if self.command else "not decodable"
        return "the command in partition %d at offset %d (%s)" % (*self.place, whose)


class Answer:
    """A record of the results topic, decoded."""

    def __init__(self, record, datum):
        self.record, self.datum = record, datum

    def __getitem__(self, name):
        return self.datum[name]

    @property
    def place(self):
        """Of the command."""
        return self["command"]["partition"], self["command"]["offset"]

    @property
    def ms(self):
        return self.record.timestamp

    @property
    def is_half(self):
        """Neither a success nor a refusal."""
        return len({self["success"], self["data"] is not None, self["error"] is None, self["reason"] is None,
                    self["httpStatus"] == 201}) > 1

    @property
    def recognises(self):
        """Whether it says that the command's draft was written."""
        return self["success"] or self["reason"] == "draft_deleted"

    @property
    def story(self):
        details = ": " + self["error"]["details"] if self["error"] else ""
        return "to partition %d offset %d, processed at %s: %s%s" % (*self.place, clock(self["processedAt"]), self, details)

    def __str__(self):
        if not self["success"]:
            return "%d %s" % (self["httpStatus"], self["reason"])
        draft = self["data"]["id"] if self["data"] else None
        return "201 with draft %s%s" % (draft, " (draftExisted)" if self["draftExisted"] else "")


class Draft:
    """A campaign that a command made, in all the shapes it had: (from when, until when, row), both in milliseconds."""

    def __init__(self, row, written_ms, transaction=0):
        self.key, self.id, self.digest = (row["account_group_id"], row["trace_id"]), row["id"], row["command_digest"]
        self.created_ms = row["created_at_ms"]
        self.written_ms = written_ms  # when its row was inserted; None: before this round
        self.transaction = transaction  # a number that rises from one that inserted drafts to the next
        self.row = row
        self.shapes = [(float("-inf") if written_ms is None else written_ms, float("inf"), row)]

    def __str__(self):
        return "draft %s of %s, traceId %s," % (self.id, *self.key)

    @property
    def brief(self):
        return "name %r, leads %s" % (self.row["name"], " ".join(self.row["selected_leads"] or []))

    def change(self, row, at_ms, known_ms):
        since, _, before = self.shapes.pop()
        self.shapes += [(since, known_ms, before), (at_ms, float("inf"), row)]

    def shapes_between(self, begin_ms, end_ms):
        return [row for since, until, row in self.shapes if since <= end_ms and until >= begin_ms]


def digest_of(command):
    """Rule 2: what makes two commands of one traceId the same. The layout is pinned."""
    def text(value):
        data = value if isinstance(value, bytes) else value.encode()
        return struct.pack(">I", len(data)) + data

    def nullable(value, encode):
        return b"\0" if value is None else b"\1" + encode(value)

    def leads(ids):
        ids = sorted(set(ids))
        return struct.pack(">I", len(ids)) + b"".join(map(text, ids))

    return hashlib.sha256(b"".join((
        text(command["campaignId"]), text(command["audienceId"]), nullable(command["name"], text),
        nullable(command["leadIds"], leads), nullable(command["apiKeyDigest"], text)))).hexdigest()


TIMES = ("created_at", "updated_at", "started_at", "rate_limited_until", "deleted_at")


def plain(row):
    """A row as all tables here have it: bytea as bare hex, times of campaigns as milliseconds too."""
    if row is None:
        return None
    for name in ("key_digest", "command_digest"):
        if row.get(name) is not None and row[name].startswith("\\x"):
            row[name] = row[name][2:]
    if row.get("trace_id") is not None:
        for name in TIMES:
            if name + "_ms" not in row:
                row[name + "_ms"] = milliseconds(row.get(name))
    return row


def milliseconds(text):
    return None if text is None else round(datetime.datetime.fromisoformat(text).timestamp() * 1000)


def clock(ms):
    if ms is None or abs(ms) == float("inf"):
        return "?"
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc).strftime("%H:%M:%S.%f")[:-3]


# --- rules 0 and 1 (worker/protocol.txt, THE RULES OF JUDGEMENT) ---------------------------------------------------------


def refuse_unread(record_key, command):
    """Rules 0 and 1, which look at nothing but the record: a reason, or None."""
    if record_key != command["accountGroupId"]:
        return "key_mismatch"
    ids = [command[name] for name in ("traceId", "accountGroupId", "campaignId", "audienceId")]
    leads = command["leadIds"]
    if not all(map(well_formed, ids)) or not is_name(command["name"]):
        return "invalid_field"
    if leads is not None and not (1 <= len(leads) <= 10000 and all(map(well_formed, leads))):
        return "invalid_field"
    return None


FILLERS = "\u2800\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065\u3164\uffa0"  # seen nowhere, and no format characters


def is_name(name):
    if name is None:
        return True
    if not 1 <= len(name) <= 255:
        return False
    if any(unicodedata.category(c) == "Cc" or c in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
           for c in name):
        return False
    if any(0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in name):
        return False
    return not all(c.isspace() or unicodedata.category(c) == "Cf" or c in FILLERS or unicodedata.name(c, "").startswith("VARIATION SELECTOR")
                   for c in name)


def was_again(asked):
    """Whether the command may have been delivered more than once."""
    return len(asked.raw) > 1 or asked.answer.ms - asked.ms > AGAIN_AFTER_MS
