"""The leading controller forecasts when each pool becomes full, if the pool has a trend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest

from core.audit.pool_growth import GrowthLog, GrowthSubject
from core.domain.forecast import Forecast, NoTrend
from core.process.openmetrics import Instruments, MetricsRegistry
from core.projections.projector import Projector
from ops.controller.forecaster import Forecaster
from ops.controller.metrics import OUR_SCOPE, observe_forecasts
from ops.kubernetes.pool_outlooks import PoolOutlooks
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster, CniAdd
from tests.support.engine_harness import eventually

DAY_MS: Final = 86_400_000
POD_STARTS_HALF_DAYS: Final = (1, 3, 4, 7, 9, 11, 12, 15)


def set_time(cluster: ArchivedCluster, now_ms: int) -> None:
    cluster.now_ms = lambda: now_ms


@pytest.fixture
async def cluster(archived_cluster: ArchivedCluster) -> ArchivedCluster:
    start_ms = archived_cluster.now_ms()
    for number, half_days in enumerate(POD_STARTS_HALF_DAYS):
        set_time(archived_cluster, start_ms + half_days * DAY_MS // 2)
        await archived_cluster.execute([CniAdd("node-a", f"web-{number}")])
    set_time(archived_cluster, start_ms + 8 * DAY_MS)
    return archived_cluster


@pytest.fixture
async def projector(cluster: ArchivedCluster) -> AsyncIterator[Projector]:
    projector = Projector(cluster.store, TEST_KEYS)
    task = asyncio.create_task(projector.run())
    await projector.wait_for(lambda: projector.ready)
    yield projector
    task.cancel()


@pytest.fixture
def forecaster(cluster: ArchivedCluster, projector: Projector) -> Forecaster:
    def now_ms() -> int:
        return cluster.now_ms()  # tests replace cluster.now_ms

    return Forecaster(cluster.store, TEST_KEYS, cluster.files, projector, now_ms=now_ms)


async def exposition(forecaster: Forecaster) -> str:
    registry = MetricsRegistry()
    observe_forecasts(Instruments(registry.provider.get_meter(OUR_SCOPE)), forecaster)
    return registry.scrape().body.decode()


async def test_only_pools_with_a_forecast_have_an_exhaustion_metric(
    cluster: ArchivedCluster, forecaster: Forecaster
) -> None:
    await forecaster.update(GrowthLog())

    pools = {
        subject.name: outlook
        for subject, outlook in forecaster.forecasts.items()
        if subject.kind == "pool"
    }
    forecast_pools = {name for name, outlook in pools.items() if isinstance(outlook, Forecast)}
    pools_without_trend = {name for name, outlook in pools.items() if isinstance(outlook, NoTrend)}
    assert forecast_pools
    assert pools_without_trend
    text = await exposition(forecaster)
    for name in forecast_pools:
        assert f'orbweaver_pool_exhaustion_seconds{{otel_scope_name="{OUR_SCOPE}"' in text
        assert f'pool="{name}"' in text
    assert not any(f'pool="{name}"' in text for name in pools_without_trend)


async def test_a_second_update_without_changes_reports_no_outlook(
    cluster: ArchivedCluster, projector: Projector
) -> None:
    outlooks = PoolOutlooks()
    reported_names: list[set[str]] = []
    outlooks.listen(lambda names: reported_names.append(set(names)))
    forecaster = Forecaster(
        *(cluster.store, TEST_KEYS, cluster.files, projector),
        on_forecasts=outlooks.update,
        now_ms=cluster.now_ms,
    )

    growth = await forecaster.update(GrowthLog())
    await forecaster.update(growth)

    assert reported_names == [set(projector.projection.ledger.pools)]
    pools_with_a_forecast = {
        name for name, horizon in outlooks.by_pool.items() if horizon is not None
    }
    assert pools_with_a_forecast == {name for name, _ in forecaster.exhaustion_s("pool")}
    assert pools_with_a_forecast


async def test_the_seconds_until_exhaustion_decrease_while_time_passes(
    cluster: ArchivedCluster, forecaster: Forecaster
) -> None:
    await forecaster.update(GrowthLog())
    seconds_of = dict(forecaster.exhaustion_s("pool"))

    set_time(cluster, cluster.now_ms() + 60_000)

    assert dict(forecaster.exhaustion_s("pool")) == {
        name: pytest.approx(max(seconds - 60, 0)) for name, seconds in seconds_of.items()
    }


async def test_an_unreadable_log_removes_all_forecasts(
    cluster: ArchivedCluster, forecaster: Forecaster
) -> None:
    growth = await forecaster.update(GrowthLog())
    await cluster.seal()
    for path in cluster.directory.glob("*"):
        path.unlink()

    new_growth = await forecaster.update(growth)

    assert forecaster.forecasts == {}
    assert new_growth.position == 0
    assert "exhaustion" not in await exposition(forecaster)


async def test_a_replica_that_no_longer_leads_has_no_forecasts(forecaster: Forecaster) -> None:
    async def forecasts() -> object:
        return forecaster.forecasts or None

    forecaster_task = asyncio.create_task(forecaster.run())
    await eventually(forecasts)

    forecaster_task.cancel()
    await asyncio.wait([forecaster_task])

    assert forecaster.forecasts == {}


def test_a_pool_and_a_subnet_may_have_the_same_name() -> None:
    assert GrowthSubject("pool", "lan") != GrowthSubject("subnet", "lan")
