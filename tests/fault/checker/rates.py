"""C5, rule 7: the rate limits."""

import collections
import math

from checker.case import Part
from checker.folder import ALLOWANCE_MS, was_again
from checker.outside import STATE_REASONS

CHARGES_MAX = 20  # of the rate limit, for one command delivered again and again


class Rates(Part):
    """Commands of one key and account group, in their order."""

    def check(self):
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
                    self.check_admitted(grant, some, *limit, (rows[0].get("rate_at_us") or 0) / 1000)
                self.check_limited(some, *limit)

    def written(self, some):
        """The drafts of this round with the records that may have written each, in the order in which PostgreSQL charged
        them: it locks the limit for the length of a transaction."""
        records = collections.defaultdict(list)
        for asked in some:
            draft = self.drafts.get(asked.key)
            if draft and draft.written_ms is not None and draft.digest == asked.digest and asked.answer["success"]:
                if asked.ms <= draft.written_ms + ALLOWANCE_MS:
                    records[draft].append(asked)
        return sorted(records.items(), key=lambda pair: (pair[0].transaction, pair[1][0].ms, pair[1][0].place))

    def check_admitted(self, grant, some, interval, burst, tat, at):
        """Those that wrote a draft, alone, keep the limit: what else was charged could only have refused more of them.
        None is judged as if it had come before one that was charged already (rule 7): one that was delivered again, or
        is of another partition, comes with the latest of those. So the limit holds by the times at which it is charged,
        which never go back, and not by the records' own."""
        for draft, records in self.written(some):
            at = max(at, records[0].ms)  # at least
            latest = max([at, records[-1].ms, *(other.ms for other in some if self.may_come_before(other, draft, records))])
            if tat - latest > interval * (burst - 1) + 0.001:
                self.wrong("C5", records[-1], "%s wrote a draft beyond the rate limit of %s: burst %d, one in %g ms", grant[0],
                           burst, interval)
            tat = max(tat, at) + interval

    def may_come_before(self, other, draft, records):
        """Whether that record may have been charged, or judged in the same batch, before one of these wrote the draft."""
        if other.ms > draft.written_ms:
            return False
        if other.place[0] not in [asked.place[0] for asked in records]:
            return True
        return any(map(was_again, records)) and self.charges(other) > 0

    def check_limited(self, some, interval, burst, tat):
        """A 429 needs a whole burst before it. The true arrival time is at most what it would be if every command that may have
        been delivered again had been charged each time, at last together with the latest; one that was so itself also meets
        what came behind it, and itself."""
        across = len({asked.place[0] for asked in some}) > 1
        for i, asked in enumerate(some):
            if asked.answer["reason"] != "rate_limited":
                continue
            before = [other for other in some if other.ms <= asked.answer.ms] if across or was_again(asked) else some[:i]
            worst, charged = tat, math.ceil(max(0, tat - some[0].ms) / interval) + sum(map(self.charges, before))
            latest = max((other.ms for other in before), default=0)
            for at, other in sorted(((latest if was_again(other) else other.ms, other) for other in before), key=lambda pair: pair[0]):
                for _ in range(self.charges(other)):
                    worst = max(worst, min(max(worst, at) + interval, at + burst * interval))
            if worst - asked.ms <= interval * (burst - 1) or charged < burst:
                came = sum(asked.ms - other.ms <= burst * interval for other in some[:i])
                self.wrong("C5", asked, "%s was answered 429, and only %d commands of its key and account group came in the %g ms "
                           "before it: burst %d", came, burst * interval, burst)

    def charges(self, asked):
        if was_again(asked):
            return CHARGES_MAX
        answer = asked.answer
        return int(answer["reason"] in STATE_REASONS or answer["success"] and not answer["draftExisted"])
