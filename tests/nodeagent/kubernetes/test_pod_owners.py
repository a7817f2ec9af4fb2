"""Concurrent lookups of one owner share one request to the API server."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from core.domain.model import Owner
from core.errors import ApiUnavailable
from core.kubernetes.api_client import Api, Object
from core.kubernetes.informer import Reflector
from core.kubernetes.workloads.applications import stateful_set_state
from nodeagent.kubernetes.pod_owners import OwnerCache

REPLICA_SETS_PATH = "/apis/apps/v1/namespaces/shop/replicasets"
REPLICA_SET = Owner("ReplicaSet", "web-5d4", "shop", "apps/v1", "uid-of-web-5d4")
WEB = Owner("Deployment", "web", "shop", "apps/v1", "uid-of-web")


class SlowApi:
    """An API server that responds only when the test calls ``answer``."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, asyncio.Future[Object]]] = []
        self.cancelled_count = 0

    async def get(self, path: str) -> Object:
        answer: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
        self.requests.append((path, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled_count += 1
            raise

    def answer(self, *, fails: bool = False) -> None:
        for _, answer in self.requests:
            if answer.done():
                continue
            if fails:
                answer.set_exception(ApiUnavailable("the API server does not answer"))
            else:
                answer.set_result(replica_set())

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


def replica_set() -> Object:
    reference = {"kind": WEB.kind, "apiVersion": WEB.api_version, "name": WEB.name, "uid": WEB.uid}
    metadata: dict[str, Any] = {
        "namespace": "shop",
        "name": REPLICA_SET.name,
        "uid": REPLICA_SET.uid,
    }
    return {"metadata": metadata | {"ownerReferences": [reference | {"controller": True}]}}


@pytest.fixture
def api() -> SlowApi:
    return SlowApi()


@pytest.fixture
def owners(api: SlowApi) -> OwnerCache:
    server = cast("Api", api)
    return OwnerCache(server, Reflector(server, "/apis/apps/v1/statefulsets", stateful_set_state))


async def start_lookups(
    owners: OwnerCache, count: int, owner: Owner = REPLICA_SET
) -> list[asyncio.Task[None]]:
    """Start lookups, and return when each lookup waits for a response."""
    tasks = [asyncio.create_task(owners.load_parent(owner)) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_concurrent_lookups_of_one_owner_share_a_request(
    api: SlowApi, owners: OwnerCache
) -> None:
    lookups = await start_lookups(owners, 5)
    api.answer()
    await asyncio.gather(*lookups)

    assert api.paths == [f"{REPLICA_SETS_PATH}/web-5d4"]
    assert owners.top(REPLICA_SET) == WEB


async def test_each_owner_has_its_own_request(api: SlowApi, owners: OwnerCache) -> None:
    first = await start_lookups(owners, 2)
    second = await start_lookups(
        owners, 2, REPLICA_SET._replace(name="api-77f", uid="uid-of-api-77f")
    )

    assert api.paths == [f"{REPLICA_SETS_PATH}/web-5d4", f"{REPLICA_SETS_PATH}/api-77f"]
    api.answer()
    await asyncio.gather(*first, *second)


async def test_a_cancelled_lookup_does_not_cancel_the_shared_request(
    api: SlowApi, owners: OwnerCache
) -> None:
    first, *others = await start_lookups(owners, 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    api.answer()
    await asyncio.gather(*others)

    assert (len(api.requests), api.cancelled_count) == (1, 0)
    assert owners.top(REPLICA_SET) == WEB


async def test_a_request_that_no_lookup_waits_for_is_cancelled(
    api: SlowApi, owners: OwnerCache
) -> None:
    lookups = await start_lookups(owners, 2)
    for lookup in lookups:
        lookup.cancel()
    await asyncio.gather(*lookups, return_exceptions=True)
    new_lookups = await start_lookups(owners, 1)

    assert (len(api.requests), api.cancelled_count) == (2, 1)
    api.answer()
    await asyncio.gather(*new_lookups)
    assert owners.top(REPLICA_SET) == WEB


async def test_a_failure_is_raised_in_all_lookups_and_not_cached(
    api: SlowApi, owners: OwnerCache
) -> None:
    lookups = await start_lookups(owners, 3)
    api.answer(fails=True)
    results = await asyncio.gather(*lookups, return_exceptions=True)
    was_cached = owners.is_cached(REPLICA_SET)
    new_lookups = await start_lookups(owners, 2)
    api.answer()
    await asyncio.gather(*new_lookups)

    assert [type(result) for result in results] == [ApiUnavailable] * 3
    assert not was_cached
    assert len(api.requests) == 2
    assert owners.top(REPLICA_SET) == WEB
