import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(HERE, "..", "..", "system")]

from checker import check_history  # noqa: E402
from checker.made import Round  # noqa: E402


@pytest.fixture


def made():
    return Round()


@pytest.fixture


def judge(tmp_path):
    def run(made):
        return check_history.check(made.save(tmp_path / "round"))

    return run


@pytest.fixture


def passes(judge):
    def run(made):
        verdict = judge(made)
        assert not verdict.violations, verdict.text()
        return verdict

    return run


@pytest.fixture


def breaks(judge):
    """Asserts that these checks and no others are broken, the first with these words in one violation; the verdict."""
    def run(made, numbers, *words):
        verdict, numbers = judge(made), numbers.split()
        assert verdict.violations, "nothing was found"
        assert {text.split(":")[0] for text in verdict.violations} == set(numbers), verdict.text()
        assert any(text.startswith(numbers[0] + ":") and all(word in text for word in words)
                   for text in verdict.violations), verdict.text()
        return verdict

    return run
