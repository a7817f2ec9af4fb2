"""An ADD reports why the controller refused the SpiderIPPool that the Pod names."""

from __future__ import annotations

import json

import pytest

from core.allocation.pool_requests import PoolRequests
from core.configuration.refusal_notes import RefusalNotes
from core.domain.selection.selection_request import SelectionSettings
from core.errors import AllocationError
from nodeagent.handlers.pool_wait import WaitingAllocator
from tests.kubernetes.objects import create, pool, replace
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support.kubernetes import ApiServer
from tests.support.node_harness import pod


async def test_an_add_reports_why_its_pool_was_refused_until_the_pool_is_corrected(
    server: ApiServer,
) -> None:
    async with TranslatorHarness(server) as cluster:
        node = cluster.node
        allocator = WaitingAllocator(
            node.allocate,
            PoolRequests(cluster.store, cluster.keys),
            node.view,
            SelectionSettings(),
            on_wait=lambda: None,
            refusal_notes=RefusalNotes(cluster.store, cluster.keys),
        )
        node.allocate = allocator.allocate_or_wait
        requesting_pod = pod(
            "web-0", annotations={"ipam.spidernet.io/ippool": json.dumps({"ipv4": ["copy"]})}
        )
        create(server, pool("lan"))
        await cluster.until_condition("SpiderIPPool", "lan", "Ready", "True")
        create(server, pool("copy"))  # refused: it has the same address as ``lan``
        await cluster.until_condition("SpiderIPPool", "copy", "Ready", "False")
        await node.view.freshen()

        with pytest.raises(AllocationError, match=r'SpiderIPPool "copy" was refused: .*IPPool/lan'):
            await node.add(requesting_pod)
        await cluster.stop_translator()
        cluster.start_translator()  # the next leader reads the refusal from the store
        replace(server, pool("copy", ips=["10.6.0.11"]))
        await cluster.until_condition("SpiderIPPool", "copy", "Ready", "True")
        await node.view.freshen()
        await node.add(requesting_pod)

        assert await RefusalNotes(cluster.store, cluster.keys).names() == set()
