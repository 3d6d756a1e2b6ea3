"""C6, C4, C8 and C9: order, offsets, and what is left when all is quiet."""

import collections

from checker.case import Part


class Order(Part):
    """The results topic."""

    def check(self):
        last = {}
        for answer in sorted((a for a in self.answers if a.datum), key=lambda a: a.record.place):
            pair, (partition, offset) = (answer.record.partition, answer.place[0]), answer.place
            if offset < last.get(pair, -1):
                self.violation("C6", answer["traceId"],
                               "in results partition %d at offset %d, offset %d of commands partition %d is answered "
                               "after offset %d", *answer.record.place, offset, partition, last[pair])
            last[pair] = max(last.get(pair, -1), offset)


class Quiet(Part):
    """Topics and sessions at the end of the round."""

    def check(self):
        self.check_offsets()
        self.check_quiet()

    def check_offsets(self):
        at = collections.defaultdict(list)
        for partition, offset in self.asked:
            at[partition].append(offset)
        for name, place in sorted(self.folder.offsets["commands"].items()):
            partition, high = int(name), place["high"]
            committed, begin = place["committed"], place.get("round_begin") or 0  # retention may have deleted them since
            if committed is None or committed < 0:
                committed = None
            if committed is not None and committed != high or committed is None and high > begin:
                self.violation("C4", None, "the group's offset in partition %d is %s, the partition ends at %d", partition,
                               "not committed" if committed is None else committed, high)
            gaps = sorted(set(range(begin, high)).symmetric_difference(at[partition]))
            if len(gaps) != place.get("unreadable", 0):  # what a publisher's transactions leave behind, and nothing else
                self.violation("C4", None, "partition %d should hold offsets %d to %d, and these are missing or too many: %s",
                               partition, begin, high - 1, " ".join(map(str, gaps[:10])))
        for partition in set(at) - set(map(int, self.folder.offsets["commands"])):
            self.violation("C4", None, "nothing is known of the group's offset in partition %d", partition)

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
        quiet_ms, limit_s = self.meta["quiet_ms"], self.meta["quiet_limit_s"]
        last_ms = max(self.meta["last_fault_ms"], self.meta.get("progress_ms", 0))
        if quiet_ms is None:
            self.violation("C9", None, "not quiet: %s", "; ".join(self.meta["restless"]) or "nobody says why")
        elif quiet_ms - last_ms > limit_s * 1000:
            self.violation("C9", None, "quiet only %.1f s after the last fault and the last progress, not within %g s",
                           (quiet_ms - last_ms) / 1000, limit_s)
