"""When many Pods of one owner start at once, the agent makes one request to the API server."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from core.domain.model import Owner
from core.errors import ApiUnavailable
from core.kubernetes.api import Api, Object
from core.kubernetes.informer import Reflector
from core.kubernetes.workloads.applications import stateful_set_state
from nodeagent.kubernetes.owners import OwnerCache

SETS = "/apis/apps/v1/namespaces/shop/replicasets"
REPLICAS = Owner("ReplicaSet", "web-5d4", "shop", "apps/v1", "uid-of-web-5d4")
WEB = Owner("Deployment", "web", "shop", "apps/v1", "uid-of-web")


class SlowApi:
    """An API server controlled by a test, which answers each request."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, asyncio.Future[Object]]] = []
        self.given_up = 0

    async def get(self, path: str) -> Object:
        answer: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
        self.questions.append((path, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            self.given_up += 1
            raise

    def answer(self, *, fails: bool = False) -> None:
        """Answer all open requests."""
        for _, answer in self.questions:
            if answer.done():
                continue
            if fails:
                answer.set_exception(ApiUnavailable("the API server does not answer"))
            else:
                answer.set_result(replica_set())

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.questions]


def replica_set() -> Object:
    names = {"kind": WEB.kind, "apiVersion": WEB.api_version, "name": WEB.name, "uid": WEB.uid}
    metadata: dict[str, Any] = {"namespace": "shop", "name": REPLICAS.name, "uid": REPLICAS.uid}
    return {"metadata": metadata | {"ownerReferences": [names | {"controller": True}]}}


@pytest.fixture
def api() -> SlowApi:
    return SlowApi()


@pytest.fixture
def owners(api: SlowApi) -> OwnerCache:
    server = cast("Api", api)
    return OwnerCache(server, Reflector(server, "/apis/apps/v1/statefulsets", stateful_set_state))


async def asking(
    owners: OwnerCache, several: int, owner: Owner = REPLICAS
) -> list[asyncio.Task[None]]:
    """Start ``count`` lookups, each up to its wait for an answer."""
    tasks = [asyncio.create_task(owners.load_owner(owner)) for _ in range(several)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_those_who_ask_meanwhile_wait_for_the_same_answer(
    api: SlowApi, owners: OwnerCache
) -> None:
    asked = await asking(owners, 5)
    api.answer()
    await asyncio.gather(*asked)

    assert api.paths == [f"{SETS}/web-5d4"]
    assert owners.top(REPLICAS) == WEB


async def test_another_owner_is_another_question(api: SlowApi, owners: OwnerCache) -> None:
    first = await asking(owners, 2)
    second = await asking(owners, 2, REPLICAS._replace(name="api-77f", uid="uid-of-api-77f"))

    assert api.paths == [f"{SETS}/web-5d4", f"{SETS}/api-77f"]
    api.answer()
    await asyncio.gather(*first, *second)


async def test_one_who_asks_no_more_takes_nobodys_answer_away(
    api: SlowApi, owners: OwnerCache
) -> None:
    first, *others = await asking(owners, 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    api.answer()
    await asyncio.gather(*others)

    assert (len(api.questions), api.given_up) == (1, 0)
    assert owners.top(REPLICAS) == WEB


async def test_a_question_that_nobody_waits_for_is_given_up(
    api: SlowApi, owners: OwnerCache
) -> None:
    asked = await asking(owners, 2)
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    again = await asking(owners, 1)

    assert (len(api.questions), api.given_up) == (2, 1)
    api.answer()
    await asyncio.gather(*again)
    assert owners.top(REPLICAS) == WEB


async def test_a_failure_is_told_to_all_and_not_remembered(
    api: SlowApi, owners: OwnerCache
) -> None:
    asked = await asking(owners, 3)
    api.answer(fails=True)
    results = await asyncio.gather(*asked, return_exceptions=True)
    known = owners.knows(REPLICAS)
    again = await asking(owners, 2)
    api.answer()
    await asyncio.gather(*again)

    assert [type(one) for one in results] == [ApiUnavailable] * 3
    assert not known
    assert len(api.questions) == 2
    assert owners.top(REPLICAS) == WEB
