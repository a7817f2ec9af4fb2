"""The translator and the reporter of a controller write a status as one field manager.

The translator contributes the condition Ready; the reporter contributes counts and other
conditions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ops.kubernetes.pool_status_writer import STATUS_MANAGER
from ops.kubernetes.translated_kinds import TranslatedKind
from tests.kubernetes.objects import create, get, path_of, pool, replace, reservation, subnet
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support.kubernetes import ApiServer

pytestmark = pytest.mark.simulated(lacks="kmock does not simulate field managers")

OLD_MANAGER: str = "orbweaver-translator"
"""The field manager of conditions in earlier versions of Orbweaver."""


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[TranslatorHarness]:
    async with TranslatorHarness(server) as harness:
        yield harness
        await harness.stop_translator()


def managers_of_status(server: ApiServer, kind: str, name: str) -> set[str]:
    entries = get(server, kind, name)["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if entry.get("subresource") == "status"}


def conditions_of(server: ApiServer, name: str) -> dict[str, dict[str, Any]]:
    status = get(server, "SpiderIPPool", name).get("status", {})
    return {condition["type"]: condition for condition in status.get("conditions", ())}


def has_counts(server: ApiServer, kind: str, name: str) -> bool:
    return "totalIPCount" in get(server, kind, name).get("status", {})


async def test_every_status_has_one_field_manager(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, subnet(ips=["10.6.0.10-10.6.0.99"]))
    create(server, pool(ips=["10.6.0.12"]))
    create(server, reservation(ips=["10.6.0.10"]))
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    create(server, pool("refused", ips=["10.6.0.12"]))  # the address of ``blue``
    await cluster.until_condition("SpiderIPPool", "refused", "Ready", "False")
    await cluster.until_condition("SpiderReservedIP", "kept", "Ready", "True")
    await cluster.until(lambda: has_counts(server, "SpiderSubnet", "wide"))
    await cluster.until_idle()

    for kind, name in (
        ("SpiderIPPool", "blue"),
        ("SpiderIPPool", "refused"),
        ("SpiderReservedIP", "kept"),
        ("SpiderSubnet", "wide"),
    ):
        assert managers_of_status(server, kind, name) == {STATUS_MANAGER}, name


async def test_the_status_of_a_new_pool_is_written_once(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.until_idle()
    reporter = cluster.host.reporter
    assert reporter is not None

    create(server, pool())
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.until(lambda: has_counts(server, "SpiderIPPool", "blue"))
    await cluster.until_idle()

    assert conditions_of(server, "blue").keys() == {
        *("Ready", "Exhausted", "NearlyExhausted", "Conflicted")
    }
    assert reporter.writes == 1


async def test_a_new_controller_keeps_conditions_until_it_has_processed_the_object(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool())
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.until(lambda: has_counts(server, "SpiderIPPool", "blue"))
    reporter = cluster.host.reporter
    assert reporter is not None
    before = get(server, "SpiderIPPool", "blue")["status"]

    # After a restart, the translator has contributed no conditions yet.
    for conditions in reporter._status._translator_conditions.values():
        conditions.clear()
    await reporter._status.write(TranslatedKind.POOL, "blue", None)

    assert get(server, "SpiderIPPool", "blue")["status"] == before


async def test_a_condition_of_an_older_field_manager_is_removed(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool())
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.until_idle()
    await cluster.stop_translator()
    stored = get(server, "SpiderIPPool", "blue")
    stale_condition = {
        "type": "Draining",
        "status": "True",
        "reason": "InUse",
        "message": "1 address is still allocated",
        "lastTransitionTime": "2026-01-01T12:00:00Z",
        "observedGeneration": stored["metadata"]["generation"],
    }
    body = {
        "apiVersion": stored["apiVersion"],
        "kind": "SpiderIPPool",
        "metadata": {"name": "blue"},
        "status": {
            "conditions": [stale_condition, {**stale_condition, "type": "Ready", "status": "False"}]
        },
    }
    path = f"{path_of('SpiderIPPool', 'blue')}/status?fieldManager={OLD_MANAGER}&force=true"
    answer = server.request("PATCH", path, body, content="application/apply-patch+yaml")
    assert answer.status == 200
    assert replace(server, pool(ips=["10.6.0.20"])).status == 200

    cluster.start_translator()
    await cluster.until(lambda: "Draining" not in conditions_of(server, "blue"))

    condition = await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    assert condition["reason"] == "Applied"
