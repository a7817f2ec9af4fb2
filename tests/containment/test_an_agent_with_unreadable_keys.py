"""An agent serves Pods despite unreadable values, and reports those that it has read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from core.eventstore.kv import Delete, KeyValueStore, Put
from core.eventstore.memory_store import MemoryStore
from nodeagent.settings.agent_settings import Settings
from tests.containment.samples import FAULT_CASES, Case, case_id, spoiled
from tests.support.agent_harness import AgentHarness, running
from tests.support.deadlines import until
from tests.support.http_caller import over_tcp

KINDS_IN_THE_VIEW: Final = ("pool", "subnet", "reservation", "quarantine", "record", "guard")
"""The view of an agent reads keys of these kinds."""


async def _put(store: KeyValueStore, key: bytes, value: bytes) -> int:
    return (await store.commit([], [Put(key, value)])).revision


async def _check_served(agent: AgentHarness, pod: str) -> None:
    assert (await agent.add(pod))[0].startswith("10.6.0.")
    assert (await agent.call("CHECK", pod)).status in (0, 1)  # an error is an answer too
    await agent.delete(pod)


async def _metrics(agent: AgentHarness) -> str:
    port = agent.process.metrics_port
    assert port is not None
    return (await over_tcp(port.port, "/metrics")).body.decode()


@pytest.mark.parametrize("case", FAULT_CASES, ids=case_id)
async def test_an_agent_serves_other_pods_and_reports_an_unreadable_key_of_its_view(
    case: Case, settings: Settings
) -> None:
    store = MemoryStore()
    is_in_view = case.kind.name in KINDS_IN_THE_VIEW
    async with running(settings, store) as node:
        await node.pool("lan", "10.6.0.0/16", "10.6.0.1-10.6.0.99")
        key, view = case.key(node.keys), node.process.parts.view
        for value in (case.readable_value, case.value):
            revision = await _put(store, key, value)
            await until(lambda: view.current.revision >= revision or not is_in_view)  # noqa: B023

        await _check_served(node, "web-0")
        await node.call("STATUS")

        assert node.process.parts.health.why_not_ready() is None
        if is_in_view:
            assert case.name(node.keys) in {fault.key for fault in view.faults}
            assert f'orbweaver_contained_faults{{kind="{case.kind.name}"' in await _metrics(node)
        await store.commit([], [Delete(key)])
        await _put(store, key, case.value)

    # The next agent finds the unreadable value when it starts.
    async with running(settings, store) as node:
        await _check_served(node, "web-1")


def _write_spoiled_record(path: Path, how: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(spoiled("pool", how) or b"")


@pytest.mark.parametrize("how", ["garbage", "newer version", "invalid UTF-8"])
async def test_an_unreadable_attachment_record_is_kept_and_reported(
    how: str, settings: Settings
) -> None:
    path = Path(settings.datapath_directory) / "c-vic@eth0"
    _write_spoiled_record(path, how)
    async with running(settings, MemoryStore()) as node:
        await node.pool("lan", "10.6.0.0/16", "10.6.0.1-10.6.0.99")
        await _check_served(node, "web-0")

        assert [fault.key for fault in node.process.parts.view.faults] == [
            "attachment record/c-vic@eth0"
        ]
        assert 'orbweaver_contained_faults{kind="attachment record"' in await _metrics(node)
    assert path.exists()
