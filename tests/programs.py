#!/usr/bin/env python3
"""programs.py FILE...: which of these files call a program, or import a Python module, that no package brings.

What is brought: the table that `deploy/deps.sh programs` prints, and the programs of Debian's Essential packages. Read are
shell scripts (command words, also behind xargs, env, find -exec and the like, in sh -c, in trap and in substitutions),
Makefiles (recipes and $(shell ...)) and Python (imports; lists that are handed to subprocess). A name that is put together
while the script runs is not seen, nor what awk or C start. Exit status 1 if something is found.
"""

import ast
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
OPENERS = {"if", "then", "else", "elif", "fi", "do", "done", "while", "until", "!", "{", "}", "esac"}
BUILTINS = {".", ":", "[", "alias", "break", "cd", "command", "continue", "echo", "eval", "exec", "exit", "export", "false",
            "getopts", "hash", "kill", "local", "printf", "pwd", "read", "readonly", "return", "set", "shift", "test", "times",
            "trap", "true", "type", "ulimit", "umask", "unset", "wait"}
# They start what stands behind their options.
WRAPPERS = {"command", "env", "exec", "faketime", "nice", "nohup", "runuser", "setpriv", "setsid", "sudo", "time", "timeout",
            "unshare", "xargs"}
OPERATOR = re.compile(r"&&|\|\||;;|<<<|<<-|<<|>>|>&|<&|<>|>\||[;&|()<>\n]")
SIMPLE_DEFAULT = re.compile(r"\w+:-([\w.+-]+)")


class Word(str):
    """Text without its quotes. unknown: a value is put into it while the script runs. quoted: from its beginning on."""

    unknown = quoted = False
    line = 0


def end_of(text, i, close):
    """Behind the bracket that closes the one before i, over quotes and brackets inside."""
    opener, depth = {")": "(", "}": "{"}[close], 1
    while depth:
        c = text[i]
        if c == "'":
            i = text.index("'", i + 1)
        elif c == "\\":
            i += 1
        elif c == '"':
            i += 1
            while text[i] != '"':
                if text.startswith("$(", i):
                    i = end_of(text, i + 2, ")") - 1
                elif text[i] == "\\":
                    i += 1
                i += 1
        elif c == "#" and text[i - 1] in " \t\n" and close == ")":
            i = text.index("\n", i)
        depth += (c == opener) - (c == close)
        i += 1
    return i


class Script:
    """The commands of a shell script: lists of Words, those of scripts inside of it among them."""

    def __init__(self, text, line=1):
        self.text, self.i, self.line = text + "\n", 0, line
        self.commands, self.functions, self.heredocs, self.cases = [], set(), [], []
        self.in_pattern = False
        while self.i < len(self.text):
            self.read_command()

    # Words and operators

    def here(self):
        return self.line + self.text.count("\n", 0, self.i)

    def next(self):
        """A Word, or an operator as a plain str."""
        rest = re.compile(r"(?:[ \t]|\\\n)*(?:#[^\n]*)?").match(self.text, self.i)
        self.i = rest.end()
        operator = OPERATOR.match(self.text, self.i)
        if operator:
            self.i = operator.end()
            if operator[0] == "\n":
                self.skip_heredocs()
            return operator[0]
        return self.word()

    def word(self):
        line, parts, unknown, quoted, inside = self.here(), [], False, False, False
        while True:
            c = self.text[self.i]
            if c == '"':
                quoted, inside = quoted or not parts, not inside
                self.i += 1
            elif c == "'" and not inside:
                start, end = self.i + 1, self.text.index("'", self.i + 1)
                quoted, self.i = quoted or not parts, end + 1
                parts.append(self.text[start:end])
            elif c == "\\":
                parts.append(self.text[self.i + 1].strip("\n"))
                self.i += 2
            elif c in "$`":
                value = self.expansion()
                parts.append("$_" if value is None else value)
                unknown = unknown or value is None
            elif not inside and (c in " \t" or OPERATOR.match(c)):
                break
            else:
                parts.append(c)
                self.i += 1
        made = Word("".join(parts))
        made.line, made.unknown, made.quoted = line, unknown, quoted
        return made

    def expansion(self):
        """What stands for it if that is plain text; scripts in it are read."""
        text, i = self.text, self.i
        if text[i] == "`":
            self.i = text.index("`", i + 1) + 1
            self.nest(text[i + 1:self.i - 1])
        elif text.startswith("$((", i):
            self.i = end_of(text, i + 2, ")")
        elif text.startswith("$(", i):
            self.i = end_of(text, i + 2, ")")
            self.nest(text[i + 2:self.i - 1])
        elif text.startswith("${", i):
            self.i = end_of(text, i + 2, "}")
            default = SIMPLE_DEFAULT.fullmatch(text[i + 2:self.i - 1])
            self.nest_substitutions(text[i + 2:self.i - 1])
            return default and default[1]
        else:
            name = re.compile(r"\$(\w+|[@*#?$!-])").match(text, i)
            self.i = name.end() if name else i + 1
            return None if name else "$"

    def nest(self, text):
        inner = Script(text, self.here())
        self.commands += inner.commands
        self.functions |= inner.functions

    def nest_substitutions(self, text):
        for start in re.finditer(r"\$\((?!\()", text):
            self.nest(text[start.end():end_of(text, start.end(), ")") - 1])

    def skip_heredocs(self):
        for tabs, delimiter in self.heredocs:
            lines = []
            while True:
                end = self.text.index("\n", self.i)
                line = self.text[self.i:end]
                self.i = end + 1
                if (line.lstrip("\t") if tabs else line) == delimiter:
                    break
                lines.append(line)
            if not delimiter.quoted:
                self.nest_substitutions("\n".join(lines))
        self.heredocs = []

    # Commands

    def read_command(self):
        """One simple command, up to the operator behind it."""
        words = []
        while self.i < len(self.text):
            token = self.next()
            if isinstance(token, Word):
                if self.in_pattern:
                    self.read_pattern(token)
                elif not words and token == "case" and not token.quoted:
                    self.read_case()
                elif not words and token == "esac" and self.cases:
                    self.cases.pop()
                elif words or token.quoted or not (token in OPENERS or re.match(r"\w+=", token)):
                    words.append(token)
            elif token[0] in "<>":
                self.redirect(token, words)
            elif token == "(" and len(words) == 1 and self.text[self.i] == ")":
                self.functions.add(str(words.pop()))
                self.i += 1
            else:
                self.in_pattern = self.in_pattern or token == ";;"
                break
        if words and words[0] != "for":
            self.take(words)

    def read_case(self):
        while self.next() != "in":
            pass
        self.cases.append(True)
        self.in_pattern = True

    def read_pattern(self, token):
        self.in_pattern = False
        if token == "esac" and not token.quoted:
            self.cases.pop()
            return
        while self.next() != ")":
            pass

    def redirect(self, operator, words):
        if words and words[-1].isdigit() and self.text[self.i - len(operator) - 1].isdigit():
            words.pop()
        target = self.next()
        if operator in ("<<", "<<-"):
            self.heredocs.append((operator == "<<-", target))

    def take(self, words):
        for argv in unwrapped(words):
            self.commands.append(argv)
            for text in scripts_of(argv):
                self.nest(text)


def unwrapped(words):
    """The command, and those that it starts."""
    yield words
    name, rest = words[0], words[1:]
    if name == "find":
        for at, word in enumerate(rest):
            if word in ("-exec", "-execdir") and rest[at + 1:]:
                yield from unwrapped(rest[at + 1:])
    if name not in WRAPPERS or name == "command" and rest[:1] == ["-v"]:
        return
    option = False
    for at, word in enumerate(rest):
        if word.startswith("-") or re.match(r"\w+=", word) or re.fullmatch(r"[\d.]+[smh]?|\{\}", word) or word.unknown and option:
            option = word.startswith("-")
            continue
        yield from unwrapped(rest[at:])
        return


def scripts_of(argv):
    """Texts among the arguments that are scripts again."""
    if argv[0] in ("sh", "bash") and "-c" in argv[:-1]:
        yield argv[argv.index("-c") + 1]
    if argv[0] in ("trap", "eval") and len(argv) > 1 and argv[1] != "-":
        yield argv[1]


# --- the three kinds of files -----------------------------------------------------------------------------------------


def called_by_shell(text):
    script = Script(text)
    return [argv for argv in script.commands if argv[0] not in script.functions]


def called_by_makefile(text):
    text = text.replace("\\\n", "  ")
    values = dict(re.findall(r"^(\w+) *[?:]?= *(.*)$", text, re.MULTILINE))
    values["MAKE"] = "make"
    found, shells = [], []

    def value(match):
        if match[0] == "$$":
            return "$"
        name = (match[1] or "").strip("()")
        if name.startswith("shell "):
            shells.append(re.sub(pattern, value, name[len("shell "):]))
        return re.sub(pattern, value, values[name]) if name in values else "$_"

    pattern = re.compile(r"\$(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|.)")
    for number, line in enumerate(text.split("\n"), 1):
        shells.clear()
        recipe = re.sub(pattern, value, line)
        if line.startswith("\t"):
            shells.append(re.sub(r"^\t[@+-]*", "", recipe))
        found += [argv for shell in shells for argv in Script(shell, number).commands]
    return found


def called_by_python(text):
    tree = ast.parse(text)
    lists = {target.id: node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
             for target in node.targets if isinstance(target, ast.Name)}

    def words(node):
        if isinstance(node, ast.Name):
            node = lists.get(node.id)
        if isinstance(node, ast.BinOp):
            node = node.left
        for item in node.elts if isinstance(node, (ast.List, ast.Tuple)) else ():
            plain = isinstance(item, ast.Constant) and isinstance(item.value, str)
            word = Word(item.value if plain else "$_")
            word.unknown, word.line = not plain, item.lineno
            yield word

    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).startswith("subprocess."):
            argv = list(words(node.args[0]))
            if argv:
                found += [inner for command in unwrapped(argv) for inner in (
                    command, *(part for script in scripts_of(command) for part in Script(script, command[0].line).commands))]
    return found


def imported(text):
    """(line, module)"""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, (name or ".").partition(".")[0]) for name in names)


# --- what is brought --------------------------------------------------------------------------------------------------


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def essential():
    """Programs of the packages without which there is no Debian."""
    rows = [line.split() for line in output("dpkg-query", "-W", "-f", "${Package} ${Essential}\n").splitlines()]
    paths = output("dpkg", "-L", *(package for package, essential in rows if essential == "yes")).splitlines()
    return {path.rpartition("/")[2] for path in paths if re.match(r"(/usr)?/s?bin/", path)}


def missing_in(path, brought):
    """(line, what it wants)"""
    text, name = path.read_text(), path.name
    if name.endswith(".py"):
        commands = called_by_python(text)
        ours = {part for file in (ROOT / "tests").rglob("*.py") for part in (file.stem, file.parent.name)}
        for line, module in imported(text):
            if module not in sys.stdlib_module_names and module not in ours and "python:" + module not in brought:
                yield line, "imports " + module
    else:
        commands = called_by_makefile(text) if name == "Makefile" else called_by_shell(text)
    for argv in commands:
        program = re.sub(r"^(/usr)?/s?bin/", "", argv[0])
        if not argv[0].unknown and "/" not in program and program not in brought:
            yield argv[0].line, "calls " + program


def main(paths):
    brought = BUILTINS | essential()
    brought |= {line.split()[0] for line in output("sh", str(ROOT / "deploy" / "deps.sh"), "programs").splitlines()}
    found = [(path, line, what) for path in paths for line, what in sorted(set(missing_in(pathlib.Path(path), brought)))]
    for path, line, what in found:
        print("%s:%d %s, which deploy/deps.sh does not declare" % (path, line, what))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
