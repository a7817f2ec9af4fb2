"""House style as rules: each takes one parsed file and yields what is wrong with it.

A rule never reads a file and never knows of exceptions; ``tests/tidy/test_house_style.py`` applies
the rules to the project, ``tests/tidy/test_the_rules_catch_offenders.py`` applies them to bad code.
What ruff, mypy and import-linter already check is not repeated here.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.tidy.sources import PRODUCT, Source, definitions

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
"""Of a function without its docstring and decorators."""

TEST_NAME_WORDS_MIN = 3
"""Below that a name cannot say what behaviour is promised."""

# Written in halves, so that this file passes its own rule.
BANNED_WORDS = ("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")
BANNED = re.compile(rf"\b({'|'.join(BANNED_WORDS)})\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}~])/(work|tmp|home|root|Users)(?=/|$|[\"'`\s])")

PRINTERS = ("bench", "ops", "scripts")
"""Folders that talk to people on standard output."""

IMPURE_MODULES = frozenset(
    {
        *("asyncio", "concurrent", "ctypes", "http", "io", "logging", "multiprocessing", "os"),
        *("pathlib", "queue", "random", "secrets", "select", "selectors", "shutil", "signal"),
        *("socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid"),
    }
)
"""Parts of the standard library that the domain may not import: they read or change the world."""

PURE_NAMES = frozenset(f"socket.{n}" for n in ("AF_INET", "AF_INET6", "inet_ntop", "inet_pton"))
"""What lives among them by accident: conversions between the texts and bytes of addresses."""

WORLD_CALLS = frozenset(
    {"now", "utcnow", "today", "time_ns", "monotonic", "perf_counter", "urandom", "uuid1", "uuid4"}
)
WORLD_BUILTINS = frozenset({"open", "input", "print", "breakpoint"})

TASK_MAKERS = frozenset({"create_task", "ensure_future"})
TASK_OWNERS = ("core/process/concurrency.py", "core/process/supervision.py")
"""The modules that make tasks for the others and await their ends."""

FORMAT_USERS = frozenset({"Struct", "pack", "pack_into", "unpack", "unpack_from", "calcsize"})
BYTE_ORDERS = ("=", "<", ">", "!")

CLAIM_WORDS = ("assert", "check", "expect", "fail", "must", "raises", "verify", "warns")
"""A call whose name holds one of these states a claim, as an assert statement does."""


class Finding(NamedTuple):
    """One thing wrong. ``place`` names file and definition: it is the key of an exception."""

    place: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.place} (line {self.line}): {self.message}"


Rule = Callable[[Source], Iterator[Finding]]


def files_are_short(file: Source) -> Iterator[Finding]:
    """A file holds one idea."""
    lines = file.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield Finding(file.path, 1, f"{lines} lines, at most {FILE_LINES_MAX}")


def functions_are_short(file: Source) -> Iterator[Finding]:
    """A function is read without scrolling; its docstring does not count."""
    for name, node, _ in definitions(file.tree):
        if isinstance(node, ast.ClassDef):
            continue
        lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)
        if lines > FUNCTION_LINES_MAX:
            message = f"{lines} lines, at most {FUNCTION_LINES_MAX}"
            yield Finding(f"{file.path}::{name}", node.lineno, message)


def modules_say_what_they_are_for(file: Source) -> Iterator[Finding]:
    """Also an ``__init__`` with nothing else in it."""
    if not ast.get_docstring(file.tree):
        yield Finding(file.path, 1, "no module docstring: purpose, promise, what it must never do")


def public_names_are_documented(file: Source) -> Iterator[Finding]:
    """Classes, functions and methods of the product.

    A method of a class with bases may keep the promise written down there.
    """
    if file.package not in PRODUCT:
        return
    for name, node, owner in definitions(file.tree):
        hidden = any(part.startswith("_") for part in name.split("."))
        inherited = owner is not None and bool(owner.bases)
        local = owner is None and "." in name
        if not (hidden or inherited or local or ast.get_docstring(node)):
            yield Finding(f"{file.path}::{name}", node.lineno, "public, without a docstring")


def the_domain_is_pure(file: Source) -> Iterator[Finding]:
    """No clock, no randomness, no I/O, no event loop; nothing imported but values."""
    if not file.path.startswith("core/domain/"):
        return
    for name, line in _imports(file.tree):
        root = name.partition(".")[0]
        ours = name.startswith(("core.domain.", "core.errors"))
        foreign = root not in sys.stdlib_module_names or root in IMPURE_MODULES
        if foreign and not ours and name not in PURE_NAMES:
            yield Finding(file.path, line, f"the domain imports {name}")
    for node in ast.walk(file.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield Finding(file.path, node.lineno, "the domain waits for something")
        if isinstance(node, ast.Attribute) and node.attr in WORLD_CALLS:
            yield Finding(file.path, node.lineno, f"the domain asks the world: .{node.attr}")
        if _called_name(node) in WORLD_BUILTINS:
            yield Finding(file.path, _line(node), f"the domain calls {_called_name(node)}()")


def executables_import_the_standard_library(file: Source) -> Iterator[Finding]:
    """The build of the wheel compiles the CNI program before anything is installed."""
    if file.package != "cni":
        return
    for name, line in _imports(file.tree):
        root = name.partition(".")[0]
        if root != "cni" and root not in sys.stdlib_module_names:
            yield Finding(file.path, line, f"the build of the CNI program imports {name}")


def nothing_is_left_for_later(file: Source) -> Iterator[Finding]:
    """What is to be done is an issue, not a comment."""
    yield from banned_words(file.path, file.text)


def banned_words(path: str, text: str) -> Iterator[Finding]:
    """The same rule for a file that is not Python."""
    for number, line in enumerate(text.splitlines(), 1):
        for word in BANNED.findall(line):
            yield Finding(path, number, f"banned word {word}")


def only_tools_for_people_print(file: Source) -> Iterator[Finding]:
    """A daemon logs, an executable answers by protocol, a test asserts."""
    if file.package in PRINTERS:
        return
    for node in ast.walk(file.tree):
        if _called_name(node) == "print":
            yield Finding(file.path, _line(node), "print()")


def no_path_of_one_machine(file: Source) -> Iterator[Finding]:
    """Product code names places of the system (/run, /etc, /var) or asks for a temporary one."""
    if file.package not in PRODUCT:
        return
    for number, line in enumerate(file.text.splitlines(), 1):
        for name in MACHINE_PATH.findall(line):
            yield Finding(file.path, number, f"path of one machine: /{name}")


def tasks_are_supervised(file: Source) -> Iterator[Finding]:
    """A task whose end nothing awaits dies unseen: ``core.process.supervision`` makes tasks."""
    if file.package not in PRODUCT or file.path in TASK_OWNERS:
        return
    for node in ast.walk(file.tree):
        name = _called_name(node)
        if name in TASK_MAKERS:
            yield Finding(file.path, _line(node), f"{name}() outside core.process.supervision")


def formats_state_their_byte_order(file: Source) -> Iterator[Finding]:
    """Without a first character, a format has the sizes and gaps of the machine it runs on.

    ``=`` is the order of the machine, with sizes that are the same everywhere.
    """
    if file.package not in PRODUCT:
        return
    for node in ast.walk(file.tree):
        if not (isinstance(node, ast.Call) and _called_name(node) in FORMAT_USERS and node.args):
            continue
        first = node.args[0]
        if isinstance(first, ast.JoinedStr):
            first = first.values[0]
        written = isinstance(first, ast.FormattedValue) or (
            isinstance(first, ast.Constant) and isinstance(first.value, str)
        )
        stated = isinstance(first, ast.Constant) and str(first.value).startswith(BYTE_ORDERS)
        if written and not stated:
            yield Finding(file.path, node.lineno, "a format of struct states no byte order")


def tests_are_sentences(file: Source) -> Iterator[Finding]:
    """``test_a_release_with_a_stale_revision_is_a_no_op``, not ``test_release_2``."""
    for name, node in _tests(file):
        words = [word for word in node.name.split("_")[1:] if word]
        if len(words) < TEST_NAME_WORDS_MIN:
            yield Finding(f"{file.path}::{name}", node.lineno, "the name promises no behaviour")


def tests_assert_something(file: Source) -> Iterator[Finding]:
    """A test that cannot fail says nothing."""
    for name, node in _tests(file):
        if not any(isinstance(part, ast.Assert) or _claims(part) for part in ast.walk(node)):
            yield Finding(f"{file.path}::{name}", node.lineno, "asserts nothing")


def tests_do_not_sleep(file: Source) -> Iterator[Finding]:
    """Wait for what must come, with a deadline; ``sleep(0)`` only lets others run."""
    for name, test in _tests(file):
        for node in ast.walk(test):
            if _called_name(node) != "sleep" or not isinstance(node, ast.Call):
                continue
            zero = [isinstance(arg, ast.Constant) and arg.value == 0 for arg in node.args]
            if zero != [True]:
                yield Finding(f"{file.path}::{name}", node.lineno, "sleeps to be in step")


RULES: tuple[Rule, ...] = (
    files_are_short,
    functions_are_short,
    modules_say_what_they_are_for,
    public_names_are_documented,
    the_domain_is_pure,
    executables_import_the_standard_library,
    nothing_is_left_for_later,
    only_tools_for_people_print,
    no_path_of_one_machine,
    tasks_are_supervised,
    formats_state_their_byte_order,
    tests_are_sentences,
    tests_assert_something,
    tests_do_not_sleep,
)


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None, "parsed from text, so it has an end"
    return node.end_lineno - node.lineno + 1


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each imported name with its module before it: ``socket.inet_pton``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def _called_name(node: ast.AST) -> str:
    """The last name of what is called: ``sleep`` for ``asyncio.sleep(1)``; "" for no call."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _claims(node: ast.AST) -> bool:
    return any(word in _called_name(node).lower() for word in CLAIM_WORDS)


def _tests(file: Source) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    if file.package != "tests" or not file.path.rpartition("/")[2].startswith("test_"):
        return
    for name, node, _ in definitions(file.tree):
        if not isinstance(node, ast.ClassDef) and node.name.startswith("test_"):
            yield name, node
