"""The checker accepts valid logs and reports every kind of violation.

Four rules are the invariants of docs/contributing/architecture.md:

- I1: an address has at most one holder.
- I2: the pool of a claim contains the address and may allocate the address.
- I3: a release names the claim that ends.
- I4: a request gets all of its addresses or none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings

from core.domain.autopools.pool_names import OWNER_SUBNET
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AddressQuarantined,
    Cause,
    EndpointChanged,
    Event,
    GuidsAssigned,
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
from core.domain.evolution import Ledger
from core.domain.log_checker import CHECKER_RULES, Checker
from core.domain.model import Endpoint, Nic, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import VfGuid
from tests.support.archived_cluster import Action, action_lists, archived_cluster, have_same_content
from tests.support.checked_log import log_violations

POOL = Pool("main", 4, "10.6.0.0/16", ("10.6.0.1-10.6.0.9",), exclude_ips=("10.6.0.5",))
NET = Subnet("net", 4, "10.6.0.0/16", ("10.6.0.1-10.6.0.200",))
OWNED_POOL = POOL._replace(labels={OWNER_SUBNET: "net"})
IPV6_POOL = Pool("six", 6, "fd00:6::/64", ("fd00:6::1-fd00:6::9",))


def log(*events: Event) -> list[Recorded]:
    """A log with these events at positions 1, 2, 3, ..."""
    return [
        Recorded(
            position=position,
            index_in_segment=0,
            event_id=f"w.1.{position:x}",
            recorded_at_ms=0,
            writer="w",
            cause=Cause("test"),
            event=event,
        )
        for position, event in enumerate(events, 1)
    ]


def endpoint(name: str, *nics: Nic, holder: str = "") -> Endpoint:
    return Endpoint(
        "shop",
        name,
        f"uid-{name}",
        "n",
        holder=holder or f"pod/uid-{name}",
        owner_kind="Pod",
        owner_name=name,
        nics=nics,
    )


def nic(address: str, pool: str = "main") -> Nic:
    if ":" in address:
        return Nic("eth0", ipv6=f"{address}/64", ipv6_pool=pool)
    return Nic("eth0", ipv4=f"{address}/16", ipv4_pool=pool)


def claim(name: str, address: str, pool: str = "main") -> AddressesClaimed:
    return AddressesClaimed(endpoint(name, nic(address, pool)), new_nics=(0,))


def release(
    name: str, address: str, *, claim_revision: int, holder: str = "", times: int = 1
) -> AddressesReleased:
    """The release of the last address of an endpoint.

    ``claim_revision``: the position of the claim in the log. ``times``: releases in the event.
    """
    released = Release(
        address, "main", holder=holder or f"pod/uid-{name}", claim_revision=claim_revision
    )
    return AddressesReleased("shop", name, releases=(released,) * times, nics=(), reason="deleted")


DUAL_STACK_CLAIM = AddressesClaimed(
    endpoint(
        "web",
        Nic(
            "eth0",
            ipv4="10.6.0.1/16",
            ipv4_pool="main",
            ipv4_gateway="",
            ipv6="fd00:6::1/64",
            ipv6_pool="six",
        ),
    ),
    new_nics=(0,),
)

POOL_DEFINED = PoolDefined(POOL)
VF_GUID = VfGuid(
    guid="02:00:00:00:00:00:00:01", nic="0000:3b:00.0", nic_guid="10:70:fd:03:00:16:05:48", vf=0
)
# The events of a log, and (position, rule, subject) of each violation.
INVALID_LOGS: dict[str, tuple[Sequence[Event], list[tuple[int, str, str]]]] = {
    "an address claimed twice": (
        [POOL_DEFINED, claim("a", "10.6.0.1"), claim("b", "10.6.0.1")],
        [(3, "I1", "10.6.0.1")],
    ),
    "an address claimed by two endpoints of one holder": (
        [
            POOL_DEFINED,
            AddressesClaimed(endpoint("a", nic("10.6.0.1"), holder="vm/x"), new_nics=(0,)),
            AddressesClaimed(endpoint("b", nic("10.6.0.1"), holder="vm/x"), new_nics=(0,)),
        ],
        [(3, "I1", "10.6.0.1")],
    ),
    "a GUID assigned to two nodes": (
        [GuidsAssigned(node, (VF_GUID,)) for node in ("n", "m")],
        [(2, "I1", VF_GUID.guid)],
    ),
    "an address of a missing pool": ([claim("a", "10.6.0.1")], [(1, "I2", "10.6.0.1")]),
    "an address outside of its pool": (
        [POOL_DEFINED, claim("a", "10.6.1.1")],
        [(2, "I2", "10.6.1.1")],
    ),
    "an address that its pool excludes": (
        [POOL_DEFINED, claim("a", "10.6.0.5")],
        [(2, "I2", "10.6.0.5")],
    ),
    "an address of the other family": (
        [PoolDefined(IPV6_POOL), claim("a", "10.6.0.1", "six")],
        [(2, "I2", "10.6.0.1")],
    ),
    "a reserved address": (
        [
            POOL_DEFINED,
            ReservationDefined(Reservation("dns", 4, ("10.6.0.2",))),
            claim("a", "10.6.0.2"),
            ReservationDeleted("dns"),
            claim("b", "10.6.0.3"),
        ],
        [(3, "I2", "10.6.0.2")],
    ),
    "a quarantined address": (
        [
            POOL_DEFINED,
            AddressQuarantined(Quarantine("10.6.0.2", 4, reason="a conflicting host")),
            claim("a", "10.6.0.2"),
            QuarantineLifted("10.6.0.2"),
            release("a", "10.6.0.2", claim_revision=3),
            claim("b", "10.6.0.2"),
        ],
        [(3, "I2", "10.6.0.2")],
    ),
    "an address of a disabled pool": (
        [PoolDefined(POOL._replace(disabled=True)), claim("a", "10.6.0.1")],
        [(2, "I2", "10.6.0.1")],
    ),
    "an address of a retiring pool": (
        [POOL_DEFINED, PoolRetired("main"), claim("a", "10.6.0.1")],
        [(3, "I2", "10.6.0.1")],
    ),
    "a text that is not an address": ([POOL_DEFINED, claim("a", "10.6.0")], [(2, "I2", "10.6.0")]),
    "a release without a claim": (
        [POOL_DEFINED, claim("a", "10.6.0.1"), release("a", "10.6.0.2", claim_revision=2)],
        [(3, "I3", "10.6.0.2"), (3, "I4", "shop/a")],
    ),
    "a release with another revision than its claim": (
        [POOL_DEFINED, claim("a", "10.6.0.1"), release("a", "10.6.0.1", claim_revision=1)],
        [(3, "I3", "10.6.0.1"), (3, "I4", "shop/a")],
    ),
    "a release that the next event repeats": (
        [
            POOL_DEFINED,
            claim("a", "10.6.0.1"),
            release("a", "10.6.0.1", claim_revision=2),
            release("a", "10.6.0.1", claim_revision=2),
        ],
        [(4, "I3", "10.6.0.1")],
    ),
    "a release for a missing endpoint": (
        [POOL_DEFINED, AddressesReleased("shop", "a", releases=(), nics=(), reason="gc")],
        [(2, "I3", "shop/a")],
    ),
    "a release twice in one event": (
        [
            POOL_DEFINED,
            claim("a", "10.6.0.1"),
            release("a", "10.6.0.1", claim_revision=2, times=2),
        ],
        [(3, "I3", "10.6.0.1")],
    ),
    "a release with the name of another holder": (
        [
            POOL_DEFINED,
            claim("a", "10.6.0.1"),
            release("a", "10.6.0.1", claim_revision=2, holder="pod/uid-b"),
        ],
        [(3, "I3", "10.6.0.1")],
    ),
    "a release for another endpoint": (
        [
            POOL_DEFINED,
            claim("a", "10.6.0.1"),
            claim("b", "10.6.0.2"),
            release("b", "10.6.0.1", claim_revision=2, holder="pod/uid-a"),
        ],
        [(4, "I3", "10.6.0.1"), (4, "I4", "shop/b")],
    ),
    "an endpoint with an unclaimed address": (
        [POOL_DEFINED, EndpointChanged(endpoint("a", nic("10.6.0.1")))],
        [(2, "I4", "shop/a")],
    ),
    "an endpoint that drops an address without a release": (
        [POOL_DEFINED, claim("a", "10.6.0.1"), EndpointChanged(endpoint("a"))],
        [(3, "I4", "shop/a")],
    ),
    "an endpoint that changes its holder": (
        [
            POOL_DEFINED,
            claim("a", "10.6.0.1"),
            EndpointChanged(endpoint("a", nic("10.6.0.1"), holder="pod/other")),
        ],
        [(3, "I4", "shop/a")],
    ),
    "an endpoint and a claim with different pools": (
        [
            POOL_DEFINED,
            claim("a", "10.6.0.1"),
            EndpointChanged(endpoint("a", nic("10.6.0.1", "other"))),
        ],
        [(3, "I4", "shop/a")],
    ),
    "a pool deleted while an address is claimed": (
        [POOL_DEFINED, claim("a", "10.6.0.1"), PoolDeleted("main")],
        [(3, "pool-empty", "main")],
    ),
    "a missing pool retired and deleted": (
        [PoolRetired("main"), PoolDeleted("main")],
        [(1, "pool-empty", "main"), (2, "pool-empty", "main")],
    ),
    "a pool that loses a claimed address": (
        [
            POOL_DEFINED,
            claim("a", "10.6.0.1"),
            PoolDefined(POOL._replace(ips=("10.6.0.2-10.6.0.9",))),
        ],
        [(3, "pool-shrink", "main")],
    ),
    "two pools that overlap": (
        [POOL_DEFINED, PoolDefined(POOL._replace(name="more", ips=("10.6.0.9-10.6.0.20",)))],
        [(2, "pool-overlap", "more")],
    ),
    "a claim for a missing NIC": (
        [POOL_DEFINED, AddressesClaimed(endpoint("a", nic("10.6.0.1")), new_nics=(1,))],
        [(2, "shape", "w.1.2")],
    ),
    "a pool and a reservation with invalid items": (
        [
            PoolDefined(POOL._replace(ips=("10.6.0.9-10.6.0.1",))),
            ReservationDefined(Reservation("dns", 4, ("fd00::1",))),
            claim("a", "10.6.0.1"),
        ],
        [(1, "shape", "main"), (2, "shape", "dns"), (3, "I2", "10.6.0.1")],
    ),
    "a pool outside of its subnet": (
        [SubnetDefined(NET), PoolDefined(OWNED_POOL._replace(ips=("10.6.1.1",)))],
        [(2, "subnet-share", "main")],
    ),
    "a pool of a missing subnet": (
        [PoolDefined(OWNED_POOL)], [(1, "subnet-share", "main")],
    ),
    "a subnet that no longer contains its pool": (
        [
            SubnetDefined(NET),
            PoolDefined(OWNED_POOL),
            SubnetDefined(NET._replace(ips=("10.6.0.1",))),
        ],
        [(3, "subnet-share", "main")],
    ),
    "two subnets that overlap": (
        [SubnetDefined(NET), SubnetDefined(NET._replace(name="other", subnet="10.6.0.0/24"))],
        [(2, "subnet-overlap", "other")],
    ),
    "a subnet deleted while it has a pool": (
        [SubnetDefined(NET), PoolDefined(OWNED_POOL), SubnetDeleted("net")],
        [(3, "subnet-empty", "net")],
    ),
    "a missing subnet retired and deleted": (
        [SubnetRetired("net"), SubnetDeleted("net")],
        [(1, "subnet-empty", "net"), (2, "subnet-empty", "net")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), INVALID_LOGS.values(), ids=INVALID_LOGS)
def test_a_violation_in_a_log_is_reported_with_position_rule_and_subject(
    events: Sequence[Event], expected: list[tuple[int, str, str]]
) -> None:
    violations = list(log_violations(log(*events)))
    assert [
        (violation.position, violation.rule, violation.subject) for violation in violations
    ] == expected


FIRST, SECOND = log(PoolDefined(POOL), claim("a", "10.6.0.1"))

DISORDERED_LOGS: dict[str, list[Recorded]] = {
    "a position lower than the previous position": [
        SECOND._replace(event=FIRST.event),
        FIRST._replace(event=PoolRetired("main")),
    ],
    "two events at one index of a segment": [
        FIRST,
        SECOND._replace(position=1, index_in_segment=0),
    ],
    "a missing index of a segment": [FIRST, SECOND._replace(position=1, index_in_segment=2)],
    "a segment whose first index is not 0": [FIRST, SECOND._replace(index_in_segment=1)],
    "a segment of two writers": [
        FIRST,
        SECOND._replace(position=1, index_in_segment=1, writer="v"),
    ],
    "an epoch lower than the previous epoch": [FIRST._replace(event_id="w.2.1"), SECOND],
}


@pytest.mark.parametrize("events", DISORDERED_LOGS.values(), ids=DISORDERED_LOGS)
def test_events_out_of_order_are_reported(events: list[Recorded]) -> None:
    assert [violation.rule for violation in log_violations(events)] == ["order"]


def test_every_rule_has_a_log_that_violates_it() -> None:
    violated_rules = {rule for _, expected in INVALID_LOGS.values() for _, rule, _ in expected}
    assert violated_rules | {"order"} == set(CHECKER_RULES)  # DISORDERED_LOGS violates "order"


def test_a_holder_may_repeat_a_claim_after_the_pool_was_retired() -> None:
    events: list[Event] = [
        PoolDefined(POOL),
        PoolDefined(IPV6_POOL),
        DUAL_STACK_CLAIM,
        PoolRetired("main"),
        DUAL_STACK_CLAIM,
        AddressesReleased(
            "shop",
            "web",
            releases=(
                Release("10.6.0.1", "main", holder="pod/uid-web", claim_revision=5),
                Release("fd00:6::1", "six", holder="pod/uid-web", claim_revision=5),
            ),
            nics=(),
            reason="deleted",
        ),
        PoolDeleted("main"),
    ]
    assert list(log_violations(log(*events))) == []


def test_the_text_of_a_violation_names_position_rule_and_subject() -> None:
    events = log(PoolDefined(POOL), claim("a", "10.6.0.1"), PoolDeleted("main"))
    (violation,) = log_violations(events)
    text = "is deleted although 10.6.0.1 is claimed; claims: 1"
    assert str(violation) == f"3.0 pool-empty main: {text}"


@given(action_lists)
@settings(max_examples=20)
async def test_events_of_real_services_are_valid_and_the_checker_has_the_replayed_state(
    actions: list[Action],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            await cluster.execute(actions)
            checker = Checker()
            events = await cluster.replayed()
            assert [violation for event in events for violation in checker.check(event)] == []
            assert have_same_content(checker.ledger, Ledger().apply_all(events))


@given(action_lists)
@settings(max_examples=10)
async def test_a_checker_that_starts_in_the_middle_of_a_log_reaches_the_same_state(
    actions: list[Action],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with archived_cluster(Path(directory)) as cluster:
            await cluster.execute(actions)
            events = await cluster.replayed()
            middle = events[len(events) // 2].position
            late_checker = Checker(
                Ledger().apply_all(event for event in events if event.position <= middle)
            )
            later_events = [event for event in events if event.position > middle]
            assert [
                violation for event in later_events for violation in late_checker.check(event)
            ] == []
            assert have_same_content(late_checker.ledger, await cluster.node.read_ledger())
