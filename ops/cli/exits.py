"""Exit codes, and errors as people read them: on standard error, with the remedy.

A refusal is a list (rule, field, message, remedy), as the webhook and ``simulate`` show it. Nothing
here prints to standard output, which belongs to results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

from core.errors import (
    BadInput,
    ExecutionNotFound,
    NotFound,
    OrbweaverError,
    OutcomeUnknown,
    Refusal,
    Refused,
    StoreRejected,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from core.domain.evolution import Ledger


class Exit(IntEnum):
    """What a script can rely on (docs/reference/orbctl.md)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    """Options, or input that cannot be read."""

    REFUSED = 3
    """A rule refused the command; standard error lists the refusals."""

    NOT_FOUND = 4
    UNAVAILABLE = 5
    """etcd cannot be used; nothing was written."""

    DIFFERENT = 6
    """``verify`` found something wrong."""

    UNKNOWN = 7
    """The answer of a write was lost: look before you repeat it."""

    INTERRUPTED = 130


def exit_code(error: OrbweaverError) -> Exit:
    """The exit code of an error."""
    match error:
        case Refused():
            found = {refusal.kind for refusal in error.refusals}
            return Exit.NOT_FOUND if found == {"NotFound"} else Exit.REFUSED
        case NotFound() | ExecutionNotFound():
            return Exit.NOT_FOUND
        case BadInput():
            return Exit.USAGE
        case StoreUnavailable():
            return Exit.UNAVAILABLE
        case OutcomeUnknown():
            return Exit.UNKNOWN
        case _:
            return Exit.FAILED


def report(error: OrbweaverError) -> Exit:
    """Tell the error on standard error; the exit code."""
    if isinstance(error, Refused):
        report_refusals(error.refusals)
    else:
        where = f" [{error.subject}]" if _adds_something(error) else ""
        _say(f"error: {error.message}{where}")
        if error.remedy:
            _say(f"  → {error.remedy}")
    return exit_code(error)


def report_refusals(refusals: Iterable[Refusal]) -> None:
    """Each refusal with its rule, field, message and remedy, grouped by object."""
    subject = ""
    for refusal in refusals:
        if refusal.subject != subject:
            subject = refusal.subject
            _say(f"refused: {subject}")
        where = f"{refusal.field}: " if refusal.field else ""
        _say(f"  - {where}{refusal.message} [{refusal.rule}]")
        if refusal.remedy:
            _say(f"    → {refusal.remedy}")


def report_unread(ledger: Ledger) -> None:
    """Name the state keys that are missing from what a command shows or decides."""
    for key in sorted(ledger.undecodable):
        _say(f"warning: {key} cannot be read and is left out")
    if ledger.undecodable:
        _say("  → `orbctl verify` says why, and what to do")


def fail(message: str, code: Exit, remedy: str = "") -> NoReturn:
    """Tell it and end."""
    _say(f"error: {message}")
    if remedy:
        _say(f"  → {remedy}")
    raise SystemExit(code)


def _adds_something(error: OrbweaverError) -> bool:
    """Whether the subject is not said by the message already, and is the endpoint of an etcd."""
    connection = isinstance(error, StoreUnavailable | StoreRejected | OutcomeUnknown)
    return connection and bool(error.subject) and error.subject not in error.message


def _say(text: str) -> None:
    print(text, file=sys.stderr)
