"""An agent with rules for RoCE NICs: its start, its metrics, and its stop."""

from __future__ import annotations

from pathlib import Path

from core.domain.roce_qos.model import RoceQos, RoceQosRule
from core.eventstore.memory import MemoryStore
from nodeagent.settings.values import Settings
from nodeagent.telemetry.metrics import AgentMetrics
from tests.support.agent_harness import running
from tests.support.deadlines import until

PREFIX = "orbweaver_roce_qos_"


def counted(metrics: AgentMetrics) -> dict[str, float]:
    """The counters of RoCE QoS, without the common prefix."""
    return {
        one.name.removeprefix(PREFIX): one.value()
        for one in metrics.readings
        if one.name.startswith(PREFIX)
    }


def by_nic(metrics: AgentMetrics) -> dict[str, dict[str, int]]:
    """Its gauges by NIC."""
    return {
        one.name.removeprefix(PREFIX): dict(one.values())
        for one in metrics.labelled
        if one.name.startswith(PREFIX) and one.label == "net_dev_name"
    }


async def test_an_agent_runs_its_first_round_when_it_starts(
    settings: Settings, tmp_path: Path
) -> None:
    """The rule is for no NIC of this machine, where nothing may be changed."""
    rules = (RoceQosRule(RoceQos(), ("no-such-nic",)),)
    settings = settings._replace(roce_qos=rules, sysfs=tmp_path)
    async with running(settings, MemoryStore()) as node:
        metrics = node.process.parts.metrics
        await until(lambda: counted(metrics)["rounds"] == 1)

        assert counted(metrics) == {"rounds": 1, "changes": 0}
        assert by_nic(metrics) == {"faults": {}, "gaps": {}}
    assert node.process.stop_failures == []


async def test_without_rules_no_qos_task_is_started(settings: Settings) -> None:
    async with running(settings, MemoryStore()) as node:
        assert counted(node.process.parts.metrics) == {}
