import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402


@pytest.fixture(scope="session")
def services():
    """Kafka and PostgreSQL, started once, by each of the processes that run tests side by side."""
    given = os.environ.get("CAMPAIGN_TEST_DIR")
    folder = pathlib.Path(given) if given else pathlib.Path(tempfile.mkdtemp(prefix="campaign-test."))
    folder.chmod(0o755)
    services = harness.Services(folder, os.environ.get("PYTEST_XDIST_WORKER", ""))
    try:
        services.start()
        yield services
    finally:
        services.stop()
        if not given:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_world(services):
    """A function that makes worlds, for tests that want other partitions or more than one."""
    with contextlib.ExitStack() as stack:

        def make(**settings):
            world = services.world(**settings)
            stack.callback(world.close)
            make.worlds.append(world)
            return world

        make.worlds = []
        yield make


@pytest.fixture
def world(make_world):
    """Topics, group and database of this test's own."""
    return make_world()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its workers logged."""
    outcome = yield
    report = outcome.get_result()
    make = item.funcargs.get("make_world") if hasattr(item, "funcargs") else None
    if report.failed and make is not None:
        for world in make.worlds:
            report.sections.append(("workers of %s" % world.name, world.logs()))
