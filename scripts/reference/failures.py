"""A table of ``docs/reference/errors.md``: all exception classes, their codes, whether to retry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from core import errors
from nodeagent.cni_protocol.failures import failure_of

_TABLE: Final = re.compile(r"(<!-- failures: generated -->\n).*?(<!-- end -->\n)", re.DOTALL)
_DRAWN: Final = re.compile(r"^[ │├└─]+(?P<name>[A-Z]\w+) +(?P<text>.+?)(?: *\(retryable\))?$")
"""A class in the tree that the docstring of ``core.errors`` draws."""

_GROUP_SUFFIX: Final = "Error"
"""The suffix of classes that only group other classes; these classes have no row."""

_RAISED_WITH_SUFFIX: Final = "ProviderError"
"""The class with this suffix that is raised itself, so it has a row."""

_UNEXPECTED_CODE: Final = 999
"""The CNI error code for every class without a code of its own; the table shows "-"."""


def with_failures(page: str) -> str:
    """The text of the page, with the table between its two markers generated from ``core.errors``.

    Raises AssertionError if the page has no markers.
    """
    assert _TABLE.search(page), (
        "errors.md has no table: put <!-- failures: generated --> before it, <!-- end --> after it"
    )
    rows = "\n".join(_rows())
    return _TABLE.sub(lambda match: f"{match[1]}\n{rows}\n\n{match[2]}", page)


def _rows() -> Iterator[str]:
    yield "| failure | class | code in CNI | a retry can succeed |"
    yield "|---|---|---|---|"
    for line in (errors.__doc__ or "").splitlines():
        match = _DRAWN.match(line)
        if match and (
            match["name"] == _RAISED_WITH_SUFFIX or not match["name"].endswith(_GROUP_SUFFIX)
        ):
            error_class = getattr(errors, match["name"])
            text = match["text"].strip().replace("|", "\\|")
            retry = "yes" if error_class.retryable else "no"
            code = _cni_code(error_class)
            shown = "-" if code == _UNEXPECTED_CODE else code
            yield f"| {text} | `{match['name']}` | {shown} | {retry} |"


def _cni_code(error_class: type[errors.OrbweaverError]) -> int:
    # The constructor of the class is not called, because each class has other arguments.
    error = error_class.__new__(error_class)
    errors.OrbweaverError.__init__(error, "")
    return failure_of(error).code
