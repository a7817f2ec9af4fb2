"""Without Kubernetes, the record of a StatefulSet decides which addresses are kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.domain.fixed.fixed_address_owners import MissingOwner, StatefulSetState
from core.domain.model import Owner
from core.domain.reclaim.evidence import Moment
from core.errors import Refused
from core.eventstore.codec import CLAIM_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get
from core.eventstore.memory_store import MemoryStore
from core.eventstore.state_reader import read_endpoint, read_ledger
from core.manifests.manifest_writer import dump_yaml, to_manifest
from ops.cli.commands import gc
from ops.cli.exit_codes import Exit
from tests.core.manifests.samples import record_of
from tests.support.node_harness import NodeHarness, pod, pool
from tests.support.orbctl_harness import CLUSTER_NAME, OrbctlHarness
from workflows.jobs.record_lookup import StandaloneReclaimFactsSource

DB = RecordDefined("StatefulSet", "shop", "db", replicas=3, ordinals_start=1)
MANIFEST = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec: {replicas: %s, serviceName: db, template: {spec: {containers: []}}}
"""
"""``%s``: the number of replicas, then optionally other fields of ``spec``."""


def test_a_manifest_gives_the_replicas_and_the_first_ordinal() -> None:
    record = record_of(MANIFEST % "3, ordinals: {start: 1}")

    assert (record.kind, record.namespace, record.name) == (DB.kind, DB.namespace, DB.name)
    assert (record.replicas, record.ordinals_start) == (3, 1)
    assert record_of(MANIFEST % "null").replicas == 1
    assert record_of(dump_yaml([to_manifest(record)])) == record


async def test_replicas_and_ordinals_outside_the_limits_of_kubernetes_are_refused() -> None:
    async with NodeHarness(MemoryStore()) as node:
        with pytest.raises(Refused, match=r"spec\.replicas"):
            await node.apply(ApplyRecord(DB._replace(replicas=-1)))
        with pytest.raises(Refused, match=r"spec\.ordinals\.start"):
            await node.apply(ApplyRecord(DB._replace(ordinals_start=2**31)))


async def test_a_stateful_set_is_certainly_missing_only_after_its_record_is_deleted() -> None:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.1-10.6.0.9"))
        await node.add(pod("db-1", fixed="statefulset"))
        source = StandaloneReclaimFactsSource(node.store, node.keys)

        async def read_owner(*, single_pod: bool) -> StatefulSetState | MissingOwner:
            if single_pod:
                ledger = await read_endpoint(node.store, node.keys, ("shop", "db-1"))
            else:
                ledger = await read_ledger(node.store, node.keys)
            facts = await source.facts(ledger, Moment(unix_s=1.0, observer="test", steady_s=1.0))
            return facts.stateful_set("shop", "db")

        before_apply = await read_owner(single_pod=False)
        await node.apply(ApplyRecord(DB))
        after_apply = [await read_owner(single_pod=False), await read_owner(single_pod=True)]
        await node.apply(DeleteRecord("StatefulSet", "shop", "db"))
        after_delete = [await read_owner(single_pod=False), await read_owner(single_pod=True)]

    assert isinstance(before_apply, MissingOwner)
    assert not before_apply.certain
    assert after_apply == [StatefulSetState("shop", "db", replicas=3, start=1)] * 2
    assert all(isinstance(owner, MissingOwner) and owner.certain for owner in after_delete)


@pytest.fixture
def orbctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OrbctlHarness:
    """Three replicas on node n1. A pause of ``orbctl gc`` only advances the clock."""
    harness = OrbctlHarness(tmp_path / "archive")
    harness.on_node("n1", lambda node: node.apply(pool("main", "10.6.0.11-10.6.0.20")))
    owner = Owner("StatefulSet", "db", api_version="apps/v1")
    for name in ("db-0", "db-1", "db-2"):
        replica = pod(name, node="n1", fixed="statefulset")._replace(owner=owner)
        harness.on_node("n1", lambda node, replica=replica: node.add(replica))  # type: ignore[misc]

    async def pause(wait_s: float) -> None:
        harness.now_ms += int(wait_s * 1000)

    monkeypatch.setattr(gc, "pause", pause)
    monkeypatch.setattr(gc, "steady_s", lambda: harness.now_ms / 1000)
    return harness


def test_gc_of_a_gone_node_keeps_only_the_address_of_the_remaining_replica(
    orbctl: OrbctlHarness, tmp_path: Path
) -> None:
    (tmp_path / "db.yaml").write_text(MANIFEST % 1, "utf-8")
    apply_run = orbctl.orbctl("apply", "-f", str(tmp_path / "db.yaml"))
    get_run = orbctl.orbctl("get", "sts", "-n", "shop")

    gc_run = orbctl.orbctl("gc", "--gone-node", "n1", "--reason", "no power", "--yes")

    assert (apply_run.code, get_run.code, gc_run.code) == (Exit.OK, Exit.OK, Exit.OK)
    assert "db" in get_run.out
    assert "fixed: StatefulSet shop/db has replica 0" in gc_run.out
    assert "owner-gone" in gc_run.out
    assert asyncio.run(_pods_with_claims(orbctl)) == {"db-0"}


async def _pods_with_claims(orbctl: OrbctlHarness) -> set[str]:
    claims = (await orbctl.store.read([Get(*Keys(CLUSTER_NAME).range_of("ip"))])).ranges[0].kvs
    return {CLAIM_CODEC.decode(kv.value).pod for kv in claims}
