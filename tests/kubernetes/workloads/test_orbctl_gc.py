"""``orbctl gc --kubeconfig`` releases the addresses of Pods that the API server does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.request_facts import PodFacts
from ops.cli.commands import gc
from ops.cli.exit_codes import Exit
from tests.kubernetes.controllers_harness import NODE_NAME, create_node
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import create_pod, delete_pod, delete_workloads
from tests.support.kubernetes import ApiServer
from tests.support.node_harness import pod, pool
from tests.support.orbctl_harness import OrbctlHarness


@pytest.fixture
def orbctl(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OrbctlHarness:
    """Runs orbctl on a log in which web-0 and web-1 have addresses; Pod web-1 is deleted."""
    delete_workloads(server)
    create_node(server, NODE_NAME)
    harness = OrbctlHarness(tmp_path / "archive")
    harness.on_node(NODE_NAME, lambda node: node.apply(pool("main", "10.6.0.11-10.6.0.20")))
    for name in ("web-0", "web-1"):
        facts = facts_of(create_pod(server, name, NODE_NAME))
        harness.on_node(NODE_NAME, lambda node, facts=facts: node.add(facts))  # type: ignore[misc]
    delete_pod(server, "web-1")

    async def pause(wait_s: float) -> None:
        harness.now_ms += int(wait_s * 1000)

    monkeypatch.setattr(gc, "pause", pause)
    monkeypatch.setattr(gc, "steady_s", lambda: harness.now_ms / 1000)
    return harness


def facts_of(api_pod: Object) -> PodFacts:
    return pod(api_pod["metadata"]["name"], api_pod["metadata"]["uid"], node=NODE_NAME)


def test_gc_releases_the_addresses_of_deleted_pods(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    result = orbctl.orbctl("gc", "--yes", f"--kubeconfig={server.kubeconfig}")

    assert result.code == Exit.OK
    assert "pod-gone: Pod shop/web-1 is gone" in result.out
    assert "shop/web-0" in result.out.partition("Kept: 1 endpoint")[2]


def test_a_dry_run_of_gc_scans_once_and_releases_nothing(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    result = orbctl.orbctl("gc", "--dry-run", f"--kubeconfig={server.kubeconfig}")

    assert result.code == Exit.OK
    assert "seen once: Pod shop/web-1 is gone" in result.out
    assert "Nothing to release" in result.out


def test_gc_refuses_the_gone_option_with_a_kubeconfig(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    gone_options = ("--gone", "shop/web-0", "--reason", "I saw it go")
    result = orbctl.orbctl("gc", "--yes", *gone_options, f"--kubeconfig={server.kubeconfig}")

    assert result.code != Exit.OK
    assert "--gone and --gone-node cannot be used with --kubeconfig" in result.err
