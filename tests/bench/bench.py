"""How fast it is, and what it costs: `make bench`, and `make bench LONG=1` for everything.

One Kafka node and one PostgreSQL with a realistic data set (data.sql). The worker is measured beside three things that run on
the same servers in the same minutes: the same SQL without Kafka and Avro around it, COPY of the same rows without any
validation, an empty transactional consume-produce loop; and beside the worker that another team would write (peer/). What
counts are the ratios: the figures themselves are this machine's.

Environment:
  LONG=1       longer, with rates of load, sweeps over batches, leads, audiences and data, and a backlog of a million commands
  ONLY=NAMES   only these measurements: throughput latency peer lanes workers errors copies folders rates batches leads partitions
               skew rows memory other
  OTHER=PATH   another build of campaign-worker, for the measurement `other`: both in turns
  SEED=N       of the commands [1]
  BENCH_SCALE  share of the usual number of commands and seconds; for the tests of this program [1]

Prints a line a measurement, and a table with the targets: a target that is missed is shown, and no error. Everything is kept
in build/bench.json, with plots in build/bench/. Exit status 1 if something could not be measured: results that are missing or
not what they should be count as that.
"""

import array
import contextlib
import json
import math
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import rig as rigs  # first: it sets the path to the others
import confluent_kafka
import harness
import plot
import psycopg2
from rig import Wrong, check

FIGURES, PLOTS = harness.BUILD / "bench.json", harness.BUILD / "bench"
SHORT = {"groups": 300, "rounds": 3, "commands": 40000, "seconds": 8, "latency_rounds": 5, "sweep": 20000, "lanes": (1, 2), "memory": 1000000}
LONG = {"groups": 1000, "rounds": 3, "commands": 200000, "seconds": 30, "latency_rounds": 5, "sweep": 50000, "lanes": (1, 2, 4), "memory": 1000000}
WARM_UP_S, PEER_WARM_UP = 5, 200000  # commands; the second compiler is at work for that long
RATE, RATES = 100, (10, 500, 1000, 2000)
PEERS = "rows", "sets"  # those with batches (peer/src/Peer.java)
LANE_MIB = 32
SMALL_BATCH = 20  # so small that a lane waits for Kafka and PostgreSQL rather than for processors
# What is said of it, commands of a batch, share of the usual number of commands, whether the way is longer.
LANES = ("", None, 1, False), (", batches of %d" % SMALL_BATCH, SMALL_BATCH, 0.25, False), (
    ", batches of %d, 2 ms away" % SMALL_BATCH, SMALL_BATCH, 0.25, True)
# What is said of it, leads of a command, share of the usual number of commands, commands of a batch.
FOLDERS = ("", 25, 1, None), (", whole", "all", 0.005, 10)
FULL = 0.9  # so busy a machine has no processor left for a second lane


def median(values):
    """Of each figure in dicts of one shape."""
    if isinstance(values[0], dict):
        return {key: median([value[key] for value in values if key in value]) for key in values[0]}
    return statistics.median(values) if isinstance(values[0], (int, float)) else values[0]


def at_share(values, share):
    """Of sorted values the smallest one that this share of them do not exceed."""
    return values[max(0, math.ceil(round(share * len(values), 6)) - 1)]


def percentiles(took_us):
    """Of latencies in microseconds; curve: [share, ms], ever closer to all of them."""
    took_us = sorted(took_us)
    check(took_us, "no latency was measured")
    shares = [round(1 - 10 ** (-k / 10), 6) for k in range(int(10 * math.log10(len(took_us)) + 0.001) + 1)]
    return {"curve": [[share, at_share(took_us, share) / 1000] for share in shares], **{name: at_share(took_us, share) / 1000 for name, share in (
        ("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1))}}


def store_cpu_us(figures):
    """What the targets are about: PostgreSQL and whoever speaks with it, per command."""
    return figures["cpu_us"]["postgres"] + figures["cpu_us"].get("worker", 0) + figures["cpu_us"].get("tool", 0)


class Bench:
    def __init__(self, rig, size, scale):
        self.rig, self.size, self.scale = rig, size, scale
        self.figures = {"measurements": {}, "failed": []}

    def count(self, n):
        """That many commands, at this scale; whole batches of some kind."""
        return max(40, int(n * self.scale))

    def seconds(self, n):
        return max(1, int(n * self.scale))

    def keep(self, name, figures):
        self.figures["measurements"][name] = figures
        print("  %-22s %s" % (name, describe(figures)), flush=True)
        return figures

    def end_to_end(self, name, count, commands=None, workers=1, lanes=1, batch=None, database="bench", flawless=True,
                   partitions=rigs.PARTITIONS, shared_out=False, far=False, program=None, times=1):
        """Workers that meet a backlog, from their start to its end; shared_out: started before, and each lane has its share of
        the partitions; far: behind a longer way to the servers."""
        env = {"CAMPAIGN_BATCH": str(batch)} if batch else {}
        with self.rig.commands(count, **{"times": times, **(commands or {})}) as path, self.rig.run(name, database, partitions, far) as run:
            def start():
                return [run.worker("w%d" % i, lanes=lanes, env=env, program=program) for i in range(workers)]

            if shared_out:
                started = start()
                for worker in started:
                    worker.wait_for_log("running", count=lanes, running=partitions // (workers * lanes))
                start = rigs.held(started)
            figures = self.rig.drain(run, path, count, start, flawless, times)
            for worker in [process for process in run.processes if isinstance(process, harness.Worker)]:
                check(worker.stop() == 0, "the worker ended badly:\n%s", harness.tail(worker.log_path))
            return {**figures, "lanes": lanes, "workers": workers}

    # Measurements

    def throughput(self):
        """The limit, the SQL and the worker in turns, so that what else goes on here meets them alike."""
        rounds = {"copy": [], "sql": [], "end to end": []}
        count = self.count(self.size["commands"])
        for kind in "copy", "sql":  # indexes' pages, written whole the first time, are nobody's cost
            with self.rig.commands(count // 4) as path:
                self.rig.store_work(kind, path, batch=500)
        for _ in range(self.size["rounds"]):
            for kind in "copy", "sql":
                with self.rig.commands(count) as path:
                    drafts = self.rig.drafts()
                    rounds[kind].append(self.rig.store_work(kind, path, batch=500))
                    check(self.rig.drafts() - drafts == count, "%d rows of %d commands", self.rig.drafts() - drafts, count)
            rounds["end to end"].append(self.end_to_end("end-to-end", count))
        for name, measured in rounds.items():
            self.keep(name, {**median(measured), "rounds": measured})

    def other(self):
        """Another build of the worker and this one, in turns: throughput, and latency at a low rate."""
        program = os.environ.get("OTHER")
        check(program and os.access(program, os.X_OK), "OTHER names no campaign-worker")
        builds = {"this build": None, "the other build": program}
        rounds, took_us = {name: [] for name in builds}, {name: array.array("q") for name in builds}
        count, seconds = self.count(self.size["commands"]), self.seconds(self.size["seconds"])
        for turn in range(2 * self.size["rounds"]):
            for name in sorted(builds, reverse=turn % 2):  # each is the first as often as the other
                rounds[name].append(self.end_to_end("other", count, program=builds[name]))
        for turn in range(2 * self.size["latency_rounds"]):
            for name in sorted(builds, reverse=turn % 2):
                took_us[name].frombytes(self.one_latency("worker", RATE, seconds, builds[name])[1])
        for name in builds:
            self.keep(name, {**median(rounds[name]), "rounds": rounds[name]})
            self.keep("%s at %d/s" % (name, RATE), {**percentiles(took_us[name]), "rate": RATE, "measured": len(took_us[name])})

    def one_latency(self, subject, rate, seconds, program=None):
        """What the tool said, and the latencies in microseconds."""
        warm_up = self.seconds(WARM_UP_S)
        with self.rig.commands(int(rate * (seconds + warm_up) * 1.5) + 100) as path, self.rig.run("latency") as run:
            if subject == "loop":
                process = run.program("loop", commands=run.commands, results=run.results, group=run.group)
                process.wait_for("ready", rigs.READY_S)
            else:
                process = run.worker(program=program)
                process.wait_for_log("running")
            before, raw = self.rig.look([process.pid]), run.folder / "raw"
            done = self.rig.tool(
                "latency", path, brokers=self.rig.brokers, commands=run.commands, results=run.results, rate=rate,
                seconds=seconds, warmup=warm_up, poisson=1, raw=raw)
            after = self.rig.look([process.pid])
            process.stop()
            n = done["commands"]
            return {"commands": n, "publisher_late_p99_ms": done["publisher_late_p99_ms"], "cpu_us": {
                part: (after[part] - before[part]) * 1e6 / n for part in ("worker", "postgres", "broker")}}, raw.read_bytes()

    def latencies(self, rate, rounds):
        """Of the loop and the worker in turns; what all rounds took is taken together."""
        seconds = self.seconds(self.size["seconds"])
        measured, took_us = {"loop": [], "worker": []}, {"loop": array.array("q"), "worker": array.array("q")}
        for _ in range(rounds):
            for subject in measured:
                figures, raw = self.one_latency(subject, rate, seconds)
                measured[subject].append(figures)
                took_us[subject].frombytes(raw)
        for subject in measured:
            self.keep("%s at %d/s" % (subject, rate), {
                **median(measured[subject]), **percentiles(took_us[subject]), "rate": rate,
                "measured": len(took_us[subject])})

    def latency(self):
        self.latencies(RATE, self.size["latency_rounds"])

    def rates(self):
        for rate in RATES:
            self.latencies(rate, 1)

    def peer(self):
        rigs.build_peer()
        for mode in PEERS:
            self.beside_peer(mode, self.count(self.size["commands"]), self.size["rounds"])
        self.beside_peer("single", self.count(self.size["commands"] / 20), 1)

    def beside_peer(self, mode, count, rounds):
        """The peer and the worker in turns, both kept running. The peer's first backlogs are for its compiler, and not
        counted; nor is the worker's first one."""
        measured = {"peer, " + mode: [], "beside peer, " + mode: []}
        warm_up = math.ceil(self.count(PEER_WARM_UP if mode != "single" else count) / count)
        with self.rig.run("peer-" + mode) as theirs, self.rig.run("beside-peer-" + mode) as ours:
            peer = theirs.peer(mode)
            peer.wait_for("ready", rigs.READY_S)
            worker = ours.worker()
            worker.wait_for_log("running")
            for n in range(rounds + warm_up):
                for (name, rounds_of), run, process in zip(measured.items(), (theirs, ours), (peer, worker)):
                    if process is worker and (n < warm_up - 1 or mode == "single"):
                        continue
                    with self.rig.commands(count) as path:
                        figures = self.rig.drain(run, path, count, rigs.held([process]))
                    figures.pop("wire_bytes")  # since it was started
                    if n >= warm_up:
                        rounds_of.append(figures)
            peer.stop()
            check(worker.stop() == 0, "the worker ended badly:\n%s", harness.tail(worker.log_path))
        for name, rounds_of in measured.items():
            if rounds_of:
                self.keep(name, {**median(rounds_of), "rounds": rounds_of})

    def lanes(self):
        """With full batches, where one lane takes most of a small machine; and where it mostly waits: with small batches, on
        this machine and behind a longer way to Kafka and PostgreSQL."""
        for what, batch, share, far in LANES:
            rounds = {lanes: [] for lanes in self.size["lanes"]}
            for _ in range(self.size["rounds"]):
                for lanes, measured in rounds.items():
                    measured.append(self.end_to_end("lanes", self.count(self.size["commands"] * share), lanes=lanes, batch=batch,
                                                    shared_out=True, far=far))
            for lanes, measured in rounds.items():
                self.keep(("1 lane" if lanes == 1 else "%d lanes" % lanes) + what, {**median(measured), "rounds": measured})

    def partitions(self):
        for n in 1, 2, 8, 32:
            figures = self.end_to_end("partitions", self.count(self.size["sweep"]), partitions=n)
            self.keep("1 partition" if n == 1 else "%d partitions" % n, figures)

    def workers(self):
        self.keep("2 workers", self.end_to_end("workers", self.count(self.size["commands"]), workers=2, shared_out=True))

    def errors(self):
        self.keep("16 % errors", self.end_to_end("errors", self.count(self.size["sweep"]), {"errors": 16}, flawless=False))

    def copies(self):
        """Commands that a publisher repeats, beside distinct ones in turns: each twice in a row, and one over and over."""
        count = self.count(self.size["sweep"])
        count -= count % 2
        rounds = {"distinct": [], "each twice": [], "one over and over": []}
        for _ in range(self.size["rounds"]):
            for name, times in zip(rounds, (1, 2, count)):
                rounds[name].append(self.end_to_end("copies", count, times=times))
        for name, measured in rounds.items():
            self.keep(name, {**median(measured), "rounds": measured})

    def folders(self):
        """20,000 leads in a folder of 200 lists, beside the same leads in one list, in turns: 25 of them a command, and all."""
        for what, leads, share, batch in FOLDERS:
            rounds = {"list" + what: [], "folder" + what: []}
            for _ in range(self.size["rounds"]):
                for folder, measured in enumerate(rounds.values()):
                    measured.append(self.end_to_end("folders", self.count(self.size["sweep"] * share), {
                        "big": 1, "folder": folder, "leads": leads}, batch=batch))
            for name, measured in rounds.items():
                self.keep(name, {**median(measured), "rounds": measured})

    def batches(self):
        for batch, share in (1, 0.05), (50, 0.5), (200, 1), (500, 1), (1000, 1):
            self.keep("batch %d" % batch, self.end_to_end("batch", self.count(self.size["sweep"] * share), batch=batch))

    def leads(self):
        for leads, share in (1, 1), (25, 1), ("all", 0.5), (1000, 0.1):
            self.keep("%s leads" % leads, self.end_to_end("leads", self.count(self.size["sweep"] * share), {"leads": leads}))
        # In many batches from the start: results that all come in one leave no time between the first and the last.
        self.keep("20000 leads", self.end_to_end("big", self.count(self.size["sweep"] * 0.005), {"big": 1}, batch=10))

    def skew(self):
        self.keep("skewed tenants", self.end_to_end("skew", self.count(self.size["sweep"]), {"skew": 1}))

    def rows(self):
        """A tenth of the data: what grows with it?"""
        groups = max(4, self.rig.groups // 10)
        self.rig.load("tenth", groups)
        figures = self.end_to_end("rows", self.count(self.size["sweep"]), {"groups": groups}, database="tenth")
        self.keep("a tenth of the rows", figures)

    def memory(self):
        """Cold starts before a backlog, with so much memory and no more."""
        self.backlog("memory", self.count(self.size["memory"]), {})
        self.backlog("memory, 1000 leads", self.count(self.size["memory"] * 0.01), {"leads": 1000})

    def backlog(self, name, count, commands):
        with self.rig.commands(count, **commands) as path, rigs.memory_cgroup(LANE_MIB) as cgroup, self.rig.run(name) as run:
            if cgroup is None:
                print("  %s: SKIPPED the limit: this user may not make a cgroup here; the resident set is still measured" % name)
            samplers = []

            def start():
                worker = run.worker(cgroup=cgroup)
                samplers.append(rigs.Sampler(worker.pid))
                return [worker]

            figures = self.rig.drain(run, path, count, start)
            self.keep(name, {**figures, "course": samplers[0].stop(), "limited": cgroup is not None})

    def run(self, names):
        for name in names:
            try:
                getattr(self, name)()
            except (Wrong, AssertionError, OSError, confluent_kafka.KafkaException, psycopg2.Error) as error:
                self.figures["failed"].append("%s: %s" % (name, error))
                print("  %s: COULD NOT BE MEASURED: %s" % (name, error), flush=True)

    # Targets

    def targets(self):
        """[what, value, limit, verdict]: of what was measured."""
        found = []
        get = self.figures["measurements"].get

        def add(what, value, most=None, least=None, excuse=""):
            good = value <= most if most is not None else value >= least
            found.append({"what": what, "value": round(value, 3), "limit": most if most is not None else least,
                          "sign": "<=" if most is not None else ">=", "verdict": "ok" if good else excuse or "MISSED"})

        def rounds(name, other, value):
            """By round: what was measured together is compared."""
            return statistics.median(value(a) / value(b) for a, b in zip(get(name)["rounds"], get(other)["rounds"]))

        whole = get("end to end")
        if whole:
            add("end to end / the same SQL, by CPU of worker + PostgreSQL", rounds("sql", "end to end", store_cpu_us),
                least=0.8)
            add("end to end / COPY, by CPU of worker + PostgreSQL", rounds("copy", "end to end", store_cpu_us), least=0.25)
            add("the SQL alone: PostgreSQL CPU us a command", get("sql")["cpu_us"]["postgres"], most=130)
            add("worker CPU us a command", whole["cpu_us"]["worker"], most=20)
        loop, worker = get("loop at %d/s" % RATE), get("worker at %d/s" % RATE)
        if loop and worker:
            add("p50 at %d/s / the empty loop's" % RATE, worker["p50_ms"] / loop["p50_ms"], most=1.4)
            add("p99 at %d/s / the empty loop's" % RATE, worker["p99_ms"] / loop["p99_ms"], most=3)
        if get("the other build"):
            this, other = "this build", "the other build"
            at = " at %d/s" % RATE
            add("throughput / the other build's", rounds(this, other, lambda f: f["per_s"]), least=0.97)
            add("worker CPU a command / the other build's", rounds(this, other, lambda f: f["cpu_us"]["worker"]), most=1.03)
            add("p50%s / the other build's" % at, get(this + at)["p50_ms"] / get(other + at)["p50_ms"], most=1.03)
        if get("each twice"):
            add("throughput, each command twice / distinct", rounds("each twice", "distinct", lambda f: f["per_s"]), least=0.5)
            add("one command over and over: results a second", get("one over and over")["per_s"], least=1000)
        for what, *_ in FOLDERS:
            if get("folder" + what):
                add("CPU of worker + PostgreSQL, folder / list" + what, rounds("folder" + what, "list" + what, store_cpu_us), most=2)
        for mode in PEERS:
            theirs, ours = "peer, " + mode, "beside peer, " + mode
            if get(theirs):
                add("throughput / the peer's, " + mode, rounds(ours, theirs, lambda f: f["per_s"]), least=1.5)
                add("CPU of worker + PostgreSQL / the peer's, " + mode, rounds(ours, theirs, store_cpu_us), most=0.65)
        for what, *_ in LANES:
            if get("1 lane" + what) and get("2 lanes" + what):
                busy = get("2 lanes" + what)["busy"]
                add("throughput of two lanes / one lane" + what, rounds("2 lanes" + what, "1 lane" + what, lambda f: f["per_s"]),
                    least=1.7, excuse="processors full (%d %%)" % (100 * busy) if busy >= FULL else "")
        for name, what in ("memory", ""), ("memory, 1000 leads", " of 1000 leads"):
            if get(name):
                add("MiB a lane before a backlog of %d%s" % (get(name)["commands"], what), get(name)["rss_max_mib"], most=LANE_MIB)
        return found


def describe(f):
    """One line of what was measured."""
    if "p50_ms" in f:
        return "p50 %(p50_ms).1f  p90 %(p90_ms).1f  p99 %(p99_ms).1f  p99.9 %(p999_ms).1f  max %(max_ms).1f ms" % f
    text = "%6.0f/s  CPU us: %s" % (f["per_s"], ", ".join("%s %.1f" % (part, us) for part, us in f["cpu_us"].items()))
    if "wal_bytes" in f:
        text += "  WAL %.0f B" % f["wal_bytes"]
    if "wire_bytes" in f:
        wire = f["wire_bytes"]
        text += "  wire: Kafka %.0f+%.0f B, PostgreSQL %.0f+%.0f B" % (
            wire["kafka"]["sent"], wire["kafka"]["received"], wire["database"]["sent"], wire["database"]["received"])
    if "rss_max_mib" in f:
        text += "  RSS %.1f MiB" % f["rss_max_mib"]
    return text


def command_output(*args):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or None


def circumstances(rig):
    model = next((line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), None)
    pom = (harness.ROOT / "deploy" / "kafka" / "pom.xml").read_text()
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seed": rig.seed, "groups": rig.groups,
        "commit": command_output("git", "-C", str(harness.ROOT), "rev-parse", "--short", "HEAD"),
        "kafka": pom.partition("<kafka.version>")[2].partition("<")[0],
        "librdkafka": command_output(
            "pkg-config", "--modversion", harness.BUILD / "downloads" / "librdkafka" / "lib" / "pkgconfig" / "rdkafka.pc"), "postgres": rig.ask("SHOW server_version"),
        "postgres_settings": rigs.POSTGRES, "cores": os.cpu_count(), "processor": model, "kernel": platform.release()}


def print_targets(targets):
    print("\n%-58s %10s %10s" % ("target", "measured", "limit"))
    for t in targets:
        print("%-58s %10.3g %3s %6g  %s" % (t["what"], t["value"], t["sign"], t["limit"], t["verdict"]))


SHORT_NAMES = ["throughput", "latency", "peer", "lanes", "workers", "errors", "copies", "folders"]
LONG_NAMES = SHORT_NAMES + ["rates", "batches", "leads", "partitions", "skew", "rows", "memory"]
ASKED_FOR = ["other"]  # by ONLY alone


def measure(folder, names, size, scale, seed):
    """The figures of a whole run, with servers of its own in that folder."""
    groups = size["groups"] if scale >= 1 else max(8, int(size["groups"] * scale))
    rig = rigs.Rig(folder, seed, groups)
    try:
        print("bench: starting Kafka and PostgreSQL, loading %d account groups" % groups, flush=True)
        rig.start()
        bench = Bench(rig, size, scale)
        begin = time.monotonic()
        bench.figures.update(circumstances(rig))
        bench.run(names)
        bench.figures.update(targets=bench.targets(), seconds=round(time.monotonic() - begin))
        return bench.figures
    finally:
        rig.stop()


def main():
    long = bool(os.environ.get("LONG"))
    names = (os.environ.get("ONLY") or "").split() or (LONG_NAMES if long else SHORT_NAMES)
    unknown = set(names) - set(LONG_NAMES + ASKED_FOR)
    if unknown:
        print("bench: no such measurement: %s (there are: %s)" % (
            " ".join(sorted(unknown)), " ".join(LONG_NAMES + ASKED_FOR)), file=sys.stderr)
        return 2
    folder = pathlib.Path(tempfile.mkdtemp(prefix="campaign-bench."))
    folder.chmod(0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        figures = measure(folder, names, LONG if long else SHORT, float(os.environ.get("BENCH_SCALE") or 1),
                          int(os.environ.get("SEED") or 1))
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder, ignore_errors=True)
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    PLOTS.mkdir(exist_ok=True)
    plot.write_all(figures, PLOTS)
    print_targets(figures["targets"])
    print("\nbench: %d s; figures in %s, plots in %s/" % (figures["seconds"], FIGURES, PLOTS))
    for text in figures["failed"]:
        print("bench: COULD NOT BE MEASURED: %s" % text)
    return 1 if figures["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
