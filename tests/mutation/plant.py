"""Plants one-line bugs in C and SQL: by operators of our own, which know both languages a little, and by the rules of
universalmutator, which know neither. What is planted may not compile, or may be the same program: mutation.py sorts that out.

A bug is a tuple (file, line number from 0, the line, what it becomes, who planted it).
"""

import collections
import contextlib
import io
import re

Bug = collections.namedtuple("Bug", "file at line mutant planter")

# (what is looked for, what takes its place). The blanks matter: they tell operators from pointers and arrows.
SWAPS = {
    "c": [
        (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "),
        (r" && ", " || "), (r" \|\| ", " && "), (r" \+ ", " - "), (r" - ", " + "), (r" \? ", " ? !"), (r"\+\+", "--"),
        (r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r"\breturn 0;", "return -1;"), (r"\breturn -1;", "return 0;"),
        (r"!(?=[a-z(])", ""), (r"\bif \((.*)\)$", r"if (!(\1))"), (r"\+= ", "-= "), (r"\|= ", "= "),
    ],
    "sql": [
        (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" = ", " <> "), (r" <> ", " = "),
        (r"\bIS NULL\b", "IS NOT NULL"), (r"\bIS NOT NULL\b", "IS NULL"), (r"\bAND\b(?! \d)", "OR"), (r"\bOR\b(?! REPLACE)", "AND"),
        (r" \+ ", " - "), (r" - ", " + "), (r"\bNOT ", ""), (r"\bgreatest\b", "least"), (r"\bleast\b", "greatest"),
        (r"\bmin\(", "max("), (r"\bmax\(", "min("), (r"\bDISTINCT ", ""), (r"\bLEFT JOIN\b(?! LATERAL)", "JOIN"),
        (r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r" FOR NO KEY UPDATE OF g", ""), (r"\bAND [a-z]+\.[a-z_]+ = [^ ()]+(?= |$)", ""),
    ],
}
NUMBER = re.compile(r"(?<![\w.$'\"])(\d+)(?![\w.])")
# Numbers of which another is no bug: room for more, and statuses, of which everybody asks whether they are less than 0.
ROOM = re.compile(r"alloc(?:array)?\(|arena_array\(|^\s*(?:static )?(?:char|uint8_t) \w+\[|\breturn (?:-1|0);")
# A statement of its own on a line: a call whose value nobody takes, or an assignment. A log line that is missing, and memory
# that is not freed, are for readers and for the sanitizers to notice.
STATEMENT = re.compile(r"^\t+(?!log_|failpoint|free\(|return\b|if\b|for\b|while\b|else\b|case\b|static\b|struct\b|const\b|u?int\d*_t\b|char\b|bool\b|size_t\b)"
                       r"[a-z_][\w\->.\[\]]*(\(.*\)| [|+]?= .*);$")


def language(path):
    return "sql" if str(path).endswith(".sql") else "c"


def code_lines(text, language):
    """(number, line) of the lines that hold code alone: without comments, strings and what only declares."""
    within = False
    for at, line in enumerate(text.split("\n")):
        if within or line.lstrip().startswith(("/*", "--", "#", "//")):
            within = "*/" not in line if (within or "/*" in line) and language == "c" else False
            continue
        if not line.strip() or (language == "c" and (not line.startswith("\t") or "failpoint(" in line)):
            continue
        yield at, line


COMMENT = {"sql": r"--.*$", "c": r"/\*.*?\*/|//.*$"}


def bare(line, language):
    """The line without comments and blanks at its ends."""
    return re.sub(COMMENT[language], "", line).strip()


def masked(line, language):
    """The line with comments and texts made of one sign, so that nothing is found in them."""
    text = r"'[^']*'" if language == "sql" else r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\''
    return re.sub(COMMENT[language] + "|" + text, lambda found: "\x01" * len(found.group()), line)


def by_operators(path, text):
    kind = language(path)
    for at, line in code_lines(text, kind):
        mask = masked(line, kind)
        for pattern, put in SWAPS[kind]:
            for found in re.finditer(pattern, mask):
                original = re.compile(pattern).match(line, found.start()) or found
                yield Bug(path, at, line, line[:found.start()] + original.expand(put) + line[found.end():], "operators")
        for found in NUMBER.finditer("" if kind == "c" and ROOM.search(mask) else mask):
            yield Bug(path, at, line, line[:found.start()] + str(int(found.group()) + 1) + line[found.end():], "operators")
        if kind == "c" and STATEMENT.match(line):
            yield Bug(path, at, line, re.match(r"\t+", line).group() + ";", "operators")


def by_tool(path, text):
    """universalmutator's rules. It prints what it does; nobody here wants to read that."""
    from universalmutator import mutator

    kind = language(path)
    rules = ["universal.rules"] + (["c_like.rules", "c.rules"] if kind == "c" else [])
    lines = text.split("\n")
    code = dict(code_lines(text, kind))
    with contextlib.redirect_stdout(io.StringIO()):
        found = mutator.mutants_regexp([line + "\n" for line in lines], rules, ignorePatterns=[])
    for number, mutant, *_ in found:
        mutant = mutant.rstrip("\n")
        if number - 1 in code and "\n" not in mutant and bare(mutant, kind) != bare(lines[number - 1], kind):
            yield Bug(path, number - 1, lines[number - 1], mutant, "universalmutator")


def apply(text, bug):
    lines = text.split("\n")
    assert lines[bug.at] == bug.line
    lines[bug.at] = bug.mutant
    return "\n".join(lines)
