"""C5, rule 7: the rate limits."""

import collections
import math

from checker.case import Part
from checker.folder import was_again
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
