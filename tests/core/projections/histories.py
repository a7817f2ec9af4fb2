"""Random histories of events about few objects, so that events often concern the same object.

Some events are invalid on purpose: a projection must apply them as the ledger does.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    AllocationRefused,
    ApplicationScaled,
    BindingChanged,
    Cause,
    EndpointChanged,
    Event,
    GuidsAssigned,
    GuidsReleased,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    QuarantineLifted,
    Recorded,
    Release,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.model import Endpoint, Nic, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import VfGuid

SUBNETS = {"blue": "10.0.0.0/28", "green": "10.0.1.0/28", "six": "fd00::/124"}
LAST_OCTETS = range(16)
GUIDS = ("02:00:00:00:00:00:00:01", "02:00:00:00:00:00:00:02")


def address_in(pool: str, octet: int) -> str:
    """The address of the pool's subnet with this last octet."""
    return f"fd00::{octet:x}" if pool == "six" else f"{SUBNETS[pool][:7]}{octet}"


pool_names = st.sampled_from(sorted(SUBNETS))
octets = st.sampled_from(LAST_OCTETS)


@st.composite
def address_ranges(draw: st.DrawFn, pool: str) -> tuple[str, ...]:
    first, last = sorted((draw(octets), draw(octets)))
    return (f"{address_in(pool, first)}-{address_in(pool, last)}",)


@st.composite
def pool_definitions(draw: st.DrawFn) -> Pool:
    name = draw(pool_names)
    excluded = draw(st.one_of(st.just(()), address_ranges(name)))
    ips = draw(st.one_of(st.just(()), address_ranges(name)))
    return Pool(name, 6 if name == "six" else 4, SUBNETS[name], ips, exclude_ips=excluded)


@st.composite
def reservations(draw: st.DrawFn) -> Reservation:
    pool = draw(pool_names)
    name = draw(st.sampled_from(("printers", "gateways")))
    return Reservation(name, 6 if pool == "six" else 4, draw(address_ranges(pool)))


addresses = st.builds(address_in, pool_names, octets)
pod_names = st.sampled_from(("web-0", "web-1", "db-0"))
nodes = st.sampled_from(("n1", "n2"))


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    name = draw(pod_names)
    nics = []
    for interface in ("eth0", "net1")[: draw(st.integers(1, 2))]:
        pool = draw(st.sampled_from(("blue", "green")))
        nic = Nic(interface, ipv4=f"{address_in(pool, draw(octets))}/28", ipv4_pool=pool)
        if draw(st.booleans()):
            six = f"{address_in('six', draw(octets))}/124"
            nic = nic._replace(ipv6=six, ipv6_pool="six")
        nics.append(nic)
    return Endpoint(
        "shop",
        name,
        f"u-{name}",
        draw(nodes),
        holder=f"pod/u-{name}",
        owner_kind="",
        owner_name="",
        nics=tuple(nics),
    )


class Step:
    """One event of a history. If ``event`` is None, ``pick`` selects a claim to release.

    A ``stale`` release names a lower revision than that of the claim.
    """

    def __init__(self, event: Event | None, pick: int = 0, *, stale: bool = False) -> None:
        self.event = event
        self.pick = pick
        self.stale = stale

    def __repr__(self) -> str:
        return repr(self.event or f"release of claim {self.pick}, stale: {self.stale}")


guids = st.lists(
    st.builds(VfGuid, st.sampled_from(GUIDS), st.just("3b:00.0"), st.just(""), st.integers(0, 1)),
    max_size=3,
).map(tuple)
plain_events: st.SearchStrategy[Event] = st.one_of(
    pool_definitions().map(PoolDefined),
    pool_names.map(PoolRetired),
    pool_names.map(PoolDeleted),
    reservations().map(ReservationDefined),
    st.sampled_from(("printers", "gateways")).map(ReservationDeleted),
    addresses.map(
        lambda text: AddressQuarantined(Quarantine(text, 6 if ":" in text else 4, reason="x"))
    ),
    addresses.map(QuarantineLifted),
    endpoints().map(EndpointChanged),
    address_ranges("blue").map(lambda ips: SubnetDefined(Subnet("net", 4, SUBNETS["blue"], ips))),
    st.sampled_from((SubnetRetired("net"), SubnetDeleted("net"))),
    st.builds(GuidsAssigned, st.sampled_from(("n1", "n2")), guids),
    st.builds(GuidsReleased, st.sampled_from(("n1", "n2")), guids, st.just("removed")),
    pod_names.map(
        lambda name: ApplicationScaled(
            "apps/v1", "Deployment", namespace="shop", name=name, uid="u", replicas=3
        )
    ),
    pod_names.map(
        lambda name: BindingChanged(
            "shop", name, pod=name, uid="u", node="n1", addresses=("10.6.0.9",), state="bound"
        )
    ),
    pod_names.map(
        lambda name: AllocationRefused(
            "shop",
            name,
            "u",
            "n1",
            holder="pod/u",
            interface="eth0",
            reason="used-out",
            message="full",
        )
    ),
)
claims = endpoints().map(
    lambda endpoint: AddressesClaimed(endpoint, new_nics=tuple(range(len(endpoint.nics))))
)
steps = st.one_of(
    plain_events.map(Step),
    claims.map(Step),
    claims.map(Step),
    st.builds(Step, st.none(), st.integers(0, 30), stale=st.booleans()),
)
histories = st.lists(steps, max_size=40)


def log_of(history: Sequence[Step]) -> list[Recorded]:
    """Return a log with the events of the history, each at its own position."""
    log: list[Recorded] = []
    for position, step in enumerate(history, 1):
        event = step.event if step.event is not None else _release(log, step)
        if event is not None:
            log.append(
                Recorded(
                    position=position,
                    index_in_segment=0,
                    event_id=f"e{position}",
                    recorded_at_ms=0,
                    writer="w",
                    cause=Cause("test"),
                    event=event,
                )
            )
    return log


def _release(log: Sequence[Recorded], step: Step) -> AddressesReleased | None:
    claims = [recorded for recorded in log if isinstance(recorded.event, AddressesClaimed)]
    if not claims:
        return None
    chosen = claims[step.pick % len(claims)]
    assert isinstance(chosen.event, AddressesClaimed)
    endpoint = chosen.event.endpoint
    position = chosen.position - step.stale
    pairs = endpoint.nics[0].addresses()
    releases = tuple(
        Release(ip, pool, holder=endpoint.holder, claim_revision=position) for ip, pool in pairs
    )
    return AddressesReleased(*endpoint.key, releases, endpoint.nics[1:], "deleted")
