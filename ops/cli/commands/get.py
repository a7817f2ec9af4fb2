"""``orbctl get``: objects as they are now, in tables or as manifests."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from core.domain.configuration.configuration_state import pool_addresses
from core.domain.evolution import Ledger
from core.errors import NotFound
from core.eventstore.state import read_configuration, read_ledger
from ops.cli.context import perform
from ops.cli.exits import Exit, report_unread
from ops.cli.global_options import globals_of
from ops.cli.kinds import KINDS, RECORD_KINDS, ObjectKind, kind_of, split_name
from ops.cli.listings import pool_listing
from ops.cli.object_selection import ObjectSelection, listing_of, nothing
from ops.cli.output import ObjectListing, show
from ops.cli.pool_usage import count_pools
from ops.cli.session import ClusterSession
from ops.cli.workloads import Kubeconfig, Told, told_applications

ALLOWED: Final = (
    *(
        ObjectKind.POOL,
        ObjectKind.SUBNET,
        ObjectKind.RESERVATION,
        ObjectKind.ENDPOINT,
        ObjectKind.QUARANTINE,
        ObjectKind.RECORD,
    ),
    *RECORD_KINDS,
    ObjectKind.APPLICATION,
)


def complete_kind(incomplete: str) -> list[str]:
    """Words for the kind, for shell completion."""
    return [word for word in KINDS if word.startswith(incomplete)]


def get(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="pools, subnets, reservations, endpoints, quarantine, records, applications,"
            " or a kind of record: pods, nodes, deployments, ...",
            autocompletion=complete_kind,
        ),
    ],
    name: Annotated[str, typer.Argument(help="one object")] = "",
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="of endpoints, Pods and applications")
    ] = "default",
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="of endpoints and Pods")
    ] = False,
    kubeconfig: Kubeconfig = "",
) -> None:
    """Show objects in a table or as manifests."""
    said = kind_of(kind, ALLOWED)
    space, name = split_name(name, "" if all_namespaces else namespace)

    async def action(session: ClusterSession) -> Exit:
        wish = ObjectSelection(said, name, space, globals_of(context).output)
        ledger, listing, told = await _read(session, wish, kubeconfig)
        if listing.names or wish.output.is_plain:
            show(listing, wish.output, single=bool(wish.name))
        else:
            typer.echo(nothing(ledger, wish, told), err=True)
        report_unread(ledger)
        return Exit.OK

    perform(context, action)


async def _read(
    session: ClusterSession, wish: ObjectSelection, kubeconfig: str
) -> tuple[Ledger, ObjectListing, Told | None]:
    """The state as far as the wish needs it, the listing, and who told of applications."""
    if wish.kind in (ObjectKind.ENDPOINT, ObjectKind.APPLICATION) or (
        wish.kind is ObjectKind.POOL and wish.output.is_plain
    ):
        ledger = await read_ledger(session.store, session.keys)
        told = None
        if wish.kind is ObjectKind.APPLICATION:
            told = await told_applications(kubeconfig, ledger)
        return ledger, listing_of(ledger, wish, told), told
    ledger = Ledger()
    await read_configuration(session.store, session.keys, ledger)
    if wish.kind is ObjectKind.POOL:
        return ledger, await _counted_pools(session, ledger, wish), None
    return ledger, listing_of(ledger, wish), None


async def _counted_pools(
    session: ClusterSession, ledger: Ledger, wish: ObjectSelection
) -> ObjectListing:
    """The table of pools, with claims counted by etcd and not read."""
    pools = [pool for name, pool in sorted(ledger.pools.items()) if wish.wants(name)]
    if wish.name and not pools:
        raise NotFound(f"there is no {wish.kind} {wish.full_name}")
    counts = await count_pools(session.store, session.keys, ledger, pools)
    totals = {pool.name: pool_addresses(pool).clamped_size for pool in pools}
    return pool_listing(pools, counts, totals)
