"""The simulated servers of the suite answer like the servers that they replace."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from core.kubernetes.api_client import Object
from tests.ops.kubernetes.watches.scripted_api import ScriptedApi
from tests.support.deadlines import until
from tests.workflows.jobs.provider.fake_provider import FakeProvider, Fault
from workflows.jobs.provider.client import ALLOCATE_PATH, RELEASE_PATH

ADDRESS = "10.6.0.9"
POD = {"podName": "web", "podNamespace": "shop", "nodeName": "node-a"}
UNBOUND_RELEASE: dict[str, object] = {**POD, "ipAddress": "10.6.0.10"}


def allocation(uid: str) -> dict[str, object]:
    return {**POD, "podUID": uid, "iaasIPsAllocationRequest": [{"ipAddress": ADDRESS}]}


async def post(provider: FakeProvider, path: str, body: dict[str, object]) -> int:
    """Return the status of the answer. Raises aiohttp.ClientError without an answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{provider.url}{path}", json=body) as answer,
    ):
        return answer.status


def pod(namespace: str) -> Object:
    return {"metadata": {"namespace": namespace, "name": "web"}}


async def test_a_list_of_a_namespace_omits_namespaces_whose_names_begin_alike() -> None:
    api = ScriptedApi()
    for namespace in ("shop", "shop-2"):
        api.put("/api/v1/pods", pod(namespace))

    pages = [page async for page in api.pages("/api/v1/namespaces/shop/pods")]

    listed = [body["metadata"]["namespace"] for page in pages for body in page.objects()]
    assert listed == ["shop"]


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.LATE])
async def test_the_provider_does_not_execute_unanswered_requests_when_it_stops(
    fault: Fault,
) -> None:
    async with FakeProvider() as provider:
        provider.faults.append(fault)
        request = asyncio.create_task(post(provider, ALLOCATE_PATH, allocation("u")))
        await until(lambda: provider.calls)

    with pytest.raises(aiohttp.ClientError):
        await request
    assert not provider.bound


async def test_the_provider_refuses_a_late_request_without_failing_the_test() -> None:
    async with FakeProvider() as provider:
        assert await post(provider, ALLOCATE_PATH, allocation("other")) == 200
        provider.faults.extend([Fault.LATE] * 2)
        requests = [
            asyncio.create_task(post(provider, path, body))
            for path, body in (
                (ALLOCATE_PATH, allocation("u")),
                (RELEASE_PATH, UNBOUND_RELEASE),
            )
        ]
        await until(lambda: len(provider.calls) == 3)
        provider.execute_late_requests()

        assert provider.bound == {ADDRESS: "other"}
    await asyncio.gather(*requests, return_exceptions=True)
