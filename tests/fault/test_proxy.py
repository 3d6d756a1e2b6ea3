"""fault-proxy between small clients and servers of this test's own: what each action does to each side, and which message
it is that sets it off. BUILD and CAMPAIGN_TEST_VARIANT say whose fault-proxy it is, as in the system tests.
Longer than 600 lines: one pair of small clients and servers serves all tests."""

import contextlib
import hashlib
import os
import pathlib
import random
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

import control

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
PROXY = BUILD / os.environ.get("CAMPAIGN_TEST_VARIANT", "test") / "fault-proxy"
SOON_S = 30  # for what is to happen at once
END_TXN, PRODUCE = 26, 0


# --- messages -------------------------------------------------------------------------------------------------------


def kafka(api, client="one-7", body=b""):
    name = struct.pack(">h", -1) if client is None else struct.pack(">h", len(client)) + client.encode()
    request = struct.pack(">hhi", api, 3, 1) + name + body
    return struct.pack(">i", len(request)) + request


def startup(application="worker-one"):
    body = struct.pack(">i", 196608) + b"user\0me\0application_name\0" + application.encode() + b"\0\0"
    return struct.pack(">i", len(body) + 4) + body


def typed(kind, body=b""):
    return kind + struct.pack(">i", len(body) + 4) + body


def query(text):
    return typed(b"Q", text.encode() + b"\0")


def parse(text, name=""):
    return typed(b"P", name.encode() + b"\0" + text.encode() + b"\0\0\0")


def pipeline(*texts):
    """As libpq sends statements in pipeline mode."""
    rest = typed(b"B", bytes(8)) + typed(b"D", b"P\0") + typed(b"E", bytes(5))
    return b"".join(parse(text) + rest for text in texts) + typed(b"S")


OTHER = {"kafka": kafka(11), "pg": typed(b"H")}  # no event of any rule here
SSL_REQUEST, GSS_REQUEST = (struct.pack(">ii", 8, code) for code in (80877103, 80877104))


# --- both ends ------------------------------------------------------------------------------------------------------


def free_port():
    """Below the range from which the kernel serves outgoing connections."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Peer:
    """One end of a connection."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(SOON_S)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.sock.sendall(data)

    def receive(self, size):
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            assert more, "the end after %r" % data
            data += more
        return data

    def is_silent(self, seconds=0.15):
        return not select.select([self.sock], [], [], seconds)[0]

    def how_it_ends(self):
        """"end" or "reset", once nothing more comes, and what came before."""
        data = b""
        try:
            while True:
                more = self.sock.recv(65536)
                if not more:
                    return "end", data
                data += more
        except ConnectionResetError:
            return "reset", data

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Controller(Peer):
    def __init__(self, path):
        super().__init__(socket.socket(socket.AF_UNIX))
        self.sock.connect(str(path))
        self.lines = self.sock.makefile("r")

    def line(self):
        return self.lines.readline().rstrip("\n")

    def ask(self, text):
        self.send(text.encode() + b"\n")
        return self.line()

    def add(self, rule, kind, who, event, action, ms, nth=1):
        assert self.ask("add %s %s %s %s %d %s %d" % (rule, kind, who, event, nth, action, ms)) == "ok " + rule


class Ground:
    """A proxy with two targets, each a server that the test plays."""

    def __init__(self, folder):
        self.control = folder / "control"
        self.ports = {"kafka": free_port(), "pg": free_port()}
        self.servers = {"kafka": socket.create_server(("127.0.0.1", 0)), "pg": socket.socket(socket.AF_UNIX)}
        self.servers["pg"].bind(str(folder / "pg"))
        self.servers["pg"].listen()
        targets = {"kafka": "127.0.0.1:%d" % self.servers["kafka"].getsockname()[1], "pg": str(folder / "pg")}
        self.peers = []
        self.process = subprocess.Popen(
            [PROXY, "-p", self.control] + ["%s:%d:%s" % (kind, self.ports[kind], targets[kind]) for kind in self.ports])
        deadline = time.monotonic() + SOON_S
        while not self.control.exists():
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def controller(self):
        return self.keep(Controller(self.control))

    def keep(self, peer):
        self.peers.append(peer)
        return peer

    def client(self, kind="kafka"):
        return self.keep(Peer(socket.create_connection(("127.0.0.1", self.ports[kind]))))

    def connect(self, kind="kafka", first=None):
        """A client and the server's end of its connection, behind the message that tells who it is."""
        client = self.client(kind)
        self.servers[kind].settimeout(SOON_S)
        server = self.keep(Peer(self.servers[kind].accept()[0]))
        first = first or {"kafka": kafka(18), "pg": startup()}[kind]
        client.send(first)
        assert server.receive(len(first)) == first
        return client, server

    def close(self):
        for peer in self.peers:
            peer.close()
        for server in self.servers.values():
            server.close()
        self.process.terminate()
        assert self.process.wait(SOON_S) == 0
        assert not self.control.exists()


@pytest.fixture
def ground(tmp_path):
    with contextlib.closing(Ground(tmp_path)) as ground:
        yield ground


def answers(client, server, message=OTHER["kafka"]):
    """Whether the connection works, both ways."""
    for source, sink in (client, server), (server, client):
        source.send(message)
        if sink.receive(len(message)) != message:
            return False
    return True


# The two events that matter most: what sets each off, the messages before it, and what comes behind it in one write.
CASES = {
    "kafka": ("api:%d" % END_TXN, kafka(PRODUCE, body=bytes(300)), kafka(END_TXN) + kafka(3)),
    "pg": ("commit", pipeline("BEGIN ISOLATION LEVEL READ COMMITTED", "SELECT 1")[:-5], pipeline("COMMIT")),
}
KINDS = pytest.mark.parametrize("kind", CASES)


def trigger(ground, kind, action, ms):
    """A connection on which the rule "r" has fired, and what was written since: before and from the message on."""
    controller = ground.controller()
    client, server = ground.connect(kind)
    event, before, after = CASES[kind]
    controller.add("r", kind, "one", event, action, ms)
    begin = Moment(ground.process.pid)
    client.send(before + after)
    assert controller.line() == "fired r %s" % {"kafka": "one-7", "pg": "worker-one"}[kind]
    assert server.receive(len(before)) == before
    return controller, client, server, after, begin


class Moment:
    """When something began."""

    def __init__(self, pid):
        self.pid, self.at, self.waited_s = pid, time.monotonic(), self.waits_s(pid)

    @staticmethod
    def waits_s(pid):
        """For a processor: the proxy's and this process's own."""
        return control.waited_s(pid) + control.waited_s(os.getpid())


def took_s(begin):
    return time.monotonic() - begin.at


def at_most_s(seconds, begin):
    """What is allowed since: more by what the two have waited for a processor."""
    return seconds + begin.waits_s(begin.pid) - begin.waited_s


# --- actions --------------------------------------------------------------------------------------------------------


def test_lets_everything_through(ground):
    for kind in CASES:
        client, server = ground.connect(kind)
        assert answers(client, server, OTHER[kind])
        client.sock.shutdown(socket.SHUT_WR)
        assert server.how_it_ends() == ("end", b"")
        server.send(b"the last words")
        server.close()
        assert client.how_it_ends() == ("end", b"the last words")


@KINDS
def test_mute_back(ground, kind):
    controller, client, server, after, begin = trigger(ground, kind, "mute-back", 300)
    assert server.receive(len(after)) == after
    server.send(b"committed")
    client.send(after)
    assert server.receive(len(after)) == after
    assert client.is_silent()
    assert client.how_it_ends() == ("reset", b"")
    assert 0.25 < took_s(begin) < at_most_s(1, begin)
    assert controller.line() == "done r"
    assert server.how_it_ends()[1] == b""


@KINDS
def test_mute_forth(ground, kind):
    controller, client, server, _, begin = trigger(ground, kind, "mute-forth", 300)
    client.send(OTHER[kind])
    server.send(b"an answer")
    assert client.receive(9) == b"an answer"
    assert client.how_it_ends() == ("reset", b"")
    assert 0.25 < took_s(begin) < at_most_s(1, begin)
    assert controller.line() == "done r"
    assert server.how_it_ends()[1] == b""


@KINDS
def test_half_open(ground, kind):
    controller, client, server, _, begin = trigger(ground, kind, "half-open", 300)
    server.send(b"an answer")
    assert client.is_silent() and server.is_silent(0)
    assert client.how_it_ends() == ("reset", b"")
    assert 0.25 < took_s(begin) < at_most_s(1, begin)
    assert controller.line() == "done r"
    assert server.how_it_ends()[1] == b""


def test_half_open_hides_a_close(ground):
    controller, client, server, _, begin = trigger(ground, "kafka", "half-open", 300)
    client.close()
    assert server.how_it_ends() == ("reset", b"") and took_s(begin) > 0.25
    assert controller.line() == "done r"


@KINDS
def test_reset(ground, kind):
    controller, client, server, _, begin = trigger(ground, kind, "reset", 5000)
    assert controller.line() == "done r"
    assert client.how_it_ends() == ("reset", b"")
    assert server.how_it_ends()[1] == b""
    assert took_s(begin) < at_most_s(1, begin)


@KINDS
def test_answer_lost(ground, kind):
    controller, client, server, after, begin = trigger(ground, kind, "answer-lost", 200)
    assert server.receive(len(after)) == after
    server.send(b"committed")
    assert client.how_it_ends() == ("reset", b"")
    for _ in range(5):
        time.sleep(0.1)
        server.send(b"still here")
    assert server.how_it_ends()[1] == b"" and 0.6 < took_s(begin) < at_most_s(1.5, begin)
    assert controller.line() == "done r"


@KINDS
def test_detach(ground, kind):
    _, client, server, after, begin = trigger(ground, kind, "detach", 400)
    assert client.how_it_ends() == ("reset", b"")
    assert took_s(begin) < at_most_s(0.3, begin) and server.is_silent()
    assert server.receive(len(after)) == after and took_s(begin) > 0.35
    server.send(b"too late")
    assert server.is_silent()


def test_detach_closes_in_the_end(ground):
    controller, client, server, after, begin = trigger(ground, "kafka", "detach", 100)
    assert server.receive(len(after)) == after
    assert server.how_it_ends() == ("end", b"") and 2 < took_s(begin) < at_most_s(4, begin)
    assert controller.line() == "done r"


def test_detach_takes_all_that_belongs_together(ground):
    """The rest of a message comes in a second piece, and more than any buffer takes."""
    controller, big = ground.controller(), os.urandom(1000000)
    client, server = ground.connect()
    controller.add("r", "kafka", "*", "api:0", "detach", 300)
    message = kafka(PRODUCE, body=big)
    client.send(message[:200])
    client.send(message[200:])
    assert client.how_it_ends()[0] == "reset"
    assert server.receive(len(message)) == message


@KINDS
def test_hold(ground, kind):
    controller, client, server, after, begin = trigger(ground, kind, "hold", 300)
    client.send(OTHER[kind])
    server.send(b"an answer")
    assert client.receive(9) == b"an answer"
    assert server.is_silent()
    assert server.receive(len(after + OTHER[kind])) == after + OTHER[kind] and 0.25 < took_s(begin) < at_most_s(1, begin)
    assert controller.line() == "done r"
    assert answers(client, server, OTHER[kind])


@pytest.mark.parametrize("reset", (False, True))
def test_hold_outlives_the_client(ground, reset):
    _, client, server, after, begin = trigger(ground, "pg", "hold", 300)
    time.sleep(0.05)
    client.close(reset)
    assert server.receive(len(after)) == after and took_s(begin) > 0.25
    server.send(b"too late")
    assert server.is_silent()


@KINDS
def test_slow(ground, kind):
    controller, client, server, after, begin = trigger(ground, kind, "slow", 600)
    data = bytes(3000)
    server.send(data)
    assert client.receive(400) == data[:400] and took_s(begin) > 0.25
    assert server.receive(len(after)) == after
    assert client.receive(2600) == data[400:] and 0.55 < took_s(begin) < at_most_s(1.5, begin)
    assert controller.line() == "done r"
    assert answers(client, server, OTHER[kind])


# --- events ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind,action", [(kind, action) for kind in CASES for action in ("detach", "hold")])
def test_byte_by_byte(ground, kind, action):
    controller = ground.controller()
    client = ground.client(kind)
    event, before, after = CASES[kind]
    before = {"kafka": b"", "pg": SSL_REQUEST + GSS_REQUEST + startup()}[kind] + before
    controller.add("r", kind, "one", event, action, 200)
    for byte in before + after:
        client.send(bytes([byte]))
    assert controller.line().startswith("fired r")
    server = ground.keep(Peer(ground.servers[kind].accept()[0]))
    assert server.receive(len(before)) == before
    assert server.is_silent(0.05)
    assert server.receive(len(after)) == after


def test_postgres_asks_for_encryption_first(ground):
    client, server = ground.connect("pg", SSL_REQUEST)
    server.send(b"N")
    assert client.receive(1) == b"N"
    client.send(startup())
    assert server.receive(len(startup())) == startup()
    controller = ground.controller()
    controller.add("r", "pg", "worker-one", "begin", "reset", 0)
    client.send(query("begin"))
    assert controller.line() == "fired r worker-one"


def test_what_is_no_such_protocol_passes(ground):
    garbage = os.urandom(100)
    no_messages = [("kafka", b"\xff" * 4 + garbage), ("pg", b"\x16\x03\x01\x02" + garbage), ("pg", b"\0\0\0\x08\0\0\0\0")]
    for kind, first in no_messages:
        client, server = ground.connect(kind, first)
        assert answers(client, server)


def test_an_unfinished_message_is_delivered_at_the_end(ground):
    client, server = ground.connect()
    client.send(kafka(0)[:9])
    client.close()
    assert server.how_it_ends() == ("end", kafka(0)[:9])


@pytest.mark.parametrize("event,yes,no", [
    ("commit", [query("COMMIT"), query("commit;"), parse("COMMIT"), parse("COMMIT", "name")],
     [query("COMMITTED"), query("SELECT 'COMMIT'"), typed(b"B", b"COMMIT\0"), parse("SELECT 1", "COMMIT"), query("BEGIN"),
      parse("")]),
    ("begin", [query("BEGIN"), parse("BEGIN ISOLATION LEVEL READ COMMITTED"), query("begin; SELECT 1")],
     [query("COMMIT"), query("BEGINNING"), parse("COMMIT")]),
])
def test_statements(ground, event, yes, no):
    controller = ground.controller()
    client, server = ground.connect("pg")
    for i, message in enumerate(yes):
        controller.add("r%d" % i, "pg", "*", event, "slow", 0)
        client.send(b"".join(no))
        assert server.receive(sum(map(len, no))) == b"".join(no)
        client.send(message)
        assert controller.line() == "fired r%d worker-one" % i
        assert controller.line() == "done r%d" % i
        assert server.receive(len(message)) == message


def test_nth(ground):
    """Counted over all connections, in one write and in several."""
    controller = ground.controller()
    pairs = [ground.connect() for _ in range(3)]
    controller.add("r", "kafka", "*", "api:26", "hold", 200, nth=6)
    for client, _ in pairs[:2]:
        client.send(2 * (kafka(0) + kafka(26)))
    for _, server in pairs[:2]:
        server.receive(2 * len(kafka(0) + kafka(26)))
    client, server = pairs[2]
    client.send(3 * kafka(26))
    assert controller.line() == "fired r one-7"
    assert server.receive(len(kafka(26))) == kafka(26)
    assert server.is_silent(0.1)
    assert server.receive(2 * len(kafka(26))) == 2 * kafka(26)
    assert all(answers(*pair) for pair in pairs)


def test_who(ground):
    controller = ground.controller()
    nameless, one, two = (ground.connect("kafka", kafka(18, name)) for name in (None, "instance-one", "instance-two"))
    controller.add("none", "kafka", "three", "now", "reset", 0)
    assert controller.line() == "done none"
    controller.add("r", "kafka", "instance-two", "api:3", "reset", 0)
    assert answers(*one) and answers(*nameless, kafka(3, None))
    two[0].send(kafka(3, "instance-two"))
    assert controller.line() == "fired r instance-two"
    assert controller.line() == "done r"
    assert two[0].how_it_ends()[0] == "reset"
    controller.add("any", "kafka", "*", "api:3", "reset", 0)
    nameless[0].send(kafka(3, None))
    assert controller.line() == "fired any -"
    assert answers(*one)


def test_now(ground):
    controller = ground.controller()
    pairs = [ground.connect("kafka", kafka(18, name)) for name in ("a", "b-one", "c-one")]
    other = ground.connect("pg")
    controller.add("r", "kafka", "one", "now", "half-open", 500)
    assert {controller.line(), controller.line()} == {"fired r b-one", "fired r c-one"}
    assert answers(*pairs[0]) and answers(*other, OTHER["pg"])
    assert all(peer.is_silent(0.01) for pair in pairs[1:] for peer in pair)
    for client, server in pairs[1:]:
        assert client.how_it_ends() == server.how_it_ends() == ("reset", b"")
    assert controller.line() == "done r"
    assert answers(*ground.connect())
    controller.add("all", "kafka", "*", "now", "reset", 0)
    assert [controller.line() for _ in range(3)][2] == "done all"


def test_rules_wait_for_each_other(ground):
    controller = ground.controller()
    client, server = ground.connect("pg")
    controller.add("hold", "pg", "*", "commit", "hold", 150)
    controller.add("lose", "pg", "*", "commit", "answer-lost", 100)
    client.send(query("COMMIT"))
    assert [controller.line() for _ in range(3)] == ["fired hold worker-one", "done hold", "fired lose worker-one"]
    assert client.how_it_ends()[0] == "reset"
    assert server.receive(len(query("COMMIT"))) == query("COMMIT")


# --- controllers ----------------------------------------------------------------------------------------------------


def test_delete(ground):
    controller = ground.controller()
    client, server = ground.connect()
    controller.add("r", "kafka", "*", "api:3", "reset", 0)
    assert controller.ask("del r") == "ok r"
    assert answers(client, server)
    assert controller.ask("del r").startswith("error r ")
    controller.add("r", "kafka", "*", "api:3", "hold", 200)
    other = ground.controller()
    assert other.ask("del r").startswith("error r ")
    client.send(kafka(3))
    assert controller.line() == "fired r one-7"
    assert controller.ask("del r").startswith("error r ")
    assert controller.line() == "done r"


def test_controllers_that_go_away(ground):
    """What was armed goes with it, what has fired is carried through; others know nothing of it."""
    leaving, staying = ground.controller(), ground.controller()
    client, server = ground.connect()
    leaving.add("r", "kafka", "*", "api:3", "reset", 0)
    leaving.add("h", "kafka", "*", "api:26", "hold", 200)
    staying.add("r", "kafka", "*", "api:5", "reset", 0)
    client.send(kafka(26))
    assert leaving.line() == "fired h one-7"
    leaving.lines.close()
    leaving.close()
    assert server.is_silent(0.1)
    assert server.receive(len(kafka(26))) == kafka(26)
    assert answers(client, server)
    client.send(kafka(5))
    assert staying.line() == "fired r one-7"


@pytest.mark.parametrize("line", [
    "add r", "add r mysql * now 1 reset 0", "add r pg * api:3 1 reset 0", "add r kafka * begin 1 reset 0",
    "add r pg * now 0 reset 0", "add r pg * now 1 break 0", "add r pg * now 1 reset -1", "add r pg * now 1 reset 0 0",
    "del x", "hello", "add %s" % ("x" * 400),
])
def test_refused_lines(ground, line):
    controller = ground.controller()
    assert controller.ask(line).startswith("error ")
    assert controller.ask("stat").startswith("stat kafka ")


def test_stat(ground):
    client, server = ground.connect()
    server.send(bytes(100))
    client.receive(100)
    assert ground.controller().ask("stat") == \
        "stat kafka connections=1 open=1 forth=%d back=100 pg connections=0 open=0 forth=0 back=0" % len(kafka(18))


def test_a_line_without_end(ground):
    controller = ground.controller()
    controller.send(b"x" * 600)
    assert controller.how_it_ends()[1] == b""
    assert ground.controller().ask("stat").startswith("stat")


# --- streams --------------------------------------------------------------------------------------------------------


def test_refusing_target(ground):
    for server in ground.servers.values():
        server.close()
    for kind in CASES:
        assert ground.client(kind).how_it_ends()[1] == b""


def test_server_dies(ground):
    client, server = ground.connect()
    server.send(b"the last words")
    server.close(reset=True)
    assert client.how_it_ends() == ("reset", b"the last words")


def test_client_dies(ground):
    client, server = ground.connect()
    client.send(kafka(3))
    time.sleep(0.05)
    client.close(reset=True)
    assert server.how_it_ends() == ("reset", kafka(3))


def test_fifty_megabytes(ground):
    """Whole, in messages of all sizes, both ways at once."""
    client, server = ground.connect("pg")
    sizes = [1, 90, 200, 70000, 1 << 20, 9 << 20, 15 << 20]
    blob = os.urandom(1 << 20)
    message = b"".join(typed(b"d", (blob * 16)[:size]) for size in sizes)
    data = {client: 2 * message, server: message[:5 << 20]}
    sums = {}

    def read(peer, size):
        left, digest = size, hashlib.sha256()
        while left > 0:
            piece = peer.sock.recv(1 << 20)
            assert piece
            digest.update(piece)
            left -= len(piece)
        sums[peer] = digest.digest()

    threads = [threading.Thread(target=run, args=args) for run, args in (
        (client.send, (data[client],)), (server.send, (data[server],)),
        (read, (client, len(data[server]))), (read, (server, len(data[client]))))]
    assert len(data[client]) > 50 << 20
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sums == {client: hashlib.sha256(data[server]).digest(), server: hashlib.sha256(data[client]).digest()}


def resident_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        return sum(map(int, f.read().rpartition(")")[2].split()[11:13]))


def test_back_pressure(ground):
    """A server that does not read stops its client; what is on its way is kept, and costs no time."""
    client, server = ground.connect()
    before_kib, sent, piece = resident_kib(ground.process.pid), 0, kafka(0, body=bytes(100000))
    client.sock.setblocking(False)
    stuck_since = time.monotonic()
    while time.monotonic() < stuck_since + 0.2:
        try:
            sent += client.sock.send(piece[sent % len(piece):])
            stuck_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    assert sent < 100 << 20
    assert resident_kib(ground.process.pid) < before_kib + 2000
    ticks = cpu_ticks(ground.process.pid)
    assert answers(*ground.connect())
    time.sleep(0.3)
    assert cpu_ticks(ground.process.pid) <= ticks + 3
    assert server.receive(sent) == (piece * (sent // len(piece) + 1))[:sent]


def test_ends_with_the_one_that_started_it(tmp_path):
    control = tmp_path / "control"
    script = '"$0" -p "$1" "$2" & echo $!; while [ ! -S "$1" ]; do sleep 0.05; done'
    started = subprocess.run(
        ["sh", "-c", script, PROXY, control, "kafka:%d:127.0.0.1:1" % free_port()], stdout=subprocess.PIPE, timeout=SOON_S)
    deadline = time.monotonic() + SOON_S
    while control.exists():
        assert time.monotonic() < deadline, "process %s is still there" % started.stdout
        time.sleep(0.01)
