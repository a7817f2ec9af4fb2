"""A scrape reads RDMA counters in a limited time and returns no stale values."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from nodeagent.rdma import rdma_exposition
from nodeagent.rdma.counter_reader import CounterReader, CounterReading
from nodeagent.rdma.rdma_exposition import STALE_S_MAX, RdmaExposition, no_rdma_pods
from nodeagent.rdma.rdma_ports import NamespacePorts, RdmaPod, RdmaPortLink
from nodeagent.telemetry.metrics import AgentMetrics
from tests.support.agent_harness import ManualClock


class ScriptedReader:
    """A fake ``CounterReader``; a read waits until ``may_return`` is set."""

    def __init__(self) -> None:
        self.reads = 0
        self.faults: dict[str, str] = {}
        self.is_broken = False
        self.may_return = threading.Event()
        self.may_return.set()

    def read(self) -> CounterReading:
        self.reads += 1
        counters = {"np_cnp_sent": self.reads}
        self.may_return.wait()
        if self.is_broken:
            raise ZeroDivisionError("a bug of the reader")
        port = RdmaPortLink("mlx5_0", "ens1f0", node_guid=1, system_guid=1, counters=counters)
        return CounterReading((NamespacePorts((port,), address="10.6.0.17"),), self.faults)


@pytest.fixture
def reader() -> Iterator[ScriptedReader]:
    scripted = ScriptedReader()
    yield scripted
    scripted.may_return.set()


def exposition(reader: ScriptedReader, metrics: AgentMetrics, clock: ManualClock) -> RdmaExposition:
    rdma_pods = {"10.6.0.17": RdmaPod("shop", "train-0")}
    return RdmaExposition(
        "node-1", cast("CounterReader", reader), lambda: rdma_pods, metrics, clock
    )


async def sample_values(exposed: RdmaExposition) -> list[str]:
    lines = (await exposed.text()).decode().splitlines()
    return [line.rpartition(" ")[2] for line in lines if not line.startswith("#")]


def value_of(metrics: AgentMetrics, name: str) -> float:
    (reading,) = (found for found in metrics.readings if found.name == f"orbweaver_{name}")
    return reading.value()


async def test_every_scrape_reads_the_counters_again(reader: ScriptedReader) -> None:
    exposed = exposition(reader, AgentMetrics(), ManualClock())

    assert await sample_values(exposed) == ["1"]
    assert await sample_values(exposed) == ["2"]
    assert b'pod_name="train-0"' in await exposed.text()
    await exposed.close()


async def test_scrapes_return_the_last_values_for_a_limited_time_while_a_read_hangs(
    reader: ScriptedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rdma_exposition, "REFRESH_S_MAX", 0.01)
    clock = ManualClock()
    exposed = exposition(reader, AgentMetrics(), clock)
    while await sample_values(exposed) == []:
        pass  # the first read may take longer than REFRESH_S_MAX
    before = reader.reads
    reader.may_return.clear()

    last_values = await sample_values(exposed)
    assert await sample_values(exposed) == last_values
    assert reader.reads == before + 1
    clock.now += STALE_S_MAX + 1
    # A repeated stale value would look like a link without traffic.
    assert await sample_values(exposed) == []

    reader.may_return.set()
    while await sample_values(exposed) in ([], last_values):
        await asyncio.sleep(0)
    await exposed.close()


async def test_a_scrape_before_the_first_read_has_no_text(
    reader: ScriptedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rdma_exposition, "REFRESH_S_MAX", 0.01)
    reader.may_return.clear()
    exposed = exposition(reader, AgentMetrics(), ManualClock())

    assert await exposed.text() == b""
    reader.may_return.set()
    await exposed.close()


async def test_a_read_fault_is_counted_each_time_and_logged_once(
    reader: ScriptedReader, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = AgentMetrics()
    exposed = exposition(reader, metrics, ManualClock())
    reader.faults = {"/var/run/netns/a": "no"}

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await exposed.text()

    assert value_of(metrics, "rdma_reading_failures") == 3
    assert value_of(metrics, "rdma_samples_left_out") == 0
    assert [record.getMessage() for record in caplog.records] == [
        "cannot read the RDMA counters of /var/run/netns/a: no"
    ]


async def test_a_crashed_read_is_logged_and_the_next_scrape_reads_again(
    reader: ScriptedReader, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = AgentMetrics()
    exposed = exposition(reader, metrics, ManualClock())
    reader.is_broken = True

    assert await sample_values(exposed) == []
    reader.is_broken = False
    assert await sample_values(exposed) == ["2"]

    assert value_of(metrics, "rdma_reading_failures") == 1
    assert "ZeroDivisionError: a bug of the reader" in caplog.text
    await exposed.close()


def test_no_pod_has_an_rdma_device_outside_kubernetes() -> None:
    assert no_rdma_pods() == {}
