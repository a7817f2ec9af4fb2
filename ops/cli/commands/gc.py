"""``orbctl gc``: releases leaked addresses, and shows why other claims are kept.

A release needs evidence that two scans observe: the answer of the API server (``--kubeconfig``), a
deleted record (without Kubernetes), or a claim that contradicts the stored state. A missing record
is not evidence. For ``--gone`` and ``--gone-node``, one scan is enough. Only claims in the shown
plan are released (invariant I3, docs/contributing/architecture.md).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from core.allocation.releaser import Released
from core.domain.evolution import Ledger
from core.domain.reclaim.decision_table import VerdictContext
from core.domain.reclaim.evidence import DeletionNotice, utc
from core.domain.reclaim.reclaim_plan import KeptClaims, ReclaimPlan, ReclaimStep, plan_scan
from core.domain.reclaim.settings import ReclaimSettings
from core.domain.validation.common_rules import counted
from core.errors import NotFound
from core.eventstore.state_reader import read_ledger
from core.eventstore.writer import Writer
from core.process.environment import KUBECONFIG_VARIABLE, EnvironmentVariables
from ops.cli.action_runner import Yes, confirm, perform
from ops.cli.exit_codes import Exit, fail, report_unreadable_keys
from ops.cli.kinds import split_name
from ops.cli.output import TableColumn, more_text, print_heading, show_table, show_value
from ops.cli.pod_source import ReadPodFacts, pod_source
from workflows.jobs.reclaim.reclaim_context import observer_of

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

SHOWN_MAX: Final = 50
"""Limit of kept endpoints without ``-o wide``."""

LIST_ENDPOINTS: Final = "`orbctl get endpoints -A` lists the Pods with addresses"

pause = asyncio.sleep
"""Tests replace this function."""

steady_s = time.monotonic
"""The monotonic clock. Tests replace this function."""


def gc(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the plan after one scan, release nothing")
    ] = False,
    gone_pods: Annotated[
        list[str] | None, typer.Option("--gone", help="NAMESPACE/POD that no longer runs")
    ] = None,
    gone_node: Annotated[
        list[str] | None, typer.Option("--gone-node", help="node that is lost, with all its Pods")
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", help="evidence for --gone and --gone-node, stored in the log")
    ] = "",
    outdated_endpoints: Annotated[
        bool, typer.Option("--outdated-endpoints", help="remove endpoints without any claim")
    ] = False,
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="namespace of a Pod that is given without one")
    ] = "default",
    kubeconfig: Annotated[
        str,
        typer.Option(
            envvar=KUBECONFIG_VARIABLE, help="kubeconfig of the cluster that has the Pods"
        ),
    ] = "",
    yes: Yes = False,
) -> None:
    """Release leaked addresses; show why others are kept.

    Examples:
      orbctl gc --dry-run
      orbctl gc --kubeconfig ~/.kube/config
      orbctl gc --gone shop/web-0 --reason 'deleted by hand'
    """
    pods = frozenset(split_name(text, namespace) for text in gone_pods or ())
    nodes = frozenset(gone_node or ())
    if (pods or nodes) and not reason:
        fail("--gone and --gone-node need a --reason", Exit.USAGE, "give the evidence as --reason")
    settings = ReclaimSettings(outdated_endpoints=outdated_endpoints)
    # In the Pod of a controller, the environment names the cluster.
    cluster = kubeconfig or EnvironmentVariables(os.environ).kubeconfig()

    async def action(session: ClusterSession) -> None:
        user = session.actor.partition("/")[2]  # the actor is "orbctl/<user>"
        notice = DeletionNotice(user, reason, pods, nodes)
        async with pod_source(session, cluster, notice, settings) as read_facts:
            scanner = _Scanner(session, notice, settings, read_facts)
            plan = await scanner.scan()
            # An observation without a step counts as evidence only if a second scan repeats it.
            if not dry_run and len(plan.observations) > len(plan.steps):
                plan = await scanner.scan_again(plan)
        if not session.output.is_structured:
            _show(plan, wide=session.output.is_wide)
        results: list[tuple[ReclaimStep, Released]] = []
        if plan.steps and not dry_run:
            if not confirm(f"Release {_counted(plan)}?", yes=yes):
                fail("nothing was released", Exit.FAILED, "answer yes, or give --yes")
            results = await _release(session, plan)
        if session.output.is_structured:
            show_value(_plain(plan, results), session.output)
        elif results:
            _show_results(results)

    perform(context, action)


class _Scanner:
    def __init__(
        self,
        session: ClusterSession,
        notice: DeletionNotice,
        settings: ReclaimSettings,
        read_facts: ReadPodFacts,
    ) -> None:
        self._session = session
        self._notice = notice
        self._settings = settings
        self._observer = observer_of(lambda: session.now_ms() / 1000, steady_s)
        self._read_facts = read_facts

    async def scan(self, first_plan: ReclaimPlan | None = None) -> ReclaimPlan:
        """Scan once. Raises NotFound if a Pod or node that the operator names has no addresses."""
        claims_read = self._observer.moment()
        ledger = await read_ledger(self._session.store, self._session.keys)
        if first_plan is None:
            report_unreadable_keys(ledger)
            _check_names(ledger, self._notice)
        facts = await self._read_facts(ledger, claims_read)
        verdict_context = VerdictContext(facts, self._settings, self._observer.now_s())
        return plan_scan(ledger, verdict_context, first_plan.observations if first_plan else {})

    async def scan_again(self, plan: ReclaimPlan) -> ReclaimPlan:
        """Wait until a second observation counts as evidence, then scan again."""
        wait_s = max((plan.next_scan_s or 0.0) - self._observer.now_s(), 0.0)
        print(
            f"scanning again in {wait_s:.0f} s, because one observation is not enough evidence",
            file=sys.stderr,
        )
        await pause(wait_s)
        return await self.scan(plan)


def _check_names(ledger: Ledger, notice: DeletionNotice) -> None:
    pods_with_claims = {
        (revised.claim.namespace, revised.claim.pod) for revised in ledger.claims.values()
    }
    for key in sorted(notice.pods):
        if key not in ledger.endpoints and key not in pods_with_claims:
            raise NotFound(f"Pod {'/'.join(key)} has no addresses", remedy=LIST_ENDPOINTS)
    nodes_with_addresses = {endpoint.node for endpoint in ledger.endpoints.values()}
    for node in sorted(notice.nodes - nodes_with_addresses):
        raise NotFound(f"no Pod on node {node} has addresses", remedy=LIST_ENDPOINTS)


async def _release(
    session: ClusterSession, plan: ReclaimPlan
) -> list[tuple[ReclaimStep, Released]]:
    """One transaction for each step."""
    results: dict[int, Released] = {}

    async def steps(writer: Writer) -> None:  # a repeated call skips finished steps
        releaser = session.releaser(writer)
        for index, step in enumerate(plan.steps):
            if index not in results:
                results[index] = await releaser.reclaim(step, session.cause)

    await session.write(steps)
    return [(step, results[index]) for index, step in enumerate(plan.steps)]


def _show(plan: ReclaimPlan, *, wide: bool) -> None:
    if plan.steps:
        print_heading(f"To release: {_counted(plan)}")
        columns = (TableColumn("ADDRESSES"), TableColumn("ENDPOINT"), TableColumn("EVIDENCE"))
        show_table(
            columns,
            ((*_addresses_and_endpoint(entry), str(entry.evidence)) for entry in plan.steps),
        )
    else:
        print_heading("Nothing to release")
    if not plan.kept:
        return
    print_heading(f"\nKept: {counted(len(plan.kept), 'endpoint')}")
    shown = plan.kept if wide else plan.kept[:SHOWN_MAX]
    columns = (TableColumn("ADDRESSES"), TableColumn("ENDPOINT"), TableColumn("WHY"))
    show_table(columns, ((*_addresses_and_endpoint(entry), _why(entry)) for entry in shown))
    if len(shown) < len(plan.kept):
        print(more_text(len(plan.kept) - len(shown)))


def _show_results(results: list[tuple[ReclaimStep, Released]]) -> None:
    print()
    for step, released in results:
        path = "/".join(step.key)
        for address in released.addresses:
            print(f"{address} released")
        if released.revision and not released.addresses:
            print(f"endpoint {path} removed")
        elif not released.revision:
            print(f"{path} not released: {released.why}")


def _counted(plan: ReclaimPlan) -> str:
    count = sum(len(step.addresses) for step in plan.steps)
    addresses = counted(count, "address", "addresses")
    return f"{addresses} of {counted(len(plan.steps), 'endpoint')}"


def _addresses_and_endpoint(entry: ReclaimStep | KeptClaims) -> tuple[str, str]:
    return " ".join(entry.addresses) or "-", "/".join(entry.key)


def _why(kept: KeptClaims) -> str:
    return f"{kept.why} (until {utc(kept.until_s)})" if kept.until_s else kept.why


def _plain(plan: ReclaimPlan, results: list[tuple[ReclaimStep, Released]]) -> dict[str, Any]:
    done = {step.subject: released for step, released in results}
    return {
        "release": [
            {
                "endpoint": "/".join(step.key),
                "addresses": list(step.addresses),
                "evidence": step.evidence._asdict(),
                "released": list(done[step.subject].addresses) if step.subject in done else [],
                "result": done[step.subject].why if step.subject in done else "",
            }
            for step in plan.steps
        ],
        "kept": [
            {
                "endpoint": "/".join(entry.key),
                "addresses": list(entry.addresses),
                "why": entry.why,
                "until": entry.until_s or None,
            }
            for entry in plan.kept
        ],
    }
