"""After a rejection by the API server, a report is retried after a minute, not in each round."""

from __future__ import annotations

import pytest

from core.errors import ApiRejected
from tests.kubernetes.objects import create, reservation
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support.kubernetes import ApiServer

pytestmark = pytest.mark.simulated


async def test_the_reporter_is_idle_after_the_status_of_a_reservation_was_rejected(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []

    async def reject(name: str) -> None:
        reports.append(name)
        raise ApiRejected("the service account may not write this status", subject=name)

    async with TranslatorHarness(server) as harness:
        await harness.until_idle()
        monkeypatch.setattr(harness.host.reporter, "_report_reservation", reject)
        create(server, reservation("dns", ips=["10.6.0.53"]))
        await harness.until(lambda: bool(reports))

        await harness.until_idle()

        assert set(reports) == {"dns"}
