"""Plans a takeover: the import of all data of another IPAM, here "the other system".

The other system stores an address twice: in a record, which is an entry of the pool's
``status.allocatedIPs``, and in the Pod's endpoint. Each difference is a finding. A plan takes over
every address that a Pod may use, and no address twice.

A running Pod may have a reserved address, or an address of a disabled pool. Therefore all pools are
created enabled. After the claims, pools are disabled and reservations are created.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from core.domain.addresses.ip_address import V4, parse_address
from core.domain.claims.assignment import nic_with_addresses
from core.domain.configuration.commands import (
    ApplyPool,
    ApplyReservation,
    ApplySubnet,
    Command,
    RetirePool,
)
from core.domain.model import Endpoint, Nic, Pool, Reservation, Subnet, pod_holder

Key = tuple[str, str]
"""(namespace, name) of an endpoint."""


class AllocatedIP(NamedTuple):
    """A record: an address and its Pod."""

    address: str
    pool: str
    namespace: str
    pod: str
    uid: str

    @property
    def key(self) -> Key:
        return self.namespace, self.pod


Records = dict[tuple[str, str], AllocatedIP]
"""(address, pool) -> record."""


class ForeignPool(NamedTuple):
    """A pool of the other system. ``deleting``: the pool has a deletionTimestamp."""

    pool: Pool
    records: tuple[AllocatedIP, ...] = ()
    deleting: bool = False


class Finding(NamedTuple):
    """``what``: a contradiction in the other system's data. ``done``: how the plan resolves it.

    ``orbctl import`` prints the fields by these names.
    """

    subject: str
    what: str
    done: str


class ForeignCluster(NamedTuple):
    """All data of the other system. ``findings``: contradictions found while it was read."""

    pools: tuple[ForeignPool, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    findings: tuple[Finding, ...] = ()


class TakeoverPlan(NamedTuple):
    """Apply ``first``, then the claims of every endpoint, then ``last``."""

    first: tuple[Command, ...]
    endpoints: tuple[Endpoint, ...]
    last: tuple[Command, ...]
    findings: tuple[Finding, ...]

    @property
    def addresses(self) -> int:
        return sum(len(endpoint.addresses()) for endpoint in self.endpoints)


def plan_takeover(cluster: ForeignCluster) -> TakeoverPlan:
    """Plan the takeover of all data."""
    pools = [foreign.pool for foreign in cluster.pools]
    findings = list(cluster.findings)
    records = _records_of(cluster, findings)
    one_per_pod = _one_per_pod(cluster.endpoints, records, findings)
    endpoints = {
        key: _with_distinct_addresses(endpoint, findings)
        for key, endpoint in _without_duplicates(one_per_pod, records, findings).items()
    }
    findings += _record_differences(endpoints.values(), records)
    taken_addresses = {
        address: (endpoint.key, pool)
        for endpoint in endpoints.values()
        for address, pool in endpoint.addresses()
    }
    existing_endpoints = {endpoint.key for endpoint in cluster.endpoints}
    orphans = _orphans(records.values(), existing_endpoints, taken_addresses, findings)
    by_name = {pool.name: pool for pool in pools}
    orphan_endpoints = tuple(_endpoints_of(orphans, by_name, findings))
    return TakeoverPlan(
        first=(
            *(ApplySubnet(subnet) for subnet in cluster.subnets),
            *(ApplyPool(pool._replace(disabled=False)) for pool in pools),
        ),
        endpoints=(*endpoints.values(), *orphan_endpoints),
        last=(
            *(ApplyReservation(reservation) for reservation in cluster.reservations),
            *(ApplyPool(pool) for pool in pools if pool.disabled),
            *(RetirePool(foreign.pool.name) for foreign in cluster.pools if foreign.deleting),
        ),
        findings=tuple(findings),
    )


def remaining_plan(
    plan: TakeoverPlan, pools: Mapping[str, Pool], endpoints: Mapping[Key, Endpoint]
) -> TakeoverPlan:
    """The part of a plan that is not done yet, given the pools and endpoints that exist.

    An existing pool is enabled again only if a missing claim needs an address of the pool.
    """
    missing_endpoints = tuple(
        endpoint
        for endpoint in plan.endpoints
        if (existing_endpoint := endpoints.get(endpoint.key)) is None
        or not set(endpoint.addresses()) <= set(existing_endpoint.addresses())
    )
    used_pools = {pool for endpoint in missing_endpoints for _, pool in endpoint.addresses()}
    first = tuple(
        command
        for command in plan.first
        if not isinstance(command, ApplyPool)
        or command.pool.name not in pools
        or command.pool.name in used_pools
    )
    last = tuple(
        command
        for command in plan.last
        if not isinstance(command, RetirePool)
        or command.name not in pools
        or not pools[command.name].retiring
    )
    return plan._replace(first=first, endpoints=missing_endpoints, last=last)


def _records_of(cluster: ForeignCluster, findings: list[Finding]) -> Records:
    """The records of all pools. Of two records of an address in one pool, the last one counts."""
    users = {
        (address, endpoint.key)
        for endpoint in cluster.endpoints
        for address, _ in endpoint.addresses()
    }
    records: Records = {}
    for record in (record for foreign in cluster.pools for record in foreign.records):
        other = records.get((record.address, record.pool), record)
        records[record.address, record.pool] = record
        # If the endpoint of the other Pod has the address, later steps report the conflict.
        if other != record and (other.address, other.key) not in users:
            what = f"{record.address} is recorded for {_pod_of(other)} and for {_pod_of(record)}"
            findings.append(Finding(f"SpiderIPPool/{record.pool}", what, "the last record counts"))
    return records


def _pod_of(record: AllocatedIP) -> str:
    return f"{'/'.join(record.key)} of UID {record.uid}"


def _one_per_pod(
    endpoints: Iterable[Endpoint], records: Records, findings: list[Finding]
) -> list[Endpoint]:
    """One endpoint for each name: of several, the one with the most recorded addresses.

    Only files from different times or clusters contain several endpoints of one name.
    """
    by_key: dict[Key, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        if endpoint not in by_key[endpoint.key]:
            by_key[endpoint.key].append(endpoint)
    chosen_endpoints = []
    for (namespace, name), versions in by_key.items():
        chosen = max(versions, key=lambda version: _recorded_addresses(version, records))
        chosen_endpoints.append(chosen)
        for version in versions:
            if version is not chosen:
                what = f"occurs more than once, here as {_identity(version)}"
                done = (
                    f"not taken over; taken over as {_identity(chosen)}:"
                    " export all objects at the same time"
                )
                findings.append(Finding(f"SpiderEndpoint/{namespace}/{name}", what, done))
    return chosen_endpoints


def _identity(endpoint: Endpoint) -> str:
    addresses = ", ".join(address for address, _ in endpoint.addresses())
    return f"UID {endpoint.uid} with {addresses or 'no address'}"


def _recorded_addresses(endpoint: Endpoint, records: Records) -> int:
    return sum(_is_recorded(endpoint, records.get(pair)) for pair in endpoint.addresses())


def _is_recorded(endpoint: Endpoint, record: AllocatedIP | None) -> bool:
    return record is not None and (record.key, record.uid) == (endpoint.key, endpoint.uid)


def _without_duplicates(
    endpoints: Iterable[Endpoint],
    records: Records,
    findings: list[Finding],
) -> dict[Key, Endpoint]:
    """The endpoints, with each address at one Pod only.

    A Pod that loses an address keeps its others, but only until it restarts: a fixed NIC with one
    family would never get the other family back.
    """
    lost = _lost_addresses(endpoints, records)
    for (namespace, name), addresses in lost.items():
        for address in addresses:
            what = f"has {address}, which another Pod has too"
            done = "not taken over: restart this Pod, it gets another address"
            findings.append(Finding(f"SpiderEndpoint/{namespace}/{name}", what, done))
    remaining_endpoints: dict[Key, Endpoint] = {}
    for endpoint in endpoints:
        remaining_endpoint = endpoint
        if endpoint.key in lost:
            nics = tuple(_nics_without(endpoint.nics, lost[endpoint.key]))
            remaining_endpoint = endpoint._replace(holder=pod_holder(endpoint.uid), nics=nics)
        if endpoint.key not in lost or remaining_endpoint.addresses():
            remaining_endpoints[endpoint.key] = remaining_endpoint
    return remaining_endpoints


def _lost_addresses(endpoints: Iterable[Endpoint], records: Records) -> dict[Key, list[str]]:
    """The addresses that each Pod loses to another Pod.

    Of the Pods with one address, the recorded one keeps it, else the first that has lost no address
    yet, else the first.
    """
    users: dict[str, list[Key]] = defaultdict(list)
    recorded_users: dict[str, Key] = {}
    for endpoint in endpoints:
        for address, pool in endpoint.addresses():
            users[address].append(endpoint.key)
            if _is_recorded(endpoint, records.get((address, pool))):
                recorded_users.setdefault(address, endpoint.key)
    lost: dict[Key, list[str]] = {}
    for address, keys in users.items():
        first = next((key for key in keys if key not in lost), keys[0])
        kept = recorded_users.get(address, first)
        for key in dict.fromkeys(keys):
            if key != kept:
                lost.setdefault(key, []).append(address)
    return lost


def _nics_without(nics: Iterable[Nic], lost: Collection[str]) -> Iterator[Nic]:
    """The NICs without the lost addresses. A NIC that has lost all its addresses is left out."""
    for nic in nics:
        remaining_nic = nic
        for address, _ in nic.addresses():
            if address in lost:
                remaining_nic = _without(remaining_nic, address)
        if remaining_nic is nic or remaining_nic.addresses():
            yield remaining_nic


def _with_distinct_addresses(endpoint: Endpoint, findings: list[Finding]) -> Endpoint:
    """The endpoint, with each address on one NIC only.

    Spiderpool gives the same address to all NICs of a Pod that use one pool. A NIC that loses all
    its addresses gets new ones at the next ADD. A fixed NIC that loses one of two families would
    never get it back, so an endpoint with such a NIC is kept only until its Pod restarts.
    """
    used_addresses: set[str] = set()
    nics: list[Nic] = []
    lost: list[tuple[str, Nic]] = []
    holder = endpoint.holder
    for nic in endpoint.nics:
        remaining_nic = nic
        for address, _ in nic.addresses():
            if address in used_addresses:
                remaining_nic = _without(remaining_nic, address)
                lost.append((address, nic))
            used_addresses.add(address)
        if remaining_nic is nic:
            nics.append(nic)
        elif remaining_nic.addresses():
            nics.append(remaining_nic)
            holder = pod_holder(endpoint.uid)
    for address, nic in lost:
        subject = f"SpiderEndpoint/{endpoint.namespace}/{endpoint.name}"
        what = f"has {address} on another NIC too: {nic.interface or 'one without a name'}"
        done = "taken over for the first NIC: restart this Pod for another address"
        if holder != endpoint.holder:
            done += "; all its fixed addresses change then"
        findings.append(Finding(subject, what, done))
    return endpoint._replace(holder=holder, nics=tuple(nics))


def _without(nic: Nic, address: str) -> Nic:
    """The NIC without the address, and without the routes of its family."""
    family = parse_address(address).family
    routes = tuple(route for route in nic.routes if parse_address(route.gw).family != family)
    if family == V4:
        return nic._replace(ipv4="", ipv4_pool="", ipv4_gateway="", routes=routes)
    return nic._replace(ipv6="", ipv6_pool="", ipv6_gateway="", routes=routes)


def _record_differences(endpoints: Iterable[Endpoint], records: Records) -> Iterator[Finding]:
    for endpoint in endpoints:
        subject = f"SpiderEndpoint/{endpoint.namespace}/{endpoint.name}"
        for address, pool in endpoint.addresses():
            record = records.get((address, pool))
            if record is None:
                what = f"has {address}, which is not in the records of SpiderIPPool/{pool}"
                yield Finding(subject, what, "taken over")
            elif record.key != endpoint.key:
                what = f"has {address}, recorded for {'/'.join(record.key)}"
                yield Finding(subject, what, "taken over for the endpoint")
            elif record.uid != endpoint.uid:
                what = f"has UID {endpoint.uid}, {address} is recorded for UID {record.uid}"
                yield Finding(subject, what, "taken over for the endpoint")


def _orphans(
    records: Iterable[AllocatedIP],
    existing_endpoints: Collection[Key],
    taken_addresses: dict[str, tuple[Key, str]],
    findings: list[Finding],
) -> list[AllocatedIP]:
    """The records whose addresses no endpoint has; extends ``taken_addresses`` and ``findings``.

    A record is left out if its address is taken in another pool. It is also left out if its Pod has
    an endpoint with other addresses: the address has leaked. ``taken_addresses``: address -> (Pod,
    pool).
    """
    orphan_records = []
    for record in records:
        subject = f"SpiderIPPool/{record.pool}"
        if record.address in taken_addresses:
            key, pool = taken_addresses[record.address]
            if pool != record.pool:
                what = f"{record.address} is recorded for {'/'.join(record.key)}"
                done = f"not taken over: {'/'.join(key)} has the address, in SpiderIPPool/{pool}"
                findings.append(Finding(subject, what, done))
            continue  # in the same pool, ``_record_differences`` has compared the Pods
        if record.key in existing_endpoints:
            pod = "/".join(record.key)
            what = f"{record.address} is recorded for {pod}, which has other addresses"
            findings.append(Finding(subject, what, "leaked: not taken over"))
            continue
        taken_addresses[record.address] = record.key, record.pool
        orphan_records.append(record)
        what = f"{record.address} is recorded for {'/'.join(record.key)}, which has no endpoint"
        findings.append(Finding(subject, what, "kept for the Pod until it is proved to be gone"))
    return orphan_records


def _endpoints_of(
    records: Iterable[AllocatedIP], pools: dict[str, Pool], findings: list[Finding]
) -> Iterator[Endpoint]:
    """An endpoint for each Pod. If the UIDs of its records differ, its UID is "" (unknown).

    Reclaim keeps the addresses of an endpoint with an unknown UID while any Pod of its name lives.
    """
    by_pod: dict[Key, list[AllocatedIP]] = defaultdict(list)
    for record in records:
        by_pod[record.key].append(record)
    for (namespace, name), pod_records in by_pod.items():
        uid, *others = dict.fromkeys(record.uid for record in pod_records)
        if others:
            addresses = ", ".join(record.address for record in pod_records)
            what = f"{addresses} are recorded for it with the UIDs {', '.join([uid, *others])}"
            done = "kept until no Pod of this name exists"
            findings.append(Finding(f"Pod/{namespace}/{name}", what, done))
            uid = ""
        nics = tuple(_nics(pod_records, pools))
        yield Endpoint(
            namespace,
            name,
            uid,
            node="",  # records do not name the node
            holder=pod_holder(uid),
            owner_kind="Pod",
            owner_name=name,
            nics=nics,
        )


def _nics(records: Iterable[AllocatedIP], pools: dict[str, Pool]) -> Iterator[Nic]:
    families: dict[int, list[AllocatedIP]] = {4: [], 6: []}
    for record in records:
        families[parse_address(record.address).family].append(record)
    for index in range(max(len(families[4]), len(families[6]))):
        pair = [of_family[index] for of_family in families.values() if index < len(of_family)]
        yield nic_with_addresses(
            interface="",
            addresses=[
                (pools[record.pool], parse_address(record.address).value) for record in pair
            ],
        )
