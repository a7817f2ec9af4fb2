"""The webhooks validate pools and subnets against all admitted objects.

A pending admission in etcd describes an admitted object until the controller translates it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.configuration.admission_records import AdmissionStore
from core.configuration.configurator import Configurator
from core.eventstore.kv import Put
from core.eventstore.writer import Writer
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.admission import pending_admissions as admitter_module
from ops.kubernetes.admission.pending_admissions import Admitter
from ops.kubernetes.admission.reviews import CREATE, AdmissionRequest
from ops.kubernetes.admission.validation import AdmissionValidator
from tests.kubernetes.objects import path_of, pool, subnet
from tests.kubernetes.webhooks import Webhooks, running_webhooks
from tests.support.kubernetes import MERGE_PATCH, ApiServer

TEN_ADDRESSES = ["10.6.0.10-10.6.0.19"]


@pytest.fixture
async def webhooks(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    """Webhooks without a translator; ``create`` and ``replace`` return "" or the refusal."""
    async with running_webhooks(server, tmp_path) as webhooks:
        await webhooks.cluster.stop_translator()
        yield webhooks


async def pending_names(webhooks: Webhooks) -> list[str]:
    admissions = AdmissionStore(webhooks.cluster.store, webhooks.cluster.keys)
    return [admission.value.name for admission in (await admissions.read()).admissions]


async def delete_without_finalizer(webhooks: Webhooks, kind: str, name: str) -> None:
    server = webhooks.cluster.server
    removal = {"metadata": {"finalizers": None}}
    path = path_of(kind, name)
    await asyncio.to_thread(server.request, "PATCH", path, removal, content=MERGE_PATCH)
    await asyncio.to_thread(server.request, "DELETE", path)


async def test_only_the_first_of_four_overlapping_pools_is_admitted(
    webhooks: Webhooks,
) -> None:
    cluster = webhooks.cluster
    refusals = [await webhooks.create(pool(f"p-{n}", ips=TEN_ADDRESSES)) for n in range(4)]

    assert [refusal == "" for refusal in refusals] == [True, False, False, False]
    assert all("SpiderIPPool/p-0" in refusal for refusal in refusals[1:])
    cluster.start_translator()
    await cluster.until_condition("SpiderIPPool", "p-0", "Ready", "True")
    assert list(cluster.ledger.pools) == ["p-0"]
    assert await pending_names(webhooks) == []


async def test_two_concurrent_replicas_admit_only_one_of_twenty_overlapping_pools(
    webhooks: Webhooks,
) -> None:
    cluster = webhooks.cluster
    api = Api(await open_connection(str(cluster.server.kubeconfig)))
    validators = []
    for name in ("one", "two"):
        writer = Writer(cluster.store, cluster.keys, name)
        configurator = Configurator(cluster.store, cluster.keys, writer)
        admitter = Admitter(api, configurator, AdmissionStore(cluster.store, cluster.keys))
        validators.append(AdmissionValidator(api, configurator, admitter, guards_deletion=False))

    def admission_request(number: int) -> AdmissionRequest:
        name = f"p-{number}"
        body = pool(name, ips=TEN_ADDRESSES)
        body["metadata"] |= {"uid": f"u-{number}", "generation": 1}
        return AdmissionRequest(
            uid=f"r-{number}",
            kind="SpiderIPPool",
            operation=CREATE,
            namespace="",
            name=name,
            object=body,
            old={},
        )

    refusals_of_pools = await asyncio.gather(
        *(validators[n % 2].validate(admission_request(n)) for n in range(20))
    )
    await api.close()

    assert sum(not refusals for refusals in refusals_of_pools) == 1


async def test_a_pool_is_validated_against_a_subnet_that_is_not_translated_yet(
    webhooks: Webhooks,
) -> None:
    assert await webhooks.create(subnet(ips=TEN_ADDRESSES)) == ""

    assert "10.6.0.30" in await webhooks.create(pool(ips=["10.6.0.30"]))
    assert "overlaps" in await webhooks.create(
        subnet("other", subnet="10.6.0.0/17", ips=TEN_ADDRESSES)
    )


async def test_addresses_of_an_admitted_update_are_refused_to_another_pool(
    webhooks: Webhooks,
) -> None:
    assert await webhooks.create(pool("blue", ips=["10.6.0.10"])) == ""
    assert await webhooks.replace(pool("blue", ips=TEN_ADDRESSES)) == ""

    assert "SpiderIPPool/blue" in await webhooks.create(pool("green", ips=["10.6.0.19"]))


async def test_an_admitted_pool_blocks_other_pools_only_briefly_if_it_is_not_stored(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await webhooks.create(pool("blue", ips=TEN_ADDRESSES)) == ""
    await delete_without_finalizer(webhooks, "SpiderIPPool", "blue")
    refusal = await webhooks.create(pool("green", ips=TEN_ADDRESSES))
    monkeypatch.setattr(admitter_module, "STORING_S_MAX", -5.0)  # the limit has passed

    assert "not applied yet" in refusal
    assert await webhooks.create(pool("green", ips=TEN_ADDRESSES)) == ""


async def test_a_dry_run_leaves_no_pending_admission(webhooks: Webhooks) -> None:
    server = webhooks.cluster.server
    path = path_of("SpiderIPPool") + "?dryRun=All"
    answer = await asyncio.to_thread(server.request, "POST", path, pool("blue", ips=TEN_ADDRESSES))

    assert answer.status == 201, answer.message
    assert await pending_names(webhooks) == []
    assert await webhooks.create(pool("green", ips=TEN_ADDRESSES)) == ""


async def test_reviews_continue_when_a_pending_admission_cannot_be_decoded(
    webhooks: Webhooks,
) -> None:
    cluster = webhooks.cluster
    key = cluster.keys.admitted("pool", "ghost", "r")
    await cluster.store.commit([], [Put(key, b"\xff")])

    assert await webhooks.create(pool("blue", ips=TEN_ADDRESSES)) == ""
    assert "SpiderIPPool/blue" in await webhooks.create(pool("green", ips=TEN_ADDRESSES))


async def test_sweeps_delete_pending_admissions_of_objects_that_do_not_exist(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = webhooks.cluster
    monkeypatch.setattr(admitter_module, "SWEPT_MAX", 1)  # a sweep checks one pending admission
    monkeypatch.setattr(admitter_module, "STORING_S_MAX", -5.0)  # the limit has passed
    for number in range(3):
        assert await webhooks.create(pool(f"p-{number}", ips=[f"10.6.0.{number + 1}"])) == ""
    await delete_without_finalizer(webhooks, "SpiderIPPool", "p-1")
    api = Api(await open_connection(str(cluster.server.kubeconfig)))
    configurator = Configurator(
        cluster.store, cluster.keys, Writer(cluster.store, cluster.keys, "W")
    )
    admitter = Admitter(api, configurator, AdmissionStore(cluster.store, cluster.keys))

    for _ in range(3):
        await admitter.sweep()
    await api.close()

    assert await pending_names(webhooks) == ["p-0", "p-2"]
