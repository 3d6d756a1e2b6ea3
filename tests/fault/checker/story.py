"""All that is known of a trace, told for whoever looks for the cause."""

import json
import pathlib

from checker.folder import clock, milliseconds


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
                headers = map(letter.header_text, ("campaign-dlt-reason", "campaign-dlt-answered", "kafka_dlt-exception-message"))
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
