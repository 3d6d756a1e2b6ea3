"""Times in other units than ours, and records without one."""

import copy
import json
import struct
import time

import pytest

from avrocodec import SCHEMAS, Codec, command_codec
from harness import SEED, wait_until
from test_hostile import good_fields, number

BUILT_IN = json.load(open(SCHEMAS + "/duplicate-campaign-command.avsc"))
MINUTE_MS = 60000


def schema(issued_at, expires_at, **added):
    """The built-in schema with other logical types. added: a further field, which makes it another fingerprint."""
    changed = copy.deepcopy(BUILT_IN)
    for field in changed["fields"]:
        if field["name"] == "issuedAt":
            field["type"]["logicalType"] = issued_at
        if field["name"] == "expiresAt":
            field["type"][1]["logicalType"] = expires_at
    changed["fields"] += [{"name": name, "type": kind, "default": ""} for name, kind in added.items()]
    return json.dumps(changed)


def record(marker, issued_at, expires_at, more=b""):
    """A good command with these times as they are."""
    return marker + b"".join({**good_fields(), "issuedAt": number(issued_at), "expiresAt": number(1) + number(expires_at)}.values()) + more


def folder_of(world, **files):
    folder = world.folder / "schemas"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / (name.strip("_") + ".avsc")).write_text(text)
    return ["--schemas", str(folder)]


def answers(world, n):
    return [(r["httpStatus"], r["reason"], r["issuedAt"]) for r in sorted(world.await_results(n), key=lambda r: r["command"]["offset"])]


def test_times_are_converted(make_world):
    """By a schema of the folder, and by one that an id stands for; a minute ago is then a minute ago."""
    world = make_world(partitions=1)
    both, one = schema("timestamp-micros", "timestamp-micros", note="string"), schema("timestamp-nanos", "timestamp-millis", other="string")
    args = folder_of(world, both=both, one=one, _77=schema("timestamp-micros", "timestamp-micros"))
    micros, mixed = Codec(both), Codec(one)
    now = int(time.time() * 1000)
    by_id = b"\0" + struct.pack(">I", 77)
    values = []
    for deadline in (now - MINUTE_MS, now + 10 * MINUTE_MS):
        values += [
            record(micros.marker, now * 1000, deadline * 1000, number(0)),
            record(mixed.marker, now * 1000000, deadline, number(0)),
            record(by_id, now * 1000, deadline * 1000),
            record(command_codec.marker, now, deadline),
        ]
    world.send_raw(*((SEED["accountGroupId"], value) for value in values))
    world.worker(args=args)
    assert answers(world, 8) == [(502, "expired", now)] * 4 + [(201, None, now)] * 4


def test_times_of_an_unknown_unit_are_refused(make_world):
    """With the built-in fingerprint, microseconds and more look like years to come; all else is a mistake as well."""
    world = make_world(partitions=1)
    now = int(time.time() * 1000)
    cases = [(now * 1000, now * 1000), (now, (now - MINUTE_MS) * 1000), (now * 1000000, now), (-1, now), (now, -1), (now, 2**63 - 1)]
    good = [(0, 253402300799999), (253402300799999, now + MINUTE_MS)]
    world.send_raw(*((SEED["accountGroupId"], record(command_codec.marker, *case)) for case in cases + good))
    world.worker()
    results = sorted(world.await_results(8), key=lambda r: r["command"]["offset"])
    for (issued_at, _), result in zip(cases, results):
        assert (result["httpStatus"], result["reason"]) == (400, "invalid_field")
        assert "is outside the years 1970 to 9999" in result["error"]["details"]
        assert result["issuedAt"] == (now if issued_at == now else None)
    assert [result["httpStatus"] for result in results[6:]] == [201, 201]
    assert len(world.drafts()) == 2


@pytest.mark.parametrize("field,types", [("issuedAt", ("timestamp-micros", "timestamp-millis")),
                                         ("expiresAt", ("timestamp-millis", "timestamp-micros")),
                                         ("expiresAt", ("timestamp-millis", "local-timestamp-millis"))])
def test_schema_that_nothing_tells_apart_is_refused_at_the_start(world, field, types):
    args = folder_of(world, micros=schema(*types))
    check = world.program("campaign-worker", "check", *args, check=False)
    assert check.returncode == 1
    line = next(line for line in check.stdout.splitlines() if line.startswith("WRONG") and "schemas" in line)
    worker = world.worker(args=args)
    assert worker.wait() != 0
    for text in (line, worker.text()):
        assert "micros.avsc" in text and "field " + field in text


def test_record_without_a_timestamp(make_world):
    """-1 in Avro, null in JSON; a dead letter says what Spring would."""
    world = make_world(commands={"message.timestamp.type": "CreateTime"}, partitions=1)
    command = world.command()
    world.producer().produce(world.commands, command_codec.encode(command), SEED["accountGroupId"], timestamp=-1)
    world.producer().produce(world.commands, b"junk", SEED["accountGroupId"], headers={"traceId": "junk"}, timestamp=-1)
    assert world.producer().flush(60) == 0
    world.worker()
    results = world.await_results(2)
    assert {result["command"]["timestamp"] for result in results} == {-1}
    assert {result["httpStatus"] for result in results} == {201, 400}
    watched = world.program("campaign-producer", "watch", "--from", "beginning", "--count", "2").stdout.splitlines()
    assert [json.loads(line)["result"]["command"]["timestamp"] for line in watched] == [None, None]
    letter = wait_until(world.all_dead_letters, 10, "a dead letter")[0]
    assert letter.headers["kafka_dlt-original-timestamp"] == struct.pack(">q", -1)
