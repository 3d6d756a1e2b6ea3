"""One cell of the fault suite: topics, consumer group and database of its own, and two workers that are killed, stopped,
cut off and restarted all the time while the outside state changes under them.

A program that fault.py starts, several at once on one ground: `cell.py CONFIG` (JSON). It reads the plan of a round a line
from stdin (plans.py), and writes a report a line to stdout. A round is over when its turns are done, everything has become
quiet and the history checker has judged what happened; the folder of a round without a violation is removed. A round that
does not become quiet is given up, and the next one has topics, a group and a database of its own.
"""

import collections
import contextlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import threading
import time

import confluent_kafka
import confluent_kafka.admin
import psycopg2

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

from checker import check_history  # noqa: E402
import collecting  # noqa: E402
import control  # noqa: E402
import harness  # noqa: E402
import history  # noqa: E402
import machine  # noqa: E402
import nemesis  # noqa: E402
import plans  # noqa: E402
import preludes  # noqa: E402
import recovery  # noqa: E402
import workload  # noqa: E402
from ground import Ground  # noqa: E402

PATIENCE_S = 10  # for a failpoint or a cut to come about
DRAIN_SLACK_S = 5
ENDED_S = 60  # for a process that was killed to be gone
COUNTED = ["commit_in_doubt", "batch_dropped", "producer_renewed", "predecessor_ended", "fatal", "drain_budget_exceeded"]
PARTITIONS_MAX = 8


def now_ms():
    return time.time() * 1000


class Slot(threading.Thread):
    """The turns of one worker of the cell, one after the other."""

    def __init__(self, cell, name, turns):
        super().__init__(daemon=True)
        self.cell, self.name, self.turns = cell, name, turns
        self.rule = self.failure = None

    def run(self):
        try:
            for turn in self.turns:
                self.take(turn)
        except Exception as error:  # told by the round
            self.failure = error

    def take(self, turn):
        cell, what = self.cell, plans.describe(turn)
        cell.end_worker(self.name, turn["before"])
        started_ms = now_ms()
        self.rule = None
        if "cut" in turn and turn["cut"]["event"] != "now":
            self.arm(turn["cut"])
        worker = cell.start_worker(self.name, turn)
        fired = self.await_fault(worker, turn)
        cell.count(("fired:" if fired else "unfired:") + what)
        if fired:
            getattr(self, "after_" + turn["action"])(worker, turn)
        elif self.rule is not None:
            self.rule.delete()
        cell.log_fault({"at_ms": started_ms, "until_ms": now_ms(), "who": worker.log_path.stem,
                        "what": what + ("" if fired else " (did not come about)")})

    def arm(self, cut):
        self.rule = self.cell.ground.proxy.add(
            cut["link"], self.cell.instance(self.name), cut["event"], cut["nth"], cut["action"], cut["ms"])

    def await_fault(self, worker, turn):
        """Whether what the turn is about came about. Some of it does only when the worker, once it runs, is nudged."""
        deadline, nudged = time.monotonic() + PATIENCE_S, False
        while time.monotonic() < deadline + control.waited_s(worker.pid):
            if self.rule is not None and self.rule.fired.is_set():
                return True
            if "cut" not in turn and worker.has_passed(turn["step"]):
                return True
            if not worker.alive():
                return False
            if not nudged and worker.runs_partitions():
                self.nudge(worker, turn)
                nudged = True
            time.sleep(0.02)
        return False

    def nudge(self, worker, turn):
        if turn.get("leave"):
            time.sleep(turn["live_ms"] / 1000)
            worker.signal(signal.SIGTERM)
        elif "cut" in turn and turn["cut"]["event"] == "now":
            time.sleep(turn["live_ms"] / 1000)
            self.arm(turn["cut"])

    def after_kill(self, worker, turn):
        worker.wait(ENDED_S)
        self.cell.count("kills")
        self.cell.count("kill:" + turn["step"])
        time.sleep(turn["away_ms"] / 1000)

    def after_exit(self, worker, turn):
        worker.wait(ENDED_S)
        self.cell.count("exits")
        time.sleep(turn["away_ms"] / 1000)

    def after_term(self, worker, turn):
        self.cell.await_end(worker)
        self.cell.count("terms")
        time.sleep(turn["away_ms"] / 1000)

    def after_stop(self, worker, turn):
        harness.wait_until(lambda: not worker.alive() or worker.is_stopped(), ENDED_S, "worker stopped")
        stopped_ms = now_ms()
        time.sleep(turn["ms"] / 1000)
        self.cell.count("stops")
        if self.cell.was_taken_over(self.name, stopped_ms):
            self.cell.count("takeovers")
        if turn["thaw"]:
            worker.thaw()
            time.sleep(turn["live_ms"] / 1000)

    def after_sleep(self, worker, turn):
        self.cell.count("sleeps")
        time.sleep((turn["ms"] + turn["live_ms"]) / 1000)

    def after_cut(self, worker, turn):
        self.cell.count("cuts")
        if turn["cut"]["event"] == "api:26" and turn["cut"]["action"] in ("detach", "hold"):
            self.cell.count("delayed_endtxn")
        time.sleep(turn["live_ms"] / 1000)


class CellWorker(harness.Worker):
    """A worker whose log may go to a full disk and whose clock may be wrong."""

    def __init__(self, cell, slot, number, program, settings, points):
        super().__init__(cell, slot, lanes=settings["lanes"], args=settings["args"], fail=",".join(points) or None,
                         ahead=number % 2 == 1, env={"CAMPAIGN_LOG_LEVEL": "debug"})
        self.args[0] = program
        self.runs, self.lanes = number, settings["lanes"]
        self.log_full = settings.get("log") == "full"
        self.may_be_told_twice = False  # to end: the second time it does at once
        self.clock_wrong = "clock" in settings
        if self.clock_wrong:
            self.env.update(LD_PRELOAD=settings["libfaketime"], FAKETIME=settings["clock"], FAKETIME_DONT_FAKE_MONOTONIC="1",
                            DONT_FAKE_MONOTONIC="1")
        self.judged = False

    def open_log(self):
        return open("/dev/full" if self.log_full else self.log_path, "wb")

    def has_passed(self, step):
        return self.points_path.exists() and step in self.points_path.read_text().split()

    def is_stopped(self):
        with contextlib.suppress(OSError):
            return self.frozen()
        return False

    def runs_partitions(self):
        return self.log_full or b'"event":"running"' in self.log_path.read_bytes()


class Cell(preludes.Preludes, harness.World):
    def __init__(self, config):
        self.config = config
        self.ground = Ground.attached(config["ground"])
        self.ground.TEMPLATE = config["ground"].get("template", Ground.TEMPLATE)  # a mutant's own
        self.population = workload.Population(config["seed"])
        super().__init__(self.ground, config["name"])
        self.home = self.folder
        with contextlib.closing(self.services.postgres.connect(self.database)) as session, session.cursor() as cursor:
            cursor.execute((HERE / "audit.sql").read_text())
            self.population.fill(cursor.execute)
        self.collector = collecting.Collector(self)
        self.quiet = history.Quiet(self)
        self.control = control.Control(self)
        self.control.start()
        self.by_slot, self.counts, self.lock = {}, collections.Counter(), threading.Lock()

    # What World leaves open

    def create_topics(self):
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.brokers})

        def topic(name, partitions, **settings):
            return confluent_kafka.admin.NewTopic(name, partitions, 3, config={"min.insync.replicas": "2", **settings})

        made = admin.create_topics([
            topic(self.commands, self.partitions, **{"message.timestamp.type": "LogAppendTime"}),
            topic(self.results, 2, **{"message.timestamp.type": "LogAppendTime"}),  # a worker's clock may be wrong
            topic(self.dead_letters, 1),
        ])
        for future in made.values():
            future.result()

    def instance(self, slot):
        return "%s-%s" % (self.name, slot)

    def environment(self, instance="one"):
        return {
            **super().environment(instance), "CAMPAIGN_BROKERS": self.ground.proxied,
            "CAMPAIGN_DATABASE": "%s password=%s" % (self.ground.worker_conninfo(self.database), self.population.keys["nobody"]),
        }

    def make_producer(self):
        """Gives up in time to know, when a round is over, what was not published."""
        return confluent_kafka.Producer({
            "bootstrap.servers": self.brokers, "partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 2,
            "message.timeout.ms": 30000})

    def connect(self):
        return psycopg2.connect(self.services.postgres.conninfo(self.database), connect_timeout=5)

    def count(self, what, n=1):
        with self.lock:
            self.counts[what] += n

    # Workers

    def start_worker(self, slot, turn):
        settings = {**self.plan["settings"], **turn.get("settings", {}), "libfaketime": self.config.get("libfaketime")}
        if not settings["libfaketime"]:
            settings.pop("clock", None)
        with self.lock:
            self.started += 1
            number = self.started
        worker = CellWorker(self, slot, number, self.config["worker"], settings, turn.get("points", []))
        worker.may_be_told_twice = turn.get("leave") or turn.get("action") == "term"
        self.workers.append(worker)
        self.by_slot[slot] = worker
        worker.start()
        return worker

    def end_worker(self, slot, how):
        worker = self.by_slot.get(slot)
        if worker is None:
            return
        if worker.alive() and how == "term" and not worker.is_stopped():
            worker.signal(signal.SIGTERM)
            self.await_end(worker)
            self.count("terms")
        elif worker.alive():
            worker.kill()
            self.count("kills")
            self.count("kill:any time")
        self.judge_end(worker)

    def end_workers(self, how):
        for slot in list(self.by_slot):
            self.end_worker(slot, how)

    def await_end(self, worker):
        """After a SIGTERM, which a worker has to answer within its drain budget."""
        limit_s = self.plan["settings"]["drain_ms"] / 1000 + DRAIN_SLACK_S
        begin, waited_s = time.monotonic(), control.waited_s(worker.pid)
        while worker.alive():
            if worker.is_stopped():  # its failpoint came first
                worker.kill()
            elif time.monotonic() - begin > limit_s + control.waited_s(worker.pid) - waited_s:
                if not worker.clock_wrong:  # libfaketime shifts the deadlines of librdkafka's condition variables by hours
                    self.problem("C9: %s did not end within %g s of a SIGTERM" % (worker.log_path.name, limit_s))
                worker.kill()
            time.sleep(0.01)
        self.judge_end(worker)

    def judge_end(self, worker):
        """A worker ends because it is made to, or gives up and says why: never by an error of its own."""
        if worker.judged or worker.alive():
            return
        worker.judged = True
        status = worker.process.returncode
        if status == 1:
            self.count_surrender(worker)
        elif status not in (0, -signal.SIGKILL, -signal.SIGTERM, 70, 128 + signal.SIGTERM if worker.may_be_told_twice else 0):
            self.problem("C9: %s ended with status %d" % (worker.log_path.name, status))
        with contextlib.suppress(FileNotFoundError):  # on a full disk, or of a round that is over
            text = worker.log_path.read_bytes()
            for event in COUNTED:
                self.count(event, text.count(b'"event":"%s"' % event.encode()))

    def count_surrender(self, worker):
        """A worker gives up and says why. It may do so when its producer is fenced again and again, as another worker has its name
        for a while; when its clock is wrong, as libfaketime lets librdkafka's wait for its threads end at once; or when it was told
        to end and a fault, or a failpoint that sleeps, held it for longer than it may drain."""
        self.count("gave_up")
        if worker.log_full:
            return
        last = ([line["msg"] for line in worker.events("fatal")] or ["no word of it"])[-1]
        if worker.clock_wrong:
            self.count("gave_up, with a wrong clock")
        elif worker.events("drain_budget_exceeded"):
            self.count("gave_up, as its time to drain was over")
        elif "fenced again and again" in last:
            self.count("gave_up, as it was fenced")
        else:
            self.problem("C9: %s gave up: %s" % (worker.log_path.name, last))

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def was_taken_over(self, slot, since_ms):
        with contextlib.suppress(psycopg2.Error), contextlib.closing(self.connect()) as session:
            with session.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM partition_owner WHERE claimed_at > to_timestamp(%s) "
                               "AND transactional_id NOT LIKE %s", (since_ms / 1000, "%" + self.instance(slot) + "/%"))
                return cursor.fetchone()[0] > 0
        return False

    # A round

    def round(self, plan):
        self.plan = plan
        self.round_folder = self.home / ("round-%d" % plan["round"])
        self.folder = self.round_folder / "logs"  # where workers log
        self.folder.mkdir(parents=True)
        self.counts.clear()
        self.problems, self.started = [], 0
        begun = time.monotonic()
        self.collector.begin(self.round_folder)
        over = threading.Event()
        threading.Thread(target=self.sample, args=(over,), daemon=True).start()
        rng = random.Random("%s/%d/work" % (plan["seed"], plan["round"]))
        measured = recovery.run(self, rng) if plan["kind"] == "recovery" else self.run_faults(rng)
        settled = self.settle()
        over.set()
        self.collector.finish(plan, settled)
        verdict = check_history.check(self.round_folder)
        violations = machine.blame(settled, verdict.violations) + self.problems
        if violations or measured.get("slow"):
            (self.round_folder / "verdict.txt").write_text("\n".join(self.problems) + "\n" + verdict.text())
        else:
            shutil.rmtree(self.round_folder)
        return {"cell": self.name, "round": plan["round"], "seconds": round(time.monotonic() - begun, 1),
                "counts": dict(self.counts), "violations": violations, "folder": str(self.round_folder),
                "checked": dict(verdict.counts), "given_up": settled.given_up, **measured}

    def sample(self, over):
        """What the workers take of the machine, once a second. Where a clock is wrong, clients that librdkafka gives up making leave
        their threads behind."""
        while not over.wait(1):
            for slot, worker in [(slot, worker) for slot, worker in list(self.by_slot.items()) if not worker.clock_wrong]:
                with contextlib.suppress(OSError, StopIteration):
                    tasks, files = (len(os.listdir("/proc/%d/%s" % (worker.pid, what))) for what in ("task", "fd"))
                    self.collector.log_sample({"at_ms": now_ms(), "slot": slot, "run": worker.runs, "pid": worker.pid,
                                               "rss_kib": worker.resident_kib(), "fds": files, "threads": tasks})

    def log_fault(self, entry):
        self.collector.log_fault(entry)

    def run_faults(self, rng):
        self.play(rng)
        flipper = workload.Flipper(self.connect, random.Random(rng.random()), self.collector.log_change)
        commands = workload.Plan(rng, self.population, "r%d" % self.plan["round"])
        generator = workload.Generator(self.make_producer, self.commands, commands, self.collector.log_acked)
        slots = [Slot(self, name, turns) for name, turns in self.plan["turns"].items()]
        trouble = threading.Thread(target=self.make_trouble, args=(random.Random(rng.random()),), daemon=True)
        helpers = [flipper, generator, trouble]
        for thread in slots + helpers:
            thread.start()
        for slot in slots:
            slot.join()
        flipper.ending.set()
        generator.ending.set()
        for helper in helpers:
            helper.join()
        for slot in slots:
            if slot.failure:
                raise slot.failure
        self.count("commands", generator.acknowledged)
        return {}

    def make_trouble(self, rng):
        for name in self.plan["troubles"]:
            time.sleep(rng.uniform(0.5, 4))
            if name == "partitions_added" and self.partitions >= PARTITIONS_MAX:
                continue
            try:
                entry = getattr(nemesis, name)(self.ground, self, rng)
            except (psycopg2.Error, confluent_kafka.KafkaException) as error:  # it met another fault
                self.count("unfired:" + name)
                self.log_fault({"at_ms": now_ms(), "until_ms": now_ms(), "who": name, "what": "did not come about: %s" % error})
                continue
            self.count("fired:" + name)
            self.log_fault(entry)

    def settle(self):
        """Two workers without a failpoint, until nothing is on its way any more, or the round is given up and they are ended."""
        for slot in ("one", "two"):
            self.end_worker(slot, "kill")
            self.start_worker(slot, {})
        own_ms = now_ms()
        with self.control.beating():
            settled = machine.settle(self, lambda: max(own_ms, self.ground.last_fault_ms()),
                                     lambda: self.control.stretch(own_ms / 1000, time.time()), self.hopeless)
        for slot in ("one", "two") if settled.given_up else ():
            self.end_worker(slot, "kill")
        return settled

    def close(self):
        self.control.end()
        self.quiet.close()
        super().close()


def fresh(config, number):
    """A cell in place of one whose round was given up: under another name, so that it meets nothing of that. A fault of the
    whole ground may be going on."""
    numbers = itertools.count(1)
    return collecting.Collector.patiently(
        lambda: Cell({**config, "name": "%sn%dt%d" % (config["name"], number, next(numbers))}))


def main():
    config = json.loads(sys.argv[1])
    cell = Cell(config)
    try:
        print(json.dumps({"ready": cell.name}), flush=True)
        for number, line in enumerate(sys.stdin):
            report = cell.round(json.loads(line))
            print(json.dumps(report), flush=True)
            if report["given_up"]:
                cell.close()
                cell = fresh(config, number)
    finally:
        cell.close()


if __name__ == "__main__":
    main()
