"""Twenty thousand good commands through the released worker: every promise is checked, the figures are only reported, in the
log (pytest -s) and in build/throughput.json. And how large batches are."""

import collections
import datetime
import json
import os
import pathlib
import time
import uuid

import confluent_kafka
import psycopg2.extras

from avrocodec import command_codec
from harness import BUILD, digest, wait_until

COMMANDS = 20000
GROUPS = 24  # account groups: enough that every partition gets some
LEADS = 25   # of a command, out of an audience of four times as many


def add_account_groups(world):
    names = ["ag_load_%02d" % n for n in range(GROUPS)]
    rows = [(name,) for name in names]
    with world.session() as session, session.cursor() as cursor:
        def run(text):
            psycopg2.extras.execute_batch(cursor, text, rows)

        run("INSERT INTO account_groups (id, name) VALUES (%s, 'Load')")
        run("INSERT INTO api_key_account_groups (account_group_id, key_digest, rate_interval_us, rate_burst) "
            "VALUES (%s, sha256('demo-key-full'), 1, 1000000)")
        run("INSERT INTO campaigns (account_group_id, id, name, description, status, outreach_language, workflow) "
            "SELECT %s, 'source', 'Spring outreach', description, 'running', 'en', workflow FROM campaigns "
            "WHERE account_group_id = 'ag_acme' AND id = '65a000000000000000000001'")
        run("INSERT INTO audiences (account_group_id, id, kind, name, lead_count) VALUES (%%s, 'audience', 'list', 'Load', %d)" % (4 * LEADS))
        run("INSERT INTO leads (account_group_id, id) SELECT %%s, 'lead_' || n FROM generate_series(1, %d) AS n" % (4 * LEADS))
        run("INSERT INTO audience_leads SELECT %%s, 'audience', 'lead_' || n FROM generate_series(1, %d) AS n" % (4 * LEADS))
    world.sql("VACUUM ANALYZE")
    return names


def publish(world, names):
    """One command of each account group is encoded; the others get their own traceId written over its."""
    place_holder = "0" * 32
    templates = []
    for i, name in enumerate(names):
        lead_ids = ["lead_%d" % ((7 * i + n) % (4 * LEADS) + 1) for n in range(LEADS)]
        command = world.command(accountGroupId=name, campaignId="source", audienceId="audience", leadIds=lead_ids, traceId=place_holder,
                                apiKeyDigest=digest("demo-key-full"))
        templates.append((name, command_codec.encode(command)))
    producer = confluent_kafka.Producer({
        "bootstrap.servers": world.brokers, "partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 20,
        "queue.buffering.max.messages": 2 * COMMANDS,
    })
    failed = []
    for n in range(COMMANDS):
        key, value = templates[n % len(templates)]
        producer.produce(world.commands, value.replace(place_holder.encode(), uuid.uuid4().hex.encode(), 1), key,
                         on_delivery=lambda error, message: error and failed.append(error))
        if n % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0 and not failed


def process_cpu_s(pid):
    """Of a process and of its children that have ended."""
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"), int(fields[1])


def postgres_cpu_s(services):
    """Of the whole server; None where it is not ours."""
    path = services.postgres.folder / "env"
    if not path.exists():
        return None
    postmaster = int((pathlib.Path(services.postgres.env()["PGDATA"]) / "postmaster.pid").read_text().split()[0])
    total = process_cpu_s(postmaster)[0]
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                cpu_s, parent = process_cpu_s(int(entry.name))
            except OSError:
                continue
            total += cpu_s if parent == postmaster else 0
    return total


def kafka_cpu_s(services):
    path = services.kafka.folder / "pid"
    return process_cpu_s(int(path.read_text()))[0] if path.exists() else None


def log_time_s(entry):
    return datetime.datetime.strptime(entry["time"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()


def test_twenty_thousand_commands(world):
    names = add_account_groups(world)
    publish(world, names)
    servers = {"postgres": lambda: postgres_cpu_s(world.services), "kafka": lambda: kafka_cpu_s(world.services)}
    before = {name: read() for name, read in servers.items()}
    worker = world.worker(variant="release")
    running = worker.wait_for_log("running")[0]
    resident = []

    def done():
        resident.append(worker.resident_kib())
        return sum(offset or 0 for offset in world.committed().values()) >= COMMANDS

    wait_until(done, 120, "%d commands answered" % COMMANDS, 0.2)
    cpu_s = {"worker": worker.cpu_s()}
    for name, read in servers.items():
        after = read()
        cpu_s[name] = None if after is None or before[name] is None else after - before[name]

    results = world.verify()
    assert len(results) == COMMANDS
    assert {result["httpStatus"] for result in results.values()} == {201}
    assert not any(result["draftExisted"] for result in results.values())
    assert len({place[0] for place in results}) == world.partitions
    counted, = world.sql("SELECT count(*) AS drafts, count(DISTINCT (account_group_id, trace_id)) AS traces, "
                         "min(cardinality(selected_leads)) AS least, max(selected_lead_count) AS most "
                         "FROM campaigns WHERE trace_id IS NOT NULL")
    assert counted == {"drafts": COMMANDS, "traces": COMMANDS, "least": LEADS, "most": LEADS}

    elapsed_s = max(result.record.timestamp_ms for result in results.values()) / 1000 - log_time_s(running)
    figures = {
        "commands": COMMANDS, "leads_each": LEADS, "elapsed_s": round(elapsed_s, 2), "commands_per_s": round(COMMANDS / elapsed_s),
        **{"%s_cpu_us_per_command" % name: None if s is None else round(s * 1e6 / COMMANDS, 1) for name, s in cpu_s.items()},
        "worker_resident_kib": max(resident), "cores": os.cpu_count(), "lanes": 1, "partitions": world.partitions,
    }
    print("\n%d commands: %s" % (COMMANDS, json.dumps(figures)))
    (BUILD / "throughput.json").write_text(json.dumps(figures, indent=1) + "\n")
    assert worker.stop() == 0


def test_batches_of_large_commands(world):
    """A batch is bounded by what its commands become in memory: here a lead's id of 24 bytes takes 40 more when it is decoded."""
    leads = ["lead_%019d" % i for i in range(1000)]
    commands = [world.command(leadIds=leads) for _ in range(100)]
    sent = dict(zip(world.send(*commands), commands))
    worker = world.worker(args=("--memory", "16MiB"))
    answers = world.await_results(len(sent))
    assert {answer["reason"] for answer in answers} == {"lead_not_in_audience"}
    batches = collections.Counter(answer["processedAt"] for answer in answers)
    assert max(batches.values()) <= 16, batches  # MiB / 65,000
    world.verify(sent)
    assert worker.stop() == 0
