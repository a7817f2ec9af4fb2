"""The simulated cluster of the bench: pools, Pods and incidents. No test measures speed."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import typer

from bench.rig.daemon import PROJECT_ROOT
from bench.rig.lab import Lab
from bench.scale import FULL_SCALE, QUICK_SCALE
from bench.simulation.__main__ import report
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


@pytest.mark.parametrize(
    ("options", "error_part"),
    [
        (["--pods", "5", "--rack-pods", "5"], "--rack-pods 5 must be more than --pods 5"),
        (["--pools", "30", "--changes", "31"], "--changes 31 is more than the 30 pools"),
        (["--rack-pods", "2000"], "--rack-pods"),
        (["--nodes", "0"], "--nodes"),
    ],
)
def test_sizes_that_cannot_be_simulated_are_usage_errors(
    options: list[str], error_part: str
) -> None:
    command = [sys.executable, "-m", "bench.simulation", *options]

    completed = subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )

    assert completed.returncode == 2
    assert error_part in " ".join(completed.stderr.replace("│", " ").split())


def test_a_simulation_delivers_changes_to_nodes_and_reclaims_the_lost_rack(
    capsys: pytest.CaptureFixture[str],
) -> None:
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

    report(SMALL, run, load_before="0.1")
    leaky_run = run._replace(consistency=run.consistency._replace(leaked=2))
    with pytest.raises(typer.Exit) as failed:
        report(SMALL, leaky_run, load_before="0.1")
    assert failed.value.exit_code == 1
    assert "faults found: 2" in capsys.readouterr().err
