"""``orbctl gc`` without Kubernetes releases an address only with evidence that the Pod is gone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import RecordDefined
from core.domain.model import Owner
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Put
from ops.cli.commands import gc
from ops.cli.exit_codes import Exit
from tests.support.node_harness import pod, pool
from tests.support.orbctl_harness import CLUSTER_NAME, CommandResult, OrbctlHarness

KEYS = Keys(CLUSTER_NAME)


@pytest.fixture
def orbctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OrbctlHarness:
    """``orbctl gc`` does not wait: each of its pauses advances the harness's clock."""
    harness = OrbctlHarness(tmp_path / "archive")
    harness.on_node("n1", lambda node: node.apply(pool("main", "10.6.0.11-10.6.0.20")))
    for name, node_name in (("web-0", "n1"), ("web-1", "n2")):
        harness.type(f"add {name} {node_name}")
    replica = pod("db-0", node="n2", fixed="statefulset")._replace(
        owner=Owner("StatefulSet", "db", api_version="apps/v1")
    )
    harness.on_node("n2", lambda node: node.add(replica))

    async def pause(wait_s: float) -> None:
        harness.now_ms += int(wait_s * 1000)

    monkeypatch.setattr(gc, "pause", pause)
    monkeypatch.setattr(gc, "steady_s", lambda: harness.now_ms / 1000)
    return harness


def pods_with_addresses(orbctl: OrbctlHarness) -> set[str]:
    async def read() -> set[str]:
        claims = (await orbctl.store.read([Get(*KEYS.range_of("ip"))])).ranges[0].kvs
        return {CLAIM_CODEC.decode(kv.value).pod for kv in claims}

    return asyncio.run(read())


def collect(orbctl: OrbctlHarness, *arguments: str) -> CommandResult:
    return orbctl.orbctl("gc", "-n", "shop", *arguments)


def write_orphaned_claim(orbctl: OrbctlHarness) -> None:
    """Write a claim of an older Pod that was also named web-1."""

    async def write() -> None:
        path = KEYS.endpoint("shop", "web-1")
        endpoint = ENDPOINT_CODEC.decode(
            (await orbctl.store.read([Get(path)])).ranges[0].kvs[0].value
        )
        ((address, _),) = endpoint.addresses()
        stored = (await orbctl.store.read([Get(KEYS.ip_of(address))])).ranges[0].kvs[0]
        claim = CLAIM_CODEC.decode(stored.value)
        orphaned_claim = claim._replace(holder="pod/older")
        await orbctl.store.commit(
            [], [Put(KEYS.ip_of("10.6.0.99"), CLAIM_CODEC.encode(orphaned_claim))]
        )
        # The newer Pod's keys must have higher revisions than the claim.
        newer_writes = [Put(stored.key, stored.value), Put(path, ENDPOINT_CODEC.encode(endpoint))]
        await orbctl.store.commit([], newer_writes)

    asyncio.run(write())


def test_gc_keeps_endpoints_without_evidence_and_prints_the_reason(orbctl: OrbctlHarness) -> None:
    result = collect(orbctl)

    assert result.code == Exit.OK
    assert result.out.startswith("Nothing to release\n\nKept: 3 endpoints\n")
    assert result.out.count("Pods are not listed in standalone mode") == 3
    assert pods_with_addresses(orbctl) == {"web-0", "web-1", "db-0"}


def test_a_dry_run_prints_the_plan_and_changes_nothing(
    orbctl: OrbctlHarness,
) -> None:
    result = collect(orbctl, "--dry-run", "--gone", "web-0", "--reason", "its node burnt")

    assert result.code == Exit.OK
    assert "To release: 1 address of 1 endpoint" in result.out
    assert "pod-gone: ann@desk reports that Pod shop/web-0 is gone: its node burnt" in result.out
    assert pods_with_addresses(orbctl) == {"web-0", "web-1", "db-0"}


def test_the_option_gone_releases_a_pods_addresses_after_confirmation(
    orbctl: OrbctlHarness,
) -> None:
    options = ("--gone", "shop/web-0", "--reason", "its node burnt")

    unconfirmed = collect(orbctl, *options)
    confirmed = collect(orbctl, *options, "--yes")

    assert (unconfirmed.code, confirmed.code) == (Exit.FAILED, Exit.OK)
    assert "nothing was released" in unconfirmed.err
    assert " released\n" in confirmed.out
    assert pods_with_addresses(orbctl) == {"web-1", "db-0"}
    history = orbctl.orbctl("history", "shop/web-0").out
    assert "reclaimed: pod-gone: ann@desk reports that Pod shop/web-0 is gone" in history
    assert orbctl.orbctl("verify").code == Exit.OK


def test_the_option_gone_node_releases_all_but_fixed_addresses(
    orbctl: OrbctlHarness,
) -> None:
    result = collect(orbctl, "--gone-node", "n2", "--reason", "no power", "--yes")

    assert result.code == Exit.OK
    assert "fixed: standalone mode has no record of the owner" in result.out
    assert pods_with_addresses(orbctl) == {"web-0", "db-0"}


def test_an_orphaned_claim_is_released_after_two_scans(orbctl: OrbctlHarness) -> None:
    write_orphaned_claim(orbctl)

    dry_run = collect(orbctl, "--dry-run")
    result = collect(orbctl, "--yes")

    assert "Nothing to release" in dry_run.out
    assert "seen once: a newer Pod shop/web-1 (UID uid-web-1) has this name" in dry_run.out
    assert "scanning again in 10 s" in result.err
    assert "10.6.0.99 released" in result.out
    assert pods_with_addresses(orbctl) == {"web-0", "web-1", "db-0"}


def test_the_plan_and_the_results_are_printed_as_json(orbctl: OrbctlHarness) -> None:
    result = collect(orbctl, "--gone", "web-0", "--reason", "burnt", "--yes", "-o", "json")

    plan = json.loads(result.out)
    (step,) = plan["release"]
    assert step["endpoint"] == "shop/web-0"
    assert step["released"] == step["addresses"]
    assert step["evidence"]["source"] == "operator"
    assert {endpoint["endpoint"] for endpoint in plan["kept"]} == {"shop/web-1", "shop/db-0"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--gone", "web-0"), Exit.USAGE),
        (("--gone-node", "n1"), Exit.USAGE),
        (("--gone", "a/b/c", "--reason", "x"), Exit.USAGE),
        (("--gone", "unknown", "--reason", "x"), Exit.NOT_FOUND),
        (("--gone-node", "nowhere", "--reason", "x"), Exit.NOT_FOUND),
    ],
)
def test_an_unknown_name_or_a_missing_reason_releases_nothing(
    orbctl: OrbctlHarness, arguments: tuple[str, ...], code: Exit
) -> None:
    assert collect(orbctl, *arguments, "--yes").code == code
    assert pods_with_addresses(orbctl) == {"web-0", "web-1", "db-0"}


def test_a_deleted_pod_record_releases_the_address_after_two_scans(orbctl: OrbctlHarness) -> None:
    record = RecordDefined("Pod", "shop", "web-0")
    orbctl.on_node("n1", lambda node: node.apply(ApplyRecord(record)))
    orbctl.on_node("n1", lambda node: node.apply(DeleteRecord("Pod", "shop", "web-0")))

    dry_run = collect(orbctl, "--dry-run")
    result = collect(orbctl, "--yes")

    assert "seen once: test deleted the record of Pod shop/web-0" in dry_run.out
    assert result.out.rstrip().endswith("released")
    assert pods_with_addresses(orbctl) == {"web-1", "db-0"}
