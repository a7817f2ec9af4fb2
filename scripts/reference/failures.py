"""The table of exception classes in ``docs/reference/errors.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from core import errors
from nodeagent.cni_protocol.failures import failure_of

_TABLE: Final = re.compile(r"(<!-- failures: generated -->\n).*?(<!-- end -->\n)", re.DOTALL)
_TREE_LINE: Final = re.compile(r"^[ │├└─]+(?P<name>[A-Z]\w+) +(?P<text>.+?)(?: *\(retryable\))?$")
"""A line of the class tree in the docstring of ``core.errors``."""

_GROUP_SUFFIX: Final = "Error"
"""The names of base classes end with it. The table has no row for them."""

_RAISED_BASE: Final = "ProviderError"
"""The table has a row for this base class, because it is also raised."""

_UNEXPECTED_CODE: Final = 999
"""The CNI code of classes without a specific code; the table shows "-"."""


def with_failures(page: str) -> str:
    """Replace the table between the page's markers. Raises AssertionError without markers."""
    assert _TABLE.search(page), (
        "errors.md needs <!-- failures: generated --> before the table, and <!-- end --> after it"
    )
    rows = "\n".join(_rows())
    return _TABLE.sub(lambda match: f"{match[1]}\n{rows}\n\n{match[2]}", page)


def _rows() -> Iterator[str]:
    yield "| failure | class | code in CNI | a retry can succeed |"
    yield "|---|---|---|---|"
    for line in (errors.__doc__ or "").splitlines():
        match = _TREE_LINE.match(line)
        if match and (match["name"] == _RAISED_BASE or not match["name"].endswith(_GROUP_SUFFIX)):
            error_class = getattr(errors, match["name"])
            text = match["text"].strip().replace("|", "\\|")
            retry = "yes" if error_class.retryable else "no"
            code = _cni_code(error_class)
            shown_code = "-" if code == _UNEXPECTED_CODE else code
            yield f"| {text} | `{match['name']}` | {shown_code} | {retry} |"


def _cni_code(error_class: type[errors.OrbweaverError]) -> int:
    # Constructors of different classes have different arguments, so no constructor is called.
    error = error_class.__new__(error_class)
    errors.OrbweaverError.__init__(error, "")
    return failure_of(error).code
