"""The simulated cluster of the bench: pools, Pods and incidents. No test measures speed."""

from __future__ import annotations

import math

import pytest

from bench.rig.lab import Lab
from bench.scale import FULL_SCALE, QUICK_SCALE
from bench.simulation.incidents import GROWTH_ADDRESSES
from bench.simulation.plan import (
    RACK_NODES,
    Size,
    addresses_for,
    facts_of,
    node_name,
    pools_of,
    rack_pool,
)
from bench.simulation.run import Simulation
from core.domain.configuration.configuration_state import pool_addresses

SMALL = Size(nodes=RACK_NODES + 2, pools=3, pods=2, rack_pods=3, changes=3, change_pause_s=0)


@pytest.mark.parametrize("size", [SMALL, QUICK_SCALE.simulated, FULL_SCALE.simulated])
def test_each_node_has_one_default_pool_that_fits_its_rack(
    size: Size,
) -> None:
    pools = pools_of(size, more=GROWTH_ADDRESSES)

    assert len({pool.name for pool in pools}) == len({pool.subnet for pool in pools}) == size.pools
    for number in range(size.nodes):
        serving_pools = [
            pool for pool in pools if pool.default and node_name(number) in pool.node_names
        ]
        fits_rack = [pool_addresses(pool).size >= RACK_NODES * size.pods for pool in serving_pools]
        assert fits_rack == [True]


@pytest.mark.parametrize("size", [SMALL, QUICK_SCALE.simulated, FULL_SCALE.simulated])
def test_the_grown_rack_pool_has_an_address_for_each_pod(size: Size) -> None:
    grown_addresses = pool_addresses(rack_pool(size, 0, addresses_for(size.rack_pods)))

    assert grown_addresses.size >= len(size.lost_nodes) * size.rack_pods


def test_pods_have_unique_names_and_uids() -> None:
    pods = [facts_of(node, serial).pod for node in (0, 1, 10, 11) for serial in range(120)]

    assert len({pod.name for pod in pods}) == len({pod.uid for pod in pods}) == len(pods)


def test_a_simulation_delivers_changes_to_nodes_and_reclaims_the_lost_rack() -> None:
    nodes_outside_the_lost_rack = SMALL.nodes - RACK_NODES

    with Lab(QUICK_SCALE) as lab, lab.etcd() as etcd:
        run = Simulation(lab, etcd, SMALL).run()

    assert len(run.fanout.reached_s) == SMALL.changes
    assert all(map(math.isfinite, run.fanout.reached_s))
    assert run.failures == []
    assert run.duplicates == 0
    assert run.lost.claims == RACK_NODES * SMALL.rack_pods
    assert run.consistency.faults == 0
    assert run.consistency.claims == nodes_outside_the_lost_rack * SMALL.pods
