"""pgbouncer between the programs and PostgreSQL, beside another application that uses the same pool."""

import concurrent.futures
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import threading

import psycopg2
import pytest

from harness import wait_until

PGBOUNCER = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
SHARED = ["transaction", "statement"]

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="there is no pgbouncer")


class Pooler:
    """A pgbouncer before a world's database."""

    def __init__(self, world, mode, size, **settings):
        postgres = world.services.postgres
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.size, self.database, self.user = size, world.database, world.services.LOGIN
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "any", "pool_mode": mode,
            "default_pool_size": size, **settings}
        conf = world.folder / ("pgbouncer-%d.ini" % self.port)
        conf.write_text("[databases]\n* = host=%s port=%d user=%s\n[pgbouncer]\n%s\n" % (
            postgres.host, postgres.port, self.user, "\n".join("%s = %s" % setting for setting in settings.items())))
        conf.chmod(0o644)
        owner = os.stat(postgres.host).st_uid  # only it may open the socket
        as_owner = ["-u", pwd.getpwuid(owner).pw_name] if os.geteuid() == 0 else []
        self.log = world.folder / ("pgbouncer-%d.log" % self.port)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([PGBOUNCER, *as_owner, str(conf)], stdout=log, stderr=log, cwd="/")
        world.closers.append(self.close)
        wait_until(self.answers, 10, "pgbouncer answers: " + self.log.read_text())

    def conninfo(self, user=None):
        return "host=127.0.0.1 port=%d dbname=%s user=%s" % (self.port, self.database, user or self.user)

    def answers(self):
        with contextlib.suppress(psycopg2.Error), contextlib.closing(psycopg2.connect(self.conninfo())):
            return True

    def close(self):
        self.process.kill()
        self.process.wait()

    def look(self, _):
        """What another application finds in its session."""
        with contextlib.closing(psycopg2.connect(self.conninfo())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_backend_pid(), current_setting('enable_seqscan'), current_setting('statement_timeout'), "
                    "current_setting('search_path'), (SELECT count(*) FROM pg_prepared_statements), "
                    "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), pg_sleep(0.5)")
                return cursor.fetchone()

    def sessions(self):
        """All sessions of the pool, by so many clients at once."""
        with concurrent.futures.ThreadPoolExecutor(self.size) as clients:
            return {row[0]: row[1:-1] for row in clients.map(self.look, range(self.size))}


UNTOUCHED = ("on", "0", '"$user", public', 0, 0)


def assert_refused(done):
    text = done.stdout + done.stderr
    assert done.returncode == 1, text
    assert "pooler" in text and "session mode" in text, text


@pytest.mark.parametrize("round_robin", [0, 1], ids=["last-used", "in-turns"])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("mode", SHARED)
def test_shared_sessions_are_refused_and_left_alone(world, mode, size, round_robin):
    """Alone, with all sessions of the pool idle: nothing but the pids tells of the pooler."""
    pooler = Pooler(world, mode, size, server_round_robin=round_robin)
    before = pooler.sessions()
    assert len(before) == size and set(before.values()) == {UNTOUCHED}
    database = {"CAMPAIGN_DATABASE": pooler.conninfo()}
    assert_refused(world.program("campaign-worker", "check", env=database, check=False))
    assert_refused(world.program("campaign-worker", "migrate", env=database, check=False))
    world.send(world.command())
    assert_refused(world.program("campaign-worker", "resume", "--partition", "0", "--from", "earliest", env=database, check=False))
    worker = world.worker(database=pooler.conninfo())
    assert worker.wait() != 0
    (fatal,) = worker.events("fatal")
    assert "pooler" in fatal["msg"] and "session mode" in fatal["msg"]
    assert pooler.sessions() == before


@pytest.mark.parametrize("mode", SHARED)
def test_shared_sessions_of_a_busy_pool(world, mode):
    """Others use the pool all the time: who gets which session is chance."""
    pooler, over = Pooler(world, mode, 3), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(6) as others:
        running = [others.submit(use_until, over, pooler) for _ in range(6)]
        try:
            for _ in range(5):
                assert_refused(world.program(
                    "campaign-worker", "check", env={"CAMPAIGN_DATABASE": pooler.conninfo()}, check=False))
        finally:
            over.set()
        assert {found for other in running for found in other.result()} == {UNTOUCHED[:2]}


def use_until(over, pooler):
    found = set()
    with contextlib.closing(psycopg2.connect(pooler.conninfo())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not over.is_set():
                cursor.execute("SELECT current_setting('enable_seqscan'), current_setting('statement_timeout'), "
                               "pg_sleep(random() * 0.005)")
                found.add(cursor.fetchone()[:2])
    return found


@pytest.mark.parametrize("size", [20, 2], ids=["roomy", "crowded"])
def test_sessions_of_their_own(world, size):
    """Session mode is fine, also where the pool has no session more than the lanes take."""
    pooler = Pooler(world, "session", size)
    worker = world.worker(lanes=2, database=pooler.conninfo())
    worker.wait_for_log("running", count=2)
    sent = world.send(*[world.command() for _ in range(50)])
    assert all(result["success"] for result in world.verify(sent).values())
    assert not worker.events("waiting") and worker.stop() == 0
    assert set(pooler.sessions().values()) == {UNTOUCHED}
    found = world.program("campaign-worker", "check", env={"CAMPAIGN_DATABASE": pooler.conninfo()}, check=False).stdout
    assert "pooler" not in found and "has the rights" in found, found
