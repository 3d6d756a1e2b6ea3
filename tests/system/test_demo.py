"""make demo, as somebody would use it who has just cloned the repository."""

import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from harness import BUILD, ROOT, clean_environment, read_env, wait_until

OUTCOMES = 24


def processes(word):
    """Those whose command line or working folder names it."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                folder = os.readlink(entry / "cwd")
            except OSError:
                continue
            if word in text or word in folder:
                found[int(entry.name)] = text
    return found


@pytest.fixture(scope="module")
def clone():
    """A copy of the tree below a folder with blanks in its name, with what was downloaded and compiled."""
    # Not among pytest's folders: the next pytest of this user closes those to others, and PostgreSQL is one.
    base = pathlib.Path(tempfile.mkdtemp(prefix="campaign-clone."))
    base.chmod(0o755)
    clone = base / "a clone, with blanks"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".git", "build"))
    (clone / "build").mkdir()
    for name in "campaign-worker", "campaign-producer", "obj", "gen", ".packages", "downloads":
        if (BUILD / name).is_dir():
            shutil.copytree(BUILD / name, clone / "build" / name)
        elif (BUILD / name).exists():
            shutil.copy2(BUILD / name, clone / "build" / name)
    yield clone
    shutil.rmtree(base, ignore_errors=True)


def make(clone, *args, user=None, **env):
    command = ["make", "-s", *args]
    if user:
        command = ["runuser", "-u", user, "--", *command]
    environment = {k: v for k, v in clean_environment().items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD")}
    return subprocess.Popen(
        command, cwd=clone, env={**environment, "DEPS": "0", **env}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a job in the background inherits that it is ignored


def finish(process, timeout_s=300):
    output, _ = process.communicate(timeout=timeout_s)
    return process.returncode, output


def check_table(output):
    rows = re.findall(r"^ *(\d+)  (\S.{31})  (\d{3}) ?([A-Z_]*) ?([a-z_]*) ", output, re.M)
    assert [int(row[0]) for row in rows] == list(range(1, OUTCOMES + 1)), output
    assert {int(row[2]) for row in rows} == {201, 400, 401, 403, 404, 409, 429, 502}
    assert "UNEXPECTED" not in output
    assert "Every outcome was the expected one." in output


def assert_nothing_left(clone):
    assert not processes(str(clone.parent)), "left running"
    assert not (clone / "build" / "demo").exists()


def strays():
    return set(pathlib.Path("/tmp").glob("campaign-pg*"))


def test_twice_in_a_row(clone):
    before = strays()
    for _ in range(2):
        status, output = finish(make(clone, "demo"))
        assert status == 0, output
        check_table(output)
        assert_nothing_left(clone)
    assert strays() <= before


def test_kept_and_stopped(clone):
    status, output = finish(make(clone, "demo", KEEP="1"))
    try:
        assert status == 0, output
        check_table(output)
        env = read_env(clone / "build" / "demo" / "env")
        environment = {**clean_environment(), **env}
        line = next(line for line in output.splitlines() if "send --wait" in line).strip()
        answer = subprocess.run(
            ["sh", "-c", line], cwd=clone, env=environment, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert answer.returncode == 0 and '"httpStatus":201' in answer.stdout, answer.stdout
        line = next(line for line in output.splitlines() if "psql -c" in line).strip()
        answer = subprocess.run(["sh", "-c", line], cwd=clone, env=environment, timeout=120, stdout=subprocess.PIPE, text=True)
        assert answer.returncode == 0 and "Spring, second wave" in answer.stdout
    finally:
        status, output = finish(make(clone, "demo-stop"))
    assert status == 0, output
    assert_nothing_left(clone)


@pytest.mark.parametrize("until", ["apache kafka on", "campaign-worker run"])
def test_interrupted(clone, until):
    """Ctrl-C: the signal goes to the whole process group."""
    process = make(clone, "demo")
    seen = ""
    for line in process.stdout:
        seen += line
        if until in line.lower():
            break
    else:
        pytest.fail(seen)
    os.killpg(process.pid, signal.SIGINT)
    status, output = finish(process)
    assert status != 0
    wait_until(lambda: not processes(str(clone.parent)), 10, "nothing left running")
    assert_nothing_left(clone)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_as_an_ordinary_user(clone):
    user = "nobody"
    ids = pwd.getpwnam(user)
    for folder, _, files in os.walk(clone):
        os.chown(folder, ids.pw_uid, ids.pw_gid)
        for file in files:
            os.chown(os.path.join(folder, file), ids.pw_uid, ids.pw_gid)
    status, output = finish(make(clone, "demo", user=user, HOME="/nonexistent"))
    assert status == 0, output
    check_table(output)
    assert_nothing_left(clone)
