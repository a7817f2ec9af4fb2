"""A Lease of Kubernetes names the leading controller, which is elected in etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.eventstore.election import LeaderTerm
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.leader_lease import EPOCH_ANNOTATION, LeaseReport, is_held
from ops.kubernetes.settings import LeaseSettings
from tests.kubernetes.translator_harness import until
from tests.support.kubernetes import ApiServer

SETTINGS = LeaseSettings("default", duration_s=6)
LEASE_PATH = f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{SETTINGS.name}"


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    connection = Api(await open_connection(str(server.kubeconfig)))
    yield connection
    await connection.close()
    await asyncio.to_thread(server.request, "DELETE", LEASE_PATH)


def leader_term(leader: str, epoch: int) -> LeaderTerm:
    return LeaderTerm(role="controller", name=leader, epoch=epoch, key=b"", lease=0)


def stored_lease(server: ApiServer) -> dict[str, Any]:
    """The Lease on the API server; {} if there is none."""
    answer = server.request("GET", LEASE_PATH)
    return answer.body if answer.status == 200 else {}


async def test_the_lease_names_the_leader_and_its_epoch(server: ApiServer, api: Api) -> None:
    await LeaseReport(api, SETTINGS, leader_term("controller-0", 41)).renew()

    stored = stored_lease(server)
    assert stored["spec"]["holderIdentity"] == "controller-0"
    assert stored["spec"]["leaseDurationSeconds"] == SETTINGS.duration_s
    assert stored["spec"]["leaseTransitions"] == 0
    assert stored["metadata"]["annotations"][EPOCH_ANNOTATION] == "41"
    assert is_held(stored, api.server_clock_s)


async def test_a_second_renewal_in_the_same_term_keeps_the_number_of_transitions(
    server: ApiServer, api: Api
) -> None:
    report = LeaseReport(api, SETTINGS, leader_term("controller-0", 41))
    await report.renew()
    before = stored_lease(server)["spec"]
    await report.renew()
    after = stored_lease(server)["spec"]

    assert after["renewTime"] > before["renewTime"]
    assert after["acquireTime"] == before["acquireTime"]
    assert after["leaseTransitions"] == 0


async def test_a_new_term_increments_the_number_of_transitions(server: ApiServer, api: Api) -> None:
    await LeaseReport(api, SETTINGS, leader_term("controller-0", 41)).renew()
    await LeaseReport(api, SETTINGS, leader_term("controller-1", 52)).renew()

    spec = stored_lease(server)["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("controller-1", 1)


async def test_an_older_leader_neither_renews_nor_releases_the_lease_of_a_newer_leader(
    server: ApiServer, api: Api
) -> None:
    older_report = LeaseReport(api, SETTINGS, leader_term("controller-0", 41))
    await LeaseReport(api, SETTINGS, leader_term("controller-1", 52)).renew()
    await older_report.renew()
    await older_report.release()

    assert stored_lease(server)["spec"]["holderIdentity"] == "controller-1"


async def test_a_leader_that_stops_releases_the_lease(server: ApiServer, api: Api) -> None:
    report_task = asyncio.ensure_future(
        LeaseReport(api, SETTINGS, leader_term("controller-0", 41)).run()
    )
    await until(lambda: stored_lease(server))
    report_task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await report_task

    assert not stored_lease(server)["spec"].get("holderIdentity")
    assert not is_held(stored_lease(server), api.server_clock_s)


async def test_a_lease_that_is_not_renewed_expires_after_its_duration(
    server: ApiServer, api: Api
) -> None:
    await LeaseReport(api, SETTINGS, leader_term("controller-0", 41)).renew()

    assert is_held(stored_lease(server), api.server_clock_s + SETTINGS.duration_s - 1)
    assert not is_held(stored_lease(server), api.server_clock_s + SETTINGS.duration_s + 2)
