"""``orbctl describe application``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.domain.autopools.applications import replicas_of, skip_reason
from core.domain.evolution import Ledger
from core.errors import ExecutionNotFound, NotFound
from ops.cli.application_rows import (
    POOL_COLUMNS,
    ApplicationLine,
    application_lines,
    plain_application,
    pool_rows,
    shown_action,
)
from ops.cli.output import print_fields, print_heading, show_table, show_value
from ops.cli.workloads import Applications
from workflows.engine.store.history_reader import find_run
from workflows.engine.store.keys import WorkflowKeys
from workflows.jobs.autopools.application import workflow_id

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

LIST_ALL: Final = "`orbctl get applications -A` lists all"


async def describe_applications(
    session: ClusterSession,
    ledger: Ledger,
    applications: Applications | None,
    key: tuple[str, str],
) -> None:
    """Describe all applications of this namespace and name, of any kind. Raises NotFound.

    If ``applications`` is None, searches the applications that have records.
    """
    all_lines = application_lines(ledger, applications)
    lines = [line for line in all_lines if (line.key.namespace, line.key.name) == key]
    if not lines:
        raise _not_found("/".join(key), applications)
    if session.output.is_structured:
        items = [plain_application(line) for line in lines]
        show_value(items[0] if len(items) == 1 else {"items": items}, session.output)
        return
    for number, line in enumerate(lines):
        if number:
            print()
        await _describe(session, line)


def _not_found(name: str, applications: Applications | None) -> NotFound:
    if applications is None:
        return NotFound(f"there is no application {name}", remedy=f"apply its manifest; {LIST_ALL}")
    return NotFound(
        f"there is no application {name} with an automatic pool or a request for one",
        remedy=LIST_ALL,
    )


async def _describe(session: ClusterSession, line: ApplicationLine) -> None:
    key, application = line.key, line.application
    print_fields(
        (
            ("Name", key.name),
            ("Namespace", key.namespace),
            ("Kind", f"{key.kind} ({key.api_version})"),
            ("UID", application.uid if application else ""),
            ("Replicas", str(replicas_of(application)) if application else "unknown"),
            ("State", line.state),
            ("Why", line.missing.why if line.missing else ""),
            ("Skipped", skip_reason(application) if application else ""),
            ("Workflow", await _workflow(session, line)),
        )
    )
    if line.pools:
        print_heading(f"\nPools ({len(line.pools)})")
        show_table(POOL_COLUMNS, pool_rows(line))
    if line.steps:
        print_heading("\nTo be done")
        for step in line.steps:
            print(f"  {shown_action(step)} {step.pool or '-'}: {step.reason}")
            if step.remedy:
                print(f"    → {step.remedy}")


async def _workflow(session: ClusterSession, line: ApplicationLine) -> str:
    name = workflow_id(line.key)
    try:
        head = await find_run(session.store, WorkflowKeys(session.keys), name)
    except ExecutionNotFound:
        return ""
    reason = f": {head.reason}" if head.reason else ""
    return f"{name} ({head.status.value}{reason})"
