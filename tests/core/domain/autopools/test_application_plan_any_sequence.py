"""Applications are scaled, moved, deleted and recreated in any order while Pods hold addresses."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.ip_address import format_address
from core.domain.autopools.application_plan import plan_deleted_application
from core.domain.autopools.applications import Application
from core.domain.autopools.names import OWNER_UID, ApplicationKey, application_of
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Claim, Pool, Scale, Subnet
from core.domain.subnets.subnet_model import addresses_of_pools, controlled, owner_of
from tests.core.domain.autopools.samples import carry_out, plan, template
from tests.core.domain.subnets.samples import State

SUBNETS = (
    Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.21",), ("10.7.0.15",)),
    Subnet("other", 4, "10.8.0.0/16", ("10.8.0.10-10.8.0.14",)),
    Subnet("net6", 6, "fd00:7::/64", ("fd00:7::10-fd00:7::1f",)),
)
TEMPLATES = st.sampled_from(
    [
        template(),
        template({"ipv4": ["other"]}),
        template({"ipv4": ["net"], "ipv6": ["net6"]}, "+1"),
        template([{"interface": "eth0", "ipv4": ["net"]}, {"interface": "n1", "ipv4": ["other"]}]),
        template(number="3", reclaim="false"),
        template({"ipv4": ["nowhere"]}),
        {},
    ]
)


class Follow(NamedTuple):
    """Plan for the application in its current state, and apply the plan."""

    application: Application


class Leave(NamedTuple):
    """Delete the application with this UID."""

    uid: str


class Start(NamedTuple):
    """A Pod claims a free address of some pool."""

    pick: int


class Stop(NamedTuple):
    """A Pod releases its address."""

    pick: int


applications = st.builds(
    lambda name, uid, said, replicas: Application(
        ApplicationKey("apps/v1", "Deployment", "shop", name), uid, said, Scale(replicas)
    ),
    st.sampled_from(["web", "db"]),
    st.sampled_from(["a-11111", "a-22222"]),
    TEMPLATES,
    st.integers(0, 5),
)
moves = st.lists(
    st.one_of(
        applications.map(Follow),
        applications.map(Follow),
        st.builds(Leave, st.sampled_from(["a-11111", "a-22222"])),
        st.builds(Start, st.integers(0, 40)),
        st.builds(Stop, st.integers(0, 40)),
    ),
    max_size=14,
)


class Play:
    """The state, with claims by address."""

    def __init__(self) -> None:
        self.state = State(*SUBNETS)
        self.claimed: dict[str, Claim] = {}

    def make(self, move: Follow | Leave | Start | Stop) -> None:
        match move:
            case Follow(application):
                carry_out(self.state, plan(self.state, application, self.claimed), self.claimed)
            case Leave(uid):
                steps = plan_deleted_application(uid, self.state.configuration, self.claimed)
                carry_out(self.state, steps, self.claimed)
            case Start(pick):
                free = self.free()
                if free:
                    address, pool = free[pick % len(free)]
                    self.claimed[address] = Claim(pool, "pod/u", "shop", "w", "e")
            case Stop(pick):
                if self.claimed:
                    del self.claimed[sorted(self.claimed)[pick % len(self.claimed)]]

    def free(self) -> list[tuple[str, str]]:
        """(address, pool) of every free address."""
        return [
            (address, pool.name)
            for pool in self.state.ledger.pools.values()
            if not pool.retiring
            for address in every_address(pool)
            if address not in self.claimed
        ]

    def check(self) -> None:
        """Shares are disjoint and inside the subnet, and no Pod has lost an address."""
        pools = self.state.ledger.pools
        for subnet in SUBNETS:
            mine = controlled(subnet.name, pools)
            given = addresses_of_pools(subnet, mine)
            assert given.issubset(pool_addresses(subnet))
            assert given.size == sum(pool_addresses(pool).size for pool in mine)
        for address, claim in self.claimed.items():
            assert address in every_address(pools[claim.pool])


def every_address(pool: Pool) -> list[str]:
    return [
        format_address(pool.family, value)
        for first, last in pool_addresses(pool)
        for value in range(first, last + 1)
    ]


@given(moves)
def test_shares_stay_disjoint_and_inside_and_no_held_address_leaves_its_pool(
    history: list[Follow | Leave | Start | Stop],
) -> None:
    play = Play()

    for move in history:
        play.make(move)
        play.check()

    assert all(owner_of(pool) for pool in play.state.ledger.pools.values())


@given(moves, applications)
def test_after_a_plan_is_carried_out_the_next_plan_is_empty(
    history: list[Follow | Leave | Start | Stop], application: Application
) -> None:
    play = Play()
    for move in history:
        play.make(move)

    play.make(Follow(application))
    again = plan(play.state, application, play.claimed)

    assert [step for step in again if step.command is not None] == []


@given(moves)
def test_nothing_leaks_once_every_application_is_gone_and_every_pod_has_stopped(
    history: list[Follow | Leave | Start | Stop],
) -> None:
    play = Play()
    for move in history:
        play.make(move)

    play.claimed.clear()
    for uid in ("a-11111", "a-22222"):
        play.make(Leave(uid))

    for pool in play.state.ledger.pools.values():
        assert pool.labels["ipam.spidernet.io/ippool-reclaim"] == "false"
        assert application_of(pool.labels) is not None
        assert pool.labels[OWNER_UID] in {"a-11111", "a-22222"}
