"""``orbctl describe application``: its pools, what is still to be done, and who does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import ExecutionNotFound, NotFound
from ops.cli.output import Format, heading, pairs, show_table, show_value
from ops.cli.session import Session

if TYPE_CHECKING:
    from core.domain.evolution import Ledger
    from ops.cli.applications import Line


async def describe_applications(
    session: Session, ledger: Ledger, key: tuple[str, str], output: Format
) -> None:
    """All applications of that namespace and name, whatever their kind. Raises NotFound."""
    from ops.cli.applications import lines_of, plain

    lines = [line for line in lines_of(ledger) if (line.key.namespace, line.key.name) == key]
    if not lines:
        raise NotFound(
            f"there is no application {'/'.join(key)}",
            remedy="apply its manifest, or look at all of them: `orbctl get applications -A`",
        )
    if output.is_plain:
        items = [plain(line) for line in lines]
        show_value(items[0] if len(items) == 1 else {"items": items}, output)
        return
    for number, line in enumerate(lines):
        if number:
            print()
        await _describe(session, line)


async def _describe(session: Session, line: Line) -> None:
    from core.domain.autopools.applications import replicas_of, skip_reason
    from ops.cli.applications import POOL_COLUMNS, pool_rows, word_of

    key, told = line.key, line.told
    pairs(
        (
            ("Name", key.name),
            ("Namespace", key.namespace),
            ("Kind", f"{key.kind} ({key.api_version})"),
            ("UID", told.uid if told else ""),
            ("Replicas", str(replicas_of(told)) if told else "unknown"),
            ("State", line.state),
            ("Skipped", skip_reason(told) if told else ""),
            ("Workflow", await _workflow(session, line)),
        )
    )
    if line.pools:
        heading(f"\nPools ({len(line.pools)})")
        show_table(POOL_COLUMNS, pool_rows(line))
    if line.steps:
        heading("\nTo be done")
        for step in line.steps:
            print(f"  {word_of(step)} {step.pool or '-'}: {step.reason}")
            if step.remedy:
                print(f"    → {step.remedy}")


async def _workflow(session: Session, line: Line) -> str:
    """The newest execution that looks after its pools."""
    from workflows.engine.keys import WorkflowKeys
    from workflows.engine.reading import find_run
    from workflows.jobs.autopools.application import workflow_id

    name = workflow_id(line.key)
    try:
        head = await find_run(session.store, WorkflowKeys(session.keys), name)
    except ExecutionNotFound:
        return ""
    reason = f": {head.reason}" if head.reason else ""
    return f"{name} ({head.status.value}{reason})"
