"""Commands in any order raise only Refused. Pools stay disjoint and inside their subnets."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.ip_address import V4
from core.domain.configuration.commands import (
    ApplyPool,
    ApplySubnet,
    Command,
    DeletePool,
    DeleteSubnet,
    RetirePool,
    RetireSubnet,
)
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.configuration.decisions import decide
from core.domain.events import Cause, Event, Recorded
from core.domain.model import Pool, Subnet
from core.domain.subnets.subnet_model import (
    addresses_of_pools,
    count_addresses,
    owner_subnet_name,
    pools_of_subnet,
)
from core.errors import Refused
from tests.core.domain.subnets.samples import ConfigurationHarness
from tests.support.checked_log import log_violations

CIDRS = st.sampled_from(["10.7.0.0/28", "10.7.0.0/28", "10.7.0.16/28", "10.7.0.0/24"])
ITEMS = st.lists(
    st.tuples(st.integers(0, 31), st.integers(0, 31))
    .map(sorted)
    .map(lambda pair: "10.7.0.{}-10.7.0.{}".format(*pair)),
    max_size=2,
).map(tuple)
SUBNET_NAMES = st.sampled_from(["n1", "n2"])
POOL_NAMES = st.sampled_from(["p1", "p2", "p3"])
GATEWAYS = st.sampled_from(["", "", "10.7.0.1"])
LABELS = st.sampled_from([{}, {}, {"ipam.spidernet.io/owner-application-name": "web"}])

COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        ApplySubnet,
        st.builds(Subnet, SUBNET_NAMES, st.just(V4), CIDRS, ITEMS, ITEMS | st.just(()), GATEWAYS),
    ),
    st.builds(
        ApplyPool,
        st.builds(
            Pool, POOL_NAMES, st.just(V4), CIDRS, ITEMS, st.just(()), GATEWAYS, labels=LABELS
        ),
    ),
    st.builds(RetirePool, POOL_NAMES),
    st.builds(DeletePool, POOL_NAMES),
    st.builds(RetireSubnet, SUBNET_NAMES),
    st.builds(DeleteSubnet, SUBNET_NAMES),
)


def apply_all(
    state: ConfigurationHarness, commands: list[Command], check: Callable[[], None]
) -> list[Event]:
    """Apply the commands; call ``check`` after each, refused or not. Return all events."""
    events: list[Event] = []
    for command in commands:
        try:
            events += state.apply(command)
        except Refused:
            continue
        finally:
            check()
    return events


@given(st.lists(COMMANDS, max_size=14))
def test_pools_stay_disjoint_and_in_their_subnet_and_the_log_is_valid(
    commands: list[Command],
) -> None:
    state = ConfigurationHarness()

    def check_shares() -> None:
        ledger = state.ledger
        for subnet in ledger.subnets.values():
            subnet_addresses = pool_addresses(subnet)
            pools = pools_of_subnet(subnet.name, ledger.pools)
            shares = [pool_addresses(pool) for pool in pools]
            shared = addresses_of_pools(subnet, pools)
            assert shared.issubset(subnet_addresses)
            assert shared.size == sum(share.size for share in shares)
            counts = count_addresses(subnet, ledger.pools)
            assert counts.total == counts.allocated + counts.free
        for pool in ledger.pools.values():
            owner = owner_subnet_name(pool)
            if owner:
                assert ledger.subnets[owner].subnet == pool.subnet

    events = apply_all(state, commands, check_shares)

    log = [
        Recorded(
            position=position,
            index_in_segment=0,
            event_id=f"w.1.{position:x}",
            recorded_at_ms=0,
            writer="w",
            cause=Cause("t"),
            event=event,
        )
        for position, event in enumerate(events, 1)
    ]
    assert list(log_violations(log)) == []


@given(st.lists(COMMANDS, max_size=10), COMMANDS)
def test_a_repeated_command_except_a_deletion_writes_no_event(
    before: list[Command], command: Command
) -> None:
    state = ConfigurationHarness()
    apply_all(state, before, lambda: None)

    wrote_events = bool(apply_all(state, [command], lambda: None))

    if wrote_events and not isinstance(command, DeletePool | DeleteSubnet):
        assert decide(state.configuration, command, claimed={}) == ()
