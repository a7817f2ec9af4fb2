"""``orbctl verify``: checks the log and the state keys. Writes only with ``--repair``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from core.audit.repair import Repaired
from core.audit.repair import repair as repair_keys
from core.audit.state_check import Difference
from core.audit.verify import LogFault, VerificationReport
from core.audit.verify import verify as verify_all
from core.domain.validation.common_rules import counted
from core.eventstore.undecodable_values import ContainedFault
from ops.cli.action_runner import perform
from ops.cli.exit_codes import Exit
from ops.cli.output import more_text, print_heading, show_value
from ops.cli.progress import progress
from ops.kinds import ALL_KINDS

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

SHOWN_MAX: Final = 50
"""Limit for the findings of each kind without ``-o wide``."""


def verify(
    context: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="repair state keys that differ from the log")
    ] = False,
) -> None:
    """Check log, archive and state keys against each other.

    Examples:
      orbctl verify
      orbctl verify -o json
      orbctl verify --repair
    """

    async def action(session: ClusterSession) -> Exit:
        report = await _verify(session)
        repaired = None
        if repair and report.plan:
            if not session.output.is_structured:
                _show(report, wide=session.output.is_wide)
            repaired = await _repair(session, report)
            report = await _verify(session)
        if session.output.is_structured:
            show_value(_plain(report, repaired), session.output)
        else:
            if repaired is not None:
                _show_repaired(repaired)
            _show(report, wide=session.output.is_wide)
        return Exit.OK if report.is_clean else Exit.DIFFERENT

    perform(context, action)


async def _verify(session: ClusterSession) -> VerificationReport:
    with progress("verify") as advance:
        return await verify_all(session.store, session.keys, session.archive, ALL_KINDS, advance)


async def _repair(session: ClusterSession, report: VerificationReport) -> Repaired:
    return await session.write(
        lambda writer: repair_keys(report.plan, session.store, session.keys, writer, session.cause)
    )


def _show(report: VerificationReport, *, wide: bool) -> None:
    files = f" and {counted(report.files, 'archive file')}" if report.files else ""
    size = f"{counted(report.events, 'event')} in {counted(report.segments, 'segment')}{files}"
    print(f"log    {size}: {'complete' if not report.faults else 'DAMAGED'}")
    rules = "all hold" if not report.violations else f"{report.violation_count:,} BROKEN"
    print(f"rules  {rules}")
    if not report.folded:
        print("state  not compared: the log cannot be read to its end")
    elif report.differences:
        count = counted(report.difference_count, "key")
        print(f"state  DIFFERS from the log at revision {report.revision}: {count}")
    else:
        print(f"state  equals the log at revision {report.revision}")
    if report.unreadable:
        count = counted(len(report.unreadable), "key")
        print(f"keys   {count} CANNOT BE READ; the other keys are used")
    _print_section(
        "Unreadable", [_unreadable_text(fault) for fault in report.unreadable], wide=wide
    )
    _print_section("Damage", [_damage_text(fault) for fault in report.faults], wide=wide)
    _print_section("Broken rules", [str(violation) for violation in report.violations], wide=wide)
    _print_section(
        "Differences",
        [line for difference in report.differences for line in _difference_lines(difference)],
        wide=wide,
    )
    _print_section(
        "Plan (verify --repair executes it)", [step.text for step in report.plan], wide=wide
    )
    _print_section("Notes", list(report.notes), wide=wide)


def _damage_text(fault: LogFault) -> str:
    subject = "" if fault.subject in fault.text else f"{fault.subject}: "
    return f"{subject}{fault.text}" + (f"\n    → {fault.remedy}" if fault.remedy else "")


def _unreadable_text(fault: ContainedFault) -> str:
    return f"{fault.why}\n    → {fault.remedy}"


def _difference_lines(difference: Difference) -> list[str]:
    name = f"{difference.kind} {difference.name}"
    if difference.found is None:
        return [f"{name} is missing; the log has it"]
    if difference.expected is None:
        return [f"{name} exists, but the log has no event about it"]
    stored, expected = difference.found, difference.expected
    fields = getattr(expected, "_fields", None)
    if stored == expected or fields is None or type(stored) is not type(expected):
        return [str(difference)]
    return [
        f"{name}: {field} is {getattr(stored, field)!r}, the log has {getattr(expected, field)!r}"
        for field in fields
        if getattr(stored, field) != getattr(expected, field)
    ]


def _show_repaired(repaired: Repaired) -> None:
    _print_section("Repaired", list(repaired.done), wide=True)
    _print_section(
        "Changed during the repair, so not repaired", list(repaired.changed_meanwhile), wide=True
    )
    _print_section("Cannot be repaired automatically", list(repaired.manual), wide=True)
    print()


def _print_section(title: str, lines: list[str], *, wide: bool) -> None:
    if not lines:
        return
    print_heading(f"\n{title}")
    shown_lines = lines if wide else lines[:SHOWN_MAX]
    for line in shown_lines:
        print(f"  {line}")
    if len(shown_lines) < len(lines):
        print(f"  {more_text(len(lines) - len(shown_lines))}")


def _plain(report: VerificationReport, repaired: Repaired | None) -> dict[str, Any]:
    return {
        "clean": report.is_clean,
        "revision": report.revision,
        "files": report.files,
        "segments": report.segments,
        "events": report.events,
        "folded": report.folded,
        "faults": [fault._asdict() for fault in report.faults],
        "violations": [str(violation) for violation in report.violations],
        "violationCount": report.violation_count,
        "differences": [str(difference) for difference in report.differences],
        "differenceCount": report.difference_count,
        "plan": [step.text for step in report.plan],
        "notes": list(report.notes),
        "unreadable": [fault._asdict() for fault in report.unreadable],
        "repaired": repaired and {name: list(texts) for name, texts in repaired._asdict().items()},
    }
