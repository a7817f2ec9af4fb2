"""The house rules: each takes one parsed file and yields violations.

What ruff, mypy and import-linter check is not repeated here.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.tidy.sources import PRODUCT_PACKAGES, Source, definitions, nodes_of

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
"""Lines of a function, without docstring and decorators."""

TEST_NAME_WORDS_MIN = 3

# Written in halves, so that this file passes its own rule.
BANNED_WORDS = ("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")
BANNED = re.compile(rf"\b({'|'.join(BANNED_WORDS)})\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}~])/(work|tmp|home|root|Users)(?=/|$|[\"'`\s])")

PRINTERS = ("bench", "ops", "scripts")
"""Folders whose programs print for people."""

IMPURE_MODULES = frozenset(
    {
        *("asyncio", "concurrent", "ctypes", "http", "io", "logging", "multiprocessing", "os"),
        *("pathlib", "queue", "random", "secrets", "select", "selectors", "shutil", "signal"),
        *("socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid"),
    }
)
"""Modules with side effects or varying results, which the domain may not import."""

PURE_NAMES = frozenset(
    f"socket.{name}" for name in ("AF_INET", "AF_INET6", "inet_ntop", "inet_pton")
)
"""Names of ``IMPURE_MODULES`` that the domain may import."""

IMPURE_CALLS = frozenset(
    {"now", "utcnow", "today", "time_ns", "monotonic", "perf_counter", "urandom", "uuid1", "uuid4"}
)
IMPURE_BUILTINS = frozenset({"open", "input", "print", "breakpoint"})

TASK_MAKERS = frozenset({"create_task", "ensure_future"})
TASK_OWNERS = ("core/process/concurrency.py", "core/process/supervision.py")
"""Modules that create tasks for all other modules."""

FORMAT_USERS = frozenset({"Struct", "pack", "pack_into", "unpack", "unpack_from", "calcsize"})
BYTE_ORDERS = ("=", "<", ">", "!")

ASSERTION_WORDS = ("assert", "check", "expect", "fail", "must", "raises", "verify", "warns")
"""A call with one of these words in its name is an assertion."""


class Finding(NamedTuple):
    """One violation. ``location``: ``path`` or ``path::definition``."""

    location: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.location} (line {self.line}): {self.message}"


Rule = Callable[[Source], Iterator[Finding]]


def files_are_short(file: Source) -> Iterator[Finding]:
    """A file must be short enough to have a single purpose."""
    lines = file.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield Finding(file.path, 1, f"{lines} lines, at most {FILE_LINES_MAX}")


def functions_are_short(file: Source) -> Iterator[Finding]:
    """A function must fit on a screen; the docstring does not count."""
    for name, node, _ in definitions(file.tree):
        if isinstance(node, ast.ClassDef):
            continue
        lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)
        if lines > FUNCTION_LINES_MAX:
            message = f"{lines} lines, at most {FUNCTION_LINES_MAX}"
            yield Finding(f"{file.path}::{name}", node.lineno, message)


def modules_say_what_they_are_for(file: Source) -> Iterator[Finding]:
    """Every module needs a docstring, also an empty ``__init__``."""
    if not ast.get_docstring(file.tree):
        yield Finding(file.path, 1, "no module docstring: describe its purpose and guarantees")


def public_names_are_documented(file: Source) -> Iterator[Finding]:
    """Public classes, functions and methods of the product need a docstring.

    Methods of a class with bases may rely on the docstring of the base.
    """
    if file.package not in PRODUCT_PACKAGES:
        return
    for name, node, owner in definitions(file.tree):
        hidden = any(part.startswith("_") for part in name.split("."))
        inherited = owner is not None and bool(owner.bases)
        local = owner is None and "." in name
        if not (hidden or inherited or local or ast.get_docstring(node)):
            yield Finding(f"{file.path}::{name}", node.lineno, "public, without a docstring")


def the_domain_is_pure(file: Source) -> Iterator[Finding]:
    """The domain uses no clock, randomness, I/O or event loop, and imports only pure modules."""
    if not file.path.startswith("core/domain/"):
        return
    for name, line in _imports(file.tree):
        root = name.partition(".")[0]
        is_own = name.startswith(("core.domain.", "core.errors"))
        is_impure = root not in sys.stdlib_module_names or root in IMPURE_MODULES
        if is_impure and not is_own and name not in PURE_NAMES:
            yield Finding(file.path, line, f"the domain imports {name}")
    for node in nodes_of(file.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield Finding(file.path, node.lineno, "the domain uses async code")
        if isinstance(node, ast.Attribute) and node.attr in IMPURE_CALLS:
            yield Finding(
                file.path, node.lineno, f"the domain uses a clock or randomness: .{node.attr}"
            )
        if _called_name(node) in IMPURE_BUILTINS:
            yield Finding(file.path, _line(node), f"the domain calls {_called_name(node)}()")


def cni_build_needs_no_package(file: Source) -> Iterator[Finding]:
    """Python in ``cni`` builds the C program on machines without installed packages."""
    if file.package != "cni":
        return
    for name, line in _imports(file.tree):
        root = name.partition(".")[0]
        if root != "cni" and root not in sys.stdlib_module_names:
            yield Finding(file.path, line, f"the build of the CNI program imports {name}")


def nothing_is_left_for_later(file: Source) -> Iterator[Finding]:
    """Open work belongs in an issue, not in a comment."""
    yield from banned_words(file.path, file.text)


def banned_words(path: str, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), 1):
        for word in BANNED.findall(line):
            yield Finding(path, number, f"banned word {word}")


def only_tools_for_people_print(file: Source) -> Iterator[Finding]:
    """Only tools for people use print(); daemons log."""
    if file.package in PRINTERS:
        return
    for node in nodes_of(file.tree):
        if _called_name(node) == "print":
            yield Finding(file.path, _line(node), "print()")


def no_path_of_one_machine(file: Source) -> Iterator[Finding]:
    """Product code names no path that only some machines have, such as /home."""
    if file.package not in PRODUCT_PACKAGES:
        return
    for number, line in enumerate(file.text.splitlines(), 1):
        for name in MACHINE_PATH.findall(line):
            yield Finding(file.path, number, f"path of one machine: /{name}")


def tasks_are_supervised(file: Source) -> Iterator[Finding]:
    """Create tasks by ``core.process.supervision``, which reports failures of tasks."""
    if file.package not in PRODUCT_PACKAGES or file.path in TASK_OWNERS:
        return
    for node in nodes_of(file.tree):
        name = _called_name(node)
        if name in TASK_MAKERS:
            yield Finding(file.path, _line(node), f"{name}() outside core.process.supervision")


def formats_state_their_byte_order(file: Source) -> Iterator[Finding]:
    """A format of struct starts with a byte order; otherwise sizes depend on the machine."""
    if file.package not in PRODUCT_PACKAGES:
        return
    for node in nodes_of(file.tree):
        if not (isinstance(node, ast.Call) and _called_name(node) in FORMAT_USERS and node.args):
            continue
        first = node.args[0]
        if isinstance(first, ast.JoinedStr):
            first = first.values[0]
        # An f-string that begins with a value has no byte order; a variable is not checked.
        is_literal = isinstance(first, ast.FormattedValue) or (
            isinstance(first, ast.Constant) and isinstance(first.value, str)
        )
        has_order = isinstance(first, ast.Constant) and str(first.value).startswith(BYTE_ORDERS)
        if is_literal and not has_order:
            yield Finding(file.path, node.lineno, "a format of struct states no byte order")


def tests_are_sentences(file: Source) -> Iterator[Finding]:
    """Name the tested behaviour: ``test_a_stale_release_is_a_no_op``, not ``test_release_2``."""
    for name, node in _tests(file):
        words = [word for word in node.name.split("_")[1:] if word]
        if len(words) < TEST_NAME_WORDS_MIN:
            yield Finding(
                f"{file.path}::{name}", node.lineno, "the name does not describe a behaviour"
            )


def tests_assert_something(file: Source) -> Iterator[Finding]:
    """A test must be able to fail."""
    for name, node in _tests(file):
        if not any(isinstance(part, ast.Assert) or _is_assertion(part) for part in ast.walk(node)):
            yield Finding(f"{file.path}::{name}", node.lineno, "asserts nothing")


def tests_do_not_sleep(file: Source) -> Iterator[Finding]:
    """Wait for a condition with a deadline; only ``sleep(0)`` is allowed."""
    for name, test in _tests(file):
        for node in ast.walk(test):
            if _called_name(node) != "sleep" or not isinstance(node, ast.Call):
                continue
            zero = [isinstance(arg, ast.Constant) and arg.value == 0 for arg in node.args]
            if zero != [True]:
                yield Finding(
                    f"{file.path}::{name}", node.lineno, "sleeps instead of waiting for a condition"
                )


HOUSE_RULES: tuple[Rule, ...] = (
    files_are_short,
    functions_are_short,
    modules_say_what_they_are_for,
    public_names_are_documented,
    the_domain_is_pure,
    cni_build_needs_no_package,
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
    assert node.end_lineno is not None, "a node parsed from text has an end"
    return node.end_lineno - node.lineno + 1


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield imported names such as ``socket.inet_pton``, with their lines."""
    for node in nodes_of(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def _called_name(node: ast.AST) -> str:
    """``sleep`` for the call ``asyncio.sleep(1)``; "" for other nodes."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_assertion(node: ast.AST) -> bool:
    return any(word in _called_name(node).lower() for word in ASSERTION_WORDS)


def _tests(file: Source) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    if file.package != "tests" or not file.path.rpartition("/")[2].startswith("test_"):
        return
    for name, node, _ in definitions(file.tree):
        if not isinstance(node, ast.ClassDef) and node.name.startswith("test_"):
            yield name, node
