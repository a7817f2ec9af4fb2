"""Exit codes of orbctl, and messages on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

from core.domain.validation.common_rules import counted
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
    from core.archive.unread_parts import UnreadPartList
from core.domain.evolution import Ledger


class Exit(IntEnum):
    """Exit codes of orbctl (docs/reference/orbctl.md)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    """Wrong options or unreadable input."""

    REFUSED = 3

    NOT_FOUND = 4
    UNAVAILABLE = 5
    """etcd cannot be used; the failed request wrote nothing."""

    DIFFERENT = 6
    """A check of ``verify``, ``replay`` or ``migrate compare`` failed."""

    UNKNOWN = 7
    """The answer to a write was lost: check the state before you repeat the command."""

    INTERRUPTED = 130


def exit_code(error: OrbweaverError) -> Exit:
    """The exit code of an error."""
    match error:
        case Refused():
            kinds = {refusal.kind for refusal in error.refusals}
            return Exit.NOT_FOUND if kinds == {"NotFound"} else Exit.REFUSED
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
    """Print the error; return its exit code."""
    if isinstance(error, Refused):
        report_refusals(error.refusals)
    else:
        endpoint = f" [{error.subject}]" if _message_lacks_endpoint(error) else ""
        _print(f"error: {error.message}{endpoint}")
        if error.remedy:
            _print(f"  → {error.remedy}")
    return exit_code(error)


def report_refusals(refusals: Iterable[Refusal]) -> None:
    """Print the refusals, grouped by object."""
    subject = ""
    for refusal in refusals:
        if refusal.subject != subject:
            subject = refusal.subject
            _print(f"refused: {subject}")
        field = f"{refusal.field}: " if refusal.field else ""
        _print(f"  - {field}{refusal.message} [{refusal.rule}]")
        if refusal.remedy:
            _print(f"    → {refusal.remedy}")


def report_unreadable_keys(ledger: Ledger) -> None:
    """Warn about each state key that cannot be decoded."""
    for key in sorted(ledger.undecodable):
        _print(f"warning: {key} cannot be read and is ignored")
    if ledger.undecodable:
        _print("  → `orbctl verify` shows the cause and the remedy")


def report_unreadable_parts(unread: UnreadPartList) -> None:
    """Warn about each part of the log that could not be read."""
    for part in unread.parts():
        _print(f"warning: {part}")
        _print(f"  → {part.remedy}")
    if unread.unlisted:
        listed = len(unread.parts())
        _print(
            f"warning: {counted(unread.unlisted, 'more part')} of the log cannot be read; only the"
            f" first {listed:,} that were found are listed"
        )


def fail(message: str, code: Exit, remedy: str = "") -> NoReturn:
    """Print the message and end the process."""
    _print(f"error: {message}")
    if remedy:
        _print(f"  → {remedy}")
    raise SystemExit(code)


def _message_lacks_endpoint(error: OrbweaverError) -> bool:
    is_about_etcd = isinstance(error, StoreUnavailable | StoreRejected | OutcomeUnknown)
    return is_about_etcd and bool(error.subject) and error.subject not in error.message


def _print(text: str) -> None:
    print(text, file=sys.stderr)
