"""Concurrent and sequential ADDs and DELs leave no object of a Pod.

Table 500 of the node has a route to each Pod.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from ops.lab.namespaces import NamedNamespace
from tests.support.descriptors import open_descriptors
from tests.support.network_harness import SERVICE_CIDRS, NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

CONF: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICE_CIDRS)}
PODS: Final = 32
CYCLES: Final = 40


def object_counts(node: NetworkNode, pod: NetworkPod) -> dict[str, int]:
    counts = {"records": len(list(node.records.all()))}
    for name, inside in (("node", node.inside), ("pod", pod.inside)):
        counts |= {f"{name}: {what}": number for what, number in kernel_counts(inside).items()}
    return counts


def kernel_counts(inside: NamedNamespace) -> dict[str, int]:
    commands = {
        "links": ("link",),
        "rules": ("rule",),
        "IPv6 rules": ("-6", "rule"),
        "routes": ("route", "show", "table", "all"),
        "permanent neighbours": ("neigh", "show", "nud", "permanent"),
        "permanent IPv6 neighbours": ("-6", "neigh", "show", "nud", "permanent"),
    }
    return {what: len(inside.ip(*command).splitlines()) for what, command in commands.items()}


def test_concurrent_adds_and_dels_of_many_pods_leave_no_route(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pods = [network.pod(network_node, f"p{number}") for number in range(PODS)]
    for number, pod in enumerate(pods, 101):
        pod.macvlan("eth0", f"10.6.0.{number}/24", f"fd00:6::{number}/64")
    with ThreadPoolExecutor(
        PODS, initializer=network.executor.let_thread_enter_namespaces
    ) as workers:
        list(workers.map(lambda pod: pod.add(**CONF), pods))
        assert list(workers.map(NetworkPod.check, pods)) == [[]] * PODS
        assert len(network_node.inside.ip("route", "show", "table", "500").splitlines()) == PODS
        list(workers.map(NetworkPod.delete, pods))
    assert network_node.inside.ip("route", "show", "table", "500") == ""
    assert network_node.inside.ip("rule").count("lookup 500") == 1


def test_repeated_adds_and_dels_leave_no_object(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    with ThreadPoolExecutor(1, initializer=network.executor.let_thread_enter_namespaces) as worker:

        def cycle() -> None:
            worker.submit(network_pod.add, **CONF).result()
            worker.submit(network_pod.delete).result()

        # The first cycle creates threads, rules and routing tables, which stay.
        cycle()
        before = object_counts(network_node, network_pod)
        descriptors, threads = open_descriptors(), set(threading.enumerate())
        for _ in range(CYCLES):
            cycle()
        assert object_counts(network_node, network_pod) == before
        assert open_descriptors() - descriptors == set()
        assert set(threading.enumerate()) - threads == set()
