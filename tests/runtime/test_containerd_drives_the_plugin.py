"""containerd calls the CNI plugins when it runs and stops sandboxes, as kubelet requests it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from tests.runtime.containerd_harness import ContainerdHarness
from tests.runtime.cri import RuntimeRefused

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.containerd, pytest.mark.slow]

UNHEALTHY_AGENT_ERROR = "unhealthy spiderpool-agent backend, failed to check: "


def test_sandboxes_get_addresses_of_their_pools_and_reach_each_other(
    cluster: ContainerdHarness,
) -> None:
    first, second = cluster.run_together(["web-0", "web-1"])

    ipv4, ipv6 = cluster.service.status(second).addresses
    endpoint = cluster.read_ledger().endpoints["shop", "web-1"]
    assert ip_address(ipv4) in ip_network("10.6.0.0/27")
    assert ip_address(ipv6) in ip_network("fd00:6::/64")
    assert endpoint.addresses() == ((ipv4, "lan-v4"), (ipv6, "lan-v6"))
    assert (endpoint.node, endpoint.uid, endpoint.nics[0].container) == (
        "node-a",
        "uid-web-1",
        second,
    )
    assert cluster.reaches(first, ipv4)
    assert cluster.reaches(first, ipv6)
    assert cluster.reaches(first, "10.6.0.1")


def test_stopping_a_sandbox_releases_only_its_own_addresses(
    cluster: ContainerdHarness,
) -> None:
    first, second = cluster.run_together(["web-0", "web-1"])

    cluster.service.stop(first)

    assert set(cluster.claims().values()) == {"web-1"}
    cluster.service.stop(first)  # kubelet may repeat the request
    assert set(cluster.claims()) == set(cluster.service.status(second).addresses)


def test_a_sandbox_can_be_stopped_after_the_agent_restarted(
    cluster: ContainerdHarness,
) -> None:
    sandbox = cluster.run("web-0")
    cluster.node.agent.kill()
    cluster.node.start_agent()

    cluster.end(sandbox)

    assert cluster.claims() == {}


def test_a_sandbox_fails_without_an_agent_and_a_retry_with_an_agent_succeeds(
    cluster: ContainerdHarness,
) -> None:
    cluster.node.agent.kill()

    with pytest.raises(RuntimeRefused) as refused:
        cluster.run("web-0")

    assert UNHEALTHY_AGENT_ERROR in str(refused.value)
    assert cluster.claims() == {}
    cluster.node.start_agent()
    sandbox = cluster.run("web-0", attempt=1)
    assert set(cluster.claims()) == set(cluster.service.status(sandbox).addresses)


def test_the_error_names_the_full_pool_and_claims_stay_unchanged(
    cluster: ContainerdHarness,
) -> None:
    # The default pool of namespace tiny is tiny-v4, which has one address.
    cluster.run("first", namespace="tiny")
    claims = cluster.claims()

    with pytest.raises(RuntimeRefused, match="all IP addresses used out") as refused:
        cluster.run("second", namespace="tiny")

    assert "tiny-v4" in str(refused.value)
    assert cluster.claims() == claims


def test_sandboxes_outlive_a_killed_containerd_and_a_new_containerd_stops_them(
    cluster: ContainerdHarness,
) -> None:
    first, second = cluster.run_together(["web-0", "web-1"])
    claims = cluster.claims()
    cluster.containerd.kill()

    cluster.containerd.start()

    assert cluster.claims() == claims
    assert cluster.reaches(first, cluster.service.status(second).addresses[0])
    cluster.end(first, second)
    assert cluster.claims() == {}


def test_a_retry_after_containerd_was_killed_claims_one_address_per_family(
    cluster: ContainerdHarness,
) -> None:
    with cluster.run_until_claimed("web-0"):
        cluster.containerd.kill()
    cluster.containerd.delete_orphaned_namespaces()
    cluster.containerd.start()

    sandbox = cluster.run("web-0", attempt=1)

    assert len(cluster.claims()) == 2
    assert set(cluster.claims()) == set(cluster.service.status(sandbox).addresses)


def test_orbctl_releases_addresses_of_a_pod_that_is_not_retried(
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


def test_a_stop_that_failed_without_etcd_releases_addresses_when_retried(
    cluster: ContainerdHarness,
) -> None:
    sandbox = cluster.run("web-0")
    cluster.laboratory.etcd.kill()
    cluster.node.wait_unhealthy()

    with pytest.raises(RuntimeRefused, match=UNHEALTHY_AGENT_ERROR):
        cluster.service.stop(sandbox)

    cluster.laboratory.etcd.start()
    cluster.end_with_retries(sandbox)
    assert cluster.claims() == {}
