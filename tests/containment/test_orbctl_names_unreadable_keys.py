"""orbctl names the key of any unreadable value and shows all other values."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest

from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Put
from ops.cli.exit_codes import Exit
from tests.containment.samples import FAULT_CASES, Case, case_id
from tests.support.node_harness import NodeHarness, pod, pool
from tests.support.orbctl_harness import CLUSTER_NAME, OrbctlHarness

KEYS: Final = Keys(CLUSTER_NAME)
GET_ARGUMENTS: Final = {
    "pool": "pools",
    "subnet": "subnets",
    "reservation": "reservations",
    "quarantine": "quarantine",
    "record": "records",
    "endpoint": "endpoints",
}
"""Kind of key -> argument of ``orbctl get``."""


@pytest.fixture
def orbctl(tmp_path: Path) -> OrbctlHarness:
    orbctl = OrbctlHarness(tmp_path / "archive")

    async def set_up(node: NodeHarness) -> None:
        await node.apply(pool("lan", "10.6.0.1-10.6.0.99"))
        await node.add(pod("web-0"))

    orbctl.on_node("node-a", set_up)
    return orbctl


def _spoil(orbctl: OrbctlHarness, case: Case) -> None:
    async def put() -> None:
        await orbctl.store.commit([], [Put(case.key(KEYS), case.value)])

    asyncio.run(put())


def _json(orbctl: OrbctlHarness, *words: str) -> Any:
    result = orbctl.orbctl(*words, "-o", "json")
    assert result.code in (Exit.OK, Exit.DIFFERENT), result.shown
    return json.loads(result.out)


@pytest.mark.parametrize("case", FAULT_CASES, ids=case_id)
def test_status_verify_and_get_name_the_unreadable_key_and_show_other_values(
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
    # ``status`` does not read the log.
    expected = [] if case.kind.name == "segment" else [name]
    assert [fault["key"] for fault in status["unreadable"]] == expected
    assert status["counts"]["ip"] >= 1

    listing = orbctl.orbctl("get", "pools")
    assert listing.code == 0
    assert "lan" in listing.out
    assert "web-0" in orbctl.orbctl("get", "endpoints", "-n", "shop").out
    if case.kind.name in GET_ARGUMENTS:
        result = orbctl.orbctl("get", GET_ARGUMENTS[case.kind.name], "-A")
        assert result.code == 0
        assert f"{name} cannot be read" in result.err


def test_the_text_output_names_the_unreadable_key_the_reason_and_the_remedy(
    orbctl: OrbctlHarness,
) -> None:
    case = next(case for case in FAULT_CASES if case.kind.name == "projector checkpoint")
    _spoil(orbctl, case)

    for command in ("status", "verify"):
        result = orbctl.orbctl(command).out
        assert "projector checkpoint meta/projector cannot be decoded" in result
        assert f"→ {case.kind.remedy}" in result


@pytest.mark.parametrize("kind", ["pool", "claim", "endpoint", "writer head", "record"])
def test_repair_restores_a_value_from_the_log_or_deletes_its_key(
    kind: str, orbctl: OrbctlHarness
) -> None:
    key_by_kind = {
        "pool": KEYS.pool("lan"),
        "claim": asyncio.run(_claim_key(orbctl)),
        "endpoint": KEYS.endpoint("shop", "web-0"),
        "writer head": KEYS.head("node-a"),
        "record": KEYS.record("Pod", "shop", "not-in-the-log"),
    }

    async def spoil() -> None:
        await orbctl.store.commit([], [Put(key_by_kind[kind], b"\xff\x00garbage\xff")])

    asyncio.run(spoil())
    assert not _json(orbctl, "verify")["clean"]

    repair = orbctl.orbctl("verify", "--repair")

    assert repair.code == 0, repair.shown
    assert _json(orbctl, "verify")["clean"]
    orbctl.on_node("node-a", lambda node: node.add(pod("web-1")))
    assert _json(orbctl, "verify")["clean"]


async def _claim_key(orbctl: OrbctlHarness) -> bytes:
    return (await orbctl.store.read([Get(*KEYS.range_of("ip"))])).ranges[0].kvs[0].key
