"""The cleanup after an uninstallation, while other programs change the objects."""

from __future__ import annotations

import asyncio

import pytest

from core.kubernetes.api_client import Api, Object
from core.kubernetes.http_connection import open_connection
from ops.kubernetes import cleanup
from ops.kubernetes.cleanup import InstallationNames, clean
from ops.kubernetes.translated_kinds import FINALIZER
from tests.kubernetes.objects import get, path_of, pool
from tests.support.kubernetes import MERGE_PATCH, ApiServer


async def test_the_cleanup_counts_an_object_once_after_a_conflict(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = pool()
    body["metadata"]["finalizers"] = [FINALIZER]
    assert server.request("POST", path_of("SpiderIPPool"), body).status == 201
    api = Api(await open_connection(str(server.kubeconfig)))
    merge = api.merge
    changes = iter([{"metadata": {"labels": {"changed": "meanwhile"}}}])

    async def merge_after_change(path: str, merged: Object, manager: str = "") -> Object:
        for change in changes:
            await asyncio.to_thread(server.request, "PATCH", path, change, content=MERGE_PATCH)
        return await merge(path, merged, manager)

    monkeypatch.setattr(api, "merge", merge_after_change)
    monkeypatch.setattr(cleanup, "PASS_PAUSE_S", 0)
    try:
        assert await clean(api, InstallationNames("default", "no-lease")) == 1
    finally:
        await api.close()
    metadata = get(server, "SpiderIPPool", body["metadata"]["name"])["metadata"]
    assert "finalizers" not in metadata
    assert metadata["labels"]["changed"] == "meanwhile"
