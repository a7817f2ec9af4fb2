"""Attachment records that cannot be read, and paths of namespaces that cannot be looked up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import INTERNAL_CODE
from nodeagent.coordinator.attachment_records import AttachmentRecords
from nodeagent.handlers.missing_attachments import is_netns_gone
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import request_frame, running


def raise_permission_error(*_: object) -> Any:
    raise PermissionError(13, "Permission denied", "/var/lib/records")


async def test_an_add_succeeds_although_attachment_records_are_unreadable(
    settings: Settings,
    memory_store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(AttachmentRecords, "all", raise_permission_error)

    async with running(settings, memory_store) as node:
        await node.pool("lan", "10.6.0.0/24", "10.6.0.10")
        assert await node.add() == ["10.6.0.10/24"]

    assert "cannot clean up stale attachments: the kernel refused a call: [Errno 13]" in caplog.text


async def test_a_gc_returns_an_error_object_if_attachment_records_are_unreadable(
    settings: Settings, memory_store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings, memory_store) as node:
        monkeypatch.setattr(AttachmentRecords, "all", raise_permission_error)
        variables = {"CNI_COMMAND": "GC", "CNI_PATH": "/opt", "ORBWEAVER_PLUGIN": "coordinator"}
        conf = {"cniVersion": "1.1.0", "name": "lan", "cni.dev/valid-attachments": []}
        reply = await node.raw(request_frame(variables, json.dumps(conf).encode()))

    assert "Permission denied" in reply.error["msg"]
    assert reply.error["code"] != INTERNAL_CODE


@pytest.mark.parametrize("path", ["/run/netns/" + "x" * 300, "/" + "y" * 5_000 + "/pod"])
def test_a_namespace_with_an_overlong_path_does_not_count_as_deleted(path: str) -> None:
    assert not is_netns_gone(path)


def test_a_namespace_missing_in_an_existing_directory_counts_as_deleted(tmp_path: Path) -> None:
    assert is_netns_gone(str(tmp_path / "pod"))
