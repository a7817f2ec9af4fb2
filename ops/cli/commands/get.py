"""``orbctl get``: objects as they are now, in tables or as manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.context import globals_of, perform
from ops.cli.exits import Exit, NotFound
from ops.cli.kinds import KINDS, RECORD_KINDS, Kind, kind_of, split_name
from ops.cli.output import Format, Listing, counted, show
from ops.cli.session import Session

if TYPE_CHECKING:
    from core.domain.evolution import Ledger

ALLOWED: Final = (
    Kind.POOL,
    Kind.RESERVATION,
    Kind.ENDPOINT,
    Kind.QUARANTINE,
    Kind.RECORD,
    *RECORD_KINDS,
)


class Wish:
    """What one ``get`` asks for."""

    def __init__(self, kind: Kind, name: str, namespace: str, output: Format) -> None:
        self.kind = kind
        self.name = name
        self.namespace = namespace
        self.output = output


def complete_kind(incomplete: str) -> list[str]:
    """Words for the kind, for shell completion."""
    return [word for word in KINDS if word.startswith(incomplete)]


def get(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="pools, reservations, endpoints, quarantine, records, pods, namespaces or nodes",
            autocompletion=complete_kind,
        ),
    ],
    name: Annotated[str, typer.Argument(help="one object")] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="of endpoints and Pods")] = (
        "default"
    ),
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="of endpoints and Pods")
    ] = False,
) -> None:
    """Show pools, reservations, endpoints, quarantined addresses or records."""
    space, name = split_name(name, "" if all_namespaces else namespace)
    wish = Wish(kind_of(kind, ALLOWED), name, space, globals_of(context).output)

    async def action(session: Session) -> Exit:
        listing, elsewhere = await _listing(session, wish)
        if wish.name and not listing.names:
            raise NotFound(f"there is no {wish.kind} {_full_name(wish)}")
        if not listing.names and not wish.output.is_plain:
            typer.echo(_nothing(wish, elsewhere), err=True)
            return Exit.OK
        show(listing, wish.output, single=bool(wish.name))
        return Exit.OK

    perform(context, action)


async def _listing(session: Session, wish: Wish) -> tuple[Listing, int]:
    """The objects, and how many more there are in other namespaces."""
    from core.domain.evolution import Ledger
    from core.store.state import read_configuration, read_ledger
    from ops.cli import listings

    if wish.kind is Kind.POOL:
        return await _pools(session, wish), 0
    if wish.kind is Kind.ENDPOINT:
        ledger = await read_ledger(session.store, session.keys)
        return _endpoints(ledger, wish)
    ledger = Ledger()
    await read_configuration(session.store, session.keys, ledger)
    if wish.kind is Kind.RESERVATION:
        found = [one for name, one in sorted(ledger.reservations.items()) if _wanted(wish, name)]
        return listings.reservation_listing(found), 0
    if wish.kind is Kind.QUARANTINE:
        from core.domain.addresses import parse_address

        aside = sorted(ledger.quarantine.values(), key=lambda one: parse_address(one.address))
        return listings.quarantine_listing([q for q in aside if _wanted(wish, q.address)]), 0
    return _records(ledger, wish)


async def _pools(session: Session, wish: Wish) -> Listing:
    from core.domain.configuration import pool_addresses
    from core.domain.evolution import Ledger
    from core.store.state import read_configuration, read_ledger
    from ops.cli import counting, listings
    from ops.cli.manifests import pool_manifest

    manifests = []
    if wish.output.is_plain:
        ledger = await read_ledger(session.store, session.keys)
    else:
        ledger = Ledger()
        await read_configuration(session.store, session.keys, ledger)
    pools = [pool for name, pool in sorted(ledger.pools.items()) if _wanted(wish, name)]
    if wish.output.is_plain:
        held = counting.claims_by_pool(ledger)
        manifests = [pool_manifest(pool, held[pool.name], ledger) for pool in pools]
        counts = {pool.name: counting.Counts(len(held[pool.name]), 0) for pool in pools}
    else:
        counts = await counting.count_pools(session.store, session.keys, ledger, pools)
    totals = {pool.name: pool_addresses(pool).clamped_size for pool in pools}
    return listings.pool_listing(pools, counts, totals, manifests)


def _endpoints(ledger: Ledger, wish: Wish) -> tuple[Listing, int]:
    from ops.cli.listings import endpoint_listing

    found = [
        one
        for (namespace, name), one in sorted(ledger.endpoints.items())
        if _wanted(wish, name) and wish.namespace in ("", namespace)
    ]
    listing = endpoint_listing(
        found, namespaced=not wish.namespace, every_nic=wish.output is Format.WIDE
    )
    return listing, len(ledger.endpoints) - len(found)


def _records(ledger: Ledger, wish: Wish) -> tuple[Listing, int]:
    from ops.cli.listings import record_listing

    kinds = [RECORD_KINDS[wish.kind]] if wish.kind in RECORD_KINDS else RECORD_KINDS.values()
    ours = [record for key, record in sorted(ledger.records.items()) if record.kind in kinds]
    found = [
        record
        for record in ours
        if _wanted(wish, record.name)
        and (record.namespace in ("", wish.namespace) or not wish.namespace)
    ]
    return record_listing(found), len(ours) - len(found)


def _wanted(wish: Wish, name: str) -> bool:
    return wish.name in ("", name)


def _full_name(wish: Wish) -> str:
    namespaced = wish.kind in (Kind.ENDPOINT, Kind.POD) and wish.namespace
    return f"{wish.namespace}/{wish.name}" if namespaced else wish.name


def _nothing(wish: Wish, elsewhere: int) -> str:
    if elsewhere and wish.namespace:
        more = counted(elsewhere, "object")
        return f"nothing in namespace {wish.namespace}; {more} in others (-A shows all)"
    return f"there are no {wish.kind} objects"
