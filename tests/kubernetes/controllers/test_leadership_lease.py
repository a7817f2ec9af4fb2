"""The Lease on a real API server reports the leader; it does not decide who leads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.eventstore.election import LeaderTerm
from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from ops.kubernetes.leader_lease import EPOCH_ANNOTATION, LeaseReport, is_held
from ops.kubernetes.settings import LeaseSettings
from tests.kubernetes.translator_harness import until
from tests.support.kubernetes import ApiServer

SETTINGS = LeaseSettings("default", duration_s=6)
PATH = f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{SETTINGS.name}"


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    connected = Api(await open_connection(str(server.kubeconfig)))
    yield connected
    await connected.close()
    await asyncio.to_thread(server.request, "DELETE", PATH)


def term(name: str, epoch: int) -> LeaderTerm:
    return LeaderTerm("controller", name, epoch, b"", 0)


def lease(server: ApiServer) -> dict[str, Any]:
    answer = server.request("GET", PATH)
    return answer.body if answer.status == 200 else {}


async def test_the_lease_names_the_leader_and_its_epoch(server: ApiServer, api: Api) -> None:
    await LeaseReport(api, SETTINGS, term("controller-0", 41)).renew()

    stored = lease(server)
    assert stored["spec"]["holderIdentity"] == "controller-0"
    assert stored["spec"]["leaseDurationSeconds"] == SETTINGS.duration_s
    assert stored["spec"]["leaseTransitions"] == 0
    assert stored["metadata"]["annotations"][EPOCH_ANNOTATION] == "41"
    assert is_held(stored, api.server_clock_s)


async def test_renewing_a_term_counts_no_transition(server: ApiServer, api: Api) -> None:
    report = LeaseReport(api, SETTINGS, term("controller-0", 41))
    await report.renew()
    before = lease(server)["spec"]
    await report.renew()
    after = lease(server)["spec"]

    assert after["renewTime"] > before["renewTime"]
    assert after["acquireTime"] == before["acquireTime"]
    assert after["leaseTransitions"] == 0


async def test_a_new_term_counts_a_transition(server: ApiServer, api: Api) -> None:
    await LeaseReport(api, SETTINGS, term("controller-0", 41)).renew()
    await LeaseReport(api, SETTINGS, term("controller-1", 52)).renew()

    spec = lease(server)["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("controller-1", 1)


async def test_an_older_leader_does_not_overwrite_the_lease_of_its_successor(
    server: ApiServer, api: Api
) -> None:
    late = LeaseReport(api, SETTINGS, term("controller-0", 41))
    await LeaseReport(api, SETTINGS, term("controller-1", 52)).renew()
    await late.renew()
    await late.release()

    assert lease(server)["spec"]["holderIdentity"] == "controller-1"


async def test_a_leader_that_stops_releases_the_lease(server: ApiServer, api: Api) -> None:
    running = asyncio.ensure_future(LeaseReport(api, SETTINGS, term("controller-0", 41)).run())
    await until(lambda: lease(server))
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    assert not lease(server)["spec"].get("holderIdentity")
    assert not is_held(lease(server), api.server_clock_s)


async def test_the_lease_of_a_dead_leader_expires_after_its_duration(
    server: ApiServer, api: Api
) -> None:
    await LeaseReport(api, SETTINGS, term("controller-0", 41)).renew()

    assert is_held(lease(server), api.server_clock_s + SETTINGS.duration_s - 1)
    assert not is_held(lease(server), api.server_clock_s + SETTINGS.duration_s + 2)
