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
"""The suffix of classes that only group other classes; ``ProviderError`` is an exception."""

_NOT_IN_CNI: Final = 999
"""The code of unexpected errors: no CNI call reports them on purpose."""


def with_failures(page: str) -> str:
    """The page with the table of the code. Raises AssertionError if the page has no markers."""
    assert _TABLE.search(page), "errors.md has no markers of the table"
    rows = "\n".join(_rows())
    return _TABLE.sub(lambda match: f"{match[1]}\n{rows}\n\n{match[2]}", page)


def _rows() -> Iterator[str]:
    yield "| failure | class | code in CNI | a retry can succeed |"
    yield "|---|---|---|---|"
    for line in (errors.__doc__ or "").splitlines():
        match = _DRAWN.match(line)
        if match and (
            match["name"] == "ProviderError" or not match["name"].endswith(_GROUP_SUFFIX)
        ):
            kind = getattr(errors, match["name"])
            text = match["text"].strip().replace("|", "\\|")
            retry = "yes" if kind.retryable else "no"
            code = _code(kind)
            shown = "-" if code == _NOT_IN_CNI else code
            yield f"| {text} | `{match['name']}` | {shown} | {retry} |"


def _code(kind: type[errors.OrbweaverError]) -> int:
    # Not by the constructor of the class, because each class has other arguments.
    error = kind.__new__(kind)
    errors.OrbweaverError.__init__(error, "")
    return failure_of(error).code
