"""The outside state, one step after the other, and the judge: rules 4, 5 and 8 to 12 of worker/protocol.txt, THE RULES OF JUDGEMENT."""

import bisect
import collections
import json
import pathlib

from checker.folder import ALLOWANCE_MS, Draft, Unusable, plain

ROOT = pathlib.Path(__file__).resolve().parents[3]
AUDIENCE_LEADS_MAX = 50000  # the setting's default


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
    for path in (ROOT / "schemas" / "examples").glob("*.result.json"):
        result = json.loads(path.read_text())
        if not result["success"]:
            known[result["reason"]] = (result["httpStatus"], result["error"]["code"], result["error"]["message"],
                                       result["retryable"])
    return known


REASONS = known_reasons()
STATE_REASONS = ("campaign_not_found", "audience_not_found", "audience_populating", "lead_not_in_audience",
                 "audience_too_large", "lead_active")
