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
    C9   quiet within a minute of the last fault
    C10  planted secrets appear nowhere; memory, descriptors and threads stay flat

C5 rests on a judge of its own (Outside), written from the contract's rules and not from the worker's SQL. The outside state
changes one step at a time. Step i was committed between its audit rows (written before COMMIT) and the moment the flipper
knew of it; so the state behind it may have held from the one until step i + 1 was known. A verdict is true if a state that
may have held between the command's timestamp and the result's gives it, allowing ALLOWANCE_MS for clocks read apart.
"""

import base64
import bisect
import collections
import datetime
import hashlib
import itertools
import json
import math
import pathlib
import re
import struct
import sys
import unicodedata
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from avrocodec import command_codec, result_codec  # noqa: E402
from history import UNREADABLE, well_formed  # noqa: E402

ALLOWANCE_MS = 5
AUDIENCE_LEADS_MAX = 50000  # the setting's default
DEAD_LETTERED = (*UNREADABLE, "key_mismatch", "database_error")
AGAIN_AFTER_MS = 250  # an answer that took longer may be that of a second delivery
CHARGES_MAX = 20      # of the rate limit, for one command delivered again and again
STORIES_MAX = 10

# What can leave a command's rows locked, or make the database refuse one command: words of faults.jsonl's "what". Whoever
# is stopped or cut off inside of a transaction keeps its locks for a while.
CAUSES = {
    "rows_locked": ("lock", "stop", "sleep", "slow", "hold", "mute", "half-open", "detach", "hang", "timeout",
                    "serializ"),
    "database_error": ("poison",),
}

# "Flat" is: the least of the last seconds is not above the most of the early ones by more than this.
WATCH_S, WARM_UP_S, EDGE_S = 20, 5, 5
MARGINS = {"rss_kib": 16384, "fds": 12, "threads": 6}


class Unusable(Exception):
    """The folder is not what a round leaves behind: nothing is known, and that is no pass."""


# ---- what a round leaves behind ----

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

    def __init__(self, row, written_ms):
        self.key, self.id, self.digest = (row["account_group_id"], row["trace_id"]), row["id"], row["command_digest"]
        self.created_ms = row["created_at_ms"]
        self.written_ms = written_ms  # when its row was inserted; None: before this round
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


# ---- the rules (worker/protocol.txt, THE RULES OF JUDGEMENT) ----

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


def is_name(name):
    if name is None:
        return True
    if not 1 <= len(name) <= 255:
        return False
    if any(unicodedata.category(c) == "Cc" or c in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
           for c in name):
        return False
    return not all(c.isspace() or unicodedata.category(c) == "Cf" or c in "\u2800\u3164" for c in name)


class Versions:
    """What a key had after each step: the value of the last step that touched it."""

    def __init__(self):
        self.of = {}

    def put(self, step, key, value):
        steps, values = self.of.setdefault(key, ([], []))
        if steps and steps[-1] == step:
            values[-1] = value
        else:
            steps.append(step)
            values.append(value)

    def at(self, step, key, default=None):
        if key not in self.of:
            return default
        steps, values = self.of[key]
        place = bisect.bisect_right(steps, step)
        return values[place - 1] if place else default

    def ever(self, key):
        return self.of[key][1] if key in self.of else []


ROWS = {
    "api_keys": ("key_digest",),
    "api_key_account_groups": ("account_group_id", "key_digest"),
    "campaigns": ("account_group_id", "id"),
    "audiences": ("account_group_id", "id"),
}
# Many rows of which a set is made: its name, its key, its element, and which rows count.
SETS = {
    "audiences": ("lists", ("account_group_id", "parent_id"), "id", lambda row: row["parent_id"] is not None),
    "audience_leads": ("members", ("account_group_id", "audience_id"), "lead_id", lambda row: True),
    "campaign_leads": ("enrolled", ("account_group_id", "lead_id"), "campaign_id", lambda row: row["state"] == "enrolled"),
}
NONE = frozenset()


class Outside:
    """The outside state after each step, and the judge."""

    def __init__(self, folder):
        self.tables = {name: Versions() for name in (*ROWS, "lists", "members", "enrolled")}
        self.begins, self.untils, self.steps = [float("-inf")], [], [None]
        self.strange = []  # audit rows of nobody's change
        self.drafts = {}   # by (account group, trace): all that were ever written
        for table in (*ROWS, "audience_leads", "campaign_leads"):
            for row in folder.state[table]:
                self.apply(0, table, None, plain(row))
        known = {change["id"]: change for change in folder.changes}
        by_change = collections.defaultdict(list)
        for entry in folder.audit:
            entry["old"], entry["new"] = plain(entry["old"]), plain(entry["new"])
            if entry["change"] is None:
                self.note_written(entry)
            elif entry["change"] not in known:
                raise Unusable("audit row %(id)s names change %(change)s, which changes.jsonl does not have" % entry)
            else:
                by_change[entry["change"]].append(entry)
        for change in sorted(by_change, key=lambda change: by_change[change][0]["at_ms"]):
            self.take_step(known[change], by_change[change])
        self.untils.append(float("inf"))

    def note_written(self, entry):
        row = entry["new"]
        if entry["table"] == "campaigns" and entry["op"] == "INSERT" and row["trace_id"] is not None:
            draft = Draft(row, entry["at_ms"])
            self.drafts.setdefault(draft.key, []).append(draft)
        else:
            self.strange.append(entry)

    def take_step(self, change, entries):
        at_ms = min(entry["at_ms"] for entry in entries)
        if self.steps[-1] and at_ms < self.steps[-1]["known_ms"] - ALLOWANCE_MS:
            raise Unusable("change %s began before change %s was known" % (change["id"], self.steps[-1]["id"]))
        self.begins.append(at_ms)
        self.untils.append(change["known_ms"])
        self.steps.append(change)
        for entry in entries:
            self.apply(len(self.steps) - 1, entry["table"], entry["old"], entry["new"])
            if entry["table"] == "campaigns" and entry["op"] == "UPDATE" and entry["new"]["trace_id"] is not None:
                self.change_draft(entry, change["known_ms"])

    def change_draft(self, entry, known_ms):
        key = entry["new"]["account_group_id"], entry["new"]["trace_id"]
        drafts = self.drafts.setdefault(key, [])
        if not any(draft.id == entry["new"]["id"] for draft in drafts):
            drafts.append(Draft(entry["old"], None))
        for draft in drafts:
            if draft.id == entry["new"]["id"]:
                draft.change(entry["new"], entry["at_ms"], known_ms)

    def apply(self, step, table, old, new):
        if table in ROWS:
            for row, value in ((old, None), (new, new)):
                if row is not None:
                    self.tables[table].put(step, tuple(row[column] for column in ROWS[table]), value)
        if table in SETS:
            name, columns, element, counts = SETS[table]
            for row, change in ((old, frozenset.difference), (new, frozenset.union)):
                if row is not None and counts(row):
                    key = tuple(row[column] for column in columns)
                    self.tables[name].put(step, key, change(self.tables[name].at(step, key, NONE), (row[element],)))

    def steps_between(self, begin_ms, end_ms):
        """The states that may have held then, the latest first."""
        first = bisect.bisect_left(self.untils, begin_ms - ALLOWANCE_MS)
        last = bisect.bisect_right(self.begins, end_ms + ALLOWANCE_MS)
        return range(last - 1, first - 1, -1)

    def key_of(self, command):
        return None if command["apiKeyDigest"] is None else command["apiKeyDigest"].hex()

    def refuse_key(self, step, command):
        """Rules 4 and 5: a reason, or None."""
        digest = self.key_of(command)
        if digest is None:
            return "key_missing"
        key = self.tables["api_keys"].at(step, (digest,))
        if key is None:
            return "key_unknown"
        if key["revoked_at"] is not None:
            return "key_revoked"
        if "campaigns:write" not in key["permissions"]:
            return "permission_missing"
        if self.tables["api_key_account_groups"].at(step, (command["accountGroupId"], digest)) is None:
            return "account_group_denied"
        return None

    def judge(self, step, command):
        """Rules 8 to 12, for a key that may: (reason, what the details name: any of these sets of ids) of a refusal, or
        (None, what the draft is to hold)."""
        group, at = command["accountGroupId"], lambda table, key, default=None: self.tables[table].at(step, key, default)
        source = at("campaigns", (group, command["campaignId"]))
        audience = at("audiences", (group, command["audienceId"]))
        if source is None or source["deleted_at"] is not None:
            return "campaign_not_found", [{command["campaignId"]}]
        if audience is None:
            return "audience_not_found", [{command["audienceId"]}]
        lists = {audience["id"]} if audience["kind"] == "list" else at("lists", (group, audience["id"]), NONE)
        populating = [name for name in {audience["id"], *lists} if not at("audiences", (group, name))["ready"]]
        if populating:
            return "audience_populating", [{name} for name in populating]
        members = NONE.union(*(at("members", (group, name), NONE) for name in lists))
        wanted = sorted(members if command["leadIds"] is None else set(command["leadIds"]))
        missing = [lead for lead in wanted if lead not in members]
        if missing:
            return "lead_not_in_audience", [set(missing[:5])]
        if command["leadIds"] is None and len(members) > AUDIENCE_LEADS_MAX:
            return "audience_too_large", [{audience["id"]}]
        active = [{lead, campaign} for lead in wanted for campaign in at("enrolled", (group, lead), NONE)
                  if self.is_active(at("campaigns", (group, campaign)))]
        if active:
            return "lead_active", active
        return None, {
            "name": source["name"] if command["name"] is None else command["name"], "description": source["description"],
            "status": "draft", "selected_leads": wanted, "selected_lead_count": len(wanted),
            "include_conversation_history": source["include_conversation_history"],
            "auto_cancel_on_message_received": source["auto_cancel_on_message_received"],
            "outreach_language": source["outreach_language"], "source_campaign_id": command["campaignId"],
            "created_by_key": at("api_keys", (self.key_of(command),))["public_id"], "deleted_at": None,
        }

    @staticmethod
    def is_active(campaign):
        return campaign is not None and campaign["status"] in ("running", "paused") and campaign["deleted_at"] is None

    def opinion(self, step, command):
        """What a fresh command would be answered in this state, drafts, deadlines and rate limits apart; for the story."""
        return self.refuse_key(step, command) or self.judge(step, command)[0] or "201"


def known_reasons():
    """What the contract's examples say of each reason: httpStatus, code, message, retryable."""
    known = {}
    for path in (HERE.parents[1] / "schemas" / "examples").glob("*.result.json"):
        result = json.loads(path.read_text())
        if not result["success"]:
            known[result["reason"]] = (result["httpStatus"], result["error"]["code"], result["error"]["message"],
                                       result["retryable"])
    return known


REASONS = known_reasons()
KEY_REASONS = ("key_missing", "key_unknown", "key_revoked", "permission_missing", "account_group_denied")
STATE_REASONS = ("campaign_not_found", "audience_not_found", "audience_populating", "lead_not_in_audience",
                 "audience_too_large",
                 "lead_active")


# ---- the checks ----

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
        return Checker(Folder(folder)).verdict()
    except KeyError as error:
        raise Unusable("%s: there is no %s" % (folder, error)) from error


class Checker:
    def __init__(self, folder):
        self.folder, self.meta = folder, folder.meta
        self.found, self.counts = [], collections.Counter()
        self.datums = {}  # by codec and bytes: each value is decoded once
        self.asked = {record.place: Asked(record, self.decode(command_codec, record.value)) for record in folder.commands}
        self.begin_ms = min(asked.ms for asked in self.asked.values())
        self.outside = Outside(folder)
        self.drafts = {}  # by (account group, trace): the one that counts
        self.answers = self.read_results(folder.results)
        self.raw = self.read_results(folder.raw)

    def decode(self, codec, value):
        if value is None:
            return None
        if (codec, value) not in self.datums:
            try:
                self.datums[codec, value] = codec.decode(value)
            except Exception:  # whatever the library raises: these bytes are not of this schema
                self.datums[codec, value] = None
        return self.datums[codec, value]

    def read_results(self, records):
        return [Answer(record, self.decode(result_codec, record.value)) for record in records]

    def violation(self, check, about, text, *values):
        self.found.append((int(check[1:]), "%s: %s" % (check, text % values), about))

    def wrong(self, check, asked, text, *values):
        """A violation whose text begins with, or speaks first of, the command."""
        self.violation(check, asked.about, text, asked, *values)

    def verdict(self):
        self.gather()
        self.check_topics()
        for asked in self.asked.values():
            self.check_answered(asked)
        self.check_drafts()
        self.check_verdicts()
        self.check_rates()
        self.check_offsets()
        self.check_order()
        self.check_quiet()
        self.check_secrets()
        self.check_resources()
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

    # C2: who was answered

    def gather(self):
        for letter in self.folder.letters:
            place = letter_place(letter)
            if place not in self.asked:
                named = "partition %d offset %d" % place if place else "no place at all"
                self.violation("C2", None, "dead letter %d of partition %d names %s, where there is no command of this round",
                               letter.offset, letter.partition, named)
            else:
                self.asked[place].letters.append(letter)
        for asked in self.asked.values():
            if asked.command and any(letter.header_text("reason") in UNREADABLE for letter in asked.letters):
                asked.is_unreadable()
                self.counts["disputed"] += 1
        for answers, visible in ((self.answers, True), (self.raw, False)):
            for answer in answers:
                self.gather_result(answer, visible)

    def gather_result(self, answer, visible):
        record, kind = answer.record, "the result" if visible else "the raw result"
        where = "%s in partition %d at offset %d" % (kind, *record.place)
        if answer.datum is None:
            self.violation("C2", record.key, "%s (key %s) cannot be decoded", where, record.key)
            return
        if answer.place in self.asked:
            asked = self.asked[answer.place]
            (asked.results if visible else asked.raw).append(answer)
            if not visible and answer["traceId"] != asked.trace:
                self.violation("C2", asked.about, "%s answers %s under traceId %s", where, asked, answer["traceId"])
        elif visible or not self.is_earlier(answer.place):
            self.violation("C2", answer["traceId"], "%s (traceId %s) names partition %d offset %d, where there is no command of "
                           "this round", where, answer["traceId"], *answer.place)

    def is_earlier(self, place):
        """Of a round before: what comes late and is aborted does no harm."""
        begin = self.folder.offsets["commands"].get(str(place[0]), {}).get("round_begin")
        return begin is not None and place[1] < begin

    def check_topics(self):
        raw = {answer.record.place: answer.record for answer in self.raw}
        seen = set()
        for answer in self.answers:
            record = answer.record
            if record.place in seen:
                self.violation("C2", record.key, "the result in partition %d at offset %d was read twice", *record.place)
            seen.add(record.place)
            if record.place not in raw:
                self.violation("C2", record.key,
                               "the visible result in partition %d at offset %d is not in the raw topic", *record.place)
            elif raw[record.place].value != record.value:
                self.violation("C2", record.key,
                               "the result in partition %d at offset %d reads otherwise in the raw topic", *record.place)
        for entry in self.folder.acked:
            self.check_acknowledged(entry)

    def check_acknowledged(self, entry):
        place = entry["partition"], entry["offset"]
        asked = self.asked.get(place)
        if asked is None:
            self.violation("C2", entry["traceId"] or place, "the command acknowledged in partition %d at offset %d (traceId %s) is "
                           "not in the topic", *place, entry["traceId"])
            return
        if entry["sha256"] not in digests_of(asked.record.value):
            self.wrong("C2", asked, "%s has other bytes than were acknowledged")

    def check_answered(self, asked):
        results = asked.results
        if len(results) > 1:
            self.wrong("C2", asked, "%s has %d visible results: %s", len(results), ", ".join(map(str, results)))
        if asked.trace and not results:
            self.wrong("C2", asked, "%s has no visible result")
        if not asked.trace and results:
            self.wrong("C2", asked, "%s has a result, and no traceId to answer to")
        self.check_letters(asked)
        for result in results:
            self.check_agreement(asked, result)

    def check_letters(self, asked):
        answer, letters = asked.answer, asked.letters
        wanted = asked.own_trace is None or bool(answer and answer["reason"] in DEAD_LETTERED)
        if len(letters) != wanted:
            self.wrong("C2", asked, "%s (%s) has %d dead letters instead of %d", answer or "not answered", len(letters), wanted)
        for letter in letters:
            where = "the dead letter at offset %d, of %s," % (letter.offset, asked)
            whole = letter.header("original-size") is None
            if whole and (letter.value, letter.key) != (asked.record.value, asked.record.key):
                self.violation("C2", asked.about, "%s holds other bytes", where)
            if answer and letter.header_text("reason") != answer["reason"]:
                self.violation("C2", asked.about, "%s says %s, the result %s", where, letter.header_text("reason"),
                               answer["reason"])
            code = answer["error"]["code"] if answer and answer["error"] else None
            if letter.header_text("answered") != code:
                self.violation("C2", asked.about, "%s says that %s was answered, and %s was", where,
                               letter.header_text("answered"), code)

    # C7, and what a result is by itself (C3)

    def check_agreement(self, asked, result):
        command, record = asked.command or {}, result.record
        if result["traceId"] != asked.trace:
            self.wrong("C7", asked, "%s was answered under traceId %s", result["traceId"])
        if record.key != result["traceId"]:
            self.wrong("C7", asked, "the result of %s has the key %s", record.key)
        for ours, theirs in ("accountGroupId",) * 2, ("sourceCampaignId", "campaignId"), ("audienceId",) * 2:
            wanted = command.get(theirs) if well_formed(command.get(theirs)) else None
            if result[ours] != wanted:
                self.wrong("C7", asked, "the result of %s has %s = %s, the command %s", ours, result[ours], wanted)
        if result["issuedAt"] != command.get("issuedAt"):
            self.wrong("C7", asked, "the result of %s has issuedAt = %s, the command %s", result["issuedAt"],
                       command.get("issuedAt"))
        if result["command"]["topic"] != self.meta["commands"] or result["command"]["timestamp"] != asked.ms:
            self.wrong("C7", asked, "the result of %s says that it stood in topic %s since %s",
                       result["command"]["topic"], clock(result["command"]["timestamp"]))
        if not asked.ms - ALLOWANCE_MS <= result["processedAt"] <= result.ms + ALLOWANCE_MS:
            self.wrong("C7", asked, "the result of %s was processed at %s, not between command (%s) and result (%s)",
                       clock(result["processedAt"]), clock(asked.ms), clock(result.ms))
        self.check_headers(asked, result)
        self.check_shape(asked, result)

    def check_headers(self, asked, result):
        error = result["error"]
        for name, wanted in (("httpStatus", str(result["httpStatus"])), ("code", error and error["code"]),
                             ("accountGroupId", result["accountGroupId"])):
            if result.record.header_text(name) != wanted:
                self.wrong("C7", asked, "the result of %s has header %s = %s and %s inside", name,
                           result.record.header_text(name), wanted)

    def check_shape(self, asked, result):
        if result.is_half:
            self.wrong("C3", asked, "the result of %s is half a success: %s", result.datum)
            return
        error = result["error"]
        said = error and (result["httpStatus"], error["code"], error["message"], result["retryable"])
        if error and said != REASONS.get(result["reason"]):
            self.wrong("C5", asked, "the result of %s has reason %s and says %s", result["reason"], said)
        wait_s = result["retryAfterSeconds"]
        if (wait_s is not None) != (result["reason"] == "rate_limited") or wait_s is not None and wait_s < 1:
            self.wrong("C5", asked, "%s was answered %s with retryAfterSeconds = %s", result, wait_s)

    # C1 and C3: the drafts

    def check_drafts(self):
        by_key = collections.defaultdict(list)
        for asked in self.asked.values():
            if asked.command:
                by_key[asked.key].append(asked)
        self.check_table()
        for key, draft in self.drafts.items():
            if key not in by_key and draft.written_ms is not None:
                self.violation("C1", key[1], "%s: no command asked for it", draft)
        for key, records in by_key.items():
            answered = sorted((asked for asked in records if asked.answer), key=lambda asked: asked.place)
            if key in self.drafts:
                self.check_draft(self.drafts[key], records, answered)
                continue
            for asked in answered:
                if asked.answer.recognises:
                    self.wrong("C3", asked, "%s was answered %s, and there is no such draft", asked.answer)

    def check_table(self):
        """The table against the audit rows; which draft counts."""
        table = collections.defaultdict(list)
        for row in map(plain, self.folder.drafts):
            table[row["account_group_id"], row["trace_id"]].append(row)
        for key in {**table, **self.outside.drafts}:
            written, rows = self.outside.drafts.get(key, []), table.get(key, [])
            ids = sorted({draft.id for draft in written} | {row["id"] for row in rows})
            if len(ids) > 1:
                self.violation("C1", key[1], "%s has %d drafts of traceId %s: %s", key[0], len(ids), key[1],
                               " and ".join(ids))
            for row in rows:
                if row["id"] not in [draft.id for draft in written]:
                    created_ms = row["created_at_ms"]
                    draft = Draft(row, created_ms if created_ms >= self.begin_ms else None)
                    written = [*written, draft]
                    if draft.written_ms is not None:
                        self.violation("C1", key[1], "%s is in the table without an audit row", draft)
            for draft in written:
                if draft.written_ms is not None and draft.id not in [row["id"] for row in rows]:
                    self.violation("C1", key[1], "%s was written at %s and is in the table no more", draft,
                                   clock(draft.written_ms))
            self.drafts[key] = written[0]
        for entry in self.outside.strange:
            row = entry["new"] or entry["old"]
            self.violation("C1", row.get("trace_id"),
                           "%s of table %s by %s at %s, which is neither a draft nor an outside change: %s",
                           entry["op"], entry["table"], entry["application"], clock(entry["at_ms"]), row)

    def check_draft(self, draft, records, answered):
        """records: all of the draft's account group and traceId; answered: in their order."""
        owners = [asked for asked in answered if asked.digest == draft.digest and not asked.refusal]
        wanted = any(asked.digest == draft.digest and not asked.refusal for asked in records)
        if draft.written_ms is not None and not wanted:
            self.violation("C1", draft.key[1], "%s: no command with its digest asked for it", draft)
        finders = [asked for asked in owners if asked.answer.recognises]
        if draft.written_ms is not None and owners and not finders:
            self.violation("C3", owners[0].about, "%s was answered %s, and yet there is a draft %s of it", owners[0],
                           " and ".join(str(asked.answer) for asked in owners), draft.id)
        for asked in answered:
            if asked.answer.recognises and asked not in owners:
                self.wrong("C3", asked, "%s was answered %s, but draft %s belongs to another command", asked.answer,
                           draft.id)
            elif asked.answer["success"] and asked.answer["data"] and asked.answer["data"]["id"] != draft.id:
                self.wrong("C3", asked, "%s was answered %s, the table has %s", asked.answer, draft.id)
        self.check_writers(draft, finders)
        self.check_later(draft, owners, finders, answered)
        for asked in finders:
            self.check_found(draft, asked)

    def check_writers(self, draft, finders):
        writers = [asked for asked in finders if asked.answer["success"] and not asked.answer["draftExisted"]]
        if len(writers) > 1 or writers and draft.written_ms is None:
            self.violation("C3", writers[-1].about, "%s was answered as if it had written draft %s, as was %s",
                           writers[-1], draft.id, writers[0] if len(writers) > 1 else "a command of an earlier round")
        if draft.written_ms is None or not finders:
            return
        candidates = [asked for asked in writers or finders if asked.ms - ALLOWANCE_MS <= draft.written_ms]
        if not candidates:
            self.violation("C3", finders[0].about,
                           "draft %s was written at %s, before any command that was told of it (%s)", draft.id,
                           clock(draft.written_ms), finders[0])
            return
        self.check_written(draft, candidates)

    def check_later(self, draft, owners, finders, answered):
        """A partition's commands are executed in order: those behind one that found the draft find it, too."""
        firsts = {}
        for asked in finders:
            firsts.setdefault(asked.place[0], asked)
        known_ms = min((asked.answer.ms for asked in finders), default=float("inf"))
        if draft.written_ms is None:
            known_ms = float("-inf")
        partitions = {asked.place[0] for asked in answered}
        self.counts["across_partitions"] += len(partitions) > 1
        for asked in answered:
            first = firsts.get(asked.place[0])
            behind = first is not None and asked.place > first.place
            certain = behind or asked.ms > known_ms + ALLOWANCE_MS
            if asked in finders:
                self.counts["found_again"] += asked.answer["draftExisted"]
                if asked.answer["success"] and not asked.answer["draftExisted"] and behind:
                    self.wrong("C3", asked, "%s was answered as if it had written the draft of %s", first)
            elif asked in owners:
                there = first is not None and asked.answer["processedAt"] > draft.created_ms
                if certain or there:
                    self.wrong("C3", asked, "%s was answered %s at %s, and yet its draft %s was there since %s",
                               asked.answer, clock(asked.answer["processedAt"]), draft.id, clock(draft.created_ms))
                elif first is None:
                    self.counts["contradictions"] += 1
            elif certain and asked.answer["reason"] in ("rate_limited", *STATE_REASONS):
                self.wrong("C5", asked, "%s was answered %s, and its traceId belonged to draft %s: rule 6 comes before",
                               asked.answer, draft.id)

    def check_found(self, draft, asked):
        """What is said of the draft: one of the shapes it had at the time."""
        shapes = draft.shapes_between(asked.ms - ALLOWANCE_MS, asked.answer.ms + ALLOWANCE_MS)
        if not asked.answer["success"]:
            if not any(row["deleted_at_ms"] is not None for row in shapes):
                self.wrong("C5", asked, "%s was answered draft_deleted, and draft %s was not deleted then", draft.id)
            return
        if not asked.answer["draftExisted"]:
            shapes = [draft.row]
        data = asked.answer["data"]
        if data and data not in [data_of(row) for row in shapes if row["deleted_at_ms"] is None]:
            self.wrong("C3", asked, "the result of %s is not what its draft %s was at the time: %s", draft.id, data)

    # C5: the verdicts

    def check_written(self, draft, candidates):
        """Rules 3 to 12 of whoever wrote the draft: in a state before the row was written."""
        asked = min(candidates, key=lambda asked: asked.ms)
        deadlines = [other.command["expiresAt"] for other in candidates]
        if None not in deadlines and draft.created_ms > max(deadlines) + ALLOWANCE_MS:
            self.wrong("C5", asked, "%s was to expire at %s, and its draft %s was written at %s", clock(max(deadlines)),
                       draft.id, clock(draft.created_ms))
        opinions = []
        for step in self.outside.steps_between(asked.ms, draft.written_ms):
            reason, content = self.outside.refuse_key(step, asked.command), None
            if reason is None:
                reason, content = self.outside.judge(step, asked.command)
            if reason is None:
                unlike = [name for name, value in content.items() if draft.row.get(name) != value]
                if not unlike:
                    return
                reason = "201 with " + ", ".join("%s = %s" % (name, content[name]) for name in unlike)
            opinions.append(reason)
        self.wrong("C5", asked, "%s has a draft %s (%s) that no state between %s and %s allows: they say %s", draft.id,
                   draft.brief, clock(asked.ms), clock(draft.written_ms), spoken(opinions))

    def check_verdicts(self):
        for asked in self.asked.values():
            answer = asked.answer
            if answer is None or answer.is_half or answer["success"] and asked.command and not asked.refusal:
                continue  # a success is judged with its draft
            problem = self.doubt(asked, answer)
            if problem:
                self.wrong("C5", asked, "%s was answered %s, %s", answer, problem)

    def doubt(self, asked, answer):
        """Why the refusal was never true; None if it was."""
        command, reason = asked.command, answer["reason"]
        if command is None:
            tombstone = asked.record.value is None
            right = reason == "tombstone" if tombstone else reason in UNREADABLE and reason != "tombstone"
            return None if right else "and it has %s" % ("no value" if tombstone else "a value that cannot be read")
        if reason != asked.refusal and (asked.refusal or reason in ("key_mismatch", "invalid_field", *UNREADABLE)):
            return "and rules 0 and 1 say %s" % (asked.refusal or "that it is good")
        if asked.refusal or reason == "draft_deleted":
            return None
        if reason in CAUSES:
            return self.doubt_cause(asked, answer)
        return self.doubt_deadline(asked, answer) or (None if reason == "expired" else self.doubt_state(asked, answer))

    def doubt_cause(self, asked, answer):
        for fault in self.folder.faults:
            until_ms = float("inf") if fault["until_ms"] is None else fault["until_ms"]
            meets = fault["at_ms"] <= answer.ms and until_ms >= asked.ms
            if meets and any(word in fault["what"] for word in CAUSES[answer["reason"]]):
                return None
        return "and nothing was done at that time that could cause it"

    def doubt_deadline(self, asked, answer):
        expires, processed = asked.command["expiresAt"], answer["processedAt"]
        if answer["reason"] == "expired":
            if expires is None or processed < expires - ALLOWANCE_MS:
                return "and its deadline (%s) was not over at %s" % (clock(expires), clock(processed))
        elif expires is not None and processed > expires + ALLOWANCE_MS:
            return "and its deadline (%s) was over at %s" % (clock(expires), clock(processed))
        return None

    def doubt_state(self, asked, answer):
        reason, command, draft = answer["reason"], asked.command, self.drafts.get(asked.key)
        if reason == "trace_reused":
            if draft is None or draft.digest == asked.digest:
                return "and there was no draft of another command under its traceId"
            if draft.written_ms is not None and draft.written_ms > answer.ms + ALLOWANCE_MS:
                return "and the other command's draft %s was written at %s only" % (draft.id, clock(draft.written_ms))
        opinions = []
        for step in self.outside.steps_between(asked.ms, answer.ms):
            opinion = self.outside.refuse_key(step, command)
            if opinion is None and reason in ("trace_reused", "rate_limited"):
                return None
            if opinion is None:
                opinion, evidence = self.outside.judge(step, command)
                if opinion == reason and not names_any(answer["error"]["details"], evidence):
                    opinion = "%s because of %s" % (opinion, " or ".join(" ".join(sorted(ids)) for ids in evidence))
            if opinion == reason:
                return None
            opinions.append(opinion or "201")
        return "in no state between %s and %s true: they say %s%s" % (
            clock(asked.ms), clock(answer.ms), spoken(opinions), " (details: %s)" % answer["error"]["details"])

    # C5: the rate limits (rule 7)

    def check_rates(self):
        by_grant = collections.defaultdict(list)
        for asked in self.asked.values():
            if asked.answer and asked.command and not asked.refusal and asked.command["apiKeyDigest"] is not None:
                by_grant[asked.command["accountGroupId"], self.outside.key_of(asked.command)].append(asked)
        for grant, some in by_grant.items():
            rows = [row for row in self.outside.tables["api_key_account_groups"].ever(grant) if row is not None]
            if len({(row["rate_interval_us"], row["rate_burst"]) for row in rows}) == 1:
                some.sort(key=lambda asked: (asked.ms, asked.place))
                limit = rows[0]["rate_interval_us"] / 1000, rows[0]["rate_burst"], rows[0]["rate_tat_us"] / 1000
                if len(self.outside.tables["api_key_account_groups"].ever(grant)) == 1:
                    self.check_admitted(grant, some, *limit)
                self.check_limited(some, *limit)

    def check_admitted(self, grant, some, interval, burst, tat):
        """Those that wrote a draft, alone, keep the limit: what else was charged could only have refused more of them."""
        for asked in some:
            draft = self.drafts.get(asked.key)
            if not asked.answer["success"] or asked.answer["draftExisted"] or draft is None or draft.written_ms is None:
                continue
            if tat - asked.ms > interval * (burst - 1) + 0.001:
                self.wrong("C5", asked, "%s wrote a draft beyond the rate limit of %s: burst %d, one in %g ms", grant[0], burst,
                           interval)
            tat = max(tat, asked.ms) + interval

    def check_limited(self, some, interval, burst, tat):
        """A 429 needs a whole burst before it. The true arrival time is at most what it would be if every command that may have
        been delivered again had been charged each time; one that was so itself also meets what came behind it, and itself."""
        across = len({asked.place[0] for asked in some}) > 1
        for i, asked in enumerate(some):
            if asked.answer["reason"] != "rate_limited":
                continue
            before = [other for other in some if other.ms <= asked.answer.ms] if across or was_again(asked) else some[:i]
            worst, charged = tat, math.ceil(max(0, tat - some[0].ms) / interval) + sum(map(self.charges, before))
            for other in before:
                for _ in range(self.charges(other)):
                    worst = max(worst, min(max(worst, other.ms) + interval, other.ms + burst * interval))
            if worst - asked.ms <= interval * (burst - 1) or charged < burst:
                came = sum(asked.ms - other.ms <= burst * interval for other in some[:i])
                self.wrong("C5", asked, "%s was answered 429, and only %d commands of its key and account group came in the %g ms "
                           "before it: burst %d", came, burst * interval, burst)

    def charges(self, asked):
        if was_again(asked):
            return CHARGES_MAX
        answer = asked.answer
        return int(answer["reason"] in STATE_REASONS or answer["success"] and not answer["draftExisted"])

    # C4, C6, C8, C9

    def check_offsets(self):
        at = collections.defaultdict(list)
        for partition, offset in self.asked:
            at[partition].append(offset)
        for name, place in sorted(self.folder.offsets["commands"].items()):
            partition, high = int(name), place["high"]
            committed, begin = place["committed"], max(place["low"], place.get("round_begin") or 0)
            if committed is None or committed < 0:
                committed = None
            if committed is not None and committed != high or committed is None and high > begin:
                self.violation("C4", None, "the group's offset in partition %d is %s, the partition ends at %d", partition,
                               "not committed" if committed is None else committed, high)
            gaps = sorted(set(range(begin, high)).symmetric_difference(at[partition]))
            if gaps:
                self.violation("C4", None, "partition %d should hold offsets %d to %d, and these are missing or too many: %s",
                               partition, begin, high - 1, " ".join(map(str, gaps[:10])))
        for partition in set(at) - set(map(int, self.folder.offsets["commands"])):
            self.violation("C4", None, "nothing is known of the group's offset in partition %d", partition)

    def check_order(self):
        last = {}
        for answer in sorted((a for a in self.answers if a.datum), key=lambda a: a.record.place):
            pair, (partition, offset) = (answer.record.partition, answer.place[0]), answer.place
            if offset < last.get(pair, -1):
                self.violation("C6", answer["traceId"],
                               "in results partition %d at offset %d, offset %d of commands partition %d is answered "
                               "after offset %d", *answer.record.place, offset, partition, last[pair])
            last[pair] = max(last.get(pair, -1), offset)

    def check_quiet(self):
        for topic in ("results", "dead_letters"):
            for partition, place in sorted(self.folder.offsets[topic].items()):
                if place["stable"] != place["high"]:
                    self.violation("C8", None, "%s [%s] can be read only up to %d of %d: a transaction hangs",
                                   self.meta[topic], partition,
                                   place["stable"], place["high"])
        for session in self.folder.sessions:
            if session["wait_event"] == "SyncRep":  # a fault of all cells (nemesis.commit_hangs), which may still go on
                continue
            self.violation("C8", None, "a session of %s is %s (%s), in a transaction for %g s", session["application_name"],
                           session["state"], session["wait_event"], session["age_s"])
        quiet_ms, last_ms, limit_s = self.meta["quiet_ms"], self.meta["last_fault_ms"], self.meta["quiet_limit_s"]
        if quiet_ms is None:
            self.violation("C9", None, "not quiet: %s", "; ".join(self.meta["restless"]) or "nobody says why")
        elif quiet_ms - last_ms > limit_s * 1000:
            self.violation("C9", None, "quiet only %.1f s after the last fault, not within %g s",
                           (quiet_ms - last_ms) / 1000, limit_s)

    # C10

    def check_secrets(self):
        needles = [(number, how, form) for number, secret in enumerate(self.meta["secrets"], 1) for how,
                   form in disguises(secret)]
        for name, text in self.folder.logs.items():
            for number, how, form in needles:
                at = text.find(form)
                if at >= 0:
                    line = text.count(b"\n", 0, at) + 1
                    self.violation("C10", None, "secret %d stands in %s, line %d%s: %s", number, name, line, how,
                                   text.splitlines()[line - 1].decode(errors="replace")[:300])
        places = [(answer.record, "result", b"\0".join([answer.record.value or b"",
                                                        *header_bytes(answer.record.headers)]))
                  for answer in self.raw]
        places += [(letter, "dead letter", b"\0".join(header_bytes(added_headers(letter))))
                   for letter in self.folder.letters]
        everything = b"\0".join(text for _, _, text in places)
        for number, how, form in needles:
            if form not in everything:
                continue
            for record, kind, text in places:
                if form in text:
                    self.violation("C10", record.key if kind == "result" else None,
                                   "secret %d stands in the %s in partition %d at offset %d%s",
                                   number, kind, *record.place, how)

    def check_resources(self):
        runs = collections.defaultdict(list)
        for sample in self.folder.samples:
            runs[sample["slot"], sample["run"], sample["pid"]].append(sample)  # the round before numbered its own
        for (slot, run, _), samples in runs.items():
            samples.sort(key=lambda sample: sample["at_ms"])
            begin, end = samples[0]["at_ms"], samples[-1]["at_ms"]
            if end - begin < WATCH_S * 1000:
                continue
            late = [s for s in samples if end - s["at_ms"] <= EDGE_S * 1000]
            # Without its coordinators a worker has not made all of its clients yet, and it has their threads when it has.
            complete = min(s["at_ms"] for s in samples if s["threads"] >= late[-1]["threads"])
            for what, margin in MARGINS.items():
                warm = begin + WARM_UP_S * 1000 if what == "threads" else max(begin + WARM_UP_S * 1000, complete)
                early = [s for s in samples if warm <= s["at_ms"] <= warm + EDGE_S * 1000]
                before, after = max((s[what] for s in early), default=0), min(s[what] for s in late)
                if early and end - warm >= WATCH_S * 1000 - WARM_UP_S * 1000 and after > before + margin:
                    self.violation("C10", None, "worker %s, run %s: %s rose from %d to %d within %.0f s, by more than %d",
                                   slot, run, what, before, after, (end - begin) / 1000, margin)


def digests_of(value):
    """What acked.jsonl may have for it: a tombstone and no bytes are one."""
    return (None, hashlib.sha256(b"").hexdigest()) if value is None else (hashlib.sha256(value).hexdigest(),)


def letter_place(letter):
    partition, offset = (letter.header("kafka_dlt-original-" + name) for name in ("partition", "offset"))
    if partition is None or offset is None or (len(partition), len(offset)) != (4, 8):
        return None
    return int.from_bytes(partition, "big"), int.from_bytes(offset, "big")


def data_of(row):
    """What a result says of a draft's row."""
    return {
        "id": row["id"], "name": row["name"], "description": row["description"], "status": row["status"],
        "selectedLeadCount": row["selected_lead_count"], "includeConversationHistory": row["include_conversation_history"],
        "autoCancelOnMessageReceived": row["auto_cancel_on_message_received"], "outreachLanguage": row["outreach_language"],
        "createdAt": row["created_at_ms"], "updatedAt": row["updated_at_ms"], "startedAt": row["started_at_ms"],
        "rateLimitedUntil": row["rate_limited_until_ms"],
    }


def names_any(details, evidence):
    words = set(re.findall(r"[A-Za-z0-9_-]+", details))
    return any(ids <= words for ids in evidence)


def spoken(opinions):
    """Oldest first, each once for as long as it held."""
    runs = [(opinion, len(list(run))) for opinion, run in itertools.groupby(reversed(opinions))]
    shown = ["%s (%d states)" % run if run[1] > 1 else run[0] for run in runs]
    return ", then ".join(shown[:8]) + (", ..." if len(shown) > 8 else "") if shown else "nothing"


def was_again(asked):
    """Whether the command may have been delivered more than once."""
    return len(asked.raw) > 1 or asked.answer.ms - asked.ms > AGAIN_AFTER_MS


def added_headers(letter):
    """Those that the worker wrote, not the publisher."""
    return [(name, value) for name, value in letter.headers if name.startswith(("kafka_dlt-", "original-"))
            or name in ("reason", "answered")]


def header_bytes(headers):
    return [part for name, value in headers for part in (name.encode(), value or b"")]


def disguises(secret):
    """The forms in which a secret might get out: (how, bytes)."""
    raw = secret.encode()
    forms = {raw: "", raw.hex().encode(): ", in hex", raw.hex().upper().encode(): ", in hex",
             urllib.parse.quote(secret,
                                safe="").encode(): ", URL-encoded", json.dumps(secret)[1:-1].encode(): ", as JSON"}
    for shift in range(3):  # inside of a longer text, base64 depends on where it begins
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + raw).rstrip(b"=")
            sure = text[(0, 2, 3)[shift]:len(text) - ((shift + len(raw)) % 3 != 0)]
            if len(sure) >= 8:
                forms.setdefault(sure, ", in base64")
    forms[raw] = ""
    return [(how, form) for form, how in forms.items()]


# ---- the story ----

class Story:
    """All that is known of a trace, or of a record without one, in the order of time."""

    def __init__(self, checker, about):
        self.checker, self.folder, self.outside, self.about = checker, checker.folder, checker.outside, about
        self.asked = [asked for asked in checker.asked.values() if about in (asked.trace, asked.place) or
                      asked.command and asked.command["traceId"] == about]
        self.places = {asked.place for asked in self.asked}
        self.events = []

    def lines(self):
        self.tell_commands()
        self.tell_results()
        self.tell_letters()
        self.tell_drafts()
        if self.events:
            self.begin, self.end = min(self.events)[0] - 1000, max(self.events)[0] + 1000
            self.tell_state()
            self.tell_faults()
            self.tell_logs()
        self.events.sort()
        return ["%s  %-11s %s" % (clock(ms), kind, text) for ms, kind, text in self.events]

    def tell(self, ms, kind, text, *values):
        self.events.append((ms, kind, text % values))

    def tell_commands(self):
        for asked in self.asked:
            fields = {**asked.command, "apiKeyDigest": self.key_name(asked.command)} if asked.command else \
                "no value" if asked.record.value is None else "%d bytes that do not decode" % len(asked.record.value)
            self.tell(asked.ms, "command", "partition %d offset %d, key %s: %s", *asked.place, asked.record.key, fields)
        for entry in self.folder.acked:
            if (entry["partition"], entry["offset"]) in self.places or entry["traceId"] == self.about:
                self.tell(entry["acked_ms"], "acked", "partition %d offset %d, sent at %s (%s)",
                          entry["partition"], entry["offset"], clock(entry["sent_ms"]), entry["kind"])

    def key_name(self, command):
        row = self.outside.tables["api_keys"].at(len(self.outside.steps), (self.outside.key_of(command),))
        return row["public_id"] if row else "none" if command["apiKeyDigest"] is None else "unknown"

    def tell_results(self):
        visible = {answer.record.place for answer in self.checker.answers}
        for answer in self.checker.raw:
            if answer.datum and answer.place in self.places or answer.record.key == self.about:
                self.tell(answer.ms, "result", "%d@%d %s [%s]", *answer.record.place, answer.story if answer.datum else "?",
                          "visible" if answer.record.place in visible else "NOT visible to read_committed")

    def tell_letters(self):
        for asked in self.asked:
            for letter in asked.letters:
                headers = map(letter.header_text, ("reason", "answered", "kafka_dlt-exception-message"))
                self.tell(letter.timestamp, "dead letter", "%d@%d of partition %d offset %d: %s, answered %s: %s",
                          *letter.place, *asked.place, *headers)

    def tell_drafts(self):
        for entry in self.folder.audit:
            row = entry["new"] or entry["old"]
            if entry["table"] == "campaigns" and row["trace_id"] == self.about:
                self.tell(entry["at_ms"], "draft", "%s", change_text(entry))
        for row in self.folder.drafts:
            if row["trace_id"] == self.about and not self.outside.drafts.get((row["account_group_id"], row["trace_id"])):
                self.tell(row["created_at_ms"], "draft", "in the table: %s", row)

    def tell_state(self):
        """What the verdicts hung on, and what the judge makes of it."""
        shown = set()
        for asked in self.asked:
            if not asked.command or asked.refusal:
                continue
            end = asked.answer.ms if asked.answer else self.end
            for entry in self.folder.audit:
                now = asked.ms - 1000 <= entry["at_ms"] <= end + 1000
                if now and entry["id"] not in shown and self.matters(entry, asked.command):
                    shown.add(entry["id"])
                    self.tell(entry["at_ms"], "outside", "%s", change_text(entry))
            before = None
            for step in reversed(self.outside.steps_between(asked.ms, end)):
                opinion = self.outside.opinion(step, asked.command)
                if opinion != before:
                    change = self.outside.steps[step]["id"] if step else "none"
                    self.tell(max(self.outside.begins[step], asked.ms), "judge", "from now on the state may be one (after change "
                              "%s) that says %s to partition %d offset %d", change, opinion, *asked.place)
                before = opinion

    def matters(self, entry, command):
        row, table, group = entry["new"] or entry["old"], entry["table"], command["accountGroupId"]
        if table == "api_keys":
            return row["key_digest"] == self.outside.key_of(command)
        if row.get("account_group_id") != group or row.get("trace_id") is not None:
            return False
        lists = {command["audienceId"]}.union(*self.outside.tables["lists"].ever((group, command["audienceId"])))
        leads = set(command["leadIds"] or []) or set().union(
            *(members for name in lists for members in self.outside.tables["members"].ever((group, name))))
        if table == "campaigns":
            enrolling = set().union(*(some for lead in leads
                                      for some in self.outside.tables["enrolled"].ever((group, lead))))
            return row["id"] == command["campaignId"] or row["id"] in enrolling
        if table == "audiences":
            return row["id"] in lists or row["parent_id"] == command["audienceId"]
        if table == "audience_leads":
            return row["audience_id"] in lists and row["lead_id"] in leads
        if table == "campaign_leads":
            return row["lead_id"] in leads
        return table == "api_key_account_groups" and row["key_digest"] == self.outside.key_of(command)

    def tell_faults(self):
        for fault in self.folder.faults:
            until = fault["until_ms"]
            if fault["at_ms"] <= self.end and (until is None or until >= self.begin):
                self.tell(fault["at_ms"], "fault", "%s (%s) until %s", fault["what"], fault["who"], clock(until))

    def tell_logs(self):
        """Lines with the traceId or the place; and, of the same time, those that belong to no command."""
        partitions = {str(partition) for partition, _ in self.places}
        for name, text in self.folder.logs.items():
            for line in text.split(b"\n"):
                try:
                    entry = json.loads(line)
                    ms = milliseconds(entry["time"].replace("Z", "+00:00"))
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
                if not self.belongs(entry, partitions, self.begin <= ms <= self.end):
                    continue
                rest = " ".join("%s=%s" % pair for pair in entry.items()
                                if pair[0] not in ("time", "level", "event", "msg"))
                self.tell(ms, "log", "%s: %s %s: %s %s", pathlib.Path(name).name, entry.get("level"),
                          entry.get("event"), entry.get("msg"), rest)

    def belongs(self, entry, partitions, now):
        if "traceId" in entry:
            return entry["traceId"] == self.about
        if "partition" in entry and "offset" in entry:
            return (int(entry["partition"]), int(entry["offset"])) in self.places
        return now and entry.get("partition", next(iter(partitions), None)) in partitions


def change_text(entry):
    """An audit row in words: of an update, what is new."""
    old, new = entry["old"], entry["new"]
    row = new or old
    names = [name for name in ("account_group_id", "id", "public_id", "audience_id", "campaign_id", "lead_id")
             if row.get(name) is not None]
    shown = {name: value for name, value in row.items() if name not in names and not name.endswith("_ms")}
    if old and new:
        shown = {name: "%s -> %s" % (old.get(name), value) for name, value in shown.items() if old.get(name) != value}
    return "%s %s %s: %s [audit %s, change %s, txid %s, by %s]" % (
        entry["op"], entry["table"], "/".join(row[name]
                                              for name in names), shown, entry["id"], entry["change"], entry["txid"],
        entry["application"])


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
