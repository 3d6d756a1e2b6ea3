"""The teeth of the quick suites: `make mutants`. One-line bugs are planted in the rules' SQL and in the C around them
(plant.py), one at a time, each in a copy of the tree. Unit tests, store and component tests run, then the system tests
nearest to the file, then a pass of the fault suite (nearest.py), until one of them fails: the bug was noticed. Of the quick
suites those programs run that have the file linked into them: the nearest by name first, then the fastest.

A bug that does not compile, that PostgreSQL refuses to prepare, or that is the same machine code or the same tables, was none:
another is planted in its place. One that nothing notices survives. It needs a test, or a reason in reasons.txt why it cannot matter.

Environment:
  MUTANTS=N     so many bugs [80]
  ONLY=REGEX    only in files that match
  SEED=TEXT     what is planted is drawn from it [1]
  JOBS=N        so many at once, each with servers of its own [2]
  QUICK=1       without system and fault tests: what the quick suites miss is printed, and no score
  FAULT=0       without the fault suite
  UNIVERSAL=DIR where universalmutator is [build/mutation/universalmutator]

What is known of a bug is kept in build/mutation/results.json until the tree changes: a run that was ended goes on where it was.
Speaks TAP, a line for each bug; then the score by file. Exit status 1 if less than 95 % of those that can matter are noticed,
or if one survives without a reason.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), os.environ.get("UNIVERSAL", str(ROOT / "build/mutation/universalmutator"))]

import nearest  # noqa: E402
import plant  # noqa: E402

BUILD = ROOT / "build" / "mutation"
WANTED = 0.95
# Build variant and folder. Those under AddressSanitizer come last: a leak, a read beyond an array.
SUITES = {"unit": ("test", "unit"), "store": ("test", "store"), "component": ("test", "component"), "unit-asan": ("asan", "unit")}
SLOW_S = 60        # for one program of a quick suite, beside four times what it takes without a bug: what hangs is noticed, too
SYSTEM_S = 1200    # for the system tests of one file
COPIED = ["Makefile", "worker", "schemas", "producer", "tests", "deploy", "README.md", "LICENSE", ".gitignore"]


MAPS = "LDFLAGS=-Wl,-Map=$@.map" # what each program was linked of


class Slot:
    """A copy of the tree, compiled, with a PostgreSQL of its own."""

    def __init__(self, number):
        self.folder = BUILD / ("slot%d" % number)
        self.log = BUILD / ("slot%d.log" % number)
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "build").mkdir(parents=True)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, self.folder / name)
        (self.folder / "build" / "downloads").symlink_to(ROOT / "build" / "downloads")
        if (self.make("all", "unit-programs", "component-programs", "store-programs") != 0
                or self.make("unit-programs", variant="asan") != 0):
            sys.exit("the tree does not compile: %s" % self.log)
        self.programs = {program: (suite, self.linked(program)) for suite in SUITES for program in self.found(suite)}
        self.took = {}
        self.start_server()

    def start_server(self):
        self.run(["sh", "deploy/postgres.sh", "start", str(self.folder / "postgres")], 120)
        env = dict(re.findall(r"^(?:export )?([A-Z_]+)='?(.*?)'?$", (self.folder / "postgres" / "env").read_text(), re.M))
        self.database = env["DATABASE"]
        self.store = re.sub(r"dbname=\S+", "dbname=mutation", self.database) # where statements are prepared
        for command in (["psql", "-qX", "-c", "CREATE DATABASE mutation", self.database],
                        ["build/test/campaign-worker", "migrate", "--database", self.store]):
            if self.run(command, 120) != 0:
                sys.exit("no database for statements: %s" % self.log)
        self.tables = self.dump(self.store)

    def ask(self, sql, database=None):
        return subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", database or self.database], input=sql, text=True,
                              capture_output=True).returncode == 0

    def renewed_server(self):
        """Whether the server was gone, and is there again: what failed meanwhile says nothing."""
        if self.ask("SELECT 1"):
            return False
        self.run(["sh", "deploy/postgres.sh", "remove", str(self.folder / "postgres")], 120)
        self.start_server()
        return True

    def close(self):
        self.run(["sh", "deploy/postgres.sh", "remove", str(self.folder / "postgres")], 120)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, command, seconds, **variables):
        """Its exit status; 124 after so many seconds, with all that it started ended."""
        with open(self.log, "w") as log:
            process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                       start_new_session=True, env={**os.environ, **variables})
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                return 124
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()

    def make(self, *targets, variant="test"):
        maps = [MAPS] if variant != "release" else []
        return self.run(["make", "-s", "-j2", "VARIANT=%s" % variant, *maps, *targets], 600, MAKEFLAGS="")

    # -- one bug --

    def plant(self, bug):
        """False: it is none."""
        path = self.folder / bug.file
        compiled = self.folder / "build/test/obj" / (bug.file[:-2] + ".o")
        before = self.code(compiled) if bug.file.endswith(".c") else None
        path.write_text(plant.apply((ROOT / bug.file).read_text(), bug))
        if bug.file.endswith(".sql"):
            return self.make("all") == 0 and self.prepares(bug)
        return self.make(str(compiled.relative_to(self.folder))) == 0 and self.code(compiled) != before

    def restore(self, bug):
        (self.folder / bug.file).write_text((ROOT / bug.file).read_text())

    def code(self, compiled):
        stripped = self.folder / "build" / "stripped.o"
        subprocess.run(["objcopy", "--strip-debug", str(compiled), str(stripped)], check=True)
        return hashlib.sha256(stripped.read_bytes()).hexdigest()

    def prepares(self, bug):
        """PostgreSQL takes the text as a statement. What would be refused before it does anything is no bug, but a typing error.
        Nor is what leaves the tables and functions as they are: a later migration replaces it."""
        if bug.file.startswith("schemas/"):
            migrated = re.sub(r"dbname=\S+", "dbname=planted", self.database)
            for sql in ("DROP DATABASE IF EXISTS planted", "CREATE DATABASE planted"):
                self.ask(sql)
            return (self.run(["build/test/campaign-worker", "migrate", "--database", migrated], 120) == 0
                    and self.dump(migrated) != self.tables)
        script = "PREPARE planted AS " + (self.folder / bug.file).read_text()
        return self.ask(script, self.store) or (self.renewed_server() and self.ask(script, self.store))

    def dump(self, database):
        dumped = subprocess.run(["pg_dump", "--schema-only", "--no-comments", database], check=True, capture_output=True, text=True).stdout
        return re.sub(r"(?m)^\\(un)?restrict .*$", "", dumped)

    def found(self, suite):
        """The programs of a suite."""
        variant, folder = SUITES[suite]
        sources = (self.folder / "tests" / folder).glob("test_*.c")
        return [self.folder / "build" / variant / "tests" / folder / path.stem for path in sorted(sources)]

    def linked(self, program):
        """The objects that a program was linked of."""
        text = (program.parent / (program.name + ".map")).read_text(errors="replace")
        return set(re.findall(r"^build/\w+/lib/([\w-]+)\.a\((\S+?)\.o\)", text, re.M))

    def nearest(self, bug):
        """The programs that a bug can change: the nearest by name first, then the fastest."""
        if bug is None:
            return list(self.programs)
        folder, stem = os.path.split(bug.file[:bug.file.index(".")])
        linked = {"worker/sql": ("worker-db", "sql"), "schemas/sql": ("worker-db", "migrations")}.get(
            folder, (folder.replace("/", "-"), stem))
        found = [program for program, (_, objects) in self.programs.items() if linked in objects]
        return sorted(found, key=lambda program: ("asan" in self.programs[program][0], stem not in program.name,
                                                  self.took.get(str(program.relative_to(self.folder)), 0)))

    def passes(self, program, name):
        return self.run([str(program)], SLOW_S + 4 * self.took.get(name, 100), CAMPAIGN_TEST_DATABASE=self.database,
                        LSAN_OPTIONS="use_unaligned=1") == 0

    def quick(self, bug):
        """Who notices it, of the quick suites; None: nobody does."""
        for program in self.nearest(bug):
            suite, name = self.programs[program][0], str(program.relative_to(self.folder))
            if self.make(name, variant=SUITES[suite][0]) != 0:
                return "compiler"
            began = time.monotonic()
            if not self.passes(program, name) and not (self.renewed_server() and self.passes(program, name)):
                return "%s/%s" % (suite, program.name)
            if bug is None:
                self.took[name] = time.monotonic() - began
        return None

    def pytest(self, folder, test):
        """The first test that fails; None: none does."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if self.run(["sh", "tests/python.sh", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test], SYSTEM_S,
                    CAMPAIGN_TEST_DIR=str(folder), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTHONDONTWRITEBYTECODE="1") == 0:
            return None
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+::\S+)", self.log.read_text(errors="replace"), re.M)
        return failed[0] if failed else test

    def slow(self, bug, with_fault):
        _, tests, fault = nearest.find(bug.file)
        if self.make("all") != 0 or self.make("all", variant="release") != 0 or self.make("build/test/fault-proxy") != 0:
            return "compiler"
        folder = self.folder / "t"
        for test in tests:
            failed = self.pytest(folder, test)
            if failed and self.pytest(folder, failed): # twice: it was not chance
                return "system/%s" % failed.split("/")[-1]
        if fault and with_fault:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            if self.run(["sh", "tests/python.sh", "tests/fault/fault.py"], SYSTEM_S, CAMPAIGN_TEST_DIR=str(folder), SEED="1", SEEDS="1") != 0:
                return "fault"
        return None


# --- what is planted ----------------------------------------------------------------------------------------------------

def draw(seed, only):
    """For each file an endless list of bugs in a drawn order, ours and the tool's in turns, one for a line at most."""
    paths = [str(path.relative_to(ROOT)) for folder in ("worker", "schemas") for path in sorted((ROOT / folder).rglob("*.*"))]
    drawn = {}
    for path, share in nearest.files(paths).items():
        if only and not re.search(only, path):
            continue
        text = (ROOT / path).read_text()
        found = []
        for planter in (plant.by_operators, plant.by_tool):
            bugs = list(planter(path, text))
            random.Random("%s %s %s" % (seed, path, planter.__name__)).shuffle(bugs)
            found.append(bugs)
        turns = [bug for pair in zip(*found) for bug in pair]
        drawn[path] = (share, turns)
    return drawn


def numbers(drawn, count):
    """How many in each file: by its share, and at least one."""
    whole = sum(share for share, _ in drawn.values())
    return {path: max(1, round(count * share / whole)) for path, (share, _) in drawn.items()}


class Results:
    """What became of each bug, as long as the tree is the same."""

    def __init__(self):
        self.path = BUILD / "results.json"
        self.lock = threading.Lock()
        tree = subprocess.run(["git", "ls-files", "-s", "worker", "schemas", "producer", "tests", "Makefile"], cwd=ROOT,
                              capture_output=True, text=True).stdout
        self.tree = hashlib.sha256(tree.encode()).hexdigest()
        self.known = {}
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            self.known = kept["bugs"] if kept["tree"] == self.tree else {}

    @staticmethod
    def key(bug):
        return "%s\n%d\n%s\n%s" % (bug.file, bug.at, bug.line, bug.mutant)

    def get(self, bug):
        return self.known.get(self.key(bug))

    def put(self, bug, by):
        with self.lock:
            self.known[self.key(bug)] = by
            self.path.write_text(json.dumps({"tree": self.tree, "bugs": self.known}, indent=1))


def read_reasons():
    """{(file, line, mutant): why it cannot matter}; blanks at the ends do not count."""
    reasons, now = {}, {}
    for line in (HERE / "reasons.txt").read_text().split("\n") + [""]:
        if line.startswith("#"):
            continue
        head, _, rest = line.partition(" ")
        if head in ("in", "-", "+", "why"):
            now[head] = (now[head] + " " if head in now else "") + rest.strip()
        elif line.startswith("    ") and "why" in now:
            now["why"] += " " + line.strip()
        elif not line.strip() and now:
            reasons[(now["in"], now["-"], now["+"])] = now["why"]
            now = {}
    return reasons


def try_one(slots, bug, results, quick, with_fault):
    """none, survived, or who noticed it."""
    known = results.get(bug)
    if known and not (known == "missed" and not quick):
        return known
    slot = slots.get()
    try:
        by = "none"
        if known == "missed":
            slot.plant(bug)
            by = slot.slow(bug, with_fault) or "survived"
        elif slot.plant(bug):
            by = slot.quick(bug) or ("missed" if quick else slot.slow(bug, with_fault) or "survived")
    finally:
        slot.restore(bug)
        slots.put(slot)
    results.put(bug, by)
    return by


def search_file(slots, bugs, count, results, quick, with_fault, say):
    """Plants bugs until so many were bugs; one for a line."""
    done, lines = [], set()
    for bug in bugs:
        if len(done) == count:
            break
        if bug.at in lines:
            continue
        by = try_one(slots, bug, results, quick, with_fault)
        if by != "none":
            lines.add(bug.at)
            done.append((bug, by))
            say(bug, by)
    return done


def main():
    count, jobs = int(os.environ.get("MUTANTS") or 80), int(os.environ.get("JOBS") or 2)
    quick, with_fault = bool(os.environ.get("QUICK")), os.environ.get("FAULT") != "0"
    BUILD.mkdir(parents=True, exist_ok=True)
    reasons, results = read_reasons(), Results()
    drawn = draw(os.environ.get("SEED") or "1", os.environ.get("ONLY"))
    wanted = numbers(drawn, count)
    print("1..%d" % sum(wanted.values()), flush=True)
    printed, lock = [0], threading.Lock()

    def reason(bug):
        return reasons.get((bug.file, bug.line.strip(), bug.mutant.strip()))

    def say(bug, by):
        with lock:
            printed[0] += 1
            bad = by in ("survived", "missed") and not reason(bug)
            print("%sok %d - %s:%d %s%s" % ("not " if bad else "", printed[0], bug.file, bug.at + 1, by,
                                            " (reasons.txt)" if by == "survived" and not bad else ""), flush=True)
            if by in ("survived", "missed"):
                print("#   -%s\n#   +%s   [%s]" % (bug.line.strip(), bug.mutant.strip(), bug.planter), flush=True)

    slots, all_slots = queue.Queue(), []
    began = time.monotonic()
    try:
        for number in range(jobs):
            all_slots.append(Slot(number))
            slots.put(all_slots[-1])
        by = all_slots[0].quick(None)
        if by:
            sys.exit("%s fails without any bug: %s" % (by, all_slots[0].log))
        for slot in all_slots:
            slot.took = all_slots[0].took
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            futures = {path: pool.submit(search_file, slots, bugs, wanted[path], results, quick, with_fault, say)
                       for path, (_, bugs) in drawn.items()}
            found = {path: future.result() for path, future in futures.items()}
    finally:
        for slot in all_slots:
            slot.close()
    return score(found, reason, quick, time.monotonic() - began)


def score(found, reason, quick, seconds):
    suites = [*SUITES, "system", "fault", "compiler"]
    print("# %-28s %7s %s %8s %6s" % ("file", "planted", " ".join("%9s" % suite for suite in suites), "survived", "reason"))
    noticed = matter = bare = 0
    for path, bugs in sorted(found.items()):
        by = collections.Counter(who.split("/")[0] for _, who in bugs)
        left = [bug for bug, who in bugs if who in ("survived", "missed")]
        excused = sum(1 for bug in left if reason(bug))
        print("# %-28s %7d %s %8d %6d" % (path, len(bugs), " ".join("%9d" % by[suite] for suite in suites), len(left), excused))
        matter += len(bugs) - excused
        noticed += len(bugs) - len(left)
        bare += len(left) - excused
    if quick:
        print("# the quick suites notice %d of %d" % (noticed, matter + 0))
        return 0
    print("# score: %d of %d that can matter are noticed, %.1f %%; %.0f minutes" % (noticed, matter, 100 * noticed / max(1, matter), seconds / 60))
    return 0 if noticed >= WANTED * matter and bare == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
