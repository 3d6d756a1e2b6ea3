"""Records that no honest publisher sends: each gets its dead letter, and a 400 where somebody can be answered; the batch
around it goes on, and nothing of it stays in the worker's memory.

The bytes are put together here by hand. The table of reference material on avro-c's weaknesses (lengths, counts, ranges,
text, numbers, trailing bytes, fields that are skipped) is covered line by line. Longer than 600 lines: one world and one builder of bytes serve all tests.
"""

import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import time
import uuid

import confluent_kafka
import pytest

from avrocodec import SCHEMAS, Codec, command_codec, result_codec
from harness import BUILD, ROOT, SEED, clean_environment, digest, wait_until
from history import well_formed

GROUP = SEED["accountGroupId"]
RECORD_MAX = 1024 * 1024     # bytes of a value that the worker looks at
DEAD_LETTER_BYTES = 900000   # setting dead-letter-bytes
HEADERS_MAX, HEADER_BYTES_MAX = 1000, 16 * 1024
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LIMIT = 30 * 1000 * 1000     # max.message.bytes of the commands topic here


# ---- Avro by hand ----

def number(n, width=0):
    """Zig-zag and variable length; of at least width bytes, however needlessly."""
    n = (n << 1) ^ (n >> 63)
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F or len(out) + 1 < width:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return number(len(value)) + value


def strings(*values):
    return number(1) + number(len(values)) + b"".join(map(text, values)) + number(0)


def good_fields(trace=None):
    return {
        "traceId": text(uuid.uuid4().hex if trace is None else trace), "accountGroupId": text(GROUP), "campaignId": text(SEED["campaignId"]),
        "name": number(1) + text("Tidy"), "audienceId": text(SEED["audienceId"]), "leadIds": strings("lead_01", "lead_02"),
        "apiKeyDigest": number(1) + digest("demo-key-full"), "issuedAt": number(1700000000000), "expiresAt": number(0),
    }


def value(trace=None, **fields):
    return command_codec.marker + b"".join({**good_fields(trace), **fields}.values())


# A newer schema: what it adds is read and dropped by a worker that knows it from its folder only.
NEWER = json.load(open(os.path.join(SCHEMAS, "duplicate-campaign-command.avsc")))
NEWER["fields"] += [
    {"name": "note", "type": "string", "default": ""},
    {"name": "urgency", "type": {"type": "enum", "name": "Urgency", "symbols": ["LOW", "HIGH"]}, "default": "LOW"},
    {"name": "dryRun", "type": "boolean", "default": False},
    {"name": "attempt", "type": "int", "default": 0},
    {"name": "tags", "type": {"type": "map", "values": "string"}, "default": {}},
    {"name": "chain", "type": ["null", {"type": "record", "name": "Link", "fields": [
        {"name": "next", "type": ["null", "Link"], "default": None}]}], "default": None},
]
newer_codec = Codec(json.dumps(NEWER))


def newer(**fields):
    added = {"note": text("hi"), "urgency": number(1), "dryRun": b"\1", "attempt": number(3),
             "tags": number(1) + text("k") + text("v") + number(0), "chain": number(0)}
    return newer_codec.marker + b"".join({**good_fields(), **added, **fields}.values())


# ---- the corpus ----

class Hostile:
    """A record, what becomes of it, and whether somebody is answered."""

    def __init__(self, value, reason="undecodable", cause="", key=GROUP, headers=None, answered=None, **described):
        self.value, self.reason, self.cause, self.key = value, reason, cause, key.encode() if isinstance(key, str) else key
        self.headers, self.described = list(headers or []), described
        self.answered = answered  # the traceId of the result; None: a dead letter only
        if answered is None and headers is None and not described:
            self.answered = uuid.uuid4().hex
            self.headers = [("traceId", self.answered.encode())]


def malformed():
    """Bytes that do not decode. Each with a header that names the traceId."""
    def bad(what, cause="", **fields):
        cases[what] = Hostile(value(**fields), cause=cause)

    cases = {}
    for field in ("traceId", "accountGroupId", "campaignId", "audienceId"):
        bad(field + " of negative length", "field %s, byte" % field, **{field: number(-1) + b"x"})
        bad(field + " of length -2^63", "field %s, byte" % field, **{field: number(-2**63)})
        bad(field + " of length 2^63-1", "field %s, byte" % field, **{field: number(2**63 - 1)})
        bad(field + " of 1 GiB, claimed", "field %s, byte" % field, **{field: number(1 << 30) + b"abc"})
        bad(field + " with a NUL", "field %s, byte" % field, **{field: text("a\0b")})
        bad(field + " not UTF-8", "field %s, byte" % field, **{field: text(b"\xff\xfe")})
        bad(field + " overlong UTF-8", "field %s, byte" % field, **{field: text(b"\xc0\xaf")})
        bad(field + " a surrogate", "field %s, byte" % field, **{field: text(b"\xed\xa0\x80")})
        bad(field + " cut-off UTF-8", "field %s, byte" % field, **{field: text(b"\xe2\x82")})
        bad(field + " of 64 KiB and one", "field %s, byte" % field, **{field: text("x" * 65537)})
        bad(field + " a length of 65 bits", "field %s, byte" % field, **{field: b"\xff" * 9 + b"\x02"})
        bad(field + " an endless length", "field %s, byte" % field, **{field: b"\x80" * 40})
    cases["length 1000, and the end"] = Hostile(command_codec.marker + bytes.fromhex("d00f") + b"abc")
    bad("a branch too many", "a union's branch is out of range: 2", name=number(2))
    bad("a negative branch", "a union's branch is out of range: -1", leadIds=number(-1))
    bad("a branch of 2^62", "a union's branch is out of range", expiresAt=number(2**62))
    bad("a million empty leads", "field leadIds", leadIds=number(1) + number(1000000) + bytes(1000000) + number(0))
    bad("2^40 leads, claimed", "field leadIds", leadIds=number(1) + number(1 << 40))
    bad("2^63-1 leads, claimed", "field leadIds", leadIds=number(1) + number(2**63 - 1))
    bad("-2^63 leads", "field leadIds", leadIds=number(1) + number(-2**63) + number(4) + number(0))
    bad("a block that says too few bytes", "a block says 3 bytes and has 10",
        leadIds=number(1) + number(-2) + number(3) + text("lead") * 2 + number(0))
    bad("a block that says too many bytes", "field leadIds", leadIds=number(1) + number(-1) + number(999) + text("lead") + number(0))
    bad("a block of a negative size", "field leadIds", leadIds=number(1) + number(-1) + number(-7) + text("lead") + number(0))
    bad("an array without an end", leadIds=number(1) + number(1) + text("lead_01"))
    bad("a time of 65 bits", "field issuedAt", issuedAt=b"\xff" * 10)
    cases["a byte too many"] = Hostile(value() + b"\0", cause="1 bytes too many")
    cases["a second record behind it"] = Hostile(value() + value())
    return cases


def malformed_newer():
    """The same in fields that are skipped, and of types that a command has not."""
    return {name: Hostile(newer(**fields), cause=cause) for name, fields, cause in [
        ("skipped text of negative length", {"note": number(-5)}, "field note"),
        ("skipped text of 1 GiB, claimed", {"note": number(1 << 30)}, "field note"),
        ("enum index out of range", {"urgency": number(2)}, "an enum is out of range: 2"),
        ("negative enum index", {"urgency": number(-1)}, "an enum is out of range: -1"),
        ("boolean 2", {"dryRun": b"\2"}, "a boolean is neither 0 nor 1"),
        ("int of 33 bits", {"attempt": number(2**32)}, "an int is out of range"),
        ("map without an end", {"tags": number(1) + text("k") + text("v")}, "field"),
        ("map of 2^40", {"tags": number(1 << 40)}, "field tags"),
        ("map key not UTF-8", {"tags": number(1) + text(b"\xff") + text("v") + number(0)}, "field tags"),
        ("a chain of 10,000 links", {"chain": number(1) * 10000 + number(0)}, "nested deeper"),
        ("a chain that is cut off", {"chain": number(1) * 5}, "field chain"),
    ]}


def framings():
    unknown = {"reason": "unknown_schema"}
    plain = value()[10:]
    result = {name: None for name in ("data", "reason", "retryAfterSeconds", "accountGroupId", "sourceCampaignId", "audienceId", "issuedAt")}
    result.update(traceId="t", success=False, error={"code": "X", "message": "", "details": ""}, httpStatus=500, retryable=False,
                  draftExisted=False, command={"topic": "t", "partition": 0, "offset": 0, "timestamp": 0}, processedAt=0)
    return {
        "Confluent framing, unknown id": Hostile(b"\0" + struct.pack(">I", 7) + plain, cause="no schema is known by id 7", **unknown),
        "Confluent framing, id 2^32-1": Hostile(b"\0" + b"\xff" * 4, cause="no schema is known by id 4294967295", **unknown),
        "unknown fingerprint": Hostile(b"\xc3\x01" + bytes(range(8)) + plain, cause="fingerprint 0706050403020100", **unknown),
        "fingerprint in the other order": Hostile(b"\xc3\x01" + value()[2:10][::-1] + plain, **unknown),
        "a result": Hostile(result_codec.encode(result), cause="it is a DuplicateCampaignResult"),
        "Confluent framing with a GUID": Hostile(b"\1" + bytes(16) + plain, cause="byte 0"),
        "no framing": Hostile(plain, cause="byte 0"),
        "no bytes": Hostile(b"", cause="0 bytes"),
        "one zero": Hostile(b"\0", cause="byte 0"),
        "half a Confluent header": Hostile(b"\0\0\0", cause="byte 0"),
        "half a single-object header": Hostile(b"\xc3\x01\x01", cause="byte 0"),
        "JSON": Hostile(b'{"traceId":"a"}', cause="byte 0"),
        "an object container file": Hostile(b"Obj\1" + plain, cause="byte 0"),
        "a tombstone": Hostile(None, reason="tombstone", cause="no value"),
    }


def truncations():
    whole = value(leadIds=strings(*("lead_%02d" % n for n in range(1, 6))))
    return {"cut after %d bytes" % n: Hostile(whole[:n], reason="undecodable") for n in range(1, len(whole))}


def noise(n, seed):
    dice = random.Random(seed)
    cases = {}
    for i in range(n):
        some = dice.randbytes(dice.choice((3, 17, 200, 5000)))
        cases["noise %d" % i] = Hostile(b"\x7f" + some)
        cases["noise %d behind the right fingerprint" % i] = Hostile(command_codec.marker + b"\xff" * 10 + some)
    return cases


def keys():
    """The record's key is not the account group of its value: the value's traceId is answered, whatever the header says."""
    cases = {}
    for what, key in [("no key", None), ("an empty key", b""), ("another group's key", b"64f1a2b3c4d5e6f708192a3b"),
                      ("key in capitals", GROUP.upper().encode()), ("key with a NUL", GROUP.encode() + b"\0"), ("key cut short", GROUP[:-1].encode()),
                      ("key of 10,000 bytes", b"k" * 10000), ("binary key", bytes(range(256)))]:
        trace = uuid.uuid4().hex
        cases[what] = Hostile(value(trace), "key_mismatch", "the record key is not the command's accountGroupId", key, [("traceId", b"other")],
                              trace, accountGroupId=GROUP, sourceCampaignId=SEED["campaignId"], audienceId=SEED["audienceId"], issuedAt=1700000000000)
    return cases


def trace_headers():
    """Which of the headers named traceId names whom to answer."""
    def junk(headers, answered=None):
        return Hostile(b"junk", cause="byte 0", headers=headers, answered=answered)

    def decoded(trace, header, answered):
        return Hostile(value(trace), "invalid_field", "traceId is", headers=[("traceId", header)], answered=answered, accountGroupId=GROUP,
                       sourceCampaignId=SEED["campaignId"], audienceId=SEED["audienceId"], issuedAt=1700000000000)

    new = lambda: uuid.uuid4().hex  # noqa: E731
    one, two, three, four = new(), new(), new(), new()
    return {
        "none": junk([]),
        "the last of two": junk([("traceId", b"first"), ("x", b"y"), ("traceId", one.encode())], one),
        "the last is malformed": junk([("traceId", b"first"), ("traceId", b"not well-formed")]),
        "null": junk([("traceId", None)]),
        "empty": junk([("traceId", b"")]),
        "of 64 bytes": junk([("traceId", (two * 2).encode())], two * 2),
        "of 65 bytes": junk([("traceId", b"a" * 65)]),
        "of 70,000 bytes": junk([("traceId", b"a" * 70000)]),
        "an API key": junk([("traceId", b"sk_live_123")]),
        "with a NUL": junk([("traceId", b"abc\0def")]),
        "with a line break": junk([("traceId", b"abc\n")]),
        "not ASCII": junk([("traceId", "é".encode())]),
        "another case": junk([("traceid", b"abc"), ("TRACEID", b"abc")]),
        "for a value without a usable one": decoded("not well-formed", three.encode(), three),
        "for a value whose own is an API key": decoded("sk_live_123", four.encode(), four),
        "no help for an empty one": decoded("", b"", None),
    }


def many_headers():
    """What a dead letter keeps of them is bounded."""
    trace = uuid.uuid4().hex
    answer = ("traceId", trace.encode())
    cases = {}
    for what, headers in {
        "one of 70,000 bytes": [("a", b"1"), ("big", b"x" * 70000), ("b", b"2")],
        "a first one of 17,000 bytes": [("big", b"x" * 17000), ("a", b"1"), ("reason", b"mine"), ("b", None)],
        "trace context behind 16 KiB": [("big", b"x" * 16381), ("more", b""), ("traceparent", PARENT), ("tracestate", b"a=1"), ("z", b"")],
        "malformed trace context behind 16 KiB": [("big", b"x" * 16381), ("traceparent", b"00"), ("tracestate", b"a=1")],
        "five hundred": [("h%d" % n, b"v%d" % n) for n in range(500)],
        "eleven hundred": [("h", b"%d" % n) for n in range(1100)],
        "of 16 KiB in all": [("h%02d" % n, b"x" * 1021) for n in range(16)] + [("one more", b"")],
        "as a dead letter has them": [("kafka_dlt-original-topic", b"elsewhere"), ("kafka_dlt-original-partition", b"\0\0\0\x09"),
                                      ("campaign-dlt-reason", b"of an earlier life"), ("campaign-dlt-original-size", b"1"), ("mine", b"kept")],
        "as an old dead letter has them": [("reason", b"of an earlier life"), ("answered", b"X"), ("original-size", b"1"), ("mine", b"kept")],
        "null and empty": [("null", None), ("empty", b""), ("", b"no name"), ("ünïcode", b"\xff\0")],
        "the same name again": [("h", b"1"), ("h", b"2"), ("h", None)],
    }.items():
        trace = uuid.uuid4().hex
        cases["headers: " + what] = Hostile(b"junk", cause="byte 0", headers=headers + [("traceId", trace.encode())], answered=trace)
    return cases


def sizes():
    dice = random.Random(5)
    cases = {}
    for n in (DEAD_LETTER_BYTES - 1, DEAD_LETTER_BYTES, DEAD_LETTER_BYTES + 1, RECORD_MAX):
        cases["%d bytes of noise" % n] = Hostile(b"\x7f" + dice.randbytes(n - 1), cause="byte 0")
    for n in (RECORD_MAX + 1, 5 * 1000 * 1000, LIMIT - 2000):
        cases["%d bytes of noise" % n] = Hostile(b"\x7f" + dice.randbytes(n - 1), "too_large",
                                                 "the value has %d bytes, at most %d" % (n, RECORD_MAX))
    cases["two million leads"] = Hostile(value(leadIds=number(1) + number(2000000) + text("x") * 2000000 + number(0)), "too_large")
    cases["a key of 950,000 bytes"] = Hostile(b"junk", key=dice.randbytes(950000))
    cases["key and value of 600,000 bytes each"] = Hostile(b"\x7f" + dice.randbytes(599999), key=dice.randbytes(600000))
    return cases


def corpus():
    return {**malformed(), **malformed_newer(), **framings(), **truncations(), **noise(40, 1), **keys(), **trace_headers(), **many_headers()}


# ---- the worlds ----

@pytest.fixture
def wide_world(make_world):
    """Takes large records, and has the newer schema in the worker's folder."""
    world = make_world(commands={"max.message.bytes": str(LIMIT)})
    (world.folder / "schemas").mkdir()
    (world.folder / "schemas" / "newer.avsc").write_text(json.dumps(NEWER))
    return world


def schemas_of(world):
    return ["--schemas", str(world.folder / "schemas")]


def producer_of(world, **settings):
    return confluent_kafka.Producer({
        "bootstrap.servers": world.brokers, "partitioner": "murmur2_random", "message.max.bytes": 500 * 1000 * 1000,
        "queue.buffering.max.kbytes": 2000000, "linger.ms": 20, **settings,
    })


def publish(world, cases, producer=None, good_every=0):
    """Publishes the cases; between them good commands of the same partition. Their places, and those of the good ones."""
    if producer is None:  # one with an empty queue is false
        producer = producer_of(world)
    places, good = {}, {}

    def put(into, name, value, key, headers):
        def delivered(error, message):
            assert error is None, "%s: %s" % (name, error)
            into[name] = (message.partition(), message.offset())

        # Without a key it may go anywhere.
        while True:
            try:
                producer.produce(world.commands, value, key, headers=headers or None, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)

    for i, (name, case) in enumerate(cases.items()):
        put(places, name, case.value, case.key, case.headers)
        if good_every and i % good_every == 0:
            command = world.command()
            put(good, command["traceId"], command_codec.encode(command), GROUP, None)
    assert producer.flush(60) == 0
    return places, good


def await_drained(world, timeout_s=60):
    wait_until(lambda: world.lag() == 0, timeout_s, "everything answered", 0.2)


# ---- what a dead letter is ----

def always_kept(headers):
    """The places of those that a dead letter keeps however little room there is."""
    last = {name: i for i, (name, content) in enumerate(headers) if name != "traceId" or well_formed((content or b"").decode("latin-1"))}
    places = {last.get("traceId")}
    if "traceparent" in last and headers[last["traceparent"]][1] == PARENT:
        places |= {last["traceparent"], last.get("tracestate")}
    return places


def capped(headers):
    """Those that are kept, and how many are not."""
    kept, total, left_out, always = [], 0, 0, always_kept(headers)
    for i, (name, content) in enumerate(headers):
        if name.startswith(("kafka_dlt-", "campaign-dlt-")):
            continue
        size = 0 if i in always else len(name.encode()) + len(content or b"")
        if i in always or (total + size <= HEADER_BYTES_MAX and len(kept) < HEADERS_MAX):
            kept.append((name, content))
            total += size
        else:
            left_out += 1
    return kept, left_out


def check_letter(world, case, place, sent, letter):
    cause = letter.header("kafka_dlt-exception-message")
    kept, left_out = capped(case.headers)
    want = kept + [
        ("kafka_dlt-original-topic", world.commands.encode()),
        ("kafka_dlt-original-partition", struct.pack(">i", place[0])),
        ("kafka_dlt-original-offset", struct.pack(">q", place[1])),
        ("kafka_dlt-original-timestamp", struct.pack(">q", sent.timestamp_ms)),
        ("kafka_dlt-original-consumer-group", world.group.encode()),
        ("kafka_dlt-exception-message", cause.encode()),
        ("campaign-dlt-reason", case.reason.encode()),
    ]
    if case.answered:
        want.append(("campaign-dlt-answered", b"VALIDATION_ERROR"))
    key = case.key and case.key[:DEAD_LETTER_BYTES]
    room = DEAD_LETTER_BYTES - len(key or b"")
    if len(case.value or b"") > room:
        want += [("campaign-dlt-original-sha256", hashlib.sha256(case.value).hexdigest().encode()),
                 ("campaign-dlt-original-size", b"%d" % len(case.value))]
    if left_out:
        want.append(("campaign-dlt-headers-left-out", b"%d" % left_out))
    assert letter.header_list == want
    assert letter.key == key and letter.value == (case.value and case.value[:room] if case.value is not None else None)
    assert case.cause in cause and len(cause) < 300
    return cause


def check_answer(world, case, place, sent, result, cause):
    message = {
        "undecodable": "The command could not be decoded.", "too_large": "The command is too large.",
        "tombstone": "The command record has no value.", "key_mismatch": "The command record's key is not its account group.",
        "unknown_schema": "The command was written with a schema that is not known here.", "invalid_field": "Request validation failed.",
    }[case.reason]
    described = {"accountGroupId": None, "sourceCampaignId": None, "audienceId": None, "issuedAt": None, **case.described}
    assert dict(result) == {
        "traceId": case.answered, "success": False, "data": None,
        "error": {"code": "VALIDATION_ERROR", "message": message, "details": cause}, "httpStatus": 400, "reason": case.reason,
        "retryable": False, "retryAfterSeconds": None, "draftExisted": False, "processedAt": result["processedAt"],
        "command": {"topic": world.commands, "partition": place[0], "offset": place[1], "timestamp": sent.timestamp_ms}, **described,
    }
    assert abs(result["processedAt"] - time.time() * 1000) < 120000
    want = [(name, content) for name, content in case.headers if ("traceparent", PARENT) in case.headers and name.startswith("trace")
            and name != "traceId"] + [("httpStatus", b"400"), ("code", b"VALIDATION_ERROR")]
    assert result.record.header_list == want + ([("accountGroupId", described["accountGroupId"].encode())] if described["accountGroupId"] else [])


def dead_letters_by_place(world):
    letters = {}
    for letter in world.all_dead_letters():
        place = struct.unpack(">i", letter.headers["kafka_dlt-original-partition"])[0], \
            struct.unpack(">q", letter.headers["kafka_dlt-original-offset"])[0]
        assert place not in letters, "two dead letters of one record"
        letters[place] = letter
    return letters


def check_all(world, cases, places, good):
    sent = {(record.partition, record.offset): record for record in world.read_all(world.commands)}
    letters = dead_letters_by_place(world)
    results = {result.place: result for result in world.all_results()}
    for name, case in cases.items():
        place = places[name]
        try:
            cause = check_letter(world, case, place, sent[place], letters.pop(place))
            result = results.pop(place, None)
            assert (result is not None) == (case.answered is not None)
            if result is not None:
                check_answer(world, case, place, sent[place], result, cause)
        except (AssertionError, KeyError) as fault:
            raise AssertionError("%s: %s" % (name, fault)) from fault
    for trace, place in good.items():
        result = results.pop(place)
        assert result["traceId"] == trace and result["httpStatus"] == 201
    assert not letters and not results


def check_each_once(world):
    """For records that the test cannot predict or read: one result, one dead letter, or both; never none or two."""
    sent = {(record.partition, record.offset) for record in world.read_all(world.commands)}
    letters, results = dead_letters_by_place(world), [result.place for result in world.all_results()]
    assert len(results) == len(set(results))
    assert sent == set(results) | set(letters)


# ---- the tests ----

def test_every_hostile_record(wide_world):
    world = wide_world
    worker = world.worker(args=schemas_of(world))
    cases = corpus()
    places, good = publish(world, cases, good_every=7)
    await_drained(world)
    check_all(world, cases, places, good)
    world.verify(good.values())
    assert worker.stop() == 0


def test_sizes(wide_world):
    """Near and above the broker's usual limit of a record, and of a dead letter."""
    world = wide_world
    worker = world.worker(args=schemas_of(world))
    cases = sizes()
    places, good = publish(world, cases, good_every=2)
    await_drained(world)
    check_all(world, cases, places, good)
    assert not worker.events("transaction_aborted") and not worker.events("dead_letter_too_large")
    world.verify(good.values())
    assert worker.stop() == 0


def test_unusual_and_legal(wide_world):
    """What looks hostile and is not: Avro allows it, so it is executed, or refused for what it says."""
    world = wide_world
    world.worker(args=schemas_of(world))
    legal = {
        "blocks with their size": value(leadIds=number(1) + number(-2) + number(16) + text("lead_01") + text("lead_02") + number(0)),
        "many blocks": value(leadIds=number(1) + (number(1) + text("lead_03")) * 40 + number(0)),
        "needlessly long numbers": value(leadIds=number(1, 5) + number(1, 9) + number(7, 3) + b"lead_01" + number(0, 2)),
        "a newer schema": newer(),
        "a map with the same key twice": newer(tags=number(2) + (text("k") + text("v")) * 2 + number(0)),
        "the first and the last time": value(issuedAt=number(0), expiresAt=number(1) + number(253402300799999)),
    }
    refused = {
        "50,000 leads": (value(leadIds=strings(*("lead_%05d" % n for n in range(50000)))), "leadIds has 50000 ids: at most 10000"),
        "16 leads of 65,000 bytes": (value(leadIds=strings(*["x" * 65000] * 16)), "leadIds[0] is not a well-formed id"),
        "a name of 64 KiB": (value(name=number(1) + text("n" * 65536)), "name is too long"),
        "an empty array": (value(leadIds=number(1) + number(0)), "leadIds is empty"),
    }
    places = world.send_raw(*((GROUP, data) for data in legal.values()), *((GROUP, data) for data, _ in refused.values()))
    results = {result.place: result for result in world.await_results(len(places))}
    for place, name in zip(places, [*legal, *refused]):
        result = results[place]
        if name in legal:
            assert result["httpStatus"] == 201, (name, dict(result))
        else:
            assert result["reason"] == "invalid_field" and refused[name][1] in result["error"]["details"], (name, dict(result))
    assert not world.all_dead_letters()
    check_each_once(world)


def test_older_and_newer_writers(world):
    """Fields that a writer's schema lacks are null; those that only it has are dropped. Schemas of the folder `schemas`."""
    older = {**NEWER, "fields": [f for f in NEWER["fields"] if f["name"] in
                                 ("traceId", "accountGroupId", "campaignId", "audienceId", "apiKeyDigest", "issuedAt")]}
    folder = world.folder / "schemas"
    folder.mkdir()
    (folder / "older.avsc").write_text(json.dumps(older))
    (folder / "newer.avsc").write_text(json.dumps(NEWER, indent=4))
    worker = world.worker(args=["--schemas", str(folder)])
    codecs = {"older": Codec(json.dumps(older)), "newer": newer_codec, "present": command_codec}
    added = {"note": "n", "urgency": "HIGH", "dryRun": True, "attempt": 1, "tags": {"a": "b"}, "chain": {"next": {"next": None}}}
    commands = {name: world.command(name=None if name == "older" else "by " + name, leadIds=None if name == "older" else ["lead_01"])
                for name in codecs}
    places = world.send_raw(
        (GROUP, codecs["older"].encode({f["name"]: commands["older"][f["name"]] for f in older["fields"]})),
        (GROUP, codecs["newer"].encode({**added, **commands["newer"]})),
        (GROUP, codecs["present"].encode(commands["present"])))
    results = {result.place: result for result in world.await_results(3)}
    for place, (name, command) in zip(places, commands.items()):
        result = results[place]
        assert result["httpStatus"] == 201 and result["traceId"] == command["traceId"] and result["issuedAt"] == command["issuedAt"]
        assert result["data"]["name"] == ("Spring outreach" if name == "older" else "by " + name)
        assert result["data"]["selectedLeadCount"] == (10 if name == "older" else 1)
    # The same command by another schema is the same command.
    again, = world.send_raw((GROUP, command_codec.encode(commands["older"])))
    world.await_results(4)
    found, = (result for result in world.all_results() if result.place == again)
    assert found["draftExisted"] and found["data"]["id"] == results[places[0]]["data"]["id"]
    assert worker.stop() == 0


def test_compressed_far_above_the_limit(make_world):
    """Small on the wire and in the broker, large in memory: a topic of Kafka's usual limit holds such records."""
    world = make_world()
    worker = world.worker()
    cases = {
        "%d MB of zeros, %s" % (size, codec): Hostile(bytes(size * 1000 * 1000), "too_large", "the value has %d bytes" % (size * 1000 * 1000))
        for codec in ("zstd", "gzip", "lz4") for size in (3, 40) if not (codec == "lz4" and size == 40)
    }
    places, good = {}, {}
    for name, case in cases.items():
        producer = producer_of(world, **{"compression.type": name.split(", ")[1]})
        some_places, some_good = publish(world, {name: case}, producer, good_every=1)
        places.update(some_places)
        good.update(some_good)
    await_drained(world)
    check_all(world, cases, places, good)
    wait_until(lambda: worker.resident_kib() < 150 * 1024, 10, "the memory given back")
    world.verify(good.values())


def test_a_batch_that_cannot_be_had(make_world):
    """Three kilobytes that would be 150 MB: more than librdkafka is willing to decompress, and it would ask for them for ever.
    What came before is answered; the partition halts, alone, and says what resumes it; the others go on."""
    world = make_world()
    worker = world.worker()
    beta = {"accountGroupId": "64f1a2b3c4d5e6f708192a3b", "campaignId": "65b000000000000000000001", "audienceId": "aud_beta"}
    before = world.send(world.command(), world.command())
    bomb = {"bomb": Hostile(bytes(150 * 1000 * 1000))}
    places, _ = publish(world, bomb, producer_of(world, **{"compression.type": "zstd"}))
    partition, offset = places["bomb"]
    behind = world.send(world.command(), world.command())
    assert {place[0] for place in before + behind} == {partition}
    halted, = worker.wait_for_log("partition_halted")
    assert int(halted["partition"]) == partition and "its records from offset %d on cannot be read" % offset in halted["msg"]
    assert "campaign-worker resume --partition %d --from" % partition in halted["msg"]
    elsewhere = world.send(*(world.command(**beta) for _ in range(3)))
    assert elsewhere[0][0] != partition
    assert {result.place for result in world.await_results(5)} == {*before, *elsewhere}

    assert worker.stop() == 0  # whoever takes over finds the same
    worker.start()
    assert int(worker.wait_for_log("partition_halted")[0]["partition"]) == partition
    world.program("campaign-worker", "resume", "--partition", str(partition), "--from", str(offset + 1))
    results = world.await_results(7)
    assert {result.place for result in results} == {*before, *behind, *elsewhere}
    assert {result["httpStatus"] for result in results} == {201}
    assert worker.stop() == 0


def mutations(n, seed):
    """Good commands with a few bytes changed: nobody knows what each becomes, but it is answered or a dead letter, once."""
    dice = random.Random(seed)
    records = []
    for _ in range(n):
        data = bytearray(value() if dice.random() < 0.7 else newer())
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(10, len(data))] = dice.choice((0, 1, 2, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        records.append((GROUP, bytes(data)))
    return records


def hostile_rounds(world, worker, rounds, copies, after_round):
    small = [case for case in corpus().values() if len(case.value or b"") < 10000]
    large = [case for case in {**malformed(), **sizes()}.values() if 10000 <= len(case.value or b"") <= 5000000]
    producer = producer_of(world)
    for number_of_round in range(rounds):
        n = 0
        for _ in range(copies):
            publish(world, {str(i): case for i, case in enumerate(small)}, producer)
            n += len(small)
        publish(world, {str(i): case for i, case in enumerate(large)}, producer)
        world.send_raw(*mutations(500, number_of_round))
        await_drained(world, 120)
        after_round(n + len(large) + 500)
        assert worker.alive()


def test_memory_stays_flat(wide_world):
    """Thousands of them, after thousands that warmed it up."""
    world = wide_world
    worker = world.worker(args=schemas_of(world))
    resident, sent = [], []
    hostile_rounds(world, worker, 4, 8, lambda n: (resident.append(worker.resident_kib()), sent.append(n)))
    print("resident KiB after rounds of %s records: %s" % (sent, resident))
    assert sum(sent) > 10000
    assert resident[-1] - min(resident[1:3]) < 8 * 1024, resident
    assert resident[-1] < 128 * 1024, resident
    check_each_once(world)
    assert worker.stop() == 0


def test_with_the_sanitizers(wide_world):
    """The same under AddressSanitizer, LeakSanitizer and UBSan: no report, and an end in order."""
    world = wide_world
    environment = {k: v for k, v in clean_environment().items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    subprocess.run(["make", "-s", "-j2", "BUILD=%s" % os.path.relpath(BUILD, ROOT), "VARIANT=asan", "all"], cwd=ROOT, env=environment, check=True, timeout=300)
    worker = world.worker(args=schemas_of(world), variant="asan", env={
        "LSAN_OPTIONS": "use_unaligned=1", "ASAN_OPTIONS": "detect_leaks=1:exitcode=66", "UBSAN_OPTIONS": "print_stacktrace=1:exitcode=66"})
    cases = {**corpus(), **sizes()}
    places, good = publish(world, cases, good_every=9)
    world.send_raw(*mutations(1500, 99))
    await_drained(world, 120)
    check_each_once(world)
    worker.signal(signal.SIGTERM)
    assert worker.wait(60) == 0, worker.text()[-4000:]
    for word in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error"):
        assert word not in worker.text()
