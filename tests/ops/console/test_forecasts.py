"""The growth of pools and subnets, computed from the index of the log."""

from __future__ import annotations

from core.archive.snapshot import empty_snapshot
from core.audit.indexed_log import LogInstant
from core.audit.log_index import LogIndex
from core.audit.pool_growth import HOUR_MS
from core.domain.autopools.pool_names import OWNER_SUBNET
from core.domain.evolution import Ledger
from core.domain.model import Subnet
from ops.console.forecasts import GrowthAt
from tests.support.node_harness import pool

SUBNET = Subnet("net", 4, "10.6.0.0/16", ("10.6.0.1-10.6.9.250",))
HOURS = 200


class ReadCountingLabels(dict[str, str]):
    reads = 0

    def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
        self.reads += 1
        return super().get(key, default)


def growing_log(labels: dict[str, str]) -> LogInstant:
    """A log in which the pools ``fixed`` and ``grows`` have ``labels``, and ``other`` has none.

    ``fixed`` has 100 addresses. ``grows`` begins with one address and gets one address an hour.
    """
    index = LogIndex(empty_snapshot())
    for hour in range(HOURS + 1):
        position = hour + 1
        index.clock.append(position, hour * HOUR_MS, 1)
        grown_pool = pool("grows", f"10.6.0.1-10.6.0.{1 + hour}")._replace(labels=labels)
        index.pools.define("grows", position, grown_pool)
    fixed = pool("fixed", "10.6.1.1-10.6.1.100")._replace(labels=labels)
    index.pools.define("fixed", 1, fixed)
    index.pools.define("other", 50, pool("other", "10.6.2.1-10.6.2.100"))
    return LogInstant(index, HOURS + 1, HOURS * HOUR_MS)


def test_the_growth_of_a_subnet_is_the_growth_of_its_pools() -> None:
    outlook = GrowthAt(growing_log({OWNER_SUBNET: "net"})).of_subnet(SUBNET, free=1_000)
    assert outlook["perDay"] == 24.0  # one address an hour
    assert GrowthAt(growing_log({})).of_subnet(SUBNET, free=1_000).keys() == {"noTrend"}


def test_every_version_of_a_pool_is_read_once_for_all_subnets() -> None:
    labels = ReadCountingLabels({OWNER_SUBNET: "net"})
    instant = growing_log(labels)
    labels.reads = 0
    growth = GrowthAt(instant)
    for number in range(20):
        growth.of_subnet(SUBNET._replace(name=f"net-{number}"), free=1_000)
    versions = HOURS + 2  # of the pools ``grows`` and ``fixed``
    assert 0 < labels.reads <= versions


def test_hours_before_the_index_begins_are_left_out() -> None:
    begin_ms = 1_000 * HOUR_MS + 1
    ledger = Ledger()
    ledger.position = 40
    index = LogIndex(empty_snapshot()._replace(ledger=ledger, clock_ms=begin_ms))
    index.pools.define("main", 40, pool("main", "10.6.0.1-10.6.0.100"))
    for hour in range(1, 6):
        index.clock.append(40 + hour, begin_ms + hour * HOUR_MS, 1)
    instant = LogInstant(index, 45, begin_ms + 5 * HOUR_MS)
    assert len(GrowthAt(instant).levels("main")) == 5
