"""orbctl names an unreadable value under any kind of key and shows all other values.

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
from tests.support.node_harness import NodeHarness, pod, pool
from tests.support.orbctl_harness import CLUSTER, OrbctlHarness

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
def orbctl(tmp_path: Path) -> OrbctlHarness:
    orbctl = OrbctlHarness(tmp_path / "archive")

    async def live(node: NodeHarness) -> None:
        await node.apply(pool("lan", "10.6.0.1-10.6.0.99"))
        await node.add(pod("web-0"))

    orbctl.on_node("node-a", live)
    return orbctl


def _spoil(orbctl: OrbctlHarness, case: Case) -> None:
    async def put() -> None:
        await orbctl.store.commit([], [Put(case.key(KEYS), case.value)])

    asyncio.run(put())


def _json(orbctl: OrbctlHarness, *words: str) -> Any:
    ran = orbctl.orbctl(*words, "-o", "json")
    assert ran.code in (0, 6), ran.shown
    return json.loads(ran.out)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_status_verify_and_get_name_the_unreadable_key_and_show_the_others(
    case: Case, orbctl: OrbctlHarness
) -> None:
    _spoil(orbctl, case)
    name = case.name(KEYS)

    verified = _json(orbctl, "verify")
    assert not verified["clean"]
    (fault,) = verified["unreadable"]
    assert (fault["kind"], fault["key"]) == (case.kind.name, name)
    assert name in fault["why"]
    assert fault["remedy"] == case.kind.remedy

    status = _json(orbctl, "status")
    assert [one["key"] for one in status["unreadable"]] == [name] * (case.kind.name != "segment")
    assert status["counts"]["ip"] >= 1

    listing = orbctl.orbctl("get", "pools")
    assert listing.code == 0
    assert "lan" in listing.out
    assert "web-0" in orbctl.orbctl("get", "endpoints", "-n", "shop").out
    if case.kind.name in LISTED:
        result = orbctl.orbctl("get", LISTED[case.kind.name], "-A")
        assert result.code == 0
        assert f"{name} cannot be read" in result.err


def test_the_text_output_names_the_unreadable_key_the_reason_and_the_remedy(
    orbctl: OrbctlHarness,
) -> None:
    case = next(one for one in CASES if one.kind.name == "projector checkpoint")
    _spoil(orbctl, case)

    for command in ("status", "verify"):
        result = orbctl.orbctl(command).out
        assert "projector checkpoint meta/projector cannot be decoded" in result
        assert f"→ {case.kind.remedy}" in result


@pytest.mark.parametrize("kind", ["pool", "claim", "endpoint", "writer head", "record"])
def test_repair_restores_the_value_from_the_log(kind: str, orbctl: OrbctlHarness) -> None:
    key_by_kind = {
        "pool": KEYS.pool("lan"),
        "claim": b"",
        "endpoint": KEYS.endpoint("shop", "web-0"),
        "writer head": KEYS.head("node-a"),
        "record": KEYS.record("Pod", "shop", "stray"),
    }
    key = key_by_kind[kind] or asyncio.run(_a_claim(orbctl))

    async def spoil() -> None:
        await orbctl.store.commit([], [Put(key, b"\x92\x01\xa3\xff\xfe\xfd")])

    asyncio.run(spoil())
    assert not _json(orbctl, "verify")["clean"]

    ran = orbctl.orbctl("verify", "--repair")

    assert ran.code == 0, ran.shown
    assert _json(orbctl, "verify")["clean"]
    orbctl.on_node("node-a", lambda node: node.add(pod("web-1")))
    assert _json(orbctl, "verify")["clean"]


async def _a_claim(orbctl: OrbctlHarness) -> bytes:
    return (await orbctl.store.read([Get(*KEYS.range_of("ip"))])).ranges[0].kvs[0].key
