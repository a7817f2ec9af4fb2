"""``orbctl describe``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.archive.replay import open_log
from core.archive.unread_parts import UnreadPartList
from core.audit.history import read_history
from core.audit.history_entries import parse_subject
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import Address, format_range, parse_address, require_address
from core.domain.autopools.pool_names import application_of
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.evolution import Ledger
from core.domain.model import Endpoint, Pool, Quarantine, Subnet
from core.domain.patterns.labels import LabelSelector
from core.domain.quarantine.quarantine_decisions import evidence_text
from core.domain.subnets.subnet_model import (
    addresses_of_pools,
    count_addresses,
    owner_subnet_name,
    pools_of_subnet,
    shares_of_subnet,
)
from core.errors import NotFound
from core.eventstore.state_reader import read_ledger
from core.projections.projection import Projection
from ops.cli.action_runner import perform
from ops.cli.commands.applications import describe_applications
from ops.cli.commands.history import show_history
from ops.cli.exit_codes import report_unreadable_keys, report_unreadable_parts
from ops.cli.kept_addresses import why_kept
from ops.cli.kinds import ObjectKind, kind_of, split_name
from ops.cli.listings import state_of
from ops.cli.name_completion import complete_kind, complete_names
from ops.cli.output import TableColumn, print_fields, print_heading, show_table, show_value
from ops.cli.pool_usage import claims_by_pool
from ops.cli.unlogged_state import binding_in_words, read_cool_down
from ops.cli.workloads import Kubeconfig, read_applications
from ops.manifests import endpoint_manifest, pool_manifest, subnet_manifest

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

DESCRIBED: Final = (
    ObjectKind.POOL,
    ObjectKind.SUBNET,
    ObjectKind.APPLICATION,
    ObjectKind.ENDPOINT,
    ObjectKind.POD,
    ObjectKind.ADDRESS,
)
ROWS_SHOWN_MAX: Final = 20
"""Limit of holders or pools without ``-o wide``."""

ENTRIES_SHOWN_MAX: Final = 10

INTERVALS_SHOWN_MAX: Final = 8


def describe(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="pool, subnet, application, endpoint, address", autocompletion=complete_kind
        ),
    ],
    name: Annotated[str, typer.Argument(help="name of the object", autocompletion=complete_names)],
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="namespace of an endpoint or application")
    ] = "default",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Show one object in detail, with its last events.

    Examples:
      orbctl describe pool lan
      orbctl describe pool lan -o wide
      orbctl describe address 10.6.0.17
      orbctl describe pod shop/web-0
      orbctl describe application shop/web
    """
    object_kind = kind_of(kind, DESCRIBED)

    async def action(session: ClusterSession) -> None:
        ledger = await read_ledger(session.store, session.keys)
        report_unreadable_keys(ledger)
        if object_kind is ObjectKind.POOL:
            await _show_pool(session, ledger, name)
        elif object_kind is ObjectKind.SUBNET:
            await _show_subnet(session, ledger, name)
        elif object_kind is ObjectKind.ADDRESS:
            await describe_address(session, ledger, name)
        elif object_kind is ObjectKind.APPLICATION:
            applications = await read_applications(kubeconfig, ledger)
            await describe_applications(session, ledger, applications, split_name(name, namespace))
        else:
            await _show_endpoint(session, ledger, split_name(name, namespace))

    perform(context, action)


async def _show_pool(session: ClusterSession, ledger: Ledger, name: str) -> None:
    pool = ledger.pools.get(name)
    if pool is None:
        raise NotFound(
            f"there is no pool {name}", subject=name, remedy="`orbctl get pools` lists the pools"
        )
    claimed = claims_by_pool(ledger)[name]
    if session.output.is_structured:
        show_value(pool_manifest(pool, claimed, ledger), session.output)
        return
    print_fields(_pool_fields(pool, ledger))
    if claimed:
        print_heading(f"\nHolders ({len(claimed):,})")
        shown = claimed if session.output.is_wide else claimed[:ROWS_SHOWN_MAX]
        columns = (
            TableColumn("ADDRESS"),
            TableColumn("HELD BY"),
            TableColumn("NODE"),
            TableColumn("OWNER"),
        )
        show_table(columns, [_holder_row(address, ledger) for address in shown])
        if len(shown) < len(claimed):
            print(f"... {len(claimed) - len(shown):,} more (-o wide shows all)")
    await _show_newest_events(session, "pool", name)


async def _show_subnet(session: ClusterSession, ledger: Ledger, name: str) -> None:
    subnet = ledger.subnets.get(name)
    if subnet is None:
        raise NotFound(
            f"there is no subnet {name}",
            subject=name,
            remedy="`orbctl get subnets` lists the subnets",
        )
    if session.output.is_structured:
        show_value(subnet_manifest(subnet, ledger), session.output)
        return
    print_fields(_subnet_fields(subnet, ledger))
    subnet_shares = shares_of_subnet(name, ledger.pools)
    if subnet_shares:
        print_heading(f"\nPools ({len(subnet_shares):,})")
        columns = (TableColumn("POOL"), TableColumn("ADDRESSES"), TableColumn("APPLICATION"))
        rows = [
            (share.pool, _shortened(share.ips), share.application or "-") for share in subnet_shares
        ]
        shown = rows if session.output.is_wide else rows[:ROWS_SHOWN_MAX]
        show_table(columns, shown)
        if len(shown) < len(rows):
            print(f"... {len(rows) - len(shown):,} more (-o wide shows all)")
    await _show_newest_events(session, "subnet", name)


def _subnet_fields(subnet: Subnet, ledger: Ledger) -> list[tuple[str, str]]:
    free = pool_addresses(subnet) - addresses_of_pools(
        subnet, pools_of_subnet(subnet.name, ledger.pools)
    )
    counts = count_addresses(subnet, ledger.pools)
    return [
        ("Name", subnet.name),
        ("Subnet", f"{subnet.subnet} (IPv{subnet.family})"),
        ("State", state_of(subnet)),
        ("Gateway", subnet.gateway or "none"),
        ("Addresses", _shortened(subnet.ips) or "none"),
        ("Excluded", _shortened(subnet.exclude_ips)),
        ("Routes", "\n".join(f"{route.dst} via {route.gw}" for route in subnet.routes or ())),
        (
            "Counts",
            ", ".join(f"{number:,} {state}" for state, number in counts._asdict().items()),
        ),
        ("Free", _shortened(free.to_items()) or "none"),
        ("Reserved by", _reservations_in(subnet, ledger)),
    ]


def _pool_fields(pool: Pool, ledger: Ledger) -> list[tuple[str, str]]:
    projection = Projection(ledger)
    tally = projection.tallies[pool.name]
    free = [format_range(pool.family, *pair) for pair in tally.free]
    routes = [f"{route.dst} via {route.gw}" for route in pool.routes or ()]
    return [
        ("Name", pool.name),
        ("Subnet", f"{pool.subnet} (IPv{pool.family})"),
        ("State", state_of(pool) + (", default" if pool.default else "")),
        ("Belongs to", owner_subnet_name(pool)),
        ("Application", str(application_of(pool.labels) or "")),
        ("Gateway", pool.gateway or "none"),
        ("Addresses", _shortened(pool.ips) or "none"),
        ("Excluded", _shortened(pool.exclude_ips)),
        ("Routes", "\n".join(routes)),
        ("Pods", _selector(pool.pod_affinity)),
        ("Namespaces", ", ".join(pool.namespace_names) or _selector(pool.namespace_affinity)),
        ("Nodes", ", ".join(pool.node_names) or _selector(pool.node_affinity)),
        ("Networks", ", ".join(pool.multus_names)),
        (
            "Counts",
            ", ".join(f"{count:,} {state}" for state, count in tally.counts._asdict().items()),
        ),
        ("Free", _shortened(free) or "none"),
        ("Reserved by", _reservations_in(pool, ledger)),
        ("Quarantined", _quarantine_in(pool, ledger)),
    ]


def _reservations_in(pool: Pool | Subnet, ledger: Ledger) -> str:
    addresses = pool_addresses(pool)
    lines = []
    for reservation in ledger.reservations.values():
        if reservation.family == pool.family:
            common = AddressSet.from_items(reservation.ips, reservation.family) & addresses
            if common:
                lines.append(f"{reservation.name}: {_shortened(common.to_items())}")
    return "\n".join(sorted(lines))


def _quarantine_in(pool: Pool, ledger: Ledger) -> str:
    addresses = pool_addresses(pool)
    quarantines = (
        quarantine
        for quarantine in ledger.quarantine.values()
        if quarantine.family == pool.family and parse_address(quarantine.address).value in addresses
    )
    return "\n".join(f"{quarantine.address}: {quarantine.reason}" for quarantine in quarantines)


async def _show_endpoint(session: ClusterSession, ledger: Ledger, key: tuple[str, str]) -> None:
    endpoint = ledger.endpoints.get(key)
    if endpoint is None:
        raise NotFound(
            f"Pod {'/'.join(key)} has no addresses",
            remedy=f"`orbctl history {'/'.join(key)}` shows the addresses that the Pod had",
        )
    if session.output.is_structured:
        show_value(endpoint_manifest(endpoint), session.output)
        return
    print_fields(
        (
            ("Namespace", endpoint.namespace),
            ("Name", endpoint.name),
            ("UID", endpoint.uid),
            ("Node", endpoint.node or "-"),
            ("Owner", f"{endpoint.owner_kind}/{endpoint.owner_name}"),
            ("Holder", endpoint.holder),
            ("Kept", why_kept(endpoint, ledger.records)),
            ("Network provider", await binding_in_words(session, key)),
        )
    )
    _show_nics(endpoint, ledger)
    await _show_newest_events(session, "pod", "/".join(key))


def _show_nics(endpoint: Endpoint, ledger: Ledger) -> None:
    for nic in endpoint.nics:
        print_heading(f"\nNIC {nic.interface or '(not attached yet)'}")
        routes = [f"{route.dst} via {route.gw}" for route in nic.routes]
        claimed_at = [
            f"{address} at position {revised.revision}"
            for address, _ in nic.addresses()
            if (revised := ledger.claims.get(address)) is not None
        ]
        print_fields(
            (
                ("IPv4", f"{nic.ipv4} of {nic.ipv4_pool}" if nic.ipv4 else ""),
                ("Gateway", nic.ipv4_gateway),
                ("IPv6", f"{nic.ipv6} of {nic.ipv6_pool}" if nic.ipv6 else ""),
                ("IPv6 gateway", nic.ipv6_gateway),
                ("Default route", "no" if nic.clean_gateway else ""),
                ("Routes", "\n".join(routes)),
                ("Sandbox", nic.container),
                ("Network", nic.network),
                ("Claimed", ", ".join(claimed_at)),
            ),
            indent=2,
        )


async def describe_address(session: ClusterSession, ledger: Ledger, text: str) -> None:
    """Show the state and history of one address. Raises BadInput."""
    address = require_address(text)
    fields = _address_fields(address, ledger)
    revised = ledger.claims.get(str(address))
    if revised is not None:
        fields.append(
            (
                "Network provider",
                await binding_in_words(session, (revised.claim.namespace, revised.claim.pod)),
            )
        )
    cool_down = None if revised is not None else await read_cool_down(session, address)
    if cool_down is not None:
        fields.append(("Cool-down", cool_down.in_words(session.now_ms())))
    if session.output.is_structured:
        show_value({name.lower(): value for name, value in fields if value}, session.output)
        return
    print_fields(fields)
    await _show_newest_events(session, "address", str(address))


def _address_fields(address: Address, ledger: Ledger) -> list[tuple[str, str]]:
    text = str(address)
    pools = [
        name
        for name, pool in sorted(ledger.pools.items())
        if pool.family == address.family and address.value in pool_addresses(pool)
    ]
    reserved = [
        name
        for name, reservation in sorted(ledger.reservations.items())
        if reservation.family == address.family
        and address.value in AddressSet.from_items(reservation.ips, address.family)
    ]
    quarantine, revised = ledger.quarantine.get(text), ledger.claims.get(text)
    conditions = {
        "claimed": revised is not None,
        "reserved": bool(reserved),
        "quarantined": quarantine is not None,
    }
    states = [state for state, is_true in conditions.items() if is_true]
    held_by = f"{revised.claim.namespace}/{revised.claim.pod}" if revised else ""
    endpoint = (
        ledger.endpoints.get((revised.claim.namespace, revised.claim.pod)) if revised else None
    )
    return [
        ("Address", text),
        ("State", ", ".join(states) or ("free" if pools else "in no pool")),
        ("Pool", ", ".join(pools) or "none"),
        ("Held by", held_by),
        ("Holder", revised.claim.holder if revised else ""),
        ("Claimed at", f"position {revised.revision}" if revised else ""),
        ("Kept", why_kept(endpoint, ledger.records) if endpoint else ""),
        ("Reserved by", ", ".join(reserved)),
        ("Quarantine", _quarantine_words(quarantine) if quarantine else ""),
    ]


def _quarantine_words(quarantine: Quarantine) -> str:
    evidence = evidence_text(quarantine)
    return f"{quarantine.reason} ({evidence})" if evidence else quarantine.reason


async def _show_newest_events(session: ClusterSession, kind: str, name: str) -> None:
    unread = UnreadPartList()
    view = await open_log(session.store, session.keys, session.archive, unread=unread)
    history = await read_history(view, parse_subject(f"{kind}/{name}"))
    report_unreadable_parts(unread)
    if history.entries:
        print_heading("\nHistory")
        hidden = len(history.entries) - ENTRIES_SHOWN_MAX
        newest = history.entries[-ENTRIES_SHOWN_MAX:]
        show_history(history._replace(entries=newest), session.now_ms())
        if hidden > 0:
            subject = f"subnet/{name}" if kind == "subnet" else name
            print(f"... {hidden:,} older (`orbctl history {subject}`)")


def _holder_row(address: str, ledger: Ledger) -> tuple[str, ...]:
    claim = ledger.claims[address].claim
    endpoint = ledger.endpoints.get((claim.namespace, claim.pod))
    owner = f"{endpoint.owner_kind}/{endpoint.owner_name}" if endpoint else "-"
    return (
        address,
        f"{claim.namespace}/{claim.pod}",
        endpoint.node if endpoint else "-",
        owner,
    )


def _selector(selector: LabelSelector | None) -> str:
    if selector is None:
        return ""
    equal = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    return ", ".join([*equal, *map(str, selector.match_expressions)]) or "all"


def _shortened(items: Sequence[str]) -> str:
    shown = ", ".join(items[:INTERVALS_SHOWN_MAX])
    more = len(items) - INTERVALS_SHOWN_MAX
    return f"{shown}, ... {more:,} more" if more > 0 else shown
