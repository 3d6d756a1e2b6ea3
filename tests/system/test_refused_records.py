"""What the results topic or the dead-letter topic refuses, by its size or by its time: every command is answered all the same, by
a result that fits and says nothing that is not so, or the worker says what has to be changed, and goes on when it is."""

import random
import string
import subprocess

import confluent_kafka.admin
import pytest
from confluent_kafka.admin import ConfigResource

from avrocodec import command_codec
from harness import BUILD, ROOT, SEED, clean_environment, wait_until

HOUR_MS = 3600 * 1000


def noise(n):
    """Text that compression makes little of."""
    return "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=n))


def alter(world, topic, **settings):
    """The topic's settings are these, and Kafka's defaults."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, set_config={k.replace("_", "."): v for k, v in settings.items()})
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": world.brokers})
    for future in admin.alter_configs([resource]).values():
        future.result()


def add_source(world, campaign_id, description, name="Large"):
    world.sql("INSERT INTO campaigns (account_group_id, id, name, description, status, workflow) "
              "SELECT account_group_id, %s, %s, %s, status, workflow FROM campaigns WHERE account_group_id = %s AND id = %s",
              campaign_id, name, description, SEED["accountGroupId"], SEED["campaignId"])
    return campaign_id


def omitted(result):
    return result.record.header("omitted")


# ---- size ----

def test_command_whose_result_would_not_fit_is_refused(make_world):
    """500 and a dead letter, and no draft; all others are answered as ever, in the same batches."""
    world = make_world(results={"max.message.bytes": "2000"})
    large = add_source(world, "large", noise(10000))
    fits = add_source(world, "fits", noise(1000))
    commands = [world.command(campaignId=large if i % 10 == 3 else fits if i % 10 == 6 else SEED["campaignId"]) for i in range(60)]
    sent = world.send(*commands)
    worker = world.worker()
    results = world.verify(sent)
    for command, place in zip(commands, sent):
        result = results[place]
        assert omitted(result) is None
        if command["campaignId"] != large:
            assert result["httpStatus"] == 201 and (result["data"]["description"] == noise(1000)) == (command["campaignId"] == fits)
            continue
        assert (result["httpStatus"], result.code, result["reason"]) == (500, "INTERNAL_ERROR", "result_too_large")
        assert "texts of the result would have more than" in result["error"]["details"]
    letters = world.all_dead_letters()
    assert len(letters) == 6 and {letter.header("campaign-dlt-reason") for letter in letters} == {"result_too_large"}
    assert len(world.drafts()) == 54
    assert not worker.events("produce_failed"), "the topic was asked before, and refused nothing"
    alter(world, world.results)
    worker.wait_for_log("topic_limit", before=2000)
    again = world.send(commands[3])[0]  # published again under its traceId, as a dead letter is redriven
    assert world.verify([again])[again]["data"]["description"] == noise(10000)


def test_success_that_does_not_fit_any_more_is_told_without_its_description(make_world):
    """The draft is there, so it is a success: with its id, and with a header that names what is left out. Nothing was known
    of the new limit when the draft was written."""
    world = make_world()
    large = add_source(world, "large", noise(9000))
    worker = world.worker()
    first, others = world.command(campaignId=large), [world.command() for _ in range(5)]
    world.send(first)
    assert world.await_results(1)[0]["data"]["description"] == noise(9000)
    alter(world, world.results, max_message_bytes="1500")
    new = world.command(campaignId=large)  # at once: the limit may not be known yet
    world.send(first, new, *others)
    results = world.await_results(8)
    again = next(result for result in results if result["traceId"] == first["traceId"] and result["draftExisted"])
    assert again["httpStatus"] == 201 and again["data"]["description"] is None and omitted(again) == "description"
    assert again["data"]["id"] == results[0]["data"]["id"] or again["data"]["id"] in {d["id"] for d in world.drafts()}
    answer = next(result for result in results if result["traceId"] == new["traceId"])
    draft = [d for d in world.drafts() if d["trace_id"] == new["traceId"]]
    if answer["success"]:
        assert answer["data"]["id"] == draft[0]["id"] and omitted(answer) == "description"
    else:
        assert answer["reason"] == "result_too_large" and not draft
    assert all(result["httpStatus"] == 201 for result in results if result["traceId"] in {c["traceId"] for c in others})
    alter(world, world.results)
    worker.wait_for_log("topic_limit", before=1500)
    place = world.send(first)[0]
    whole = next(result for result in world.await_results(9) if result.place == place)
    assert whole["data"]["description"] == noise(9000) and omitted(whole) is None


def test_batches_of_results_that_fit_one_by_one(make_world):
    """A batch of 500 is many times what the topic takes at once."""
    world = make_world(results={"max.message.bytes": "1500"})
    sent = world.send(*(world.command(name=noise(200)) for _ in range(1500)))
    worker = world.worker(args=["-X", "compression.codec=none"])
    results = world.verify(sent, 60)
    assert {result["httpStatus"] for result in results.values()} == {201}
    assert not worker.events("transaction_aborted")


def test_errors_are_cut(make_world):
    """An error's details are for people: it keeps its code and reason."""
    world = make_world(results={"max.message.bytes": "780"})
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    command = world.command(leadIds=["not_of_the_audience_%02d_%s" % (i, "x" * 40) for i in range(9)])
    sent = world.send(command, headers=trace)
    world.worker()
    result = world.verify(sent)[sent[0]]
    assert (result["httpStatus"], result["reason"]) == (400, "lead_not_in_audience")
    assert 10 < len(result["error"]["details"]) < 300 and "leadIds not in audience".startswith(result["error"]["details"][:23])
    assert result.record.header("traceparent") == trace["traceparent"]


def test_nothing_fits(make_world):
    """The worker says what is needed, answers nothing wrongly meanwhile, and goes on by itself."""
    world = make_world(results={"max.message.bytes": "200"})
    sent = world.send(world.command(), world.command(campaignId="nowhere"))
    worker = world.worker()
    line = worker.wait_for_log("waiting")[0]
    assert world.results in line["msg"] and "takes records of 200 bytes" in line["msg"] and "max.message.bytes" in line["msg"]
    alter(world, world.results)
    world.verify(sent)


def test_dead_letters_are_cut_for_their_own_topic_only(make_world):
    world = make_world(results={"max.message.bytes": "1000"}, dead_letters={"max.message.bytes": "20000"})
    junk = random.Random(3).randbytes(100000)
    world.send_raw((SEED["accountGroupId"], junk), headers={"traceId": "one"})
    worker = world.worker()
    world.await_results(1)
    letter = world.all_dead_letters()[0]
    assert 18000 < len(letter.value) < 20000 and letter.value == junk[:len(letter.value)]
    assert letter.header("campaign-dlt-original-size") == "100000"
    assert not worker.events("transaction_aborted")
    alter(world, world.dead_letters, max_message_bytes="10000")  # refused before it is known
    world.send_raw((SEED["accountGroupId"], junk), headers={"traceId": "two"})
    world.await_results(2)
    assert 8000 < len(world.all_dead_letters()[1].value) < 10000
    alter(world, world.dead_letters)
    worker.wait_for_log("topic_limit", topic=world.dead_letters, before=10000)
    world.send_raw((SEED["accountGroupId"], junk), headers={"traceId": "three"})
    world.await_results(3)
    assert world.all_dead_letters()[2].value == junk


def test_librdkafkas_own_limit(world):
    """message.max.bytes, given by hand, is a limit like the topics'."""
    large = add_source(world, "large", noise(10000))
    sent = world.send(world.command(campaignId=large), world.command())
    world.send_raw((SEED["accountGroupId"], b"junk" * 10000), headers={"traceId": "junk"})
    world.worker(args=["-X", "message.max.bytes=3000", "-X", "batch.size=2000"])
    world.await_results(3)
    results = world.verify(sent)
    assert [results[place]["httpStatus"] for place in sent] == [500, 201]
    assert results[sent[0]]["reason"] == "result_too_large"
    letters = {letter.header("campaign-dlt-reason"): letter for letter in world.all_dead_letters()}
    assert 1000 < len(letters["undecodable"].value) < 3000


# ---- time ----

@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    """A library that sets a worker's clock ahead."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(ROOT / "tests/system/clock.c"), "-ldl"], check=True)
    return lambda seconds: {"LD_PRELOAD": str(library), "CLOCK_AHEAD_S": str(seconds)}


BOUNDED = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": "60000"}


def test_worker_whose_clock_is_ahead(make_world, clock):
    """Brokers refuse the time of its results and dead letters: these get their commands' times, which a broker wrote."""
    world = make_world(results=BOUNDED, dead_letters=BOUNDED)
    worker = world.worker(env=clock(2 * 3600))
    sent = world.send(*(world.command() for _ in range(20)))
    world.send_raw((SEED["accountGroupId"], b"junk"), headers={"traceId": "junk"})
    results = world.verify(sent)
    lines = worker.events("transaction_aborted")
    assert any(world.results in line["msg"] and "by their time" in line["msg"] for line in lines)
    for result in results.values():
        assert result.record.timestamp_ms == result["command"]["timestamp"]
    assert [letter.value for letter in world.all_dead_letters()] == [b"junk"]


def test_no_time_is_taken(make_world, clock):
    """Neither our clock's nor the publishers': the log names the topic and its setting, and all is answered once that is set."""
    world = make_world(commands={"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(9 * HOUR_MS)}, results=BOUNDED)
    junk = random.Random(3).randbytes(100000)
    ahead_ms = 3 * HOUR_MS
    producer = world.producer()
    for i in range(5):
        command = world.command()
        producer.produce(world.commands, command_codec.encode(command), SEED["accountGroupId"], timestamp=command["issuedAt"] + ahead_ms)
    producer.produce(world.commands, junk, SEED["accountGroupId"], headers={"traceId": "junk"})
    assert producer.flush(60) == 0
    worker = world.worker(env=clock(2 * 3600))
    lines = worker.wait_for_log("waiting", count=1)
    assert world.results in lines[0]["msg"] and "message.timestamp.type=LogAppendTime" in lines[0]["msg"]
    assert not world.all_results()
    alter(world, world.results, message_timestamp_type="LogAppendTime")
    world.verify()
    assert len(world.all_results()) == 6
    assert [letter.value for letter in world.all_dead_letters()] == [junk], "cut for no reason"


# ---- what says so beforehand ----

def check(world, *args):
    done = world.program("campaign-worker", "check", *args, check=False)
    return [line for line in done.stdout.splitlines() if line.startswith("WRONG")], done.returncode


def test_check_names_what_results_need(make_world):
    world = make_world(results={"max.message.bytes": "20000", **BOUNDED}, dead_letters=BOUNDED)
    lines, status = check(world, "-X", "message.max.bytes=30000")
    assert status == 1
    for text in ("topic %s: max.message.bytes is 20000, wanted at least 65536" % world.results,
                 "topic %s: message.timestamp.after.max.ms is 60000, wanted at least 3600000" % world.results,
                 "topic %s: message.timestamp.after.max.ms is 60000, wanted at least 3600000" % world.dead_letters,
                 "message.max.bytes is 30000, wanted at least 65536"):
        assert sum(text in line for line in lines) == 1, (text, lines)
    for topic in (world.results, world.dead_letters):
        alter(world, topic, message_timestamp_type="LogAppendTime", max_message_bytes="2000000")
    lines, status = check(world)
    assert not any("timestamp" in line or "max.message.bytes" in line or "message.max.bytes" in line for line in lines)


def test_topics_are_made_so_that_all_results_fit(services):
    names = {kind: "%s-made-%d" % (kind, random.randrange(1 << 30)) for kind in ("commands", "results", "dead_letters")}
    env = {**clean_environment(), "CAMPAIGN_BROKERS": services.kafka.brokers, **{"CAMPAIGN_" + kind.upper(): name for kind, name in names.items()}}
    done = subprocess.run([str(BUILD / "test" / "campaign-worker"), "topics"], env=env, stdout=subprocess.PIPE, text=True)
    assert done.returncode in (0, 1), done.stdout
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": services.kafka.brokers})
    try:
        for kind in ("results", "dead_letters"):
            resource = ConfigResource(ConfigResource.Type.TOPIC, names[kind])
            settings = wait_until(lambda: admin.describe_configs([resource])[resource].result(), 10, "settings")
            assert settings["message.timestamp.type"].value == "LogAppendTime"
            assert int(settings["max.message.bytes"].value) >= 1048588
    finally:
        for future in admin.delete_topics(list(names.values())).values():
            future.result()
