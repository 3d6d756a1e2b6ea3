"""Two PostgreSQL clusters, of which one is the primary. The other becomes its synchronous standby when a failover is on its
way (nemesis.failover), and the primary then. Whoever connects names both.
"""

import contextlib
import itertools
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import psycopg2
import psycopg2.extras

import harness
from orderly import Orderly

STANDBY = "standby"  # its application_name, and what the primary's commits wait for


def children(pid):
    """Processes that are that one's, as /proc has them at this moment."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


class Node(Orderly, harness.Postgres):
    """One of the clusters."""

    def end(self):
        self.ended = True
        self.thaw()
        self.call("stop", "immediate")
        with self.lock:
            self.call("remove")

    def socket(self):
        return "%s/.s.PGSQL.%d" % (self.host, self.port)

    @property
    def data(self):
        return pathlib.Path(self.env()["PGDATA"])

    def started(self):
        """What the postmaster has noted: its process, and the shared memory that marks the data as in use."""
        lines = (self.data / "postmaster.pid").read_text().split("\n")
        return int(lines[0]), lines[6].split()[1]

    def pid(self):
        return self.started()[0]

    def signal(self, number):
        """The postmaster first: it starts no others then."""
        pid = self.pid()
        for victim in itertools.chain([pid], children(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, number)

    def freeze(self):
        """All of it, so that it answers nobody."""
        self.signal(signal.SIGSTOP)

    def thaw(self):
        with contextlib.suppress(OSError, ValueError, IndexError):  # as a rule nothing runs, or nothing is frozen
            self.signal(signal.SIGCONT)

    def crash(self):
        """kill -9 of every process, as when the machine is gone: frozen first, so that none outlives the others."""
        pid, memory = self.started()
        self.freeze()
        for victim in (*children(pid), pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        harness.wait_until(lambda: not os.path.exists("/proc/%d" % pid), 20, "the end of a postmaster", 0.01)
        subprocess.run(["ipcrm", "--shmem-id", memory], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def prepare(self, like):
        """Where it will be: a port, a folder for its socket, and one for its data, which the server's user can reach as those of
        the other one. It is started when its data are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        env = like.env()
        inside = pathlib.Path(env["PGDATA"]).is_relative_to(like.folder)
        data = self.folder / "data" if inside else pathlib.Path(tempfile.mkdtemp(prefix="campaign-pgdata."))
        env.update(PGHOST=tempfile.mkdtemp(prefix="campaign-pg.", dir="/tmp"), PGPORT=self.settings["PORT"], PGDATA=str(data))
        (self.folder / "env").write_text("".join("export %s=%s\n" % (name, shlex.quote(env[name])) for name in (
            "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGDATA")))
        self.load(env)

    def clone(self, primary):
        """Makes it a standby of that one, not started yet. Whatever it had before is gone."""
        self.run("stop", "immediate")
        owner, data = primary.data.stat(), self.data
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        os.chown(data, owner.st_uid, owner.st_gid)
        program = pathlib.Path("/proc/%d/exe" % primary.pid()).resolve().parent / "pg_basebackup"
        who = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [program, "--pgdata", data, "--wal-method", "stream", "--checkpoint", "fast", "--write-recovery-conf", "--no-sync",
             "--dbname", "host=%s port=%d user=%s application_name=%s" % (primary.host, primary.port, primary.user, STANDBY)],
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **who)
        assert done.returncode == 0, "pg_basebackup: " + done.stdout


class Postgres(harness.Postgres):
    """The pair, of which everybody but the fault sees the primary."""

    def __init__(self, folders):
        self.nodes = [Node(folder) for folder in folders]
        self.primary, self.ended = self.nodes[0], False

    @property
    def standby(self):
        """What is none as a rule."""
        return next(node for node in self.nodes if node is not self.primary)

    def start(self, port):
        """port: the second one's."""
        first, second = self.nodes
        first.run("start")
        second.settings["PORT"] = str(port)
        first.load(first.env())
        second.prepare(first)
        self.load(first.env())

    def attach(self):
        """When another process has started it."""
        for node in self.nodes:
            node.load(node.env())
        self.load(self.nodes[0].env())

    def run(self, verb, *args):
        self.primary.run(verb, *args)

    def end(self):
        self.ended = True
        for node in self.nodes:
            node.end()

    def conninfo(self, database="postgres", user=None):
        return "host=%s port=%s user=%s dbname=%s target_session_attrs=primary" % (
            ",".join(node.host for node in self.nodes), ",".join(str(node.port) for node in self.nodes), user or self.user, database)

    def set(self, **settings):
        """Settings that outlive a restart, which the script's own do not."""
        with contextlib.closing(self.connect()) as session, session.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute("ALTER SYSTEM SET %s = '%s'" % (name, value))

    def ask(self, text, values=None, database="postgres", patience_s=60):
        """Runs a statement in a session of its own; its rows, as dicts. While there is no way to the server, again."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                with contextlib.closing(self.connect(database)) as session:
                    with session.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                        cursor.execute(text, values)
                        return [dict(row) for row in cursor.fetchall()] if cursor.description else []
            except psycopg2.DatabaseError as error:
                by_state = isinstance(error, psycopg2.OperationalError) or error.pgcode is None
                if not by_state or self.ended or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def revive(self, patience_s=60):
        """Starts it if it has died, and waits until it answers."""
        deadline = time.monotonic() + patience_s
        while True:
            self.run("start")
            try:
                return self.ask("SELECT 1", patience_s=2)
            except psycopg2.DatabaseError:
                if time.monotonic() > deadline:
                    raise

    # A failover

    def wait_for(self, names):
        """synchronous_standby_names: quoted, or DEFAULT."""
        self.ask("ALTER SYSTEM SET synchronous_standby_names = " + names)
        self.ask("SELECT pg_reload_conf()")

    def follow(self):
        """Starts the clone as the standby that every commit waits for from now on. None that was told to be done before is on the
        primary alone: commits are seen to wait before there is a standby, and one of those ends when it has all up to there."""
        waits, through = threading.Event(), threading.Event()

        def commit():
            with contextlib.suppress(psycopg2.Error):
                while not waits.is_set():
                    self.ask("SELECT pg_logical_emit_message(true, '', '')")
                through.set()

        self.wait_for("'%s'" % STANDBY)
        threading.Thread(target=commit, daemon=True).start()
        try:
            harness.wait_until(lambda: self.ask(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%%emit_message%%'"), 20, "commits that wait")
        finally:
            waits.set()
        self.standby.run("start")
        assert through.wait(60), "the standby does not follow"

    def stay(self):
        """Without a standby, as before."""
        self.wait_for("DEFAULT")
        self.standby.run("stop", "immediate")

    def promote(self):
        """The standby, when the primary is no more."""
        with contextlib.closing(psycopg2.connect(harness.Postgres.conninfo(self.standby))) as session, session.cursor() as cursor:
            session.autocommit = True
            cursor.execute("SELECT pg_promote(true, 60)")
            assert cursor.fetchone()[0], "the standby is not promoted"
        self.primary = self.standby
