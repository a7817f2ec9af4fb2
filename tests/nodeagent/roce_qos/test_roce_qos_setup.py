"""An agent with rules for RoCE NICs starts, has metrics, and stops."""

from __future__ import annotations

from pathlib import Path

from core.domain.roce_qos.qos_model import RoceQos, RoceQosRule
from core.eventstore.memory_store import MemoryStore
from nodeagent.settings.agent_settings import Settings
from nodeagent.telemetry.metrics import AgentMetrics
from tests.support.agent_harness import running
from tests.support.deadlines import until

PREFIX = "orbweaver_roce_qos_"


def counters(metrics: AgentMetrics) -> dict[str, float]:
    return {
        reading.name.removeprefix(PREFIX): reading.value()
        for reading in metrics.readings
        if reading.name.startswith(PREFIX)
    }


def gauges_by_nic(metrics: AgentMetrics) -> dict[str, dict[str, int]]:
    """Name without ``PREFIX`` -> NIC -> value."""
    return {
        gauge.name.removeprefix(PREFIX): dict(gauge.values())
        for gauge in metrics.labelled
        if gauge.name.startswith(PREFIX) and gauge.label == "net_dev_name"
    }


async def test_an_agent_runs_its_first_round_when_it_starts(
    settings: Settings, tmp_path: Path
) -> None:
    """The rule matches no NIC, so the test changes nothing on this machine."""
    rules = (RoceQosRule(RoceQos(), nics=("no-such-nic",)),)
    settings = settings._replace(roce_qos=rules, sysfs=tmp_path)
    async with running(settings, MemoryStore()) as node:
        metrics = node.process.parts.metrics
        await until(lambda: counters(metrics)["rounds"] == 1)

        assert counters(metrics) == {"rounds": 1, "changes": 0}
        assert gauges_by_nic(metrics) == {"faults": {}, "gaps": {}}
    assert node.process.stop_failures == []


async def test_an_agent_without_rules_has_no_qos_counters(settings: Settings) -> None:
    async with running(settings, MemoryStore()) as node:
        assert counters(node.process.parts.metrics) == {}
