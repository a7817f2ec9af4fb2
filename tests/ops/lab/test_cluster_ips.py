"""Programs in Pods of the laboratory connect to a Service before and after an agent is killed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from ops.demo.datapath import missing_capability
from ops.demo.demo_state import PROJECT_ROOT
from ops.lab.identity import LabFailed
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node
from ops.lab.sandbox import Sandbox
from tests.support.parts import CGROUPS, needs, require_namespaces

pytestmark = [pytest.mark.etcd, pytest.mark.netns]

DEADLINE_S: Final = 60.0
SERVICE: Final = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIPs: [10.96.0.10], ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [BACKEND]}]
"""


@pytest.fixture
def laboratory() -> Iterator[Laboratory]:
    require_namespaces()
    if why := missing_capability().no_services:
        pytest.skip(needs(CGROUPS, why))
    with Laboratory(cluster_ips=True) as lab:
        lab.node("node-a")
        applied = lab.orbctl("apply", "-f", "ops/demo/pools.yaml", directory=PROJECT_ROOT)
        assert applied.returncode == 0, applied.stderr
        yield lab


def answer_of(node: Node, sandbox: Sandbox) -> dict[str, Any] | None:
    """The reply of the Service; None if no agent serves the Service."""
    command = [sys.executable, "-m", "ops.lab.pod_programs", "ask", "10.96.0.10", "80", "1"]
    try:
        answer: dict[str, Any] = json.loads(node.run_in(sandbox, *command))
    except LabFailed:
        return None
    return answer


def answer_when_served(node: Node, sandbox: Sandbox) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE_S
    while (answer := answer_of(node, sandbox)) is None:
        assert time.monotonic() < deadline, "the Service is not served"
    return answer


def test_a_killed_agent_stops_a_service_and_the_next_agent_serves_it_again(
    laboratory: Laboratory,
) -> None:
    node = laboratory.nodes["node-a"]
    client, backend = laboratory.sandbox("web-0"), laboratory.sandbox("web-1")
    for sandbox in (client, backend):
        node.runtime.add(sandbox)
    laboratory.serve_pod_name(backend, 8080)
    text = SERVICE.replace("BACKEND", backend.addresses[0])
    applied = laboratory.orbctl("apply", "-f", "-", stdin=text)
    assert applied.returncode == 0, applied.stderr
    expected = {"peer": "10.96.0.10:80", "answers": {"web-1": 1}}
    assert answer_when_served(node, client) == expected
    listed = laboratory.orbctl("get", "services", "-o", "name")
    assert listed.stdout.strip() == "service/web"

    node.agent.kill()
    assert answer_of(node, client) is None
    node.start_agent()
    assert answer_when_served(node, client) == expected
