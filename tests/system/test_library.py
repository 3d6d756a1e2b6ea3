"""libcampaign as another program gets it: installed into a folder of its own, found by pkg-config alone, linked as a shared and
as a static library, run against the real Kafka and worker."""

import json
import os
import subprocess

import pytest

from harness import BUILD, ROOT, SEED

EXAMPLE = ROOT / "tests" / "library" / "example.c"
# Names of ours, in a program that means something else by them.
NAMESAKES = """
#include <stdlib.h>
void log_event(void) { abort(); }
void *arena_new(void) { abort(); }
void fault_set(void) { abort(); }
void pending_new(void) { abort(); }
void codec_new(void) { abort(); }
void id_new(void) { abort(); }
"""


class Installed:
    def __init__(self, root):
        self.root, self.prefix = root, root / "opt" / "campaign"
        subprocess.run(
            ["make", "-s", "install", "VARIANT=release", "BUILD=%s" % BUILD, "DESTDIR=%s" % root, "PREFIX=/opt/campaign"],
            cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.environment = {
            **os.environ, "PKG_CONFIG_PATH": str(self.prefix / "lib" / "pkgconfig"), "PKG_CONFIG_SYSROOT_DIR": str(root)}

    def pkg_config(self, *options):
        return subprocess.run(
            ["pkg-config", *options, "campaign"], env=self.environment, check=True, stdout=subprocess.PIPE, text=True).stdout.split()

    def compile(self, name, *arguments):
        program = self.root / name
        done = subprocess.run(
            ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", str(program), *map(str, arguments)], cwd=self.root,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        return program


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("installed"))


def ask(program, world, key="demo-key-full", **environment):
    done = subprocess.run(
        [str(program), world.brokers, world.commands, world.results, SEED["accountGroupId"], SEED["campaignId"], SEED["audienceId"],
         key], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def needed(file):
    lines = subprocess.check_output(["readelf", "-d", str(file)], text=True).splitlines()
    return [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line]


def test_the_example_on_the_shared_library(installed, world):
    program = installed.compile("shared", EXAMPLE, *installed.pkg_config("--cflags", "--libs"))
    world.worker()
    result = ask(program, world, LD_LIBRARY_PATH=str(installed.prefix / "lib"))
    assert needed(program)[0] == "libcampaign.so.1"
    assert result["success"] and result["httpStatus"] == 201
    draft, = world.drafts()
    assert (draft["id"], draft["trace_id"]) == (result["data"]["id"], result["traceId"])
    assert ask(program, world, "nobody's key", LD_LIBRARY_PATH=str(installed.prefix / "lib"))["error"]["code"] == "UNAUTHORIZED"
    world.verify()


def test_the_example_on_the_static_library(installed, world):
    namesakes = installed.root / "namesakes.c"
    libraries = [word.replace("-lcampaign", "-l:libcampaign.a") for word in installed.pkg_config("--libs", "--static")]
    own_librdkafka = "-lrdkafka" not in libraries  # the library has a librdkafka inside, so the program may have another
    namesakes.write_text(NAMESAKES + ("void rd_kafka_new(void) { abort(); }\n" if own_librdkafka else ""))
    program = installed.compile("static", EXAMPLE, namesakes, *installed.pkg_config("--cflags"), *libraries)
    world.worker()
    assert ask(program, world)["success"]
    assert not [name for name in needed(program) if "campaign" in name or "libpq" in name]


def test_a_mistake_is_told(installed):
    program = installed.compile("mistaken", EXAMPLE, *installed.pkg_config("--cflags", "--libs"))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(installed.prefix / "lib")}
    done = subprocess.run([str(program)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "seven arguments are wanted\n")


def test_names(installed):
    """Nothing is exported that could be another's name, and the header stands alone, in C++ as well."""
    shared = subprocess.check_output(["nm", "-D", "--defined-only", str(installed.prefix / "lib" / "libcampaign.so")], text=True)
    static = subprocess.check_output(["nm", "-g", "--defined-only", str(installed.prefix / "lib" / "libcampaign.a")], text=True)
    names = [line.split()[2].split("@")[0] for line in (shared + static).splitlines() if line.count(" ") >= 2]
    assert "campaign_client_new" in names
    assert not [name for name in names if not name.lower().startswith("campaign_")]
    alone = installed.root / "alone.c"
    alone.write_text("#include <campaign/campaign.h>\n")
    installed.compile("alone.o", "-c", alone, *installed.pkg_config("--cflags"))
    assert sorted(path.name for path in (installed.prefix / "include" / "campaign").iterdir()) == ["campaign.h", "types.h"]


def test_where_it_is_installed(installed):
    """DESTDIR is where the files are put, PREFIX what they say."""
    text = (installed.prefix / "lib" / "pkgconfig" / "campaign.pc").read_text()
    assert "prefix=/opt/campaign\n" in text and str(installed.root) not in text
    assert os.readlink(installed.prefix / "lib" / "libcampaign.so") == "libcampaign.so.1"
