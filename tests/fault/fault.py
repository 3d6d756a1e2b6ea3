"""The promises, proved under faults: `make fault`.

A three-node Kafka, a PostgreSQL and a TCP proxy between them and the workers; on it several cells (cell.py), each with its
own topics, group and database, run rounds of faults side by side, while brokers and the database are crashed under all of
them. After each round everything has to become quiet, and the history checker (checker/check_history.py) judges it.

Environment:
  ROUNDS=N   so many rounds, with many more kills a pass; without it whole passes through every failpoint x action, every
             cut and all else, and what did not come about is tried again
  SEEDS=N    without ROUNDS: so many passes, each shuffled and drawn anew [2]
  SEED=TEXT  everything is drawn from it; printed [random]
  CELLS=N    cells at once [4]
  SAMPLES=N  of each kind of recovery, measured first, while nothing else goes on [6, with ROUNDS 100]
  WORKER=P   the worker to prove [build/test/campaign-worker]

Figures are kept in build/fault.json; a run with ROUNDS that was cut short goes on where it was (with the same SEED, or
none). It ends with what it decided in the Test Anything Protocol, and with exit status 1 if a promise was broken: the folder
of such a round is kept and named.
"""

import collections
import contextlib
import json
import os
import pathlib
import queue
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

import control  # noqa: E402
import harness  # noqa: E402
import machine  # noqa: E402
import nemesis  # noqa: E402
import plans  # noqa: E402
from ground import Ground  # noqa: E402

FIGURES = harness.BUILD / "fault.json"
# What happens to all cells at once: how often, and what.
GLOBAL = [(20, "postgres_crash"), (10, "broker_crash"), (1, "broker_restart"), (0.3, "rolling_restart"), (1, "coordinator_move"),
          (2, "backend_crash"), (4, "commit_hangs"), (0.5, "disk_full"), (1.5, "failover")]
PAUSE_S, LONG_PAUSE_S = (2, 6), (0.5, 2)
EXTRA, EXTRA_ROUNDS = 500000, 12  # the number of the first round that tries again, and how many there may be
CALM_CELLS = 2  # that many measure at once: more would measure the machine
SHORT_SAMPLES, LONG_SAMPLES = 6, 100


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def summary_of(samples):
    """Of one kind of recovery (machine.py): seconds, what the control took meanwhile, and the part of what was allowed."""
    seconds, beats, parts = zip(*((took, beat, took / allowed) for took, beat, allowed in samples))
    return {"n": len(samples), "p50": percentile(seconds, 0.5), "p99": percentile(seconds, 0.99), "max": max(seconds),
            "control_ms": percentile(beats, 0.5), "control_ms_max": max(beats), "part_of_allowance_max": round(max(parts), 2)}


class Figures:
    """What all rounds so far amount to."""

    def __init__(self, seed, long):
        self.data = {"seed": seed, "long": long, "done": [], "seconds": 0, "counts": {}, "recovery": {}, "violations": [],
                     "checked": {}, "commit": commit()}
        self.lock = threading.Lock()

    @classmethod
    def load(cls, seed):
        """Those of a run that was cut short; None if there are none of this seed."""
        try:
            data = json.loads(FIGURES.read_text())
        except (OSError, ValueError):
            return None
        if not data.get("long") or seed not in (None, data["seed"]) or data["violations"]:
            return None
        if not all(isinstance(sample, list) for samples in data["recovery"].values() for sample in samples):
            return None  # of a time when nothing was measured beside them
        figures = cls(data["seed"], True)
        figures.data.update(data)
        return figures

    def add(self, report):
        with self.lock:
            for name in ("counts", "checked"):
                sums = collections.Counter(self.data[name])
                sums.update(report[name])
                self.data[name] = dict(sums)
            for kind, samples in report.get("recovery", {}).items():
                self.data["recovery"].setdefault(kind, []).extend(samples)
            for text in report["violations"]:
                self.data["violations"].append(
                    {"round": report["round"], "cell": report["cell"], "what": text, "folder": report["folder"]})
            if "recovery" not in report:
                self.data["done"].append(report["round"])

    def count(self, what, n=1):
        with self.lock:
            self.data["counts"][what] = self.data["counts"].get(what, 0) + n

    def save(self, seconds):
        with self.lock:
            data = {**self.data, "seconds": round(self.data["seconds"] + seconds, 1), "summary": self.summary()}
            FIGURES.parent.mkdir(parents=True, exist_ok=True)
            new = FIGURES.with_suffix(".new")
            new.write_text(json.dumps(data, indent=1))
            new.replace(FIGURES)

    def get(self, what):
        return self.data["counts"].get(what, 0)

    def least(self):
        """The step at which there were the fewest kills."""
        return min((self.get("kill:" + step), step) for step in plans.STEPS)

    def summary(self):
        recovery = {kind: summary_of(samples) for kind, samples in self.data["recovery"].items() if samples}
        return {
            "rounds": len(self.data["done"]), "kills": self.get("kills"), "least_kills_at_a_step": self.least()[0],
            "stops": self.get("stops"),
            "takeovers_from_stopped_workers": self.get("takeovers"), "cuts": self.get("cuts"), "terms": self.get("terms"),
            "database_crashes": self.get("fired:postgres_crash") + self.get("fired:backend_crash"),
            "broker_crashes": self.get("fired:broker_crash"),
            "actions": {name: self.get("fired:" + name) for name in [name for _, name in GLOBAL] + plans.actions()}, "ambiguous_commits": self.get("commit_in_doubt"),
            "delayed_endtxn": self.get("delayed_endtxn"), "commands": self.data["checked"].get("commands", 0),
            "results": self.data["checked"].get("results", 0), "violations": len(self.data["violations"]), "recovery_s": recovery,
        }

    def line(self, wanted):
        least, step = self.least()
        s = self.summary()
        return ("round %d of %d: %d kills (fewest %d, at %s), %d stops (%d taken over), %d cuts, %d database and %d broker crashes, "
                "%d ambiguous commits, %d delayed EndTxn, %d commands, %d results, %d violations" % (
                    s["rounds"], wanted, s["kills"], least, step, s["stops"], s["takeovers_from_stopped_workers"], s["cuts"],
                    s["database_crashes"], s["broker_crashes"], s["ambiguous_commits"], s["delayed_endtxn"], s["commands"],
                    s["results"], s["violations"]))


def commit():
    done = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or None


class CellProcess(threading.Thread):
    """Runs one cell, gives it plans, and takes its reports."""

    def __init__(self, run, number):
        super().__init__(daemon=True)
        self.owner, self.number = run, number
        self.ready, self.process = threading.Event(), None

    def run(self):
        run = self.owner
        config = {
            "ground": run.ground.description(), "name": "c%d" % self.number, "seed": "%s/c%d" % (run.seed, self.number),
            "worker": run.worker, "libfaketime": find_libfaketime()}
        log = open(run.folder / ("cell-%d.log" % self.number), "wb")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "cell.py"), json.dumps(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log, text=True, start_new_session=True)
        try:
            if not self.process.stdout.readline():
                raise AssertionError("it did not come about; its log is %s" % log.name)
            self.ready.set()
            while not run.ending.is_set():
                plan = run.next_plan(self.number)
                if plan is None:
                    break
                self.process.stdin.write(json.dumps(plan) + "\n")
                self.process.stdin.flush()
                line = self.process.stdout.readline()
                if not line:
                    raise AssertionError("cell %d ended by itself; its log is %s" % (self.number, log.name))
                run.take(json.loads(line))
        except (OSError, AssertionError, ValueError) as error:
            run.fail("cell %d: %s\n%s" % (self.number, error, harness.tail(pathlib.Path(log.name), 15)))
        finally:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            self.kill()

    def kill(self):
        """With its workers."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def find_libfaketime():
    found = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None


class Run:
    def __init__(self, ground, folder, figures, rounds, worker, cells, seed):
        self.ground, self.folder, self.figures, self.worker, self.seed = ground, folder, figures, worker, seed
        self.cells = cells
        self.long = figures.data["long"]
        self.wanted = rounds
        self.todo = queue.SimpleQueue()
        done = set(figures.data["done"])
        for number in range(rounds):
            if number not in done:
                self.todo.put(number)
        self.ending, self.failures, self.begun = threading.Event(), [], time.monotonic()
        self.lock, self.extra = threading.Lock(), 0
        first, calm = self.calm_rounds()
        self.calm_todo, self.calm_left, self.calm_is_over = queue.SimpleQueue(), calm, threading.Event()
        for number in range(first, first + calm):
            self.calm_todo.put(number)
        if calm == 0:
            self.calm_is_over.set()

    def calm_rounds(self):
        """The number of the next one, and how many are wanted."""
        have = min(len(self.figures.data["recovery"].get(kind, [])) for kind in plans.RECOVERIES)
        wanted = int(os.environ.get("SAMPLES") or (LONG_SAMPLES if self.long else SHORT_SAMPLES))
        return -(-have // plans.RECOVERIES_OF_A_ROUND), max(0, -(-(wanted - have) // plans.RECOVERIES_OF_A_ROUND))

    def next_plan(self, cell):
        """The calm rounds first, that measure recovery; nothing else goes on while they last."""
        while not self.calm_is_over.is_set():
            if cell < CALM_CELLS:
                with contextlib.suppress(queue.Empty):
                    return plans.calm(self.seed, self.calm_todo.get_nowait())
            self.calm_is_over.wait(0.2)
        with contextlib.suppress(queue.Empty):
            return plans.make(self.seed, self.todo.get_nowait(), self.long)
        return None if self.long else self.another_try()

    def missing(self):
        """What a pass has to bring about and what no round has."""
        return [what for what in plans.wanted(False) + plans.actions() if not self.figures.get("fired:" + plans.name(what))]

    def missing_of_ground(self):
        return [name for _, name in GLOBAL if not self.figures.get("fired:" + name) and not self.figures.get("cannot:" + name)]

    def another_try(self):
        with self.lock:
            self.extra += 1
            number = self.extra
            if number > EXTRA_ROUNDS or not self.missing():
                return None
            self.wanted += 1
            return plans.make_again(self.seed, EXTRA + number, self.missing())

    def take(self, report):
        self.figures.add(report)
        self.figures.save(time.monotonic() - self.begun)
        if "recovery" in report:
            self.calm_left -= 1
            if self.calm_left == 0:
                self.calm_is_over.set()
            print("recovery: " + json.dumps(self.figures.summary()["recovery_s"]), flush=True)
        else:
            print(self.figures.line(self.wanted), flush=True)
        for text in report.get("slow", []):
            print("slow: round %s of %s (%s): %s" % (report["round"], report["cell"], report["folder"], text), flush=True)
        for text in report["violations"]:
            print("VIOLATION in round %s of %s (%s): %s" % (report["round"], report["cell"], report["folder"], text), flush=True)

    def fail(self, text):
        self.failures.append(text)
        self.ending.set()
        self.calm_is_over.set()
        print(text, flush=True)

    def disturb(self):
        """Faults of the whole ground, until the rounds are done."""
        rng = random.Random("%s/ground/%d" % (self.seed, len(self.figures.data["done"])))
        first = [] if self.figures.data["done"] else rng.sample([name for _, name in GLOBAL], len(GLOBAL))
        while not self.ending.wait(rng.uniform(*(LONG_PAUSE_S if self.long else PAUSE_S))):
            name = first.pop() if first else rng.choices([name for _, name in GLOBAL], [weight for weight, _ in GLOBAL])[0]
            try:
                with self.ground.disturbed():
                    entry = getattr(nemesis, name)(self.ground, rng)
            except nemesis.CannotRun as why:
                if self.figures.get("cannot:" + name) == 0:
                    print("SKIPPED: %s cannot be done here: %s" % (name, why), flush=True)
                self.figures.count("cannot:" + name)
                continue
            except Exception as error:
                self.fail("%s: %s" % (name, error))
                return
            self.ground.note_fault(entry)
            self.figures.count("fired:" + name)

    def go(self):
        processes = [CellProcess(self, n) for n in range(self.cells)]
        try:
            self.go_with(processes)
        finally:
            for process in processes:
                process.kill()

    def go_with(self, processes):
        nemesis_thread = threading.Thread(target=self.disturb, daemon=True)
        for process in processes:
            process.start()
        for process in processes:
            while not process.ready.wait(0.1) and process.is_alive():
                pass
        while not self.calm_is_over.wait(0.1) and not self.ending.is_set():
            pass
        nemesis_thread.start()
        for process in processes:
            process.join()
        self.ending.set()
        nemesis_thread.join()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds, seed = int(os.environ.get("ROUNDS") or 0), os.environ.get("SEED") or None
    worker = os.environ.get("WORKER") or harness.binary("campaign-worker", "test")
    figures = Figures.load(seed) if rounds else None
    if figures is None:
        figures = Figures(seed or secrets.token_hex(4), bool(rounds))
    rounds = rounds or plans.rounds_per_pass(False) * int(os.environ.get("SEEDS") or 2)
    print("seed %s, %d rounds, %d of them done" % (figures.data["seed"], rounds, len(figures.data["done"])), flush=True)
    folder = pathlib.Path(os.environ.get("CAMPAIGN_TEST_DIR") or tempfile.mkdtemp(prefix="campaign-fault."))
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        ground = Ground(folder)
        stack.callback(ground.stop)
        ground.start()
        run = Run(ground, folder, figures, rounds, worker, int(os.environ.get("CELLS") or 4), figures.data["seed"])
        run.go()
    print(json.dumps(figures.summary(), indent=1))
    sys.exit(report(run))


def verdicts(run):
    """What the run decided: (whether it is well, in words)."""
    broken = collections.Counter(violation["round"] for violation in run.figures.data["violations"])
    for number in sorted(run.figures.data["done"]):
        yield not broken[number], "round %d of seed %s: the promises were kept" % (number, run.seed)
    calm = [number for number in broken if number not in run.figures.data["done"]]
    yield not calm, "calm rounds: the promises were kept"
    yield not run.failures, "the suite ran to its end"
    missing = [plans.name(what) for what in run.missing()] + run.missing_of_ground()
    yield not missing, "every failpoint with every action, every cut, and all that is done to servers, topics and group came about%s" % (
        ": not " + ", ".join(missing) if missing else "")
    for kind, bound_s in plans.RECOVERIES.items():
        samples = run.figures.data["recovery"].get(kind, [])
        figures = summary_of(samples) if samples else "no samples"
        yield machine.is_recovery_well(samples), "recovery, %s: at most %g s times the control's stretch (%g ms are 1): %s" % (
            kind, bound_s, control.BEAT_S * 1000, figures)


def report(run):
    outcomes = list(verdicts(run))
    for number, (well, words) in enumerate(outcomes, 1):
        print("%s %d - %s" % ("ok" if well else "not ok", number, words))
    skipped = [name for _, name in GLOBAL if run.figures.get("cannot:" + name)]
    for number, name in enumerate(skipped, len(outcomes) + 1):
        print("ok %d - %s # SKIP it cannot be done here" % (number, name))
    print("1..%d" % (len(outcomes) + len(skipped)))
    return 0 if all(well for well, _ in outcomes) else 1


if __name__ == "__main__":
    main()
