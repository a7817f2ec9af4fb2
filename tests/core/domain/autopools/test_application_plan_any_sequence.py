"""Applications are scaled, deleted and recreated in any order while Pods hold addresses."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.ip_address import format_address
from core.domain.autopools.application_plan import plan_deleted_application
from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import OWNER_UID, ApplicationKey, application_of
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Claim, Pool, Scale, Subnet
from core.domain.subnets.subnet_model import addresses_of_pools, owner_subnet_name, pools_of_subnet
from tests.core.domain.autopools.samples import carry_out, plan, template
from tests.core.domain.subnets.samples import ConfigurationHarness

SUBNETS = (
    Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.21",), exclude_ips=("10.7.0.15",)),
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


class ApplyPlan(NamedTuple):
    application: Application


class DeleteApplication(NamedTuple):
    uid: str


class StartPod(NamedTuple):
    """A Pod claims one of the free addresses."""

    pick: int


class StopPod(NamedTuple):
    """A Pod releases one of the claims."""

    pick: int


applications = st.builds(
    lambda name, uid, annotations, replicas: Application(
        ApplicationKey("apps/v1", "Deployment", "shop", name), uid, annotations, Scale(replicas)
    ),
    st.sampled_from(["web", "db"]),
    st.sampled_from(["a-11111", "a-22222"]),
    TEMPLATES,
    st.integers(0, 5),
)
actions = st.lists(
    st.one_of(
        applications.map(ApplyPlan),
        applications.map(ApplyPlan),  # twice as often
        st.builds(DeleteApplication, st.sampled_from(["a-11111", "a-22222"])),
        st.builds(StartPod, st.integers(0, 40)),
        st.builds(StopPod, st.integers(0, 40)),
    ),
    max_size=14,
)


class Simulation:
    def __init__(self) -> None:
        self.state = ConfigurationHarness(*SUBNETS)
        self.claimed: dict[str, Claim] = {}

    def apply(self, action: ApplyPlan | DeleteApplication | StartPod | StopPod) -> None:
        match action:
            case ApplyPlan(application):
                carry_out(self.state, plan(self.state, application, self.claimed), self.claimed)
            case DeleteApplication(uid):
                steps = plan_deleted_application(
                    uid, self.state.configuration, claimed=self.claimed
                )
                carry_out(self.state, steps, self.claimed)
            case StartPod(pick):
                free = self.free_addresses()
                if free:
                    address, pool = free[pick % len(free)]
                    self.claimed[address] = Claim(
                        pool=pool, holder="pod/u", namespace="shop", pod="w", event="e"
                    )
            case StopPod(pick):
                if self.claimed:
                    del self.claimed[sorted(self.claimed)[pick % len(self.claimed)]]

    def free_addresses(self) -> list[tuple[str, str]]:
        """(address, pool) pairs."""
        return [
            (address, pool.name)
            for pool in self.state.ledger.pools.values()
            if not pool.retiring
            for address in every_address(pool)
            if address not in self.claimed
        ]

    def check(self) -> None:
        """Assert: pools are disjoint and inside their subnet; no Pod has lost an address."""
        pools = self.state.ledger.pools
        for subnet in SUBNETS:
            in_subnet = pools_of_subnet(subnet.name, pools)
            addresses = addresses_of_pools(subnet, in_subnet)
            assert addresses.issubset(pool_addresses(subnet))
            assert addresses.size == sum(pool_addresses(pool).size for pool in in_subnet)
        for address, claim in self.claimed.items():
            assert address in every_address(pools[claim.pool])


def every_address(pool: Pool) -> list[str]:
    return [
        format_address(pool.family, value)
        for first, last in pool_addresses(pool)
        for value in range(first, last + 1)
    ]


@given(actions)
def test_pools_stay_disjoint_and_in_their_subnet_and_keep_claimed_addresses(
    history: list[ApplyPlan | DeleteApplication | StartPod | StopPod],
) -> None:
    simulation = Simulation()

    for action in history:
        simulation.apply(action)
        simulation.check()

    assert all(owner_subnet_name(pool) for pool in simulation.state.ledger.pools.values())


@given(actions, applications)
def test_the_next_plan_has_no_command_after_a_plan_is_carried_out(
    history: list[ApplyPlan | DeleteApplication | StartPod | StopPod], application: Application
) -> None:
    simulation = Simulation()
    for action in history:
        simulation.apply(action)

    simulation.apply(ApplyPlan(application))
    next_steps = plan(simulation.state, application, simulation.claimed)

    assert [step for step in next_steps if step.command is not None] == []


@given(actions)
def test_only_pools_with_reclaim_off_remain_after_applications_and_pods_are_gone(
    history: list[ApplyPlan | DeleteApplication | StartPod | StopPod],
) -> None:
    simulation = Simulation()
    for action in history:
        simulation.apply(action)

    simulation.claimed.clear()
    for uid in ("a-11111", "a-22222"):
        simulation.apply(DeleteApplication(uid))

    for pool in simulation.state.ledger.pools.values():
        assert pool.labels["ipam.spidernet.io/ippool-reclaim"] == "false"
        assert application_of(pool.labels) is not None
        assert pool.labels[OWNER_UID] in {"a-11111", "a-22222"}
