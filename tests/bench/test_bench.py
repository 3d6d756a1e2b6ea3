"""The benchmark measures what it says: with little work, and no look at how fast anything is."""

import array
import contextlib
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import xml.dom.minidom

import pytest

import bench
import meter
import plot
import rig as rigs
from harness import Reader, Result

SIZE = {**bench.SHORT, "rounds": 1, "latency_rounds": 1, "memory": 200000}
SCALE = 0.01


@pytest.fixture(scope="module")
def rig():
    given = os.environ.get("CAMPAIGN_TEST_DIR")
    folder = pathlib.Path(given) if given else pathlib.Path(tempfile.mkdtemp(prefix="campaign-test."))
    folder.chmod(0o755)
    rig = rigs.Rig(folder, 1, 8)
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()
        shutil.rmtree(folder / "runs" if given else folder, ignore_errors=True)


@pytest.fixture(scope="module")
def figures(rig):
    """A whole run, small."""
    measured = bench.Bench(rig, SIZE, SCALE)
    measured.run(["throughput", "latency", "lanes", "workers", "errors", "copies", "folders", "partitions", "memory"])
    measured.figures["targets"] = measured.targets()
    return measured.figures


def test_everything_is_measured(figures):
    assert figures["failed"] == []
    measured = figures["measurements"]
    assert set(measured) == {"copy", "sql", "end to end", "loop at 100/s", "worker at 100/s", "1 lane", "2 lanes",
                             "1 lane, batches of 20", "2 lanes, batches of 20", "1 lane, batches of 20, 2 ms away",
                             "2 lanes, batches of 20, 2 ms away", "2 workers", "16 % errors", "distinct", "each twice",
                             "one over and over", "list", "folder", "list, whole", "folder, whole", "1 partition",
                             "2 partitions", "8 partitions", "32 partitions", "memory", "memory, 1000 leads"}
    for name in ("end to end", "1 lane", "2 lanes, batches of 20", "2 lanes, batches of 20, 2 ms away", "2 workers",
                 "folder", "folder, whole", "32 partitions", "memory"):
        assert measured[name]["codes"] == {"ok": measured[name]["commands"]}
        assert measured[name]["wire_bytes"]["kafka"]["received"] > measured[name]["publish"]["bytes"] / 2
        assert measured[name]["wire_bytes"]["database"]["sent"] > 0
    assert measured["sql"]["outcomes"] == {"created": measured["sql"]["commands"]}
    assert 1500 < measured["copy"]["wal_bytes"] < 6000
    assert len(figures["targets"]) == 15


@pytest.mark.parametrize("batch", [1, 5])
def test_every_command_is_fetched_once(rig, batch):
    """However small the batches of a backlog are: what was fetched is not thrown away for want of room and fetched again."""
    measured = bench.Bench(rig, SIZE, 1).end_to_end("small", 200 * batch, batch=batch)
    assert measured["codes"] == {"ok": 200 * batch}
    assert measured["wire_bytes"]["kafka"]["received"] < 2 * measured["publish"]["bytes"]


def test_mistakes_are_answered(figures):
    """Each command has its result, whatever was wrong with it."""
    codes = figures["measurements"]["16 % errors"]["codes"]
    assert {"ok", "NOT_FOUND", "UNAUTHORIZED", "VALIDATION_ERROR"} <= set(codes)
    assert sum(codes.values()) == figures["measurements"]["16 % errors"]["commands"]


def test_a_file_can_be_replayed(rig):
    """The second time every answer is the draft of the first time."""
    with rig.commands(60) as path, rig.run("replay") as run:
        drafts = rig.drafts()
        run.worker()
        for times in 1, 2:
            run.publish(path)
            with contextlib.closing(Reader(rig.brokers, run.results)) as reader:
                results = [Result(record) for record in reader.wait(60 * times, 60)]
            assert rig.drafts() - drafts == 60
        assert [result["draftExisted"] for result in results].count(True) == 60
        assert len({result["data"]["id"] for result in results}) == 60


def test_missing_results_are_noticed(rig, monkeypatch):
    monkeypatch.setattr(rigs, "STALL_S", 1)
    with rig.commands(50) as path, rig.run("idle") as run, pytest.raises(rigs.Wrong):
        rig.drain(run, path, 50, lambda: [])


def test_results_of_another_kind_are_noticed(rig):
    """What only answers is no worker."""
    with rig.commands(50) as path, rig.run("empty") as run:
        loop = run.program("loop", commands=run.commands, results=run.results, group=run.group)
        with pytest.raises(rigs.Wrong, match="50 successes, 0 drafts"):
            rig.drain(run, path, 50, lambda: [loop])
        assert loop.stop()["commands"] == 50


def test_the_peers_do_what_the_worker_does(rig):
    """The same commands, wrong ones among them, in databases alike: as many results of each kind, and the same drafts."""
    rigs.build_peer()
    done = {}
    with rig.commands(400, errors=30) as path:
        for mode in "worker", *bench.PEERS, "single":
            database = "judged_by_" + mode
            rig.load(database, rig.groups)
            with rig.run(mode, database) as run:
                process = run.worker() if mode == "worker" else run.peer(mode)
                if mode == "worker":
                    process.wait_for_log("running")
                else:
                    process.wait_for("ready", rigs.READY_S)
                codes = rig.drain(run, path, 400, rigs.held([process]), flawless=False)["codes"]
            done[mode] = codes, rig.ask(
                "SELECT md5(string_agg((account_group_id, name, description, status, selected_lead_count, selected_leads,"
                " include_conversation_history, auto_cancel_on_message_received, outreach_language, workflow,"
                " source_campaign_id, trace_id, command_digest, created_by_key)::text, ' ' ORDER BY trace_id))"
                " FROM campaigns WHERE trace_id IS NOT NULL", database)
    assert 4 <= len(done["worker"][0]) and 200 < done["worker"][0]["ok"] < 400
    assert [done[mode] for mode in done] == [done["worker"]] * 4


def test_latency_counts_from_when_a_command_was_due(rig):
    """Those that were due while nobody answered have waited for that long, though nobody was asked to wait."""
    with rig.commands(700) as path, rig.run("stall") as run:
        loop = run.program("loop", commands=run.commands, results=run.results, group=run.group)
        loop.wait_for("ready", rigs.READY_S)

        def stall():
            time.sleep(1.5)
            os.kill(loop.pid, signal.SIGSTOP)
            time.sleep(1)
            os.kill(loop.pid, signal.SIGCONT)

        thread = threading.Thread(target=stall)
        thread.start()
        raw = run.folder / "raw"
        done = rig.tool("latency", path, brokers=rig.brokers, commands=run.commands, results=run.results, rate=100, seconds=4,
                        warmup=0, raw=raw)
        thread.join()
        took_us = sorted(array.array("q", raw.read_bytes()))
        assert done["measured"] == len(took_us) == done["commands"] == 400
        assert sum(us > 500000 for us in took_us) >= 45
        for share, name in (0.5, "p50_ms"), (0.9, "p90_ms"), (0.99, "p99_ms"), (1, "max_ms"):
            assert done[name] == round(took_us[math.ceil(share * 400) - 1] / 1000, 3)
        assert loop.stop()["commands"] == 400


def test_relay(tmp_path):
    """All of it arrives as it was sent, each way takes its time, and an end is passed on."""
    (port,), payload = rigs.free_ports(1), os.urandom(5 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = rigs.Program(tmp_path / "relay.log", [
            rigs.harness.binary("bench-tool", "release"), "relay", "us=20000", "%d:%d" % (port, server.getsockname()[1])])
        try:
            relay.wait_for("ready", 10)
            with socket.create_connection(("127.0.0.1", port), 10) as client, server.accept()[0] as served:
                begin = time.monotonic()
                client.sendall(b"?")
                assert served.recv(1) == b"?" and time.monotonic() - begin >= 0.02
                served.sendall(b"!")
                assert client.recv(1) == b"!" and time.monotonic() - begin >= 0.04
                sender = threading.Thread(target=lambda: (client.sendall(payload), client.shutdown(socket.SHUT_WR)))
                sender.start()
                with served.makefile("rb") as file:
                    assert file.read() == payload
                sender.join()
                served.sendall(b"bye")
                served.close()
                assert client.recv(10) == b"bye" and client.recv(10) == b""
        finally:
            relay.kill()


def test_percentiles():
    found = bench.percentiles([1000 * (1000 - n) for n in range(1000)])
    curve = found.pop("curve")
    assert curve[0] == [0, 1] and curve[10] == [0.9, 900] and curve[20] == [0.99, 990] and curve[30:] == [[0.999, 999]]
    assert found == {"p50_ms": 500, "p90_ms": 900, "p99_ms": 990, "p999_ms": 999, "max_ms": 1000}
    assert bench.percentiles([7000])["p50_ms"] == bench.percentiles([7000])["max_ms"] == 7
    with pytest.raises(rigs.Wrong):
        bench.percentiles([])


def test_median_of_rounds():
    rounds = [{"a": 1, "b": {"c": 5.0}}, {"a": 9, "b": {"c": 1.0}}, {"a": 2, "b": {"c": 3.0}}]
    assert bench.median(rounds) == {"a": 2, "b": {"c": 3.0}}


def lanes(per_s, busy):
    return {"per_s": per_s, "busy": busy, "rounds": [{"per_s": per_s}]}


def test_targets_say_what_is_missed():
    made = bench.Bench(None, SIZE, 1)
    made.figures["measurements"] = {"1 lane": lanes(1000.0, 0.5), "2 lanes": lanes(1200.0, 0.5)}
    assert [target["verdict"] for target in made.targets()] == ["MISSED"]
    made.figures["measurements"]["2 lanes"] = lanes(1200.0, 0.99)
    assert made.targets()[0]["verdict"] == "processors full (99 %)"
    made.figures["measurements"]["2 lanes"] = lanes(1800.0, 0.99)
    assert made.targets()[0]["verdict"] == "ok"


def test_plots_are_well_formed(figures, tmp_path):
    measured = dict(figures["measurements"])
    whole = measured["end to end"]
    for name in "peer, rows", "peer, sets", "peer, single", "batch 1", "batch 500", "1 leads", "25 leads", "a tenth of the rows":
        measured[name] = whole
    for subject in "loop", "worker":
        measured["%s at 1000/s" % subject] = measured["%s at 100/s" % subject]
    plot.write_all({"measurements": measured}, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.svg")} == set(plot.PLOTS)
    for path in tmp_path.glob("*.svg"):
        document = xml.dom.minidom.parse(str(path))
        assert document.documentElement.tagName == "svg" and not re.search(r"[\", ](nan|inf)", path.read_text())
    plot.write_all({"measurements": {}}, tmp_path)
    assert not list(tmp_path.glob("*.svg"))


def test_processor_time_of_children_is_counted():
    """Of those that run and of those that ended."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', %r])\n"
         "other = subprocess.Popen([sys.executable, '-c', %r + 'time.sleep(60)'])\nprint(flush=True)\n"
         "try: other.wait()\nfinally: other.kill()\n" % (burn, burn)], stdout=subprocess.PIPE)
    try:
        parent.stdout.readline()
        children = meter.children(parent.pid)
        deadline = time.monotonic() + 30
        while meter.process_s(children[0]) < 0.3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(children) == 1 and 0.59 < meter.tree_s(parent.pid) < 3
    finally:
        for pid in meter.children(parent.pid) + [parent.pid]:
            os.kill(pid, signal.SIGKILL)
        parent.wait()


def test_bytes_of_sockets_are_counted():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        port = server.getsockname()[1]
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"x" * 30000)
            left = 30000
            while left:
                left -= len(accepted.recv(left))
            accepted.sendall(b"y" * 500)
            client.recv(500, socket.MSG_WAITALL)
            deadline = time.monotonic() + 10
            while meter.socket_bytes(os.getpid())[port][0] < 30000 and time.monotonic() < deadline:
                time.sleep(0.01)
            sent, received = meter.socket_bytes(os.getpid())[port]
            assert 30000 <= sent <= 30001 and received == 500
