"""The plan of a takeover from another IPAM: commands, claims, and findings about its data.

The other system stores an address twice, in the pool's records and in the Pod's endpoint, and they
may differ. A plan takes over every address that a Pod may use, and none twice (I1, I6). Each
difference is a finding to report. Pools are created open and are disabled after the claims, when
reservations are created too: a running Pod may have an address of a disabled pool, or one that was
reserved later. Nothing here reads or writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from core.domain.addresses.ip_address import V4, parse_address
from core.domain.claims.assignment import nic_with
from core.domain.configuration.commands import (
    ApplyPool,
    ApplyReservation,
    ApplySubnet,
    Command,
    RetirePool,
)
from core.domain.model import Endpoint, Nic, Pool, Reservation, Subnet, pod_holder

Key = tuple[str, str]


class AllocatedIP(NamedTuple):
    """One entry of ``status.allocatedIPs`` of a pool: an address and its Pod."""

    address: str
    pool: str
    namespace: str
    pod: str
    uid: str

    @property
    def key(self) -> Key:
        """The endpoint that should have it."""
        return self.namespace, self.pod


class ForeignPool(NamedTuple):
    """A pool with its records (allocated addresses); ``deleting``: it has a deletionTimestamp."""

    pool: Pool
    records: tuple[AllocatedIP, ...] = ()
    deleting: bool = False


class Finding(NamedTuple):
    """A disagreement over there, and what the plan makes of it."""

    subject: str
    what: str
    done: str


class ForeignCluster(NamedTuple):
    """All data of the other system. ``findings``: those of the reader."""

    pools: tuple[ForeignPool, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    findings: tuple[Finding, ...] = ()


class TakeOver(NamedTuple):
    """Commands in this order: ``first``, then the claims of every endpoint, then ``last``."""

    first: tuple[Command, ...]
    endpoints: tuple[Endpoint, ...]
    last: tuple[Command, ...]
    findings: tuple[Finding, ...]

    @property
    def addresses(self) -> int:
        """The number of addresses that it claims."""
        return sum(len(endpoint.addresses()) for endpoint in self.endpoints)


def plan_take_over(cluster: ForeignCluster) -> TakeOver:
    """What to do with all of it."""
    pools = [foreign.pool for foreign in cluster.pools]
    records = {
        (record.address, record.pool): record
        for foreign in cluster.pools
        for record in foreign.records
    }
    findings = list(cluster.findings)
    endpoints = {
        key: _with_every_address_once(endpoint, findings)
        for key, endpoint in _without_doubles(cluster.endpoints, records, findings).items()
    }
    findings += _unlike_records(endpoints.values(), records)
    taken = {address for one in endpoints.values() for address, _ in one.addresses()}
    orphans = _orphans(records.values(), endpoints, taken, findings)
    by_name = {pool.name: pool for pool in pools}
    return TakeOver(
        first=(
            *(ApplySubnet(subnet) for subnet in cluster.subnets),
            *(ApplyPool(pool._replace(disabled=False)) for pool in pools),
        ),
        endpoints=(*endpoints.values(), *_endpoints_of(orphans, by_name)),
        last=(
            *(ApplyReservation(reservation) for reservation in cluster.reservations),
            *(ApplyPool(pool) for pool in pools if pool.disabled),
            *(RetirePool(foreign.pool.name) for foreign in cluster.pools if foreign.deleting),
        ),
        findings=tuple(findings),
    )


def remaining(
    plan: TakeOver, pools: Mapping[str, Pool], endpoints: Mapping[Key, Endpoint]
) -> TakeOver:
    """The rest of a plan when these pools and endpoints exist already.

    A pool that is there is opened again only for the sake of a claim that is not.
    """
    left = tuple(
        endpoint
        for endpoint in plan.endpoints
        if (present := endpoints.get(endpoint.key)) is None
        or not set(endpoint.addresses()) <= set(present.addresses())
    )
    used = {pool for endpoint in left for _, pool in endpoint.addresses()}
    first = tuple(
        command
        for command in plan.first
        if not isinstance(command, ApplyPool)
        or command.pool.name not in pools
        or command.pool.name in used
    )
    last = tuple(
        command
        for command in plan.last
        if not isinstance(command, RetirePool)
        or command.name not in pools
        or not pools[command.name].retiring
    )
    return plan._replace(first=first, endpoints=left, last=last)


def _without_doubles(
    endpoints: Iterable[Endpoint],
    records: dict[tuple[str, str], AllocatedIP],
    findings: list[Finding],
) -> dict[Key, Endpoint]:
    """The endpoints, of which no two have one address; the one that the records name stays."""
    holders: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        for address, _ in endpoint.addresses():
            holders[address].append(endpoint)
    losing: dict[Key, str] = {}
    for address, several in holders.items():
        for endpoint in _losers(several, address, records):
            losing.setdefault(endpoint.key, address)
    for (namespace, name), address in losing.items():
        what = f"has {address}, which another Pod has too"
        done = "not taken over: restart this Pod, it gets another address"
        findings.append(Finding(f"SpiderEndpoint/{namespace}/{name}", what, done))
    return {one.key: one for one in endpoints if one.key not in losing}


def _losers(
    several: list[Endpoint], address: str, records: dict[tuple[str, str], AllocatedIP]
) -> list[Endpoint]:
    named = [
        endpoint
        for endpoint in several
        for text, pool in endpoint.addresses()
        if text == address
        and (text, pool) in records
        and (records[text, pool].key, records[text, pool].uid) == (endpoint.key, endpoint.uid)
    ]
    winner = (named or several)[0]
    return [endpoint for endpoint in several if endpoint is not winner]


def _with_every_address_once(endpoint: Endpoint, findings: list[Finding]) -> Endpoint:
    """The endpoint; over there NICs of a Pod on one pool get one address.

    See docs/reference/address-assignment.md, "Choosing an address".
    """
    used: set[str] = set()
    nics: list[Nic] = []
    for nic in endpoint.nics:
        remaining_nic = nic
        for address, _ in nic.addresses():
            if address in used:
                remaining_nic = _without(remaining_nic, address)
                subject = f"SpiderEndpoint/{endpoint.namespace}/{endpoint.name}"
                what = f"has {address} on another NIC too: {nic.interface or 'one without a name'}"
                done = "taken over for the first one: restart this Pod, the other gets its own"
                findings.append(Finding(subject, what, done))
            used.add(address)
        if remaining_nic is nic or remaining_nic.addresses():
            nics.append(remaining_nic)
    return endpoint._replace(nics=tuple(nics))


def _without(nic: Nic, address: str) -> Nic:
    if parse_address(address).family == V4:
        return nic._replace(ipv4="", ipv4_pool="", ipv4_gateway="")
    return nic._replace(ipv6="", ipv6_pool="", ipv6_gateway="")


def _unlike_records(
    endpoints: Iterable[Endpoint], records: dict[tuple[str, str], AllocatedIP]
) -> Iterator[Finding]:
    """Differences between an endpoint and the records of its pools."""
    for endpoint in endpoints:
        subject = f"SpiderEndpoint/{endpoint.namespace}/{endpoint.name}"
        for address, pool in endpoint.addresses():
            record = records.get((address, pool))
            if record is None:
                what = f"has {address}, of which SpiderIPPool/{pool} knows nothing"
                yield Finding(subject, what, "taken over")
            elif record.key != endpoint.key:
                what = f"has {address}, recorded for {'/'.join(record.key)}"
                yield Finding(subject, what, "taken over as the endpoint says")
            elif record.uid != endpoint.uid:
                what = f"has UID {endpoint.uid}, {address} is recorded for UID {record.uid}"
                yield Finding(subject, what, "taken over as the endpoint says")


def _orphans(
    records: Iterable[AllocatedIP],
    endpoints: dict[Key, Endpoint],
    taken: set[str],
    findings: list[Finding],
) -> list[AllocatedIP]:
    """Records without an endpoint that has the address: kept, unless its Pod shows them wrong."""
    orphans = []
    for record in records:
        if record.address in taken:
            continue
        subject = f"SpiderIPPool/{record.pool}"
        if record.key in endpoints:
            what = f"{record.address} is recorded for {'/'.join(record.key)}, which has others"
            findings.append(Finding(subject, what, "leaked: not taken over"))
            continue
        taken.add(record.address)
        orphans.append(record)
        what = f"{record.address} is recorded for {'/'.join(record.key)}, which has no endpoint"
        findings.append(Finding(subject, what, "kept for it, until it is proved to be gone"))
    return orphans


def _endpoints_of(records: Iterable[AllocatedIP], pools: dict[str, Pool]) -> Iterator[Endpoint]:
    """Endpoints made of records alone: a NIC without a name for each pair of families."""
    by_pod: dict[Key, list[AllocatedIP]] = defaultdict(list)
    for record in records:
        by_pod[record.key].append(record)
    for (namespace, name), own in by_pod.items():
        uid = own[0].uid
        nics = tuple(_nics(own, pools))
        yield Endpoint(namespace, name, uid, "", pod_holder(uid), "Pod", name, nics)


def _nics(records: Iterable[AllocatedIP], pools: dict[str, Pool]) -> Iterator[Nic]:
    families: dict[int, list[AllocatedIP]] = {4: [], 6: []}
    for record in records:
        families[parse_address(record.address).family].append(record)
    for index in range(max(len(families[4]), len(families[6]))):
        own = [per_family[index] for per_family in families.values() if index < len(per_family)]
        yield nic_with("", [(pools[one.pool], parse_address(one.address).value) for one in own])
