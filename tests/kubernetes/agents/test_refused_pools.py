"""An ADD that names a pool whose resource was refused reports the refusal."""

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
        # The allocator of an agent reads why the controller has refused a pool.
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
            "web-0", annotations={"ipam.spidernet.io/ippool": json.dumps({"ipv4": ["b"]})}
        )
        create(server, pool("a"))
        await cluster.until_condition("SpiderIPPool", "a", "Ready", "True")
        create(server, pool("b"))  # refused: it has the same address as ``a``
        await cluster.until_condition("SpiderIPPool", "b", "Ready", "False")
        await node.view.freshen()

        with pytest.raises(AllocationError, match=r'SpiderIPPool "b" was refused: .*IPPool/a'):
            await node.add(requesting_pod)
        await cluster.stop_translator()
        cluster.start_translator()  # the next leader reads the refusal from the store
        replace(server, pool("b", ips=["10.6.0.11"]))
        await cluster.until_condition("SpiderIPPool", "b", "Ready", "True")
        await node.view.freshen()
        await node.add(requesting_pod)

        assert await RefusalNotes(cluster.store, cluster.keys).names() == set(), (
            "no refusal is left"
        )
