"""``orbctl gc --kubeconfig`` reads from the API server which Pods are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.facts import PodFacts
from ops.cli.commands import gc
from ops.cli.exits import Exit
from tests.kubernetes.controllers_harness import NODE, create_node
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import create_pod, delete_pod, delete_workloads
from tests.support.kubernetes import ApiServer
from tests.support.node_harness import pod, pool
from tests.support.orbctl_harness import OrbctlHarness


@pytest.fixture
def orbctl(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OrbctlHarness:
    """Two Pods with addresses, one of them deleted; waiting advances the clock."""
    delete_workloads(server)
    create_node(server, NODE)
    made = OrbctlHarness(tmp_path / "archive")
    made.on_node(NODE, lambda node: node.apply(pool("main", "10.6.0.11-10.6.0.20")))
    for name in ("web-0", "web-1"):
        facts = facts_of(create_pod(server, name, NODE))
        made.on_node(NODE, lambda node, facts=facts: node.add(facts))  # type: ignore[misc]
    delete_pod(server, "web-1")

    async def pause(wait_s: float) -> None:
        made.now_ms += int(wait_s * 1000)

    monkeypatch.setattr(gc, "pause", pause)
    monkeypatch.setattr(gc, "steady_s", lambda: made.now_ms / 1000)
    return made


def facts_of(one: Object) -> PodFacts:
    return pod(one["metadata"]["name"], one["metadata"]["uid"], node=NODE)


def test_what_the_api_server_has_no_pod_for_is_released(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    ran = orbctl.orbctl("gc", "--yes", f"--kubeconfig={server.kubeconfig}")

    assert ran.code == Exit.OK
    assert "pod-gone: Pod shop/web-1 is gone" in ran.out
    assert "shop/web-0" in ran.out.partition("Kept: 1 endpoint")[2]


def test_a_dry_run_looks_once_and_releases_nothing(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    ran = orbctl.orbctl("gc", "--dry-run", f"--kubeconfig={server.kubeconfig}")

    assert ran.code == Exit.OK
    assert "seen once: Pod shop/web-1 is gone" in ran.out
    assert "Nothing to release" in ran.out


def test_nobodys_word_counts_against_the_api_server(
    server: ApiServer, orbctl: OrbctlHarness
) -> None:
    said = ("--gone", "shop/web-0", "--reason", "I saw it go")
    ran = orbctl.orbctl("gc", "--yes", *said, f"--kubeconfig={server.kubeconfig}")

    assert ran.code != Exit.OK
    assert "--gone and --gone-node cannot be used with --kubeconfig" in ran.err
