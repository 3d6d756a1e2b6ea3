"""Publishers and subscribers in other languages: Apache's Java client and Avro's Java library (interop/Interop.java),
librdkafka's Python client and Debian's python3-avro (avrocodec.py)."""

import json
import shutil
import subprocess
import uuid

import pytest

from avrocodec import SCHEMAS, command_codec
from harness import ROOT, SEED

pytestmark = pytest.mark.skipif(shutil.which("javac") is None, reason="there is no JDK")
COMMAND, RESULT = SCHEMAS + "/duplicate-campaign-command.avsc", SCHEMAS + "/duplicate-campaign-result.avsc"


@pytest.fixture(scope="module")
def java(tmp_path_factory):
    """Runs Interop.java; the lines it prints, as JSON."""
    libs = subprocess.check_output(["sh", str(ROOT / "deploy" / "kafka.sh"), "libs"], text=True).strip()
    classes = tmp_path_factory.mktemp("classes")
    subprocess.run(
        ["javac", "-encoding", "UTF-8", "-cp", libs + "/*", "-d", str(classes), str(ROOT / "tests/system/interop/Interop.java")], check=True)

    def run(*args, input=None):
        done = subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
             "-cp", "%s:%s/*" % (classes, libs), "Interop", *args],
            input=input, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def as_json(command):
    """A command as the JSON line that both our producer and Interop.java take."""
    line = {k: v for k, v in command.items() if v is not None}
    if "apiKeyDigest" in line:
        line["apiKeyDigest"] = line["apiKeyDigest"].hex()
    return json.dumps(line)


def many_commands(world):
    """Good ones and, to fill every partition, one for each of some account groups that nobody knows."""
    return [
        world.command(name="Früh 🌱", leadIds=["lead_01", "lead_02"]),
        world.command(),
        world.command(apiKeyDigest=None),
        world.command(expiresAt=1),
    ] + [world.command(accountGroupId="ag_%d" % i) for i in range(20)]


def test_java_publisher_and_subscriber(world, java):
    commands = many_commands(world)
    worker = world.worker()
    places = java("write", world.brokers, world.commands, COMMAND, input="\n".join(map(as_json, commands)))
    lines = java("read", world.brokers, world.results, RESULT, str(len(commands)), "30")

    by_trace = {line["value"]["traceId"]: line for line in lines}
    assert len(by_trace) == len(lines) == len(commands)
    for command, place in zip(commands, places):
        line = by_trace[command["traceId"]]
        result = line["value"]
        assert line["key"] == result["traceId"]
        assert result["command"]["topic"] == world.commands
        assert (result["command"]["partition"], result["command"]["offset"]) == (place["partition"], place["offset"])
        assert result["accountGroupId"] == command["accountGroupId"]
        assert result["issuedAt"] == command["issuedAt"]
        assert line["headers"]["httpStatus"] == str(result["httpStatus"])
        assert line["headers"]["accountGroupId"] == command["accountGroupId"]
        assert result["success"] == (result["data"] is not None) == (result["error"] is None)
    assert [by_trace[c["traceId"]]["value"]["httpStatus"] for c in commands] == [201, 201, 401, 502] + 20 * [403]
    assert by_trace[commands[0]["traceId"]]["value"]["data"]["name"] == "Früh 🌱"
    assert by_trace[commands[0]["traceId"]]["value"]["data"]["selectedLeadCount"] == 2

    # The same through the other library.
    assert {r["traceId"]: r for r in world.all_results()} == {trace: line["value"] for trace, line in by_trace.items()}
    # What Java's default partitioner did is what the worker expects, and every partition had something.
    assert not worker.events("misplaced_key")
    assert {place["partition"] for place in places} == set(range(world.partitions))
    assert world.all_dead_letters() == []
    assert worker.stop() == 0


def test_our_producer_as_java_sees_it(world, java):
    commands = many_commands(world)
    lines = "\n".join(map(as_json, commands))
    sent = world.program("campaign-producer", "send", "-", input=lines).stdout.splitlines()
    assert len(sent) == len(commands)
    ours = java("read", world.brokers, world.commands, COMMAND, str(len(commands)), "30")
    theirs = java("write", world.brokers, world.commands, COMMAND, input=lines)

    by_trace = {line["value"]["traceId"]: line for line in ours}
    for command, place in zip(commands, theirs):
        line = by_trace[command["traceId"]]
        digest = command["apiKeyDigest"]
        assert line["value"] == {**command, "apiKeyDigest": digest.hex() if digest else None}
        assert line["key"] == command["accountGroupId"]
        assert line["partition"] == place["partition"]
    # Byte for byte the same as the other two libraries write.
    records = world.read_all(world.commands)
    for command in commands:
        values = {r.value for r in records if command_codec.decode(r.value)["traceId"] == command["traceId"]}
        assert values == {command_codec.encode(command)}


def test_python_publisher_and_our_subscriber(world):
    world.worker()
    trace = uuid.uuid4().hex
    world.send(world.command(traceId=trace, name="From Python"))
    watched = world.program(
        "campaign-producer", "watch", "--from", "beginning", "--trace-id", trace, "--count", "1", timeout=30).stdout
    result = json.loads(watched)["result"]
    assert result["success"] and result["data"]["name"] == "From Python"
    assert result["accountGroupId"] == SEED["accountGroupId"]
    (theirs,) = world.all_results()
    assert theirs["data"]["id"] == result["data"]["id"]
