"""C1 and C3: a draft if and only if success."""

import collections

from checker.case import Part
from checker.folder import ALLOWANCE_MS, Draft, clock, plain
from checker.outside import STATE_REASONS
from checker.verdicts import Verdicts


class Drafts(Part):
    """The table, its audit rows and what the answers say of them."""

    def check(self):
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
                    draft = Draft(row, created_ms if created_ms >= self.case.begin_ms else None)
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
        Verdicts(self.case).check_written(draft, candidates)

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


def data_of(row):
    """What a result says of a draft's row."""
    return {
        "id": row["id"], "name": row["name"], "description": row["description"], "status": row["status"],
        "selectedLeadCount": row["selected_lead_count"], "includeConversationHistory": row["include_conversation_history"],
        "autoCancelOnMessageReceived": row["auto_cancel_on_message_received"], "outreachLanguage": row["outreach_language"],
        "createdAt": row["created_at_ms"], "updatedAt": row["updated_at_ms"], "startedAt": row["started_at_ms"],
        "rateLimitedUntil": row["rate_limited_until_ms"],
    }
