"""C2 and C7: who was answered, once and as the one who asked."""

import hashlib

from checker.case import Part
from checker.folder import ALLOWANCE_MS, clock
from checker.outside import REASONS
from history import UNREADABLE, well_formed

DEAD_LETTERED = (*UNREADABLE, "key_mismatch", "result_too_large", "database_error")


class Answers(Part):
    """The records of the topics, each with what was asked."""

    def check(self):
        self.gather()
        self.check_topics()
        for asked in self.asked.values():
            self.check_answered(asked)

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
            if asked.command and any(letter.header_text("campaign-dlt-reason") in UNREADABLE for letter in asked.letters):
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
        if self.is_waiting(asked):
            return
        if len(results) > 1:
            self.wrong("C2", asked, "%s has %d visible results: %s", len(results), ", ".join(map(str, results)))
        if asked.trace and not results:
            self.wrong("C2", asked, "%s has no visible result")
        if not asked.trace and results:
            self.wrong("C2", asked, "%s has a result, and no traceId to answer to")
        self.check_letters(asked)
        for result in results:
            self.check_agreement(asked, result)

    def is_waiting(self, asked):
        """Whether no worker has done with it, in a round that was given up: C4 tells of its partition."""
        committed = self.folder.offsets["commands"].get(str(asked.place[0]), {}).get("committed")
        behind = committed is not None and asked.place[1] >= max(committed, 0)
        return behind and not asked.results and not asked.letters

    def check_letters(self, asked):
        answer, letters = asked.answer, asked.letters
        wanted = asked.own_trace is None or bool(answer and answer["reason"] in DEAD_LETTERED)
        if len(letters) != wanted:
            self.wrong("C2", asked, "%s (%s) has %d dead letters instead of %d", answer or "not answered", len(letters), wanted)
        for letter in letters:
            where = "the dead letter at offset %d, of %s," % (letter.offset, asked)
            whole = letter.header("campaign-dlt-original-size") is None
            if whole and (letter.value, letter.key) != (asked.record.value, asked.record.key):
                self.violation("C2", asked.about, "%s holds other bytes", where)
            if answer and letter.header_text("campaign-dlt-reason") != answer["reason"]:
                self.violation("C2", asked.about, "%s says %s, the result %s", where, letter.header_text("campaign-dlt-reason"),
                               answer["reason"])
            code = answer["error"]["code"] if answer and answer["error"] else None
            if letter.header_text("campaign-dlt-answered") != code:
                self.violation("C2", asked.about, "%s says that %s was answered, and %s was", where,
                               letter.header_text("campaign-dlt-answered"), code)

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


def digests_of(value):
    """What acked.jsonl may have for it: a tombstone and no bytes are one."""
    return (None, hashlib.sha256(b"").hexdigest()) if value is None else (hashlib.sha256(value).hexdigest(),)


def letter_place(letter):
    partition, offset = (letter.header("kafka_dlt-original-" + name) for name in ("partition", "offset"))
    if partition is None or offset is None or (len(partition), len(offset)) != (4, 8):
        return None
    return int.from_bytes(partition, "big"), int.from_bytes(offset, "big")
