"""The programs in surroundings that are not as they should be: closed or full outputs, environments of others, values that look like
options, threads that cannot be had."""

import os
import resource
import subprocess

import pytest

from harness import SEED, binary, clean_environment, run_program
from test_commands import line, send

FLAGS = ["--account-group", SEED["accountGroupId"], "--campaign", SEED["campaignId"], "--audience", SEED["audienceId"]]


# ---- standard output ----

def printed_to(world, name, args, output, **options):
    """The exit status and the complaints of a program whose standard output is that file, a pipe that nobody reads, or closed."""
    environment = {**clean_environment(), **world.environment()}
    if name == "campaign-worker" and args[0] == "migrate":
        environment["CAMPAIGN_DATABASE"] = world.services.postgres.conninfo(world.database)
    if output == "closed":
        options["preexec_fn"] = lambda: os.close(1)
        stdout = None
    elif output == "a pipe that nobody reads":
        reading, stdout = os.pipe()
        os.close(reading)
    else:
        stdout = os.open(output, os.O_WRONLY)
    try:
        done = subprocess.run([binary(name), *args], env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, **options)
    finally:
        if stdout is not None:
            os.close(stdout)
    return done.returncode, done.stderr


PRINTING = {
    "worker --help": ("campaign-worker", ["--help"]),
    "worker --version": ("campaign-worker", ["--version"]),
    "settings": ("campaign-worker", ["settings"]),
    "settings --example": ("campaign-worker", ["settings", "--example"]),
    "reasons": ("campaign-worker", ["reasons"]),
    "migrate": ("campaign-worker", ["migrate"]),
    "topics": ("campaign-worker", ["topics"]),
    "check": ("campaign-worker", ["check"]),
    "resume": ("campaign-worker", ["resume", "--partition", "0", "--from", "earliest"]),
    "producer --help": ("campaign-producer", ["--help"]),
    "producer --version": ("campaign-producer", ["--version"]),
    "send --help": ("campaign-producer", ["send", "--help"]),
    "watch --help": ("campaign-producer", ["watch", "--help"]),
    "send": ("campaign-producer", ["send", *FLAGS]),
}


@pytest.mark.parametrize("output, why", [
    ("/dev/full", "No space left on device"), ("closed", "Bad file descriptor"), ("a pipe that nobody reads", "Broken pipe")])
def test_output_that_cannot_be_written(world, output, why):
    for title, (name, args) in PRINTING.items():
        status, complaints = printed_to(world, name, args, output)
        assert status == 1, (title, status, complaints)
        assert "%s: standard output: %s\n" % (name, why) in complaints, (title, complaints)
    world.send(world.command())
    world.worker()
    world.await_results(1)
    status, complaints = printed_to(world, "campaign-producer", ["watch", "--from", "beginning"], output)  # does not watch on
    assert status == 1 and "campaign-producer: standard output: %s\n" % why in complaints


def test_all_streams_closed(world):
    """What is opened later does not take their numbers: PostgreSQL's socket is none of them."""
    def close_all():
        for fd in (0, 1, 2):
            os.close(fd)

    done = subprocess.run(
        [binary("campaign-worker"), "migrate"], preexec_fn=close_all, timeout=60,
        env={**clean_environment(), "CAMPAIGN_DATABASE": world.services.postgres.conninfo(world.database)})
    assert done.returncode == 1
    assert run_program("campaign-worker", "migrate", env={
        "CAMPAIGN_DATABASE": world.services.postgres.conninfo(world.database)}).returncode == 0
    worker = subprocess.Popen(
        [binary("campaign-worker"), "run"], preexec_fn=close_all, env={**clean_environment(), **world.environment()})
    try:
        world.send(world.command())
        world.await_results(1)
    finally:
        worker.terminate()
        assert worker.wait(30) == 0
    world.verify()


def test_a_log_that_cannot_be_written(world):
    """The worker goes on, and says how many lines are lost once it can."""
    path = world.folder / "limited.log"
    limit = 600

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    with open(path, "wb") as log:
        worker = subprocess.Popen(
            [binary("campaign-worker"), "run"], preexec_fn=limit_files, stdout=log, stderr=log,
            env={**clean_environment(), **world.environment()})
    try:
        world.send(world.command())
        world.await_results(1)
        assert path.stat().st_size == limit  # in the midst of a line
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        world.send(world.command())
        world.await_results(2)
    finally:
        worker.terminate()
        assert worker.wait(30) == 0
    lines = path.read_text().splitlines()
    assert all(text.startswith("time=") and text.count("time=") == 1 for text in lines), lines
    assert any(" dropped=" in text for text in lines)
    world.verify()


# ---- values ----

def test_values_that_look_like_options(world):
    worker = world.worker()
    done = send(world, "--wait", *FLAGS, "--name", "-backup", "--lead", "lead_01", "-b", world.brokers,
                env={"CAMPAIGN_API_KEY": "demo-key-full"})
    assert done.returncode == 0 and '"name":"-backup"' in done.stdout, done.stderr
    done = send(world, "--wait", *FLAGS, "--name", "--results", env={"CAMPAIGN_API_KEY": "demo-key-full"})
    assert done.returncode == 0 and '"name":"--results"' in done.stdout, done.stderr
    done = send(world, "--wait", *FLAGS, "--name=-X", env={"CAMPAIGN_API_KEY": "demo-key-full"})
    assert done.returncode == 0 and '"name":"-X"' in done.stdout, done.stderr
    (world.folder / "-b.jsonl").write_text(line(world.command()))
    done = send(world, "--wait", "--", str(world.folder / "-b.jsonl"))
    assert done.returncode == 0, done.stderr
    done = run_program("campaign-worker", "topics", "--partitions", "-b", check=False)
    assert done.returncode == 2 and "topics: bad option: -b" in done.stderr
    done = world.program("campaign-worker", "check", "--instance", "--help", check=False)
    assert "transactions: " in done.stdout and "--help" in done.stdout and "usage:" not in done.stdout
    assert worker.stop() == 0


@pytest.mark.parametrize("option, value, said", [
    ("--trace-id", "a b", "traceId is not a well-formed id: 1 to 64"), ("--trace-id", "sk_live_1", "traceId is not a well-formed id: it begins"),
    ("--account-group", "a" * 65, "accountGroupId is not"), ("--campaign", "", "campaignId is not"), ("--audience", "<b>", "audienceId is not"),
    ("--lead", "lead,2", "leadIds[0] is not"), ("--name", b"\xff", "name is not UTF-8"),
])
def test_ids_that_are_none_are_not_published(world, option, value, said):
    done = send(world, "--wait", "--timeout-ms", "2000", *FLAGS, option, value)
    assert done.returncode == 1 and said in done.stderr and done.stdout == ""
    if option == "--trace-id":
        done = send(world, "-", input=line(world.command(traceId=value)) + "\n" + line(world.command()))
        assert done.returncode == 1 and "standard input:1: " + said in done.stderr
        assert len(done.stdout.splitlines()) == 1
    assert len(world.read_all(world.commands)) == (1 if option == "--trace-id" else 0)


def test_links_of_services(world):
    """Kubernetes sets them for whatever Service is called campaign-something."""
    links = {
        "CAMPAIGN_API_SERVICE_HOST": "10.96.0.12", "CAMPAIGN_API_SERVICE_PORT": "80", "CAMPAIGN_API_SERVICE_PORT_HTTP": "80",
        "CAMPAIGN_API_PORT": "tcp://10.96.0.12:80", "CAMPAIGN_API_PORT_80_TCP": "tcp://10.96.0.12:80", "CAMPAIGN_API_PORT_80_TCP_PROTO": "tcp",
        "CAMPAIGN_API_PORT_80_TCP_PORT": "80", "CAMPAIGN_API_PORT_80_TCP_ADDR": "10.96.0.12", "CAMPAIGN_KAFKA_PORT": "tcp://10.96.0.13:9092",
        "CAMPAIGN_KAFKA_PORT_9092_TCP": "tcp://10.96.0.13:9092", "CAMPAIGN_DATABASE_SERVICE_HOST": "10.96.0.14",
    }
    worker = world.worker(env=links)
    done = send(world, "--wait", *FLAGS, env={**links, "CAMPAIGN_API_KEY": "demo-key-full"})
    assert done.returncode == 0, done.stderr
    assert worker.stop() == 0
    for name, value in (("CAMPAIGN_LANES_PORT", "3"), ("CAMPAIGN_WORKER_LANES", "3"), ("CAMPAIGN_SERVICE", "x")):
        done = world.program("campaign-worker", "check", env={name: value}, check=False)
        assert done.returncode == 2 and name in done.stderr and "no such setting" in done.stderr


# ---- threads ----

@pytest.mark.parametrize("gib", [2.5, 10])
def test_threads_that_cannot_be_had(world, gib):
    """Stacks of 2 GiB each: the first lane's thread can be had, or the first four."""
    def bound():
        resource.setrlimit(resource.RLIMIT_STACK, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_AS, (int(gib * (1 << 30)),) * 2)

    done = subprocess.run(
        [binary("campaign-worker"), "run", "--lanes", "8"], preexec_fn=bound, env={**clean_environment(), **world.environment()},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert 'event=fatal msg="cannot start a thread for each lane"' in done.stderr and "event=stopped" in done.stderr
