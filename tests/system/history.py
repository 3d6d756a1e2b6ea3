"""Whether a history keeps the promises (worker/protocol.txt): what stands in the commands topic, against the visible results,
the dead letters, the drafts in the table and the group's offsets. Every fault is told in words.

    C1  at most one draft per account group and traceId, and none that no command asked for
    C2  exactly one visible result per command whose traceId can be read, else a dead letter; never two of either
    C3  success if and only if the draft of this very command exists, with that id and content; of several records of one
        command the first success writes (or finds) the draft, all later ones find the same
    C4  the group's committed offsets are at the end of every partition
    C6  in a results partition, the answers to one commands partition come in the commands' order
    C7  result and command name the same account group, campaign, audience, times
    C8  no transaction hangs, in Kafka or in PostgreSQL
"""

import collections
import contextlib
import re
import time

import confluent_kafka

from avrocodec import command_codec

WELL_FORMED = re.compile(r"(?!sk_)[A-Za-z0-9_-]{1,64}")
UNREADABLE = ("undecodable", "too_large", "tombstone", "unknown_schema")


def well_formed(text):
    return bool(text) and WELL_FORMED.fullmatch(text) is not None


class Sent:
    """A record of the commands topic."""

    def __init__(self, record):
        self.record, self.place = record, (record.partition, record.offset)
        try:
            self.command = command_codec.decode(record.value)
        except Exception:  # whatever the library raises: these bytes are nobody's command
            self.command = None

    @property
    def trace(self):
        """The traceId it must be answered to; None if it cannot be read."""
        if self.command and well_formed(self.command["traceId"]):
            return self.command["traceId"]
        header = self.record.headers.get("traceId")
        trace = header.decode(errors="replace") if header is not None else None
        return trace if well_formed(trace) else None

    @property
    def draft_key(self):
        return self.command["accountGroupId"], self.command["traceId"]

    @property
    def sameness(self):
        """What makes two commands of one traceId the same."""
        c = self.command
        leads = None if c["leadIds"] is None else tuple(sorted(set(c["leadIds"])))
        return c["campaignId"], c["audienceId"], c["name"], leads, c["apiKeyDigest"]

    def __str__(self):
        whose = "traceId %s of %s" % (self.trace, self.command["accountGroupId"]) if self.command else "not decodable"
        return "the command in partition %d at offset %d (%s)" % (*self.place, whose)


def _dead_letter_place(record):
    return tuple(int.from_bytes(record.headers["kafka_dlt-original-" + name], "big") for name in ("partition", "offset"))


class Quiet:
    """Waits until nothing is on its way any more."""

    def __init__(self, world):
        self.world = world
        self.plain, self.careful = (confluent_kafka.Consumer({
            "bootstrap.servers": world.brokers, "group.id": world.group, "isolation.level": level, "enable.auto.commit": False,
        }) for level in ("read_uncommitted", "read_committed"))

    def close(self):
        self.plain.close()
        self.careful.close()

    def _open(self, topic):
        self.careful.list_topics(topic, timeout=20)
        partitions = sorted(self.plain.list_topics(topic, timeout=20).topics[topic].partitions)
        self.careful.list_topics(topic, timeout=20)  # leaders may have moved
        for place in (confluent_kafka.TopicPartition(topic, p) for p in partitions):
            _, end = self.plain.get_watermark_offsets(place, timeout=20)
            _, stable = self.careful.get_watermark_offsets(place, timeout=20)
            if stable < end:
                yield "C8: %s [%d] can be read only up to %d of %d: a transaction hangs" % (topic, place.partition, stable, end)

    def _not_committed(self):
        places = [confluent_kafka.TopicPartition(self.world.commands, p) for p in range(self.world.partitions)]
        self.plain.list_topics(self.world.commands, timeout=20)  # leaders may have moved
        for place in self.plain.committed(places, timeout=20):
            low, end = self.plain.get_watermark_offsets(place, timeout=20)
            if end > max(low, place.offset) or place.offset > end:
                yield "C4: the group's offset in partition %d is %s, the partition ends at %d" % (
                    place.partition, place.offset if place.offset >= 0 else "not committed", end)

    def _waiting_orders(self):
        for row in self.world.sql("SELECT partition FROM partition_owner WHERE topic = %s AND resume_from IS NOT NULL",
                                  self.world.commands):
            yield "C4: an order to resume partition %d waits" % row["partition"]

    def _in_transaction(self):
        for row in self.world.sql(
                "SELECT application_name, state, now() - xact_start AS age FROM pg_stat_activity WHERE datname = %s "
                "AND application_name LIKE 'campaign-worker%%' AND xact_start < now() - interval '1 s'", self.world.database):
            yield "C8: a session of %s is %s for %s" % (row["application_name"], row["state"], row["age"])

    def faults(self):
        try:
            return [
                *self._not_committed(), *self._waiting_orders(), *self._open(self.world.results), *self._open(self.world.dead_letters),
                *self._in_transaction()]
        except confluent_kafka.KafkaException as error:
            return ["C4: offsets cannot be read: %s" % error]

    def wait(self, timeout_s):
        """What is still not quiet when the group's offsets have not moved for so long; in all, twenty times as long."""
        begin = moved = time.monotonic()
        before = None
        while True:
            faults, now = self.faults(), time.monotonic()
            behind = [text for text in faults if text.startswith("C4")]
            if behind != before:
                moved, before = now, behind
            if not faults or now > moved + timeout_s or now > begin + 20 * timeout_s:
                return faults
            time.sleep(0.1)


class History:
    def __init__(self, world):
        self.sent = {}
        for record in world.read_all(world.commands):
            self.sent[record.partition, record.offset] = Sent(record)
        self.results, self.letters = world.all_results(), world.all_dead_letters()
        self.drafts = {(d["account_group_id"], d["trace_id"]): d for d in world.drafts()}
        self.by_place = collections.defaultdict(list)
        for result in self.results:
            self.by_place[result.place].append(result)
        self.letters_by_place = collections.defaultdict(list)
        for letter in self.letters:
            self.letters_by_place[_dead_letter_place(letter)].append(letter)
        self.faults = []

    def fault(self, check, text, *values):
        self.faults.append(check + ": " + text % values)

    def check(self):
        for sent in self.sent.values():
            self.check_answers(sent)
        for place in set(self.by_place) | set(self.letters_by_place):
            if place not in self.sent:
                self.fault("C2", "a result or dead letter names partition %d offset %d, where there is no command", *place)
        self.check_order()
        self.check_drafts()
        return self.faults

    def check_answers(self, sent):
        results, letters = self.by_place[sent.place], self.letters_by_place[sent.place]
        if sent.command and any(letter.header("campaign-dlt-reason") in UNREADABLE for letter in letters):
            sent.command = None  # bytes that this library takes and the worker does not
        if len(results) > 1:
            self.fault("C2", "%s has %d visible results: %s", sent, len(results), ", ".join(map(_brief, results)))
        if len(letters) > 1:
            self.fault("C2", "%s has %d dead letters", sent, len(letters))
        if sent.trace and not results:
            self.fault("C2", "%s has no visible result%s", sent, self.what_of_its_draft(sent))
        if not sent.trace and not results and not letters:
            self.fault("C2", "%s has neither a result nor a dead letter", sent)
        for result in results:
            self.check_agreement(sent, result)

    def what_of_its_draft(self, sent):
        draft = sent.command and self.drafts.get(sent.draft_key)
        return "; its draft %s is in the table" % draft["id"] if draft else ", and there is no draft of it"

    def check_agreement(self, sent, result):
        command = sent.command or {}
        if result["traceId"] != sent.trace:
            self.fault("C7", "%s was answered under traceId %s", sent, result["traceId"])
        if result.record.key != result["traceId"].encode():
            self.fault("C7", "the result of %s has the key %s", sent, result.record.key)
        for ours, theirs in ("accountGroupId",) * 2, ("sourceCampaignId", "campaignId"), ("audienceId",) * 2:
            wanted = command.get(theirs)
            if result[ours] != (wanted if well_formed(wanted) else None):
                self.fault("C7", "the result of %s has %s = %s, the command %s", sent, ours, result[ours], wanted)
        if result["issuedAt"] != command.get("issuedAt"):
            self.fault("C7", "the result of %s has issuedAt = %s, the command %s",
                       sent, result["issuedAt"], command.get("issuedAt"))
        if result["command"]["timestamp"] != sent.record.timestamp_ms:
            self.fault("C7", "the result of %s says that it was written at another time", sent)
        good = {result["success"], result["data"] is not None, result["error"] is None, result["httpStatus"] == 201}
        if len(good) > 1:
            self.fault("C3", "the result of %s is half a success: %s", sent, dict(result))

    def check_order(self):
        seen = {}
        for result in sorted(self.results, key=lambda r: (r.record.partition, r.record.offset)):
            partition, offset = result.place
            before = seen.get((result.record.partition, partition), -1)
            if offset < before:
                self.fault("C6", "in results partition %d, offset %d of commands partition %d is answered after offset %d",
                           result.record.partition, offset, partition, before)
            seen[result.record.partition, partition] = max(before, offset)

    def check_drafts(self):
        by_key = collections.defaultdict(list)
        for sent in self.sent.values():
            if sent.command and self.by_place[sent.place]:
                by_key[sent.draft_key].append((sent, self.by_place[sent.place][0]))
        for key in self.drafts:
            if key not in by_key:
                self.fault("C1", "draft %s of %s, traceId %s: no answered command asked for it", self.drafts[key]["id"], *key)
        for key, pairs in by_key.items():
            pairs.sort(key=lambda pair: pair[0].place)
            self.check_draft(pairs, self.drafts.get(key))

    def check_draft(self, pairs, draft):
        """pairs: all records of one account group and traceId with their results, in order."""
        successes = [(sent, result) for sent, result in pairs if result["success"]]
        if draft is None:
            for sent, result in successes:
                self.fault("C3", "%s was answered %s, and there is no such draft", sent, _brief(result))
            return
        if not successes:
            self.fault("C3", "%s was answered %s, and yet there is a draft %s of it", pairs[0][0],
                       " and ".join(_brief(result) for _, result in pairs), draft["id"])
            return
        owner = successes[0][0]
        for sent, result in pairs:
            self.check_verdict(sent, result, draft, owner)

    def check_verdict(self, sent, result, draft, owner):
        same = sent.sameness == owner.sameness
        if result["success"]:
            if not same:
                self.fault("C3", "%s was answered %s, but the draft belongs to %s, which asked for something else",
                           sent, _brief(result), owner)
            if result["data"]["id"] != draft["id"]:
                self.fault("C3", "%s was answered with draft %s, the table has %s", sent, result["data"]["id"], draft["id"])
            if sent is not owner and sent.place[0] == owner.place[0] and not result["draftExisted"]:
                self.fault("C3", "%s was answered as if it had written the draft of %s", sent, owner)
            self.check_content(sent, result, draft)
        elif result["reason"] == "key_mismatch":
            return  # its partition is another account group's: refused whatever there is (rule 0)
        elif same and draft["deleted_at"] is None and result["processedAt"] > _ms(draft["created_at"]):
            self.fault("C3", "%s was answered %s at %d, and yet its draft %s was there since %d", sent, _brief(result),
                       result["processedAt"], draft["id"], _ms(draft["created_at"]))

    def check_content(self, sent, result, draft):
        data, command = result["data"], sent.command
        if draft["status"] == "draft" and draft["selected_lead_count"] != len(draft["selected_leads"]):
            self.fault("C3", "draft %s counts %d leads and has %d",
                       draft["id"], draft["selected_lead_count"], len(draft["selected_leads"]))
        if data["createdAt"] != _ms(draft["created_at"]):
            self.fault("C3", "the result of %s says createdAt = %d, the table %d",
                       sent, data["createdAt"], _ms(draft["created_at"]))
        if data["updatedAt"] != _ms(draft["updated_at"]):
            return  # the draft was changed after the answer
        if (data["name"], data["selectedLeadCount"]) != (draft["name"], draft["selected_lead_count"]):
            self.fault("C3", "the result of %s and its draft differ: %s", sent, data)
        if command["name"] is not None and data["name"] != command["name"]:
            self.fault("C3", "%s asked for the name %r and got %r", sent, command["name"], data["name"])
        if command["leadIds"] is not None and set(command["leadIds"]) != set(draft["selected_leads"]):
            self.fault("C3", "%s got other leads than it named", sent)


def _ms(time_of_row):
    return round(time_of_row.timestamp() * 1000)


def _brief(result):
    if result["success"]:
        return "201 with draft %s%s" % (result["data"]["id"], " (draftExisted)" if result["draftExisted"] else "")
    return "%d %s" % (result["httpStatus"], result["reason"])


def verify(world, sent=(), timeout_s=30):
    """World.verify: see there."""
    with contextlib.closing(Quiet(world)) as quiet:
        restless = quiet.wait(timeout_s)
    history = History(world)
    for place in sent:
        if tuple(place) not in history.sent:
            history.fault("C2", "nothing stands in partition %d at offset %d, where a command was acknowledged", *place)
    faults = ["%s, after %g s without progress" % (text, timeout_s) for text in restless] + history.check()
    shown = faults[:20] + (["and %d more" % (len(faults) - 20)] if len(faults) > 20 else [])
    assert not faults, "the history of %s breaks its promises:\n  %s" % (world.name, "\n  ".join(shown))
    return {place: results[0] for place, results in history.by_place.items() if results}
