"""What the suite found and no smaller test could show: each in the scene that brings it about, with the real worker."""

import pathlib
import random
import shutil
import tempfile

import pytest

import harness
import teeth
from ground import Ground


@pytest.fixture(scope="module")
def ground():
    # Not among pytest's folders: the next pytest of this user closes those to others, and PostgreSQL is one.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="campaign-found."))
    folder.chmod(0o755)
    ground = Ground(folder, nodes=1)
    ground.start()
    yield ground
    ground.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("api", [10, 15, 16])
def test_coordinator_is_slow_while_the_last_owner_is_looked_for(ground, api):
    """librdkafka's DescribeConsumerGroups aborted the process when the answer to its FindCoordinator (api 10) came late."""
    stage = teeth.Stage(ground, "found_%d" % api, harness.binary("campaign-worker"), Ground.TEMPLATE, random.Random(1))
    try:
        stage.ask(3)
        stage.worker("one", fail="endtxn-before:kill").wait(120)
        two = stage.worker("two", fail="claim-after:sleep:1:1000")
        two.wait_for_point("claim-after")
        stage.cut("kafka", "two/0", "api:%d" % api, "hold", 3000)
        harness.wait_until(lambda: teeth.answers(two) >= 3, 120, "three answers", 0.1)
        assert not stage.judge("found")
    finally:
        stage.close()
