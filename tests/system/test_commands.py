"""The programs as a person meets them: topics, migrate, check, resume, settings, send, watch. What they print and how they
exit. Longer than 600 lines: one world serves all of them."""

import contextlib
import datetime
import json
import re
import signal
import subprocess
import time
import uuid

import confluent_kafka
import confluent_kafka.admin
import pytest

from avrocodec import command_codec
from harness import ROOT, SEED, binary, clean_environment, digest, run_program, wait_until
from test_offsets import delete_records, set_offset

DAY_MS = 86400000
BETA = {"accountGroupId": "64f1a2b3c4d5e6f708192a3b", "campaignId": "65b000000000000000000001", "audienceId": "aud_beta"}
AWAY = "127.0.0.1:1"  # nobody listens there


def lines_of(done, mark):
    """Lines of check and topics that begin with WRONG or ok."""
    return [line[6:] for line in done.stdout.splitlines() if line.startswith(mark.ljust(6))]


def wrong(done):
    """What was found wrong; it is told by the exit status as well."""
    found = lines_of(done, "WRONG")
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    assert len(found) + len(lines_of(done, "ok")) == len(done.stdout.splitlines())
    return found


# ---- topics ----

@pytest.fixture
def topic_names(services):
    """Names of topics that do not exist yet."""
    mark = uuid.uuid4().hex[:8]
    names = {kind: "%s-%s" % (kind, mark) for kind in ("commands", "results", "dead_letters")}
    yield names
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": services.kafka.brokers})
    for future in admin.delete_topics(list(names.values())).values():
        with contextlib.suppress(confluent_kafka.KafkaException):
            future.result()


def topic_environment(services, names):
    return {"CAMPAIGN_BROKERS": services.kafka.brokers, **{"CAMPAIGN_" + kind.upper(): name for kind, name in names.items()}}


def describe(services, name):
    """A topic's partitions, replication and settings, as Kafka says."""
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": services.kafka.brokers})
    topic = wait_until(lambda: admin.list_topics(timeout=20).topics.get(name), 10, "topic %s" % name)
    resource = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.RESOURCE_TOPIC, name)
    settings = {entry.name: entry.value for entry in admin.describe_configs([resource])[resource].result().values()}
    return len(topic.partitions), len(topic.partitions[0].replicas), settings


def test_topics_are_created(services, topic_names):
    environment = topic_environment(services, topic_names)
    done = run_program("campaign-worker", "topics", "--partitions", "5", "--results-partitions", "3", "--replication", "1", env=environment)
    assert not wrong(done)
    for kind, partitions, retention_days in (("commands", 5, 7), ("results", 3, 7), ("dead_letters", 3, 30)):
        assert "topic %s: created, %d partitions, replication 1" % (topic_names[kind], partitions) in done.stdout
        count, replication, settings = describe(services, topic_names[kind])
        assert (count, replication) == (partitions, 1)
        assert settings["cleanup.policy"] == "delete" and settings["retention.ms"] == str(retention_days * DAY_MS)
        assert settings["message.timestamp.type"] == "LogAppendTime"
        assert settings["min.insync.replicas"] == "1"
    assert describe(services, topic_names["commands"])[2]["retention.bytes"] == "-1"
    assert int(describe(services, topic_names["dead_letters"])[2]["max.message.bytes"]) >= 1000000

    again = run_program("campaign-worker", "topics", "--partitions", "5", "--results-partitions", "3", env=environment)
    assert not wrong(again) and "created" not in again.stdout


def test_topics_from_two_places_at_once(services, topic_names):
    environment = {**clean_environment(), **topic_environment(services, topic_names)}
    programs = [subprocess.Popen([binary("campaign-worker"), "topics"], env=environment, stdout=subprocess.PIPE, text=True)
                for _ in range(3)]
    outputs = [program.communicate(timeout=60)[0] for program in programs]
    assert [program.returncode for program in programs] == [0, 0, 0], outputs
    assert sum(output.count(": created, ") for output in outputs) == 3
    assert describe(services, topic_names["commands"])[0] == 12 and describe(services, topic_names["results"])[0] == 6


def test_topics_says_what_differs_and_changes_nothing(services, topic_names):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": services.kafka.brokers})
    settings = {"commands": {"retention.ms": "3600000", "retention.bytes": "1000000", "cleanup.policy": "compact"},
                "results": {"message.timestamp.type": "LogAppendTime"}}
    for future in admin.create_topics([
            confluent_kafka.admin.NewTopic(topic_names[kind], 2, 1, config=config) for kind, config in settings.items()]).values():
        future.result()
    before = {kind: describe(services, topic_names[kind]) for kind in settings}
    done = run_program("campaign-worker", "topics", "--partitions", "4", "--results-partitions", "2",
                       env=topic_environment(services, topic_names), check=False)
    commands = "topic %s: " % topic_names["commands"]
    assert sorted(line.split(",")[0] for line in wrong(done)) == sorted([
        commands + "cleanup.policy is compact", commands + "retention.ms is 3600000", commands + "retention.bytes is 1000000",
        commands + "message.timestamp.type is CreateTime", commands + "has 2 partitions"])
    assert any("wanted LogAppendTime: rate limits are judged at the time a command arrived" in line for line in wrong(done))
    assert "topic %s: created" % topic_names["dead_letters"] in done.stdout
    assert {kind: describe(services, topic_names[kind]) for kind in settings} == before


# ---- migrate ----

@pytest.fixture
def empty_database(services):
    name = "empty_" + uuid.uuid4().hex[:8]
    services.postgres.execute("CREATE DATABASE %s" % name)
    yield services.postgres.conninfo(name)
    services.postgres.execute("DROP DATABASE %s WITH (FORCE)" % name)


MIGRATIONS = sorted(path.stem for path in (ROOT / "schemas" / "sql").glob("[0-9]*.sql"))


def test_migrate_from_several_places_at_once(services, empty_database):
    """Each migration is applied once, whoever comes first; the others wait for it. Also where another database of the same
    cluster is migrated at the moment: roles belong to all of them."""
    other = "other_" + uuid.uuid4().hex[:8]
    services.postgres.execute("CREATE DATABASE %s" % other)
    try:
        programs = [
            subprocess.Popen([binary("campaign-worker"), "migrate"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             env={**clean_environment(), "CAMPAIGN_DATABASE": database})
            for database in [empty_database] * 4 + [services.postgres.conninfo(other)]]
        outputs = [program.communicate(timeout=60)[0] for program in programs]
    finally:
        services.postgres.execute("DROP DATABASE %s WITH (FORCE)" % other)
    assert [program.returncode for program in programs] == [0] * 5, outputs
    for where in outputs[:4], outputs[4:]:
        said = "".join(where)
        assert [said.count("applied " + name) for name in MIGRATIONS] == [1] * len(MIGRATIONS)
    assert outputs[4].splitlines() == ["applied " + name for name in MIGRATIONS]
    again = run_program("campaign-worker", "migrate", env={"CAMPAIGN_DATABASE": empty_database})
    assert again.stdout == "nothing to do: at %s\n" % MIGRATIONS[-1]


def test_migrate_without_the_right(services, empty_database):
    """Nothing of it stands: it is one transaction."""
    done = run_program("campaign-worker", "migrate", check=False,
                       env={"CAMPAIGN_DATABASE": re.sub(r"user=\S+", "user=" + services.LOGIN, empty_database)})
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("campaign-worker: migration %s was not applied: " % MIGRATIONS[0]) and done.stderr.count("\n") == 1
    assert run_program("campaign-worker", "migrate", env={"CAMPAIGN_DATABASE": empty_database}).stdout.startswith("applied ")


# ---- check ----

@pytest.fixture
def proper_world(make_world):
    """A world in which check finds nothing wrong."""
    return make_world(dead_letters={"retention.ms": str(30 * DAY_MS)})


def check(world, **env):
    return world.program("campaign-worker", "check", env=env, check=False)


def test_check_finds_nothing_wrong(proper_world):
    """Beside a worker that runs under the same name, which is not disturbed."""
    world = proper_world
    worker = world.worker()
    world.send(world.command())
    world.await_results(1)
    done = check(world)
    assert not wrong(done), done.stdout
    said = done.stdout
    for part in ("schemas: built-in", "Kafka cluster ", ": 1 broker", "LogAppendTime", "consumer group %s: offsets of 4 of 4" % world.group,
                 "transactions: ", " initialised in ", "PostgreSQL 1", "primary, UTF8", "user %s" % world.services.LOGIN,
                 "fsync on, full_page_writes on, synchronous_commit on", "migrations complete", "the user has the rights"):
        assert part in said, part
    world.send(world.command())
    world.await_results(2)
    assert not worker.events("fatal") and not worker.events("client_rebuilt")
    assert worker.stop() == 0


def test_check_topics(proper_world):
    world = proper_world
    found = wrong(check(world, CAMPAIGN_RESULTS="nowhere-" + world.name, CAMPAIGN_COMMANDS=world.results))
    assert sorted(found) == sorted([
        "topic nowhere-%s: missing, or not to be seen by this user" % world.name,
        "topic %s: message.timestamp.type is CreateTime, wanted LogAppendTime: rate limits are judged at the time a command arrived; "
        "a publisher's own time counts as the time when the command is judged" % world.results])


def test_check_halted_partitions(proper_world):
    """A committed offset beyond the end, and one before the beginning, of rows that do not say what is executed."""
    world = proper_world
    worker = world.worker()
    worker.wait_for_log("running", running=4)
    assert worker.stop() == 0
    world.sql("UPDATE partition_owner SET executed_offset = NULL")
    producer = confluent_kafka.Producer({"bootstrap.servers": world.services.kafka.brokers})
    for partition in (1, 1, 1, 2):
        producer.produce(world.commands, b"x", partition=partition)
    assert producer.flush(20) == 0
    delete_records(world, 1, 2)
    for partition, offset in ((1, 1), (2, 7), (3, 0)):
        set_offset(world, partition, offset)
    found = wrong(check(world))
    assert [line.split(" resume")[1] for line in found] == [" --partition 1 --from OFFSET|earliest", " --partition 2 --from OFFSET|earliest"]
    assert "commands from offset 1 up to 2 were deleted" in found[0] and "lies beyond the topic's end 1" in found[1]


def test_kafka_is_away(proper_world):
    """All that need it, at once: each gives up by itself, says so in one line, and fails."""
    world = proper_world
    programs = [
        subprocess.Popen([binary(name), *args, "--brokers", AWAY], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, env={**clean_environment(), "CAMPAIGN_DATABASE": world.environment()["CAMPAIGN_DATABASE"]})
        for name, *args in (("campaign-worker", "check"), ("campaign-worker", "topics"), ("campaign-worker", "resume", "--partition", "0", "--from", "0"),
                            ("campaign-producer", "watch"), ("campaign-producer", "send", "--account-group", "a", "--campaign", "c", "--audience", "d"))]
    for program in programs:
        output, complaints = program.communicate(timeout=60)
        assert program.returncode == 1, program.args
        said = [text for text in (output + complaints).splitlines() if not text.startswith("ok ") and "level=" not in text]
        assert len(said) == 1, (program.args, said)
        if program is programs[0]:
            assert said[0].startswith("WRONG Kafka: no Kafka broker answers at %s" % AWAY)
        elif "resume" not in program.args:
            assert AWAY in said[0]


def test_check_schemas(proper_world):
    folder = proper_world.folder / "schemas"
    folder.mkdir()
    (folder / "broken.avsc").write_text('{"type": "record"')
    found = wrong(check(proper_world, CAMPAIGN_SCHEMAS=str(folder)))
    assert len(found) == 1 and found[0].startswith("schemas: Avro schema ") and "broken.avsc" in found[0]


def test_check_database_is_away(proper_world):
    found = wrong(check(proper_world, CAMPAIGN_DATABASE="host=127.0.0.1 port=1 dbname=x password=hunter2"))
    assert len(found) == 1 and found[0].startswith("PostgreSQL: ") and "hunter2" not in found[0]


def test_check_no_such_database(proper_world):
    found = wrong(check(proper_world, CAMPAIGN_DATABASE=proper_world.services.postgres.conninfo("no_such_database")))
    assert len(found) == 1 and "no_such_database" in found[0]


def test_check_missing_migrations(proper_world, empty_database):
    found = wrong(check(proper_world, CAMPAIGN_DATABASE=empty_database))
    assert found == ["the database lacks migration %s: run campaign-worker migrate" % MIGRATIONS[0]]


def test_check_rights(proper_world):
    """A role with the least rights taken away, and one that has none at all."""
    world = proper_world
    world.sql("REVOKE UPDATE (rate_tat_us) ON api_key_account_groups FROM campaign_worker")
    assert wrong(check(world)) == [
        "the user lacks UPDATE on api_key_account_groups (column rate_tat_us): grant it the role campaign_worker"]
    with contextlib.suppress(Exception):
        world.services.postgres.execute("CREATE ROLE campaign_nobody LOGIN")
    found = wrong(check(world, CAMPAIGN_DATABASE=world.services.postgres.conninfo(world.database, "campaign_nobody")))
    assert found and all("lack" in line or "denied" in line for line in found)


def test_check_and_run_want_durable_commits(proper_world):
    world = proper_world
    world.sql("ALTER DATABASE %s SET synchronous_commit = off" % world.database)
    line = "synchronous_commit is off: PostgreSQL may lose commits"
    assert wrong(check(world)) == [line]
    worker = world.worker()
    assert worker.wait(20) == 1
    assert line in worker.events("fatal")[0]["msg"]


# ---- run ----

def test_run_refuses_a_database_without_migrations(world, empty_database):
    worker = world.worker(database=empty_database)
    assert worker.wait(20) == 1
    fatal, = worker.events("fatal")
    assert fatal["msg"] == "the database lacks migration %s: run campaign-worker migrate" % MIGRATIONS[0]


def test_run_waits_for_a_missing_topic(world):
    """It is named and not made in passing; the worker goes on when somebody made it."""
    name = "nowhere-" + world.name
    worker = world.worker(args=("--results", name))
    assert worker.wait_for_log("waiting")[0]["msg"] == "topic %s does not exist: `campaign-worker topics` creates it" % name
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": world.services.kafka.brokers})
    assert name not in admin.list_topics(timeout=20).topics
    for future in admin.create_topics([confluent_kafka.admin.NewTopic(name, 1, 1)]).values():
        future.result()
    worker.wait_for_log("running", running=4)
    assert worker.stop() == 0 and not worker.events("client_rebuilt")


def test_run_tolerates_newer_migrations(world):
    world.sql("INSERT INTO schema_migrations (version, name) VALUES (999, '999-of-the-future');"
              "ALTER TABLE campaigns ADD COLUMN future text; ALTER TABLE partition_owner ADD COLUMN future integer DEFAULT 7")
    worker = world.worker()
    world.send(world.command())
    assert world.await_results(1)[0]["httpStatus"] == 201
    assert worker.stop() == 0


def test_signals(world):
    """SIGHUP and SIGPIPE are nothing; SIGINT drains as SIGTERM does."""
    worker = world.worker()
    worker.wait_for_log("running")
    worker.signal(signal.SIGHUP)
    worker.signal(signal.SIGPIPE)
    world.send(world.command())
    world.await_results(1)
    worker.signal(signal.SIGINT)
    assert worker.wait(20) == 0
    assert worker.events("draining") and worker.events("stopped")


# ---- a warning about partitioners ----

def test_misplaced_keys(world):
    """librdkafka's own default partitioner puts keys elsewhere than Java's does. They are answered, with a warning."""
    worker = world.worker()
    worker.wait_for_log("running")
    right, = world.send(world.command())
    world.await_results(1)
    assert not worker.events("misplaced_key")
    command = world.command()
    place, = world.send_raw((command["accountGroupId"], command_codec.encode(command)), partition=(right[0] + 1) % world.partitions)
    assert {result["httpStatus"] for result in world.await_results(2)} == {201}
    warning, = worker.wait_for_log("misplaced_key")
    assert (int(warning["partition"]), int(warning["offset"])) == place and warning["level"] == "warn"
    assert "murmur2_random" in warning["msg"]


# ---- settings and usage ----

def refusal(*args, name="campaign-worker", env=None):
    done = run_program(name, *args, env=env, check=False, timeout=20)
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.mark.parametrize("args, env, said", [
    (["run", "--lanes", "0"], {}, 'lanes (command line): "0" is not a whole number from 1 to 64'),
    (["run", "--lanes=two"], {}, 'lanes (command line): "two" is not'),
    (["run", "--lanes"], {}, "lanes (command line): has no value"),
    (["run", "--batch", "5", "--batch", "6"], {}, "batch (command line): given twice"),
    (["run", "--log-format", "xml"], {}, 'log-format (command line): "xml" is none of text|json'),
    (["run", "--commands", "a b"], {}, 'commands (command line): "a b" is no topic name'),
    (["run", "--results", "t", "--commands", "t"], {}, "commands and results are the same topic, t"),
    (["run"], {"CAMPAIGN_BATCH": "many"}, 'batch (environment variable CAMPAIGN_BATCH): "many"'),
    (["run"], {"CAMPAIGN_BATHC": "5"}, "no such setting; did you mean CAMPAIGN_BATCH?"),
    (["run"], {"CAMPAIGN_NOTHING_LIKE_IT": "5"}, "no such setting"),
    (["run", "-X", "isolation.level=read_uncommitted"], {}, "isolation.level (command line): this librdkafka property cannot be set"),
    (["run"], {"CAMPAIGN_KAFKA_TRANSACTIONAL_ID": "x"}, "transactional.id (environment variable CAMPAIGN_KAFKA_TRANSACTIONAL_ID)"),
    (["run", "-X", "acks"], {}, "-X (command line): wanted property=value"),
    (["run", "--config", "/no/such/file"], {}, "cannot read /no/such/file: No such file or directory"),
    (["run", "--database", "@/no/such/file"], {}, "database (command line): the value begins with @"),
    (["run", "surplus"], {}, "not understood: surplus"),
    (["walk"], {}, "no such command: walk"),
    ([], {}, "usage: campaign-worker COMMAND"),
    (["topics", "--partitions", "0"], {}, "topics: bad option: 0"),
    (["resume", "--partition", "1"], {}, "resume: both --partition P and --from OFFSET|earliest are needed"),
    (["resume", "--partition", "1", "--from", "latest"], {}, "resume: bad option: latest"),
    (["resume", "--partition", "-1", "--from", "3"], {}, "resume: bad option: -1"),
    (["settings", "--markdown"], {}, "settings: not understood: --markdown"),
])
def test_wrong_settings_and_usage(args, env, said):
    assert said in refusal(*args, env=env)


def test_settings_file_says_the_line(tmp_path):
    path = tmp_path / "worker.conf"
    path.write_text("# ours\n\nlanes = 2\nlane = 3\n")
    assert "lane (%s:4): no such setting; did you mean lanes?" % path in refusal("run", "--config", str(path))
    path.write_text("kafka.acks = 0\n")
    assert "acks (%s:1): this librdkafka property cannot be set" % path in refusal("run", "--config", str(path))
    path.write_text("security.protocol = SSL\n")
    assert "librdkafka properties begin with kafka. here" in refusal("run", "--config", str(path))


def test_a_secret_is_not_shown():
    """A mistake in the one setting that holds a password does not print it."""
    assert "hunter2" not in refusal("run", "--database", "password=hunter2\n")


def test_unknown_property_of_librdkafka(world):
    """Known only to librdkafka: the worker stops with the nearest name, not after the group was joined."""
    worker = world.worker(args=["-X", "sesion.timeout.ms=6000"])
    assert worker.wait(20) in (1, 2)
    assert "did you mean session.timeout.ms?" in worker.text()


def test_help_and_settings():
    for args in (["--help"], ["run", "--help"]):
        help_text = run_program("campaign-worker", *args).stdout
        assert "usage: campaign-worker" in help_text and "--drain-ms" in help_text
    assert run_program("campaign-worker", "--version").stdout.startswith("campaign-worker 1.")
    table = run_program("campaign-worker", "settings").stdout
    example = run_program("campaign-worker", "settings", "--example").stdout
    assert example == (ROOT / "deploy" / "campaign-worker.conf.example").read_text()
    names = re.findall(r"^\| `--([a-z-]+)`", table, re.M)
    assert {"brokers", "group", "instance", "commands", "results", "dead-letters", "database", "lanes", "batch", "drain-ms",
            "schemas", "log-format"} <= set(names)
    assert all("--%s " % name in help_text for name in names)


# ---- resume ----

def test_resume_refuses_what_the_topic_does_not_hold(world):
    world.send(world.command())
    world.send_raw((None, b""), partition=0)  # which has a leader then
    for partition, offset, said in ((0, "7", "7 is not among them"), (99, "0", "[99]")):
        done = world.program("campaign-worker", "resume", "--partition", str(partition), "--from", offset, check=False)
        assert done.returncode == 1 and said in done.stderr and done.stdout == ""
    assert not world.sql("SELECT * FROM partition_resumes")
    done = world.program("campaign-worker", "resume", "--partition", "0", "--from", "earliest")
    assert done.stdout.startswith("recorded: %s [0] goes on from earliest" % world.commands)
    row, = world.sql("SELECT * FROM partition_resumes")
    assert (row["topic"], row["partition"], row["group_id"], row["resume_from"]) == (world.commands, 0, world.group, -2)
    assert row["ordered_as"] == world.services.LOGIN and "@" in row["ordered_by"]


# ---- campaign-producer send ----

def line(command):
    """A command as a JSON line."""
    fields = {k: v for k, v in command.items() if v is not None}
    if "apiKeyDigest" in fields:
        fields["apiKeyDigest"] = fields["apiKeyDigest"].hex()
    return json.dumps(fields)


def send(world, *args, **options):
    return world.program("campaign-producer", "send", *args, check=False, **options)


def outputs(done):
    return [json.loads(text) for text in done.stdout.splitlines()]


def test_send_files_and_standard_input(world):
    """What cannot be used is named with its place; all else is sent, and read by the worker as it was meant."""
    commands = [world.command(name="from a file"), world.command(leadIds=["lead_01"]), world.command(name="from input 🌱", issuedAt=None)]
    mixed = world.folder / "mixed.jsonl"
    mixed.write_text("\n".join([
        line(commands[0]), "", "   ", "{", '["list"]', '{"traceId": "a", "traceId": "b"}', line(commands[1]).replace('"leadIds"', '"leads"'),
        line({**world.command(), "campaignId": None}), '{"apiKeyDigest": "00"}', line(commands[1])]))  # no line break at the end
    done = send(world, str(mixed), "-", "/no/such/file", input=line(commands[2]) + "\n")
    assert done.returncode == 1
    assert [(ack["traceId"], ack["topic"]) for ack in outputs(done)] == [(c["traceId"], world.commands) for c in commands]
    complaints = done.stderr.splitlines()
    for number, what in ((4, "column"), (5, "an object is wanted"), (6, "duplicate"), (7, 'unknown key "leads"'), (8, "campaignId: missing"),
                         (9, "apiKeyDigest: 64 hex digits are wanted")):
        found, = (text for text in complaints if "%s:%d: " % (mixed, number) in text)
        assert what in found
    assert any("/no/such/file: No such file or directory" in text for text in complaints)
    assert complaints[-1] == "campaign-producer: 3 sent: 3 succeeded, 0 refused, 0 without an acknowledgement, 0 not acknowledged; 7 unusable"
    stood = {(record.partition, record.offset): record for record in world.read_all(world.commands)}
    for ack, command in zip(outputs(done), commands):
        record = stood[ack["partition"], ack["offset"]]
        decoded = command_codec.decode(record.value)
        assert record.key == command["accountGroupId"].encode()
        assert abs(decoded.pop("issuedAt") - time.time() * 1000) < 60000
        assert decoded == {k: v for k, v in command.items() if k != "issuedAt"}
    world.worker()
    assert {result["httpStatus"] for result in world.await_results(3)} == {201}
    world.verify()


def test_send_and_wait(world):
    """One line for each result; the exit status says whether all succeeded."""
    world.worker()
    good = [world.command(), world.command(**BETA), world.command(name="x")]
    done = send(world, "--wait", "-", input="\n".join(map(line, good)))
    assert done.returncode == 0 and done.stderr == ""
    assert sorted(result["traceId"] for result in outputs(done)) == sorted(c["traceId"] for c in good)
    assert all(result["success"] for result in outputs(done))
    some = [world.command(), world.command(apiKeyDigest=None)]
    done = send(world, "--wait", "-", input="\n".join(map(line, some)))
    assert done.returncode == 1
    assert sorted(result["httpStatus"] for result in outputs(done)) == [201, 401]
    assert "2 sent: 1 succeeded, 1 refused" in done.stderr


def test_send_from_flags(world):
    """The key comes from a file or the environment; only its digest is published."""
    world.worker()
    key = world.folder / "key"
    key.write_text("demo-key-other\n")
    flags = ["--wait", "--account-group", SEED["accountGroupId"], "--campaign", SEED["campaignId"], "--audience", SEED["audienceId"]]
    result, = outputs(send(world, *flags, "--api-key-file", str(key), "--name", "-- ü", "--lead", "lead_02", "--lead", "lead_01",
                           env={"CAMPAIGN_API_KEY": "nobody's"}))
    assert result["data"]["name"] == "-- ü" and result["data"]["selectedLeadCount"] == 2
    assert re.fullmatch("[0-9a-f]{24}", result["traceId"])
    draft, = world.drafts()
    assert draft["created_by_key"] == "key_other"
    again, = outputs(send(world, *flags, "--trace-id", result["traceId"], "--api-key-file", str(key)))
    assert again["reason"] == "trace_reused"
    expired, = outputs(send(world, *flags, "--expires-in-ms", "-5", env={"CAMPAIGN_API_KEY": "demo-key-full"}))
    assert expired["reason"] == "expired"
    missing, = outputs(send(world, *flags))
    assert missing["reason"] == "key_missing"
    assert all(b"demo-key" not in record.value for record in world.read_all(world.commands))


def test_send_waits_no_longer_than_asked(world):
    """No worker: each command is named, and it may well be executed later."""
    commands = [world.command(), world.command()]
    begin = time.monotonic()
    done = send(world, "--wait", "--timeout-ms", "700", "-", input="\n".join(map(line, commands)))
    assert done.returncode == 1 and done.stdout == "" and time.monotonic() - begin >= 0.7
    for command in commands:
        assert "traceId %s, accountGroupId %s: no result within 700 ms" % (command["traceId"], command["accountGroupId"]) in done.stderr
    assert "2 sent: 0 succeeded, 0 refused, 2 without a result" in done.stderr
    world.worker()
    done = send(world, "--wait", "-", input="\n".join(map(line, commands)))  # published again: one draft each
    assert done.returncode == 0
    assert len(world.drafts()) == 2
    world.verify()


def test_send_prints_results_while_a_pipe_is_open(world):
    """And ends on a signal, naming what it still waited for."""
    world.worker()
    process = subprocess.Popen(
        [binary("campaign-producer"), "send", "--wait", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**clean_environment(), "CAMPAIGN_BROKERS": world.brokers, "CAMPAIGN_COMMANDS": world.commands,
                        "CAMPAIGN_RESULTS": world.results, "CAMPAIGN_DEAD_LETTERS": world.dead_letters})
    for _ in range(2):
        command = world.command()
        process.stdin.write(line(command) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["traceId"] == command["traceId"]
    world.workers[0].freeze()
    command = world.command()
    process.stdin.write(line(command) + "\n")
    process.stdin.flush()
    wait_until(lambda: len(world.read_all(world.commands)) == 3, 10, "the third command published")
    process.send_signal(signal.SIGINT)
    output, complaints = process.communicate(timeout=20)
    assert process.returncode == 1 and output == ""
    assert "traceId %s, accountGroupId %s: no result when the waiting was ended" % (command["traceId"], command["accountGroupId"]) in complaints


def test_send_distinguishes_account_groups(world):
    """Another group's result of the same traceId is not the one that is waited for."""
    world.worker()
    trace = uuid.uuid4().hex
    world.send(world.command(**BETA, traceId=trace))
    world.await_results(1)
    acme = world.command(traceId=trace, apiKeyDigest=None)
    beta = world.command(**BETA, traceId=trace)
    done = send(world, "--wait", "-", input=line(acme) + "\n" + line(beta) + "\n")
    assert sorted((result["accountGroupId"], result["httpStatus"]) for result in outputs(done)) == [
        (BETA["accountGroupId"], 201), (acme["accountGroupId"], 401)]


@pytest.mark.parametrize("args, said", [
    (["send"], "no file (- is standard input)"),
    (["send", "--http", "-"], "--http needs --wait"),
    (["send", "--account-group", "a", "-"], "either files or the options of one command"),
    (["send", "--account-group", "a"], "--account-group, --campaign and --audience are wanted"),
    (["send", "--timeout-ms", "0", "-"], "--timeout-ms 0: 1 to 86400000 is wanted"),
    (["send", "--api-key-file", "/no/such/file", "-"], "/no/such/file: No such file or directory"),
    (["send", "--api-key", "sk_secret", "-"], "an API key does not belong on a command line: --api-key-file FILE, or CAMPAIGN_API_KEY"),
    (["watch", "--from", "yesterday"], "--from yesterday is not understood"),
    (["watch", "--status", "2000"], "--status 2000 is not understood"),
    (["watch", "x"], "what is x?"),
    (["listen"], "a command is wanted: send or watch"),
    ([], "a command is wanted: send or watch"),
    (["send", "-b", "", "-"], "brokers (command line)"),
])
def test_wrong_usage_of_the_producer(args, said):
    assert said in refusal(*args, name="campaign-producer")


def test_producer_without_its_topic(world):
    """One clear line, and 1."""
    for args, variable in ((["watch", "--until-end"], "CAMPAIGN_RESULTS"), (["send", "-"], "CAMPAIGN_COMMANDS")):
        nowhere = "nowhere-" + world.name
        done = world.program("campaign-producer", *args, env={variable: nowhere}, check=False, input=line(world.command()))
        assert done.returncode == 1 and nowhere in done.stderr and done.stdout == "", (args, done.stderr)


# ---- campaign-producer watch ----

def watch(world, *args, **options):
    done = world.program("campaign-producer", "watch", *args, check=False, **options)
    return done.returncode, [json.loads(text) for text in done.stdout.splitlines()]


def test_watch_filters(world):
    world.worker()
    commands = [world.command(), world.command(apiKeyDigest=None), world.command(**BETA), world.command(campaignId="none"),
                world.command(**{**BETA, "audienceId": "none"})]
    world.send(*commands)
    world.await_results(5)
    everything = "--from", "beginning", "--until-end"

    def seen(*args):
        status, found = watch(world, *everything, *args)
        assert status == 0
        return sorted(entry["result"]["traceId"] for entry in found)

    def of(*indexes):
        return sorted(commands[i]["traceId"] for i in indexes)

    assert seen() == of(0, 1, 2, 3, 4)
    assert seen("--trace-id", commands[3]["traceId"]) == of(3)
    assert seen("--account-group", BETA["accountGroupId"]) == of(2, 4)
    assert seen("--status", "201") == of(0, 2)
    assert seen("--status", "404") == of(3, 4)
    assert seen("--code", "UNAUTHORIZED") == of(1)
    assert seen("--code", "NOT_FOUND", "--account-group", BETA["accountGroupId"]) == of(4)
    assert seen("--trace-id", "nothing") == []
    assert watch(world, *everything, "--count", "2")[0] == 0 and len(watch(world, *everything, "--count", "2")[1]) == 2
    assert watch(world, *everything, "--count", "9")[0] == 1
    stood = {(record.partition, record.offset): record.key.decode() for record in world.read_all(world.results)}
    for entry in watch(world, *everything)[1]:
        assert stood[entry["partition"], entry["offset"]] == entry["result"]["traceId"]


def test_watch_from_a_time(world):
    world.worker()
    old, new = world.command(), world.command()
    world.send(old)
    world.await_results(1)
    time.sleep(0.05)
    now = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.05)
    world.send(new)
    world.await_results(2)
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (now.microsecond // 1000)
    assert [entry["result"]["traceId"] for entry in watch(world, "--from", stamp, "--until-end")[1]] == [new["traceId"]]
    assert len(watch(world, "--from", "2026-01-01T00:00:00Z", "--until-end")[1]) == 2
    assert watch(world, "--from", "2999-01-01T00:00:00Z", "--until-end") == (0, [])
    assert watch(world, "--until-end") == (0, [])  # from now


def test_watch_from_now_on(world):
    """It says when it sees everything from now on; what is aborted it never sees."""
    world.worker()
    world.send(world.command())
    world.await_results(1)
    process = subprocess.Popen(
        [binary("campaign-producer"), "watch", "--count", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**clean_environment(), "CAMPAIGN_BROKERS": world.brokers, "CAMPAIGN_RESULTS": world.results})
    assert "watching" in process.stderr.readline()
    command = world.command()
    world.send(command)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert [json.loads(text)["result"]["traceId"] for text in output.splitlines()] == [command["traceId"]]


def test_watch_names_what_it_cannot_read(world):
    """Something else in the results topic is told on standard error, and passed over."""
    producer = confluent_kafka.Producer({"bootstrap.servers": world.brokers})
    producer.produce(world.results, b"junk", b"key")
    assert producer.flush(20) == 0
    world.worker()
    world.send(world.command())
    wait_until(lambda: len(world.read_all(world.results)) == 2, 20, "a result")
    done = world.program("campaign-producer", "watch", "--from", "beginning", "--until-end", check=False)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    assert "%s, partition" % world.results in done.stderr and "byte 0" in done.stderr
