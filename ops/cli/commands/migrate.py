"""``orbctl migrate``: prepares a migration from Spiderpool; writes nothing.

See docs/how-to/migrate-from-spiderpool.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from core.domain.claims.takeover import plan_takeover
from core.domain.validation.common_rules import counted
from core.errors import BadInput
from core.eventstore.state_reader import read_ledger
from core.manifests.manifest_writer import dump_yaml
from ops.cli.action_runner import perform
from ops.cli.exit_codes import Exit, fail, report_unreadable_keys
from ops.cli.formats import Output
from ops.cli.global_options import globals_of
from ops.cli.import_sources import (
    FINDINGS_SHOWN_MAX,
    SPIDERPOOL,
    KubeconfigOption,
    KubeContextOption,
    default_kubeconfig,
    dump_reader,
)
from ops.cli.output import TableColumn, more_text, print_heading, show_table, show_value
from ops.cli.session import ClusterSession
from ops.migration.comparison import AddressDifference, differences
from ops.migration.facts import AGENT_IMAGE, Facts
from ops.migration.facts_reader import read_facts
from ops.migration.migration_plan import (
    MigrationDeadline,
    Plan,
    PlanFinding,
    plan_migration,
    workload_with,
)

WAIT_S_MAX: Final = 3600
"""Limit of ``compare --wait``."""

POLL_S: Final = 1.0

app = typer.Typer(no_args_is_help=True, help="Prepare a migration from Spiderpool.")


@app.command()
def check(
    context: typer.Context, kubeconfig: KubeconfigOption = "", kube_context: KubeContextOption = ""
) -> None:
    """Show the preparations for a migration, the migration steps, and inconsistent objects.

    Reads Helm's release, workloads, networks, webhooks and custom resources; writes nothing. Exit
    codes: 0 ready to migrate, 3 something must be done first, 4 there is no Spiderpool.

    Examples:
      orbctl migrate check
      orbctl migrate check --context north -o json
    """
    output = globals_of(context).output
    facts, plan = _read_plan(kubeconfig, kube_context)
    if output.is_structured:
        show_value(_plain(plan), output)
    else:
        _show(facts, plan, shown_max=len(plan.findings) if output.is_wide else FINDINGS_SHOWN_MAX)
    raise typer.Exit(Exit.OK if plan.is_ready else Exit.REFUSED)


@app.command()
def values(kubeconfig: KubeconfigOption = "", kube_context: KubeContextOption = "") -> None:
    """Print the values of Spiderpool's Helm release as a values file for Orbweaver's chart.

    Examples:
      orbctl migrate values > values.yaml
    """
    _, plan = _read_plan(kubeconfig, kube_context)
    if plan.values is None:
        raise BadInput(
            "there is no Helm release of the chart spiderpool, so there are no values",
            remedy="use the values file with which Spiderpool was installed",
        )
    print(dump_yaml([plan.values]), end="")


@app.command()
def compare(
    context: typer.Context,
    kubeconfig: KubeconfigOption = "",
    kube_context: KubeContextOption = "",
    wait: Annotated[
        int,
        typer.Option(
            min=0, max=WAIT_S_MAX, help="wait up to this many seconds for equal addresses"
        ),
    ] = 0,
) -> None:
    """Compare the addresses in the log with those in Spiderpool's objects, in both directions.

    The addresses are equal after an import. The addresses must be equal before a return to
    Spiderpool: otherwise Spiderpool may allocate addresses that Pods use. Exit code 6 if the
    addresses differ.

    Examples:
      orbctl migrate compare
      orbctl migrate compare --wait 60
    """
    read = dump_reader(SPIDERPOOL, files=(), kubeconfig=kubeconfig, context=kube_context)

    async def action(session: ClusterSession) -> Exit:
        deadline = time.monotonic() + wait
        while True:
            spiderpool_plan = plan_takeover((await read()).cluster)
            ledger = await read_ledger(session.store, session.keys)
            address_differences = differences(spiderpool_plan, ledger.claims)
            if not address_differences or time.monotonic() >= deadline:
                break
            await asyncio.sleep(POLL_S)
        report_unreadable_keys(ledger)
        _show_differences(address_differences, len(ledger.claims), session.output)
        return Exit.DIFFERENT if address_differences else Exit.OK

    perform(context, action)


def _show_differences(
    address_differences: Sequence[AddressDifference], address_count: int, output: Output
) -> None:
    if output.is_structured:
        plain = [difference._asdict() for difference in address_differences]
        show_value({"addresses": address_count, "differences": plain}, output)
        return
    if not address_differences:
        print(f"equal: {counted(address_count, 'address', 'addresses')}")
        return
    print_heading(f"{counted(len(address_differences), 'address differs', 'addresses differ')}")
    columns = (TableColumn("ADDRESS"), TableColumn("SPIDERPOOL"), TableColumn("ORBWEAVER"))
    shown = address_differences if output.is_wide else address_differences[:FINDINGS_SHOWN_MAX]
    show_table(columns, shown)
    if len(shown) < len(address_differences):
        print(more_text(len(address_differences) - len(shown)))


def _read_plan(kubeconfig: str, context: str) -> tuple[Facts, Plan]:
    read = dump_reader(SPIDERPOOL, (), kubeconfig, context)

    async def facts_of_cluster() -> Facts:
        cluster = (await read()).cluster
        return await read_facts(cluster, kubeconfig or default_kubeconfig(), context)

    facts = asyncio.run(facts_of_cluster())
    plan = plan_migration(facts)
    if plan is None:
        fail(
            "there is no Spiderpool in this cluster",
            Exit.NOT_FOUND,
            "check --kubeconfig and --context",
        )
    return facts, plan


def _show(facts: Facts, plan: Plan, *, shown_max: int) -> None:
    release, agent = facts.release, workload_with(facts, AGENT_IMAGE)
    if release is not None:
        name = f"release {release.name} in namespace {release.namespace}"
        print_heading(f"Spiderpool {release.chart_version}: {name}, revision {release.revision}")
    if agent is not None:
        print(f"{agent.title}: {agent.ready} of {agent.desired} Pods ready")
    for deadline, title in (
        (MigrationDeadline.BEFORE_SWITCH, "To do before the switch"),
        (MigrationDeadline.BEFORE_REMOVAL, "To do before Spiderpool's release is removed"),
        (MigrationDeadline.NONE, "Notes"),
    ):
        due = plan.due(deadline)
        if due:
            print_heading(f"\n{title}:")
        for finding in due[:shown_max]:
            _show_finding(finding)
        if len(due) > shown_max:
            print(f"  {more_text(len(due) - shown_max)}")
    print_heading("\nThe switch:")
    for step in plan.steps:
        print(f"  - {step}")
    if plan.is_ready:
        print("\nNothing has to be done first.")


def _show_finding(finding: PlanFinding) -> None:
    print(f"  - {finding.subject}: {finding.what}")
    if finding.remedy:
        print(f"    → {finding.remedy}")


def _plain(plan: Plan) -> dict[str, Any]:
    return {
        "ready": plan.is_ready,
        "findings": [
            finding._asdict() | {"deadline": str(finding.deadline)} for finding in plan.findings
        ],
        "steps": list(plan.steps),
        "values": plan.values,
    }
