"""C5: each verdict was true in some state between command and result; the rate limits are in rates.py."""

import itertools
import re

from checker.case import Part
from checker.folder import ALLOWANCE_MS, clock
from history import UNREADABLE

# What can leave a command's rows locked, or make the database refuse one command: words of faults.jsonl's "what". Whoever
# is stopped or cut off inside of a transaction keeps its locks for a while.
CAUSES = {
    "rows_locked": ("lock", "stop", "sleep", "slow", "hold", "mute", "half-open", "detach", "hang", "timeout",
                    "serializ"),
    "database_error": ("poison",),
}


class Verdicts(Part):
    """Drafts as they were written, and refusals."""

    def check(self):
        for asked in self.asked.values():
            answer = asked.answer
            if answer is None or answer.is_half or answer["success"] and asked.command and not asked.refusal:
                continue  # a success is judged with its draft
            problem = self.doubt(asked, answer)
            if problem:
                self.wrong("C5", asked, "%s was answered %s, %s", answer, problem)

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


def names_any(details, evidence):
    words = set(re.findall(r"[A-Za-z0-9_-]+", details))
    return any(ids <= words for ids in evidence)


def spoken(opinions):
    """Oldest first, each once for as long as it held."""
    runs = [(opinion, len(list(run))) for opinion, run in itertools.groupby(reversed(opinions))]
    shown = ["%s (%d states)" % run if run[1] > 1 else run[0] for run in runs]
    return ", then ".join(shown[:8]) + (", ..." if len(shown) > 8 else "") if shown else "nothing"
