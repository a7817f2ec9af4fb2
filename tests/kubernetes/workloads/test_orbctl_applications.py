"""``orbctl get|describe applications --kubeconfig`` reads the applications from the API server.

An application is a Deployment or another workload that requests an automatic pool by an annotation.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from core.eventstore.keys import Keys
from core.eventstore.state_reader import read_ledger
from core.kubernetes.workloads.applications import application_of
from ops.cli.application_rows import application_lines
from ops.cli.exit_codes import Exit
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import COLLECTION_PATHS, create_workload, delete_workloads
from tests.support.kubernetes import ApiServer
from tests.support.orbctl_harness import CLUSTER_NAME, OrbctlHarness

SUBNET = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderSubnet
metadata: {name: racks}
spec: {ipVersion: 4, subnet: 10.6.0.0/16, ips: [10.6.0.10-10.6.0.29]}
"""
REQUESTS_POOL = {"ipam.spidernet.io/subnet": json.dumps({"ipv4": ["racks"]})}


@pytest.fixture
def orbctl(server: ApiServer, tmp_path: Path) -> OrbctlHarness:
    """Runs orbctl on a log with a subnet; all workloads but ``plain`` request pools."""
    delete_workloads(server)
    harness = OrbctlHarness(tmp_path / "archive")
    (tmp_path / "subnet.yaml").write_text(SUBNET)
    assert harness.orbctl("apply", "-f", str(tmp_path / "subnet.yaml")).code == Exit.OK
    create_workload(server, "Deployment", "web", annotations=REQUESTS_POOL, replicas=3)
    create_workload(server, "Deployment", "plain", replicas=3)
    create_workload(server, "CronJob", "nightly", annotations=REQUESTS_POOL, parallelism=2)
    return harness


def create_requested_pools(orbctl: OrbctlHarness, server: ApiServer, name: str) -> None:
    """Create the pools that a controller would create for a Deployment."""
    deployment = server.request("GET", f"{COLLECTION_PATHS['Deployment']}/{name}").body
    application = application_of("Deployment", deployment)
    ledger = asyncio.run(read_ledger(orbctl.store, Keys(CLUSTER_NAME)))
    (line,) = application_lines(ledger, {application.key: application})
    commands = [step.command for step in line.steps if step.command is not None]
    assert commands
    orbctl.on_node("node-1", lambda node: node.apply(*commands))


def rows(text: str) -> dict[str, list[str]]:
    """Name of the application -> the cells of its row."""
    lines = [line.split(maxsplit=7) for line in text.splitlines()[1:]]
    return {cells[1]: cells for cells in lines}


def test_get_applications_shows_only_workloads_that_request_pools(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    create_requested_pools(orbctl, server, "web")

    result = orbctl.orbctl("get", "applications", "-A", f"--kubeconfig={server.kubeconfig}")

    assert (result.code, result.err) == (Exit.OK, "")
    # Namespace, name, kind, Pods, pools, addresses, allocated addresses, state.
    assert rows(result.out) == {
        "nightly": ["shop", "nightly", "CronJob", "2", "0", "0", "0", "to do"],
        "web": ["shop", "web", "Deployment", "3", "1", "3", "0", "settled"],
    }


def test_get_applications_shows_applications_without_pools_only_with_a_kubeconfig(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    result = orbctl.orbctl("get", "applications", "-n", "shop", "-o", "name")
    assert result.out == "", "the log must have no application"

    kubeconfig = f"--kubeconfig={server.kubeconfig}"
    result = orbctl.orbctl("get", "applications", "-n", "shop", "-o", "name", kubeconfig)
    assert result.out.split() == ["application/CronJob/nightly", "application/Deployment/web"]


def test_describe_application_shows_its_pools_and_pending_steps(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    kubeconfig = f"--kubeconfig={server.kubeconfig}"

    result = orbctl.orbctl("describe", "application", "shop/web", kubeconfig)
    assert "State:      to do" in result.out
    assert "create auto4-web-eth0" in result.out

    create_requested_pools(orbctl, server, "web")
    result = orbctl.orbctl("describe", "application", "shop/web", kubeconfig)
    assert "State:      settled" in result.out
    assert "auto4-web-eth0" in result.out.partition("Pools (1)")[2]

    result = orbctl.orbctl("describe", "application", "shop/plain", kubeconfig)
    assert result.code == Exit.NOT_FOUND
    assert "no application shop/plain with an automatic pool" in result.err


def test_describe_of_a_deleted_application_shows_that_its_pool_will_be_deleted(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    create_requested_pools(orbctl, server, "web")
    deletion: Object = server.request("DELETE", f"{COLLECTION_PATHS['Deployment']}/web").body
    kubeconfig = f"--kubeconfig={server.kubeconfig}"

    result = orbctl.orbctl("describe", "application", "shop/web", kubeconfig)

    assert deletion["status"] == "Success"
    assert "State:      gone" in result.out
    assert "delete auto4-web-eth0" in result.out
    assert rows(orbctl.orbctl("get", "apps", "-A", kubeconfig).out)["web"][-1].endswith("gone")


def test_the_state_of_an_application_is_unknown_while_the_api_server_is_unreachable(
    server: ApiServer, orbctl: OrbctlHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_requested_pools(orbctl, server, "web")
    monkeypatch.setattr("ops.kubernetes.watches.applications.LISTED_S_MAX", 0.5)
    unreachable = tmp_path / "unreachable.kubeconfig"
    unreachable.write_text(server.kubeconfig.read_text().replace(server.url, "https://127.0.0.1:9"))

    result = orbctl.orbctl("get", "applications", "-A", f"--kubeconfig={unreachable}")

    assert result.code == Exit.OK
    assert "not all applications can be listed" in result.err
    assert rows(result.out)["web"][-1].endswith("unknown")
