"""The teeth of the fault suite: `make teeth`. A suite that finds nothing proves something only if it would find what it
is there for: workers with a rule of the protocol left out (mutants/) have to be caught by the history checker, and the
real worker, in the same scenes, must not be.

Each mutant plays the scene that shows it, in a small world of its own each time, until the checker (checker/check_history.py)
has the violation that its patch foretells. A scene leads up to one moment and waits for events; one that was disturbed,
by a machine that is too slow, is played again.

Longer than 600 lines: a scene for each mutant, on one stage.

Environment:
  MUTANTS=NAMES    only these
  ROUNDS=N         a mutant that was not caught in so many rounds survives [5]
  RANDOM_ROUNDS=N  instead of its scene, a mutant goes through at most so many random rounds of the fault suite
  CELLS=N          so many of those at once [3]
  SEED=TEXT        everything random is drawn from it; printed [random]
  WORKER=P         the real worker [build/test/campaign-worker]

Speaks TAP; the table is kept in build/teeth.json. Exit status 1 if a mutant survives or the real worker does not.
"""

import concurrent.futures
import contextlib
import copy
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import types

import confluent_kafka
import confluent_kafka.admin
import psycopg2

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

from checker import check_history  # noqa: E402
import collecting  # noqa: E402
import harness  # noqa: E402
import history  # noqa: E402
import machine  # noqa: E402
import nemesis  # noqa: E402
import plans  # noqa: E402
import test_offsets  # noqa: E402
import workload  # noqa: E402
from avrocodec import command_codec  # noqa: E402
from fault import CellProcess  # noqa: E402
from ground import Ground  # noqa: E402

FIGURES = harness.BUILD / "teeth.json"
MUTANTS = harness.BUILD / "mutants"
AT_ONCE = 3
PATIENCE_S = 15  # for an event that may not come about, because a mutant goes another way than the real worker


def session(session_ms, heartbeat_ms):
    return ["-X", "session.timeout.ms=%d" % session_ms, "-X", "heartbeat.interval.ms=%d" % heartbeat_ms]


BRIEF = session(1500, 300)      # whoever stops is soon put out of the group
LASTING = session(10000, 300)   # stays a member while it is stopped
UNAWARE = session(30000, 10000)  # does not learn for a while that it is no member
PATIENT = ["--lock-timeout-ms", "20000"]  # and so long PostgreSQL lets a stopped one keep its locks
ANSWERED = ("accepted", "refused")
DROPPED = ("batch_dropped", "transaction_aborted", "client_rebuilt", "retrying", "waiting")


class Stage(harness.World):
    """The world of one round: one partition, workers behind the proxy, and all that the checker has to know of it."""

    population = types.SimpleNamespace(secrets=["demo-key-full", harness.digest("demo-key-full").hex()])

    def __init__(self, ground, name, program, template, rng):
        services = copy.copy(ground)
        services.TEMPLATE = template
        super().__init__(services, name, partitions=1)
        self.ground, self.worker_program, self.rng = ground, program, rng
        self.home, self.folder = self.folder, self.folder / "logs"  # where workers log
        self.folder.mkdir()
        with contextlib.closing(ground.postgres.connect(self.database)) as connection, connection.cursor() as cursor:
            cursor.execute((HERE / "audit.sql").read_text())
        self.quiet = history.Quiet(self)
        self.closers.append(self.quiet.close)
        self.collector = collecting.Collector(self)
        self.collector.begin(self.home)
        self.flipper = workload.Flipper(self.session, rng, self.collector.log_change)

    def create_topics(self):
        stamped = {"message.timestamp.type": "LogAppendTime"}
        topics = [confluent_kafka.admin.NewTopic(name, partitions, 1, config=stamped)
                  for name, partitions in ((self.commands, self.partitions), (self.results, 2), (self.dead_letters, 1))]
        made = self.services.admin.create_topics(topics)
        for future in made.values():
            future.result()
        harness.wait_until(lambda: set(made) <= set(self.services.topics().topics), 20, "the topics of %s" % self.name)

    def instance(self, slot):
        return "%s-%s" % (self.name, slot)

    def transactional_id(self, slot):
        return "%s.campaign-worker/%s/0" % (self.group, self.instance(slot))

    def environment(self, instance="one"):
        return {**super().environment(instance), "CAMPAIGN_BROKERS": self.services.proxied,
                "CAMPAIGN_DATABASE": self.services.worker_conninfo(self.database)}

    # What scenes are made of

    def worker(self, slot, fail=None, member=BRIEF, batch=500):
        worker = harness.Worker(self, slot, args=[*member, *PATIENT, "--batch", str(batch)], fail=fail,
                                ahead=True, env={"CAMPAIGN_LOG_LEVEL": "debug"})
        worker.args[0] = self.worker_program
        self.workers.append(worker)
        worker.start()
        if fail:
            self.log_fault(fail, slot)
        return worker

    def log_fault(self, what, who):
        self.collector.log_fault({"at_ms": time.time() * 1000, "until_ms": None, "what": what, "who": who})

    def cut(self, link, slot, event, action, ms):
        rule = self.services.proxy.add(link, self.instance(slot), event, 1, action, ms)
        self.log_fault("%s %s" % (event, action), slot)
        return rule

    def ask(self, n=1):
        """Sends n good commands."""
        self.send(*[self.command(name="Named %d" % i) for i in range(n)])

    def send_raw(self, *records, headers=None, partition=-1):
        sent_ms = time.time() * 1000
        places = super().send_raw(*records, headers=headers, partition=partition)
        for (_, value), (partition, offset) in zip(records, places):
            command = command_codec.decode(value)
            self.collector.log_acked({
                "partition": partition, "offset": offset, "sha256": hashlib.sha256(value).hexdigest(), "kind": "good",
                "traceId": command["traceId"], "accountGroupId": command["accountGroupId"], "sent_ms": sent_ms,
                "acked_ms": time.time() * 1000})
        return places

    def send_in_transaction(self, command):
        """Behind the command lies the control record that ends the transaction."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self.brokers, "transactional.id": self.name + "-gateway"})
        producer.init_transactions(20)
        producer.begin_transaction()
        with contextlib.ExitStack() as stack:
            stack.callback(setattr, self, "_producer", self._producer)
            self._producer = producer
            ((partition, _),) = self.send_raw((command["accountGroupId"], command_codec.encode(command)))
        producer.commit_transaction(20)
        self.collector.note_unreadable(partition, 1)

    def forget_group(self):
        """Offsets, as on a cluster where the group never was."""
        test_offsets.delete_group(self)

    def set_ready(self, ready):
        """Good commands are refused, because their audience is still being filled; or not any more."""
        self.flipper.change("UPDATE audiences SET ready = %(ready)s WHERE id = 'aud_list'", {"ready": ready})

    def revoke_keys(self):
        self.flipper.change("UPDATE api_keys SET revoked_at = now()", {})

    def is_blocked(self):
        """Whether a worker waits for a row that another one has locked."""
        return any(session["wait_event_type"] == "Lock" for session in self.worker_sessions())

    def worker_sessions(self):
        return self.sql("SELECT * FROM pg_stat_activity WHERE datname = current_database() AND " + nemesis.WORKERS, {})

    def evict(self, slot):
        """Puts a worker out of the group behind its back: a LeaveGroup request (api 13) in its name."""
        (group,) = self.services.admin.list_groups(self.group, timeout=20)
        (member,) = [member.id for member in group.members if member.client_id.startswith("campaign-worker/%s/" % self.instance(slot))]
        texts = b"".join(struct.pack(">h", len(text)) + text.encode() for text in ("evict", self.group, member))
        request = struct.pack(">hhi", 13, 0, 1) + texts
        host, port = self.brokers.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(100)
        assert answer.endswith(b"\0\0"), "LeaveGroup was answered %r" % answer

    # The end of the round

    def start_anew(self):
        """After a scene that stuck half way."""
        for worker in self.workers:
            worker.kill()
        self.worker("last")

    def judge(self, seed):
        """Waits until everything is quiet; what the checker says."""
        last_fault_ms = time.time() * 1000
        self.collector.finish({"seed": seed, "round": 0}, machine.settle(self, lambda: last_fault_ms))
        verdict = check_history.check(self.home)
        (self.home / "verdict.txt").write_text(verdict.text())
        return verdict.violations + [
            "C9: %s ended with status %d" % (worker.log_path, worker.process.returncode)
            for worker in self.workers if not worker.alive() and worker.process.returncode not in (0, -signal.SIGKILL)]


def soon(probe):
    """Waits for it, but goes on without it."""
    with contextlib.suppress(AssertionError):
        harness.wait_until(probe, PATIENCE_S, "")


def has_stopped(worker, step):
    assert worker.alive(), "%s ended (%s)" % (worker.log_path, worker.process.returncode)
    return worker.points_path.exists() and step in worker.points_path.read_text().split() and worker.frozen()


def await_stop(worker, step):
    harness.wait_until(lambda: has_stopped(worker, step), 30, "%s stopped at %s" % (worker.log_path, step))


def await_running(worker):
    worker.wait_for_log("running", running=1)


def answers(worker):
    return sum(len(worker.events(event)) for event in ANSWERED)


def is_over(worker):
    """Whether its batch is, one way or the other."""
    return any(worker.events(event) for event in ANSWERED + DROPPED)


# --- the scenes -------------------------------------------------------------------------------------------------------


def outlive(stage, step):
    """A worker stops at a step; its heir meets another state of the world; that changes back; the worker goes on."""
    stage.ask(3)
    zombie = stage.worker("one", fail=step + ":stop")
    await_stop(zombie, step)
    stage.set_ready(False)
    heir = stage.worker("two")
    soon(lambda: answers(heir) >= 3 or stage.is_blocked())
    stage.set_ready(True)
    zombie.thaw()
    soon(lambda: is_over(zombie))


def zombie_before_its_transaction(stage):
    outlive(stage, "begin")


def zombie_behind_its_fence(stage):
    outlive(stage, "fence-after")


def zombie_before_endtxn(stage):
    outlive(stage, "endtxn-before")


def zombie_meets_its_heir(stage):
    """A worker stops before its transaction and goes on while its heir is in the midst of the same command."""
    stage.ask()
    zombie = stage.worker("one", fail="begin:stop")
    await_stop(zombie, "begin")
    heir = stage.worker("two", fail="statement-after:stop", member=LASTING)
    await_stop(heir, "statement-after")
    zombie.thaw()
    soon(lambda: is_over(zombie) or stage.is_blocked())
    heir.thaw()
    soon(lambda: is_over(zombie) and is_over(heir))


def same_trace_in_two_partitions(stage):
    """Two workers execute one command at once."""
    nemesis.partitions_added(stage.services, stage, stage.rng)
    one, two = stage.worker("one", fail="statement-after:stop", member=LASTING), stage.worker("two")
    harness.wait_until(lambda: all(worker.events("running")[-1:] and worker.events("running")[-1]["running"] == "1"
                                   for worker in (one, two)), 20, "partitions shared")
    owned = {row["transactional_id"]: row["partition"] for row in stage.sql("SELECT * FROM partition_owner")}
    record = harness.SEED["accountGroupId"], command_codec.encode(stage.command())
    stage.send_raw(record, partition=owned[stage.transactional_id("one")])
    await_stop(one, "statement-after")
    stage.send_raw(record, partition=owned[stage.transactional_id("two")])
    soon(lambda: is_over(two) or stage.is_blocked())
    one.thaw()
    soon(lambda: is_over(one) and is_over(two))


def late_claim(stage):
    """A worker stops before its claim, and is put out of the group. Its heir has judged a command and is about to
    answer it when the claim comes, in another state of the world."""
    heir = stage.worker("two", fail="commit-after:stop:2", member=LASTING)
    await_running(heir)
    stage.ask()
    stage.await_results(1)
    late = stage.worker("one", fail="claim-before:stop,commit-after:stop", member=UNAWARE)
    await_stop(late, "claim-before")
    stage.evict("one")
    stage.set_ready(False)
    stage.ask()
    await_stop(heir, "commit-after")
    stage.set_ready(True)
    late.thaw()
    soon(lambda: has_stopped(late, "commit-after") or is_over(late))
    heir.thaw()
    soon(lambda: answers(heir) >= 2)
    late.thaw()


def late_transaction(stage):
    """A worker's connection breaks under a whole transaction, COMMIT included, which arrives when the command was
    judged again, in another state of the world."""
    await_running(stage.worker("one"))
    stage.set_ready(False)
    late = stage.cut("pg", "one", "begin", "detach", 3000)
    stage.ask()
    stage.await_results(1)
    stage.set_ready(True)
    assert late.done.wait(20), "the transaction did not arrive"


def late_endtxn(stage):
    """An EndTxn is sent twice, and its first copy arrives in the midst of the next transaction, which has results but
    no offsets yet. The worker dies before it ends that one."""
    worker = stage.worker("one", fail="offsets-before:sleep:2:4000,offsets-after:kill:2")
    await_running(worker)
    stage.cut("kafka", "one", "api:26", "detach", 3000)
    stage.ask()
    stage.await_results(1)
    stage.ask()
    worker.wait(30)
    worker.fail = None
    worker.start()


def joined_anew(stage):
    """The group is joined anew while a batch waits for PostgreSQL: it goes to another worker, and the first one, whose
    generation is the new one by then, goes on."""
    first = stage.worker("two", fail="statement-after:sleep:1:3000,commit-after:sleep:1:4000", member=LASTING)
    await_running(first)
    stage.ask()
    first.wait_for_point("statement-after")
    other = stage.worker("aaa", member=LASTING)  # partitions are given to members in the order of their names
    first.wait_for_point("commit-after")
    soon(lambda: is_over(first))
    soon(lambda: is_over(other))


def died(stage, meanwhile=lambda: None, *, step):
    """A worker dies at a step and is started again."""
    stage.ask(3)
    worker = stage.worker("one", fail=step + ":kill")
    worker.wait(30)
    meanwhile()
    worker.fail = None
    worker.start()


def died_behind_endtxn(stage):
    died(stage, step="endtxn-after")


def died_with_a_batch_ahead(stage):
    """A worker dies in its Kafka transaction, when PostgreSQL has committed the batch behind it as well."""
    stage.ask(2)
    worker = stage.worker("one", fail="ktx-begin:sleep:1:1500,produce:kill:1", batch=1)
    worker.wait(30)
    worker.fail = None
    worker.start()


def died_and_key_revoked(stage):
    died(stage, stage.revoke_keys, step="commit-after")


def session_ended(stage):
    """PostgreSQL ends a worker's session when everything but the COMMIT has arrived."""
    stage.ask()
    worker = stage.worker("one", fail="commit-before:stop")
    await_stop(worker, "commit-before")
    nemesis.end_sessions(stage.services, stage)
    harness.wait_until(lambda: not stage.worker_sessions(), 20, "sessions ended")
    worker.thaw()
    soon(lambda: is_over(worker))


def offsets_set_back(stage):
    """A person resets the group's offsets while no worker runs."""
    worker = stage.worker("one")
    stage.ask(3)
    stage.await_results(3)
    assert worker.stop() == 0
    nemesis.offsets_reset(stage.services, stage, stage.rng)
    worker.start()
    stage.ask()
    stage.await_results(4)


def producer_fenced(stage):
    """Another producer takes a worker's transactional.id, which costs the next batch its transaction."""
    worker = stage.worker("one")
    stage.ask()
    stage.await_results(1)
    thief = confluent_kafka.Producer({
        "bootstrap.servers": stage.brokers, "transactional.id": stage.transactional_id("one")})
    thief.init_transactions(20)
    stage.ask()
    worker.wait_for_log("client_rebuilt")
    stage.ask()
    stage.await_results(2)


def somebody_else_commits(stage):
    """Another consumer commits the end of the partition in the group while no worker runs. A person goes back."""
    worker = stage.worker("one")
    stage.ask(3)
    stage.await_results(3)
    assert worker.stop() == 0
    stage.ask(2)
    nemesis.stranger_commits(stage.services, stage, stage.rng)
    worker.start()
    soon(lambda: nemesis.resume_halted(stage, worker))


def database_restored(stage):
    """PostgreSQL is restored to an older state, and Kafka keeps what it has. A person goes back."""
    worker = stage.worker("one")
    stage.ask(2)
    stage.await_results(2)
    assert worker.stop() == 0
    nemesis.copy_database(stage.services, stage)
    worker.start()
    stage.ask(3)
    stage.await_results(5)
    assert worker.stop() == 0
    stage.collector.note_restore(lambda: nemesis.database_restored(stage.services, stage, stage.rng))
    worker.start()
    soon(lambda: nemesis.resume_halted(stage, worker))


def somebody_else_commits_the_last_batch(stage):
    """A worker dies when its batch is executed and not published. Another consumer reads the same commands, and commits."""
    worker = stage.worker("one", fail="commit-after:kill")
    stage.ask(3)
    worker.wait(30)
    nemesis.stranger_commits(stage.services, stage, stage.rng)
    worker.fail = None
    worker.start()
    soon(lambda: nemesis.resume_halted(stage, worker))


def topic_moved(stage):
    """The topic is mirrored to another cluster, where the group has no offsets. A person goes on behind what is answered."""
    stage.set_ready(False)
    worker = stage.worker("one")
    stage.ask(2)
    stage.await_results(2)
    assert worker.stop() == 0
    stage.sql("UPDATE partition_owner SET cluster_id = 'the-old-cluster'")
    stage.forget_group()
    stage.set_ready(True)
    worker.start()
    soon(lambda: worker.events("partition_halted") or answers(worker))
    stage.program("campaign-worker", "resume", "--partition", "0", "--from", "2")
    stage.ask()
    soon(lambda: answers(worker))


def publisher_has_transactions(stage):
    """The partition ends with a control record."""
    worker = stage.worker("one")
    await_running(worker)
    stage.send_in_transaction(stage.command())
    stage.await_results(1)


def two_commands_of_one_trace(stage):
    """Both lie in one batch; the second is no copy of the first."""
    first = stage.command(name="Named")
    stage.send(first, {**first, "name": "Named otherwise"})
    stage.worker("one")
    stage.await_results(2)


SCENES = [
    ("no-fence", zombie_before_its_transaction),
    ("key-share", zombie_behind_its_fence),
    ("unstable-offsets", zombie_before_endtxn),
    ("no-unique", zombie_meets_its_heir),
    ("no-unique", same_trace_in_two_partitions),
    ("unconditional-claim", late_claim),
    ("retry-ambiguous", late_transaction),
    ("no-epoch", late_transaction),
    ("no-new-epoch", late_endtxn),
    ("metadata-late", joined_anew),
    ("kafka-first", died_behind_endtxn),
    ("offsets-apart", died_behind_endtxn),
    ("existing-late", died_and_key_revoked),
    ("commit-assumed", session_ended),
    ("no-confirmed-offset", offsets_set_back),
    ("no-rewind", producer_fenced),
    ("confirmed-ahead", died_with_a_batch_ahead),
    ("no-executed-offset", somebody_else_commits),
    ("no-executed-offset", database_restored),
    ("no-mark", somebody_else_commits_the_last_batch),
    ("no-cluster", topic_moved),
    ("no-end", publisher_has_transactions),
    ("copies-alike", two_commands_of_one_trace),
]
# What a scene may run into on a machine that is too slow for it, or with a mutant that has lost its way.
DISTURBED = (AssertionError, OSError, ValueError, psycopg2.Error, confluent_kafka.KafkaException,
             subprocess.SubprocessError)


# --- mutants ----------------------------------------------------------------------------------------------------------


class Mutant:
    """A patch of mutants/, and the worker made from it."""

    def __init__(self, name):
        self.name = name
        head, _, self.patch = (HERE / "mutants" / (name + ".patch")).read_text().partition("\n\n")
        self.rule = " ".join(head.split()).partition(". ")[0]
        self.foretold = re.search(r"^C\d+", head, re.MULTILINE)[0]
        self.program, self.template = str(MUTANTS / name / "campaign-worker"), Ground.TEMPLATE

    def make_template(self, ground):
        """A database that the mutant itself has migrated, if it migrates otherwise."""
        if "schemas/sql/" not in self.patch:
            return
        self.template = "template_" + self.name.replace("-", "_")
        ground.postgres.execute("CREATE DATABASE " + self.template)
        done = subprocess.run(
            [self.program, "migrate"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**harness.clean_environment(), "CAMPAIGN_DATABASE": ground.postgres.conninfo(self.template)})
        assert done.returncode == 0, "%s migrate: %s" % (self.program, done.stdout)
        ground.postgres.execute((harness.ROOT / "schemas" / "sql" / "seed.sql").read_text(), self.template)


def build(names):
    """Begins to."""
    return subprocess.Popen(["sh", str(HERE / "mutants" / "build.sh"), str(MUTANTS), *names], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, env={**os.environ, "BUILD": str(harness.BUILD)})


# --- rounds of scenes -------------------------------------------------------------------------------------------------


class Play:
    """Rounds of one scene with one worker."""

    numbers = itertools.count(1)

    def __init__(self, ground, seed, scene, program, template):
        self.ground, self.seed, self.scene, self.program, self.template = ground, seed, scene, program, template
        self.rounds, self.disturbed = 0, None

    def round(self):
        """What the checker says; self.disturbed: why the scene was not played to its end."""
        self.rounds += 1
        name = "t%d" % next(self.numbers)
        rng = random.Random("%s/%s/%d" % (self.seed, self.scene.__name__, self.rounds))
        stage = Stage(self.ground, name, self.program, self.template, rng)
        self.folder, self.disturbed = stage.home, None
        try:
            try:
                self.scene(stage)
            except DISTURBED as error:
                self.disturbed = error
                stage.start_anew()
            return stage.judge(self.seed)
        except check_history.Unusable as error:
            self.disturbed = self.disturbed or error
            return []
        finally:
            stage.close()

    def tell(self, who, text):
        why = " (disturbed: %s)" % str(self.disturbed).splitlines()[0] if self.disturbed else ""
        say("%s, %s, round %d: %s%s" % (who, self.scene.__name__, self.rounds, text, why))


def play_mutant(ground, seed, rounds, mutant, scene):
    """Until it is caught by the check that its patch foretells."""
    play = Play(ground, seed, scene, mutant.program, mutant.template)
    while play.rounds < rounds:
        found = [text for text in play.round() if text.startswith(mutant.foretold + ":")]
        play.tell(mutant.name, found[0] if found else "not caught")
        if found:
            shutil.rmtree(play.folder)
            return row(mutant, play.rounds, found[0], scene.__name__)
    return row(mutant, play.rounds, None, scene.__name__)


def play_control(ground, seed, rounds, worker, scene):
    """The real worker in that scene, until it was played to its end."""
    play = Play(ground, seed, scene, worker, Ground.TEMPLATE)
    while play.rounds < rounds:
        violations = play.round()
        play.tell("the real worker", violations[0] if violations else "kept its promises")
        if violations or not play.disturbed:
            break
    else:
        violations = ["never played to its end: %s" % play.disturbed]
    if not violations:
        shutil.rmtree(play.folder)
    return {"scene": scene.__name__, "rounds": play.rounds, "violations": violations, "folder": str(play.folder)}


def row(mutant, rounds, violation, scene):
    """Of the table."""
    return {"mutant": mutant.name, "scene": scene, "rule": mutant.rule, "rounds": rounds, "violation": violation,
            "check": violation and violation.partition(":")[0]}


# --- rounds of the fault suite ----------------------------------------------------------------------------------------


class Hunt:
    """Random rounds of a cell with one mutant until what is told to the outside is wrong. To a CellProcess it is the
    run that owns it."""

    CAUGHT = re.compile(r"C[1-7]:")  # the others, a worker that is too slow among them, may have any cause

    def __init__(self, ground, folder, seed, rounds, mutant):
        self.folder, self.seed, self.rounds, self.mutant = folder, seed, rounds, mutant
        self.ground = types.SimpleNamespace(description=lambda: {**ground.description(), "template": mutant.template})
        self.worker, self.ending = mutant.program, threading.Event()
        self.done, self.violation, self.process = 0, None, None

    def next_plan(self, _):
        if self.violation is None and self.done < self.rounds:
            return plans.make(self.seed, self.done, True)

    def take(self, report):
        self.done += 1
        self.violation = next(filter(self.CAUGHT.match, report["violations"]), None)
        others = "".join(" (%s)" % text for text in report["violations"][:1])
        say("%s, round %d: %s" % (self.mutant.name, self.done, self.violation or "not caught" + others))

    def fail(self, text):
        """The cell has ended by itself."""
        say(self.mutant.name + ", " + text.replace("\n", "\n#   "))

    def stop(self):
        self.ending.set()
        if self.process is not None:
            self.process.kill()

    def go(self, number):
        self.process = CellProcess(self, number)
        self.process.start()
        self.process.join()
        return row(self.mutant, self.done, self.violation, "random rounds")


# --- what is said of it -----------------------------------------------------------------------------------------------


def say(text):
    print("# " + text, flush=True)


def plain(violation):
    """Without the names of this one time."""
    return re.sub(r"the command in partition \d+ at offset \d+ \(traceId [^)]*\)", "a command", violation)


def show_table(rows):
    line = "%-19s  %-60s  %-100s  %s"
    say(line % ("mutant", "what is left out", "caught by", "rounds"))
    for entry in rows:
        caught = plain(entry["violation"]) if entry["violation"] else "SURVIVED " + entry["scene"]
        say(line % (entry["mutant"], textwrap.shorten(entry["rule"], 60, placeholder=" ..."),
                    textwrap.shorten(caught, 100, placeholder=" ..."), entry["rounds"]))


def show_tap(rows, controls):
    number = 0
    for entry in rows:
        number += 1
        times = "%d round%s" % (entry["rounds"], "" if entry["rounds"] == 1 else "s")
        if entry["violation"]:
            print("ok %d - mutant %s: caught by %s after %s" % (number, entry["mutant"], entry["check"], times))
        else:
            print("not ok %d - mutant %s: not caught in %s of %s" % (number, entry["mutant"], times, entry["scene"]))
    for entry in controls:
        number += 1
        print("%s %d - the real worker: %s" % ("not ok" if entry["violations"] else "ok", number, entry["scene"]))
        for text in entry["violations"]:
            say("  %s [%s]" % (text, entry["folder"]))
    print("1..%d" % number, flush=True)


def choose():
    """The scenes that are wanted."""
    known = {path.stem for path in (HERE / "mutants").glob("*.patch")}
    shown = {name for name, _ in SCENES}
    assert known == shown, "there is no scene, or no patch, of %s" % " ".join(known ^ shown)
    wanted = os.environ.get("MUTANTS", "").split() or known
    assert set(wanted) <= known, "there is no mutant %s" % " ".join(set(wanted) - known)
    return [(name, scene) for name, scene in SCENES if name in wanted]


@contextlib.contextmanager
def pool(at_once):
    """For what mostly waits; what has not begun when something goes wrong does not begin."""
    threads = concurrent.futures.ThreadPoolExecutor(at_once)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def play_all(ground, seed, chosen, mutants):
    """The rows of the table, and those of the controls."""
    rounds = int(os.environ.get("ROUNDS") or 5)
    worker = os.environ.get("WORKER") or harness.binary("campaign-worker", "test")
    scenes = dict.fromkeys(scene for _, scene in chosen)
    with pool(AT_ONCE) as threads:
        shown = [threads.submit(play_mutant, ground, seed, rounds, mutants[name], scene) for name, scene in chosen]
        controls = [threads.submit(play_control, ground, seed, rounds, worker, scene) for scene in scenes]
        return [future.result() for future in shown], [future.result() for future in controls]


def hunt_all(ground, folder, seed, rounds, mutants):
    """The rows of the table."""
    hunts = [Hunt(ground, folder, seed, rounds, mutant) for mutant in mutants.values()]
    with pool(int(os.environ.get("CELLS") or AT_ONCE)) as threads:
        try:
            return [future.result() for future in [threads.submit(hunt.go, n) for n, hunt in enumerate(hunts)]]
        finally:
            for hunt in hunts:
                hunt.stop()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen, seed = choose(), os.environ.get("SEED") or secrets.token_hex(4)
    random_rounds = int(os.environ.get("RANDOM_ROUNDS") or 0)
    begun = time.monotonic()
    say("seed %s" % seed)
    folder = pathlib.Path(os.environ.get("CAMPAIGN_TEST_DIR") or tempfile.mkdtemp(prefix="campaign-teeth."))
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        mutants = {name: Mutant(name) for name, _ in chosen}
        building = stack.enter_context(build(mutants))
        ground = Ground(folder, nodes=3 if random_rounds else 1)
        stack.callback(ground.stop)
        ground.start()
        assert building.wait() == 0, "the mutants cannot be built"
        for mutant in mutants.values():
            mutant.make_template(ground)
        say("%d mutants are built, after %.0f s" % (len(mutants), time.monotonic() - begun))
        if random_rounds:
            rows, controls = hunt_all(ground, folder, seed, random_rounds, mutants), []
        else:
            rows, controls = play_all(ground, seed, chosen, mutants)
    good = all(entry["violation"] for entry in rows) and not any(entry["violations"] for entry in controls)
    seconds = round(time.monotonic() - begun, 1)
    FIGURES.write_text(json.dumps({"seed": seed, "seconds": seconds, "mutants": rows, "controls": controls}, indent=1))
    show_table(rows)
    show_tap(rows, controls)
    say("%.0f s" % seconds)
    if good and "CAMPAIGN_TEST_DIR" not in os.environ:
        shutil.rmtree(folder)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
