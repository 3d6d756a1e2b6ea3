"""The results topic as its readers meet it over time: partitions are added, the topic is made anew, leaders are not there yet."""

import json
import re
import subprocess
import uuid

import confluent_kafka.admin
import pytest

from harness import binary, clean_environment, wait_until
from test_commands import line


@pytest.fixture
def programs(world):
    """Starts campaign-producer in the world, with pipes; ended with the test."""
    started = []

    def start(*args):
        ours = {k: v for k, v in world.environment().items() if k in ("CAMPAIGN_BROKERS", "CAMPAIGN_COMMANDS", "CAMPAIGN_RESULTS")}
        errors = open(world.folder / ("producer-%d.log" % len(started)), "w+")
        process = subprocess.Popen(
            [binary("campaign-producer"), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**clean_environment(), **ours})
        started.append(process)
        return process, lambda: (errors.seek(0), errors.read())[1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def admin(world):
    return confluent_kafka.admin.AdminClient({"bootstrap.servers": world.brokers})


def done(futures):
    for future in futures.values():
        future.result(30)


def test_partitions_added_while_clients_run(world, admin, programs):
    """What is published into them before a client noticed them is seen as well."""
    watching, said = programs("watch", "--count", "40")
    sending, complaints = programs("send", "--wait", "-")
    first = world.command()
    sending.stdin.write(line(first) + "\n")
    sending.stdin.flush()
    wait_until(lambda: "watching" in said(), 20, "the subscription of watch")
    wait_until(lambda: len(world.read_all(world.commands)) == 1, 20, "a command published: send has subscribed")
    done(admin.create_partitions([confluent_kafka.admin.NewPartitions(world.results, 24)]))
    commands = [world.command() for _ in range(34)]
    world.send(*commands)
    world.worker()
    mine = [world.command() for _ in range(5)]
    sending.stdin.write("".join(line(command) + "\n" for command in mine))
    sending.stdin.close()
    answers = [json.loads(text)["traceId"] for text in sending.stdout]
    assert sorted(answers) == sorted(command["traceId"] for command in [first, *mine]), complaints()
    assert sending.wait(30) == 0 and watching.wait(30) == 0
    seen = [json.loads(text) for text in watching.stdout]
    assert sorted(entry["result"]["traceId"] for entry in seen) == sorted(c["traceId"] for c in [first, *commands, *mine])
    assert {entry["partition"] for entry in seen} - set(range(4))
    for text in (said(), complaints()):
        told, = re.findall("event=partitions_added .*", text)
        assert "read from their beginning" in told and "topic=" + world.results in told and "partition=4" in told
    world.verify()


def test_a_results_topic_that_is_made_anew(world, admin, programs):
    """Nobody goes on as if nothing had happened."""
    watching, said = programs("watch")
    wait_until(lambda: "watching" in said(), 20, "the subscription of watch")
    done(admin.delete_topics([world.results]))

    def created():
        made = admin.create_topics([confluent_kafka.admin.NewTopic(world.results, 2, 1)])
        return made[world.results].exception(30) is None

    wait_until(created, 20, "the topic made anew")
    assert watching.wait(60) == 1
    assert re.search("campaign-producer: topic %s.*(created again|does not exist|Unknown topic)" % world.results, said())


def test_leaders_that_are_not_there_yet(world, admin):
    """Topics are read and written as soon as they are made."""
    for _ in range(12):
        topics = ["%s-%s" % (kind, uuid.uuid4().hex[:8]) for kind in ("commands", "results")]
        done(admin.create_topics([confluent_kafka.admin.NewTopic(topic, 12, 1) for topic in topics]))
        environment = {"CAMPAIGN_COMMANDS": topics[0], "CAMPAIGN_RESULTS": topics[1]}
        sent = world.program("campaign-producer", "send", "--wait", "--timeout-ms", "10", "-", input=line(world.command()), env=environment,
                             check=False)
        watched = world.program("campaign-producer", "watch", "--from", "beginning", "--until-end", env=environment, check=False)
        done(admin.delete_topics(topics))
        assert "no result within 10 ms" in sent.stderr, sent.stderr
        assert watched.returncode == 0, watched.stderr
