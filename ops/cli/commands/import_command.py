"""``orbctl import``: takes over the addresses of another IPAM while the Pods run.

The import can be repeated. At the end, it reads the objects again and compares every address with
the claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.allocation.assigner import Assigner
from core.allocation.takeover import TakeoverResult, TakeoverRun
from core.domain.claims.takeover import TakeoverPlan, plan_takeover, remaining_plan
from core.domain.configuration.commands import Command
from core.domain.validation.common_rules import counted
from core.errors import Refusal
from core.eventstore.state_reader import read_ledger
from core.projections.configuration_view import ConfigurationView
from core.projections.fork import Fork, SimulatedStep
from ops.cli.action_runner import Yes, confirm, perform
from ops.cli.exit_codes import Exit, fail, report_refusals, report_unreadable_keys
from ops.cli.import_sources import (
    CALICO,
    FINDINGS_SHOWN_MAX,
    SPIDERPOOL,
    WHEREABOUTS,
    KubeconfigOption,
    KubeContextOption,
    ReadDump,
    dump_reader,
    host_local_dump_reader,
)
from ops.cli.output import TableColumn, more_text, print_heading, show_table, show_value
from ops.cli.progress import progress

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

app = typer.Typer(no_args_is_help=True, help="Import pools and addresses from another IPAM.")


_Files = Annotated[
    list[str] | None,
    typer.Option(
        "-f",
        "--filename",
        help="output of `kubectl get KINDS -A -o json`; - for standard input; default: the objects"
        " in the API server",
    ),
]
_Nodes = Annotated[
    str, typer.Option("--nodes", metavar="DIRECTORY", help="directory with a folder for each node")
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="check and show the result, write nothing")
]


@app.command()
def spiderpool(
    context: typer.Context,
    file: _Files = None,
    kubeconfig: KubeconfigOption = "",
    kube_context: KubeContextOption = "",
    dry_run: _DryRun = False,
    yes: Yes = False,
) -> None:
    """Take over pools, subnets, reservations and every address in use from a Spiderpool cluster.

    KINDS for --filename: spiderippools,spidersubnets,spiderreservedips,spiderendpoints.

    Examples:
      orbctl import spiderpool --dry-run
      orbctl import spiderpool --context old-cluster --yes
      orbctl import spiderpool -f spiderpool.json
    """
    read = dump_reader(SPIDERPOOL, file or (), kubeconfig, kube_context)
    _take_over(context, read, dry_run=dry_run, yes=yes)


@app.command()
def whereabouts(
    context: typer.Context,
    file: _Files = None,
    kubeconfig: KubeconfigOption = "",
    kube_context: KubeContextOption = "",
    dry_run: _DryRun = False,
    yes: Yes = False,
) -> None:
    """Take over ranges, exclusions and every address in use from Whereabouts.

    KINDS for --filename: ippools.whereabouts.cni.cncf.io,network-attachment-definitions,pods; if
    the cluster has nodeslicepools.whereabouts.cni.cncf.io, these too.

    Examples:
      orbctl import whereabouts --dry-run
      orbctl import whereabouts -f whereabouts.json --yes
    """
    read = dump_reader(WHEREABOUTS, file or (), kubeconfig, kube_context)
    _take_over(context, read, dry_run=dry_run, yes=yes)


@app.command()
def calico(
    context: typer.Context,
    file: _Files = None,
    kubeconfig: KubeconfigOption = "",
    kube_context: KubeContextOption = "",
    dry_run: _DryRun = False,
    yes: Yes = False,
) -> None:
    """Take over pools and every address in use from Calico's IPAM.

    Addresses that belong to no Pod, such as tunnel addresses, become a reservation.

    KINDS for --filename: ippools.crd.projectcalico.org,ipamblocks.crd.projectcalico.org,pods.

    Examples:
      orbctl import calico --dry-run
      orbctl import calico -f calico.json --yes
    """
    read = dump_reader(CALICO, file or (), kubeconfig, kube_context)
    _take_over(context, read, dry_run=dry_run, yes=yes)


@app.command("host-local")
def host_local(
    context: typer.Context,
    nodes: _Nodes,
    file: _Files = None,
    kubeconfig: KubeconfigOption = "",
    kube_context: KubeContextOption = "",
    dry_run: _DryRun = False,
    yes: Yes = False,
) -> None:
    """Take over ranges and every address in use from host-local, as flannel and others use it.

    DIRECTORY has a folder for each node, named as the node, with copies of the node's
    /etc/cni/net.d and /var/lib/cni/networks below it. Pods, Nodes and Multus networks are read
    from the API server or --filename.

    KINDS for --filename: pods,nodes,network-attachment-definitions.

    Examples:
      orbctl import host-local --nodes nodes --dry-run
      orbctl import host-local --nodes nodes -f objects.json --yes
    """
    read = host_local_dump_reader(nodes, file or (), kubeconfig, kube_context)
    _take_over(context, read, dry_run=dry_run, yes=yes)


def _take_over(context: typer.Context, read: ReadDump, *, dry_run: bool, yes: bool) -> None:

    async def action(session: ClusterSession) -> Exit:
        dump = await read()
        complete_plan = plan_takeover(dump.cluster)
        plan, refusals = await _simulate(session, complete_plan)
        document = _plain(plan, refusals, dump.skipped)
        if not session.output.is_structured:
            _show(plan, dump.skipped, wide=session.output.is_wide)
        if dry_run:
            if session.output.is_structured:
                show_value(document, session.output)
            report_refusals(refusals)
            return Exit.REFUSED if refusals else Exit.OK
        if not confirm(f"Take over {_plan_size(plan)}?", yes=yes):
            fail("nothing was imported", Exit.FAILED, "answer yes, or give --yes")
        outcome = await _carry_out(session, plan)
        for error in outcome.refused:
            report_refusals(error.refusals)
        plan_after = plan_takeover((await read()).cluster)
        missing = await _addresses_not_imported(session, plan_after)
        if session.output.is_structured:
            show_value(document | _plain_outcome(outcome, missing), session.output)
        else:
            _show_outcome(outcome, complete_plan, plan_after, missing)
        return Exit.REFUSED if outcome.refused or missing else Exit.OK

    perform(context, action)


async def _simulate(
    session: ClusterSession, complete_plan: TakeoverPlan
) -> tuple[TakeoverPlan, list[Refusal]]:
    """The part of the plan that is not done yet, and the refusals of its simulation."""
    ledger = await read_ledger(session.store, session.keys)
    report_unreadable_keys(ledger)
    plan = remaining_plan(complete_plan, ledger.pools, ledger.endpoints)
    fork = Fork(ledger)
    first_steps = [fork.apply(command) for command in plan.first]
    refusals = [refusal for endpoint in plan.endpoints for refusal in fork.assign(endpoint)]
    last_steps = [fork.apply(command) for command in plan.last]
    refusals += [refusal for step in (*first_steps, *last_steps) for refusal in step.refusals]
    simulated = plan._replace(
        first=_commands_still_to_do(first_steps), last=_commands_still_to_do(last_steps)
    )
    return simulated, refusals


def _commands_still_to_do(steps: list[SimulatedStep]) -> tuple[Command, ...]:
    return tuple(step.command for step in steps if step.events or step.refusals)


async def _carry_out(session: ClusterSession, plan: TakeoverPlan) -> TakeoverResult:
    view = ConfigurationView(session.store, session.keys)
    await view.start()
    try:
        with progress("import") as advance:
            return await session.write(
                lambda writer: TakeoverRun(
                    session.configurator(writer),
                    Assigner(session.store, session.keys, writer, view),
                    session.cause,
                    advance,
                ).carry_out(plan)
            )
    finally:
        await view.close()


async def _addresses_not_imported(session: ClusterSession, plan: TakeoverPlan) -> list[str]:
    claims = (await read_ledger(session.store, session.keys)).claims
    return [
        address
        for endpoint in plan.endpoints
        for address, pool in endpoint.addresses()
        if address not in claims
        or (claims[address].claim.pool, claims[address].claim.holder) != (pool, endpoint.holder)
    ]


def _show(plan: TakeoverPlan, skipped: dict[str, int], *, wide: bool) -> None:
    print_heading(f"To take over: {_plan_size(plan)}")
    for kind, number in sorted(skipped.items()):
        print(f"{counted(number, kind)} skipped: objects of this kind have no addresses")
    if plan.findings:
        print_heading(f"\nInconsistencies: {counted(len(plan.findings), 'finding')}")
        shown = plan.findings if wide else plan.findings[:FINDINGS_SHOWN_MAX]
        show_table(
            (TableColumn("OBJECT"), TableColumn("FINDING"), TableColumn("DONE ABOUT IT")), shown
        )
        if len(shown) < len(plan.findings):
            print(more_text(len(plan.findings) - len(shown)))


def _show_outcome(
    outcome: TakeoverResult,
    plan_before: TakeoverPlan,
    plan_after: TakeoverPlan,
    missing: Sequence[str],
) -> None:
    changes = counted(outcome.commands, "change of configuration", "changes of configuration")
    print(f"{changes}, {counted(outcome.endpoints, 'endpoint')} taken over")
    total = counted(plan_after.addresses, "address", "addresses")
    print(f"verified: {plan_after.addresses - len(missing):,} of {total}")
    for address in missing[:FINDINGS_SHOWN_MAX]:
        print(f"  not imported: {address}")
    planned = {address for endpoint in plan_before.endpoints for address, _ in endpoint.addresses()}
    if set(missing) - planned:
        print("Run the command again to import addresses that were allocated during the import")


def _plan_size(plan: TakeoverPlan) -> str:
    addresses = counted(plan.addresses, "address", "addresses")
    commands = counted(
        len(plan.first) + len(plan.last), "step of configuration", "steps of configuration"
    )
    return f"{addresses} of {counted(len(plan.endpoints), 'endpoint')}, {commands}"


def _plain(
    plan: TakeoverPlan, refusals: Sequence[Refusal], skipped: dict[str, int]
) -> dict[str, Any]:
    return {
        "endpoints": len(plan.endpoints),
        "addresses": plan.addresses,
        "configuration": len(plan.first) + len(plan.last),
        "findings": [finding._asdict() for finding in plan.findings],
        "refusals": [refusal._asdict() for refusal in refusals],
        "passedOver": skipped,
    }


def _plain_outcome(outcome: TakeoverResult, missing: Sequence[str]) -> dict[str, Any]:
    refused = [refusal for error in outcome.refused for refusal in error.refusals]
    return {
        "refusals": [refusal._asdict() for refusal in refused],
        "changes": outcome.commands,
        "takenOver": outcome.endpoints,
        "missing": list(missing),
    }
