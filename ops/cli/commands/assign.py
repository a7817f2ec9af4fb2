"""``orbctl assign``: allocates the listed addresses to a Pod.

Checks all rules of claims except affinity. The Pod's next ADD returns these addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.allocation.assigner import Assigned, Assigner
from core.domain.addresses.ip_address import Address, Family, require_address
from core.domain.claims.assignment import nic_with_addresses
from core.domain.claims.claim_decisions import holder_of
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Endpoint, Nic, Pool
from core.domain.request_facts import PodReference
from core.errors import BadInput, NotFound
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView
from ops.cli import add_explanation
from ops.cli.action_runner import PodNamespace, perform
from ops.cli.kinds import split_name

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession


def assign(
    context: typer.Context,
    addresses: Annotated[list[str], typer.Argument(help="addresses of one NIC")],
    pod: Annotated[str, typer.Option("--pod", help="NAMESPACE/POD or POD")],
    node: Annotated[str, typer.Option("--node", help="node of the Pod")],
    container: Annotated[
        str,
        typer.Option("--container", help="id of the Pod's sandbox, CNI_CONTAINERID in its DEL"),
    ],
    interface: Annotated[str, typer.Option("--interface", help="name of the NIC")] = "eth0",
    uid: Annotated[
        str, typer.Option("--uid", help="UID of the Pod; default: the sandbox's id")
    ] = "",
    pools: Annotated[
        list[str] | None,
        typer.Option("--pool", help="pool of the addresses, if several pools contain an address"),
    ] = None,
    namespace: PodNamespace = "default",
) -> None:
    """Assign the listed addresses to a Pod: all of them, or none.

    Examples:
      orbctl assign 10.6.0.17 --pod shop/web-0 --node node-a --container 4f5e6d
      orbctl assign 10.6.0.17 fd00:6::17 --pod web-0 -n shop --node node-a --container 4f5e6d
    """
    key = split_name(pod, namespace)

    async def action(session: ClusterSession) -> None:
        store, keys = session.store, session.keys
        snapshot = await add_explanation.read_snapshot(store, keys, [])
        reference = PodReference(*key, uid or container, container)
        facts = add_explanation.facts_of(store, keys, snapshot, reference, node).pod
        nic = _nic(addresses, snapshot, pools or [])._replace(
            interface=interface, container=container
        )
        owner = ("Pod", facts.name) if facts.owner is None else facts.owner[:2]
        endpoint = Endpoint(
            *facts.endpoint_key, facts.uid, node, holder_of(facts), *owner, nics=(nic,)
        )
        assigned = await _assign(session, endpoint)
        done = "assigned to" if assigned.revision else "already held by"
        for address, name in nic.addresses():
            print(f"{address} of pool {name} {done} {'/'.join(endpoint.key)}, {interface}")

    perform(context, action)


async def _assign(session: ClusterSession, endpoint: Endpoint) -> Assigned:
    view = ConfigurationView(session.store, session.keys)
    await view.start()
    try:
        return await session.write(
            lambda writer: Assigner(session.store, session.keys, writer, view).assign(
                endpoint, session.cause
            )
        )
    finally:
        await view.close()


def _nic(texts: list[str], snapshot: ConfigurationSnapshot, pools: list[str]) -> Nic:
    """The NIC with these addresses; it has no name yet. Raises BadInput, NotFound."""
    chosen: dict[Family, tuple[Pool, int]] = {}
    for text in texts:
        address = require_address(text)
        if address.family in chosen:
            raise BadInput(
                f"several IPv{address.family} addresses are given, but a NIC can have only one",
                subject="address",
                remedy="run assign once for each NIC, with --interface",
            )
        pool = snapshot.pools[_pool_of(address, snapshot, pools)].pool
        chosen[address.family] = pool, address.value
    routes = [route for pool, _ in chosen.values() for route in pool.routes or ()]
    return nic_with_addresses("", chosen.values())._replace(routes=tuple(routes))


def _pool_of(address: Address, snapshot: ConfigurationSnapshot, pools: list[str]) -> str:
    """The pool that contains the address; empty ``pools`` allows all. Raises NotFound, BadInput."""
    candidates = [
        name
        for name, entry in sorted(snapshot.pools.items())
        if entry.pool.family == address.family
        and (name in pools or not pools)
        and address.value in pool_addresses(entry.pool)
    ]
    if not candidates:
        subject = f"none of the pools {', '.join(pools)} has" if pools else "no pool has"
        raise NotFound(
            f"{subject} {address}", remedy="`orbctl get pools` lists the pools with their subnets"
        )
    if len(candidates) > 1:
        raise BadInput(
            f"several pools contain {address}: {', '.join(candidates)}",
            subject="pool",
            remedy="choose one of them with --pool",
        )
    return candidates[0]
