"""Whatever lies under any kind of key: orbctl shows everything else, and names it.

One test for each kind of the table and each way to spoil its value, over the real commands.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest

from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Put
from tests.containment.samples import CASES, Case, case_id
from tests.orbctl.world import CLUSTER, World
from tests.support.nodes import Node, pod, pool

KEYS: Final = Keys(CLUSTER)
LISTED: Final = {
    "pool": "pools",
    "subnet": "subnets",
    "reservation": "reservations",
    "quarantine": "quarantine",
    "record": "records",
    "endpoint": "endpoints",
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "archive")

    async def live(node: Node) -> None:
        await node.apply(pool("lan", "10.6.0.1-10.6.0.99"))
        await node.add(pod("web-0"))

    world.on_node("node-a", live)
    return world


def _spoil(world: World, case: Case) -> None:
    async def put() -> None:
        await world.store.commit([], [Put(case.key(KEYS), case.value)])

    asyncio.run(put())


def _json(world: World, *words: str) -> Any:
    ran = world.orbctl(*words, "-o", "json")
    assert ran.code in (0, 6), ran.said
    return json.loads(ran.out)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_status_verify_and_get_name_it_and_show_the_rest(case: Case, world: World) -> None:
    _spoil(world, case)
    name = case.name(KEYS)

    verified = _json(world, "verify")
    assert not verified["clean"]
    (fault,) = verified["unreadable"]
    assert (fault["kind"], fault["key"]) == (case.kind.name, name)
    assert name in fault["why"]
    assert fault["remedy"] == case.kind.remedy

    status = _json(world, "status")
    assert [one["key"] for one in status["unreadable"]] == [name] * (case.kind.name != "segment")
    assert status["counts"]["ip"] >= 1

    listing = world.orbctl("get", "pools")
    assert listing.code == 0
    assert "lan" in listing.out
    assert "web-0" in world.orbctl("get", "endpoints", "-n", "shop").out
    if case.kind.name in LISTED:
        said = world.orbctl("get", LISTED[case.kind.name], "-A")
        assert said.code == 0
        assert f"{name} cannot be read" in said.err


def test_people_read_what_cannot_be_read_why_and_what_to_do(world: World) -> None:
    case = next(one for one in CASES if one.kind.name == "projector checkpoint")
    _spoil(world, case)

    for command in ("status", "verify"):
        said = world.orbctl(command).out
        assert "projector checkpoint meta/projector cannot be read" in said
        assert f"→ {case.kind.remedy}" in said


@pytest.mark.parametrize("kind", ["pool", "claim", "endpoint", "writer head", "record"])
def test_repair_puts_back_what_the_log_says(kind: str, world: World) -> None:
    victims = {
        "pool": KEYS.pool("lan"),
        "claim": b"",
        "endpoint": KEYS.endpoint("shop", "web-0"),
        "writer head": KEYS.head("node-a"),
        "record": KEYS.record("Pod", "shop", "stray"),
    }
    key = victims[kind] or asyncio.run(_a_claim(world))

    async def spoil() -> None:
        await world.store.commit([], [Put(key, b"\x92\x01\xa3\xff\xfe\xfd")])

    asyncio.run(spoil())
    assert not _json(world, "verify")["clean"]

    ran = world.orbctl("verify", "--repair")

    assert ran.code == 0, ran.said
    assert _json(world, "verify")["clean"]
    world.on_node("node-a", lambda node: node.add(pod("web-1")))
    assert _json(world, "verify")["clean"]


async def _a_claim(world: World) -> bytes:
    return (await world.store.read([Get(*KEYS.room("ip"))])).ranges[0].kvs[0].key
