"""What is planted is one bug in one line of code; comments and texts are left alone."""

import pathlib
import sys
import textwrap

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import nearest  # noqa: E402
import plant  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
C = textwrap.dedent("""\
    /* a < b */
    static int f(int a, int b)
    {
    \tif (a < b && a->c) /* never a > b */
    \t\treturn 0;
    \tg(a, "a < b", 7);
    \tlog_info("a");
    \treturn -1;
    }
    """)
SQL = textwrap.dedent("""\
    -- a = b
    SELECT $1::text, 'a AND b' FROM t
    WHERE t.a = 'b AND c' AND t.d IS NULL -- e = f
    ORDER BY 1
    """)


def mutants(path, text):
    return {(bug.at, bug.mutant.strip()) for bug in plant.by_operators(path, text)}


def test_operators_in_c():
    assert mutants("x.c", C) == {
        (3, "if (a <= b && a->c) /* never a > b */"),
        (3, "if (a < b || a->c) /* never a > b */"),
        (4, "return -1;"),
        (5, 'g(a, "a < b", 8);'), (5, ";"),
        (7, "return 0;"),
    }


def test_operators_in_sql():
    assert mutants("x.sql", SQL) == {
        (2, "WHERE t.a <> 'b AND c' AND t.d IS NULL -- e = f"),
        (2, "WHERE t.a = 'b AND c' OR t.d IS NULL -- e = f"),
        (2, "WHERE t.a = 'b AND c' AND t.d IS NOT NULL -- e = f"),
        (3, "ORDER BY 2"),
    }


@pytest.mark.parametrize("path, text", [("x.c", C), ("x.sql", SQL)])
def test_one_line_is_another(path, text):
    for bug in plant.by_operators(path, text):
        planted = plant.apply(text, bug).split("\n")
        assert [at for at, (old, new) in enumerate(zip(text.split("\n"), planted)) if old != new] == [bug.at]


def test_the_tree_has_more_than_are_ever_wanted():
    paths = [str(path.relative_to(ROOT)) for folder in ("worker", "schemas") for path in (ROOT / folder).rglob("*.*")]
    shares = nearest.files(paths)
    assert 90 <= sum(shares.values()) <= 115
    for path in shares:
        assert len(list(plant.by_operators(path, (ROOT / path).read_text()))) >= 5, path
        assert all((ROOT / test).exists() for test in nearest.find(path)[1]), path
