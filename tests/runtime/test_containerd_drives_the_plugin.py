"""containerd calls the plugin, with a kubelet's requests: real sandboxes, real plugins."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from tests.runtime.containerd_harness import ContainerdHarness
from tests.runtime.cri import RuntimeRefused

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.containerd, pytest.mark.slow]

UNHEALTHY = "unhealthy spiderpool-agent backend, failed to check: "


def test_sandboxes_get_addresses_of_their_pools_and_reach_each_other(
    cluster: ContainerdHarness,
) -> None:
    first, second = cluster.run_together(["web-0", "web-1"])

    four, six = cluster.service.status(second).addresses
    endpoint = cluster.truth().endpoints["shop", "web-1"]
    assert ip_address(four) in ip_network("10.6.0.0/27")
    assert ip_address(six) in ip_network("fd00:6::/64")
    assert endpoint.addresses() == ((four, "lan-v4"), (six, "lan-v6"))
    assert (endpoint.node, endpoint.uid, endpoint.nics[0].container) == (
        "node-a",
        "uid-web-1",
        second,
    )
    assert cluster.reaches(first, four)
    assert cluster.reaches(first, six)
    assert cluster.reaches(first, "10.6.0.1")


def test_stopping_a_sandbox_frees_its_addresses_and_nobody_elses(
    cluster: ContainerdHarness,
) -> None:
    first, second = cluster.run_together(["web-0", "web-1"])

    cluster.service.stop(first)

    assert set(cluster.claims().values()) == {"web-1"}
    cluster.service.stop(first)
    assert set(cluster.claims()) == set(cluster.service.status(second).addresses)


def test_a_sandbox_is_stopped_after_its_agent_was_killed_and_came_back(
    cluster: ContainerdHarness,
) -> None:
    sandbox = cluster.run("web-0")
    cluster.node.agent.kill()
    cluster.node.start_agent()

    cluster.end(sandbox)

    assert cluster.claims() == {}


def test_without_an_agent_a_sandbox_fails_with_our_words_and_runs_on_the_next_try(
    cluster: ContainerdHarness,
) -> None:
    cluster.node.agent.kill()

    with pytest.raises(RuntimeRefused) as refused:
        cluster.run("web-0")

    assert UNHEALTHY in str(refused.value)
    assert cluster.claims() == {}
    cluster.node.start_agent()
    sandbox = cluster.run("web-0", attempt=1)
    assert set(cluster.claims()) == set(cluster.service.status(sandbox).addresses)


def test_a_full_pool_is_named_to_the_kubelet_and_nothing_stays_claimed(
    cluster: ContainerdHarness,
) -> None:
    cluster.run("first", "tiny")
    held = cluster.claims()

    with pytest.raises(RuntimeRefused, match="all IP addresses used out") as refused:
        cluster.run("second", "tiny")

    assert "tiny-v4" in str(refused.value)
    assert cluster.claims() == held


def test_sandboxes_outlive_containerd_and_are_stopped_by_its_successor(
    cluster: ContainerdHarness,
) -> None:
    first, second = cluster.run_together(["web-0", "web-1"])
    held = cluster.claims()
    cluster.containerd.kill()

    cluster.containerd.start()

    assert cluster.claims() == held
    assert cluster.reaches(first, cluster.service.status(second).addresses[0])
    cluster.end(first, second)
    assert cluster.claims() == {}


def test_a_pod_whose_containerd_died_meanwhile_holds_one_address_of_each_family_in_the_end(
    cluster: ContainerdHarness,
) -> None:
    with cluster.run_until_claimed("web-0"):
        cluster.containerd.kill()
    cluster.containerd.drop_orphans()
    cluster.containerd.start()

    sandbox = cluster.run("web-0", attempt=1)

    assert len(cluster.claims()) == 2
    assert set(cluster.claims()) == set(cluster.service.status(sandbox).addresses)


def test_a_pod_that_never_comes_back_after_that_is_released_by_hand(
    cluster: ContainerdHarness,
) -> None:
    with cluster.run_until_claimed("web-0"):
        cluster.containerd.kill()
    cluster.containerd.start()

    released = cluster.laboratory.orbctl(
        "release", "shop/web-0", "--reason", "the Pod was deleted", "--yes"
    )

    assert released.returncode == 0, released.stderr
    assert cluster.claims() == {}


def test_a_sandbox_that_is_stopped_without_etcd_gives_its_addresses_back_afterwards(
    cluster: ContainerdHarness,
) -> None:
    sandbox = cluster.run("web-0")
    cluster.laboratory.etcd.kill()
    cluster.node.wait_unhealthy()

    with pytest.raises(RuntimeRefused, match=UNHEALTHY):
        cluster.service.stop(sandbox)

    cluster.laboratory.etcd.start()
    cluster.end_in_the_end(sandbox)
    assert cluster.claims() == {}
