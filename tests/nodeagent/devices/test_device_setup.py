"""The agent starts and stops the device plugin.

Each device of the resource ``sub-eni`` is a slot.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.domain.configuration.commands import ApplyRecord
from core.domain.events import RecordDefined
from core.domain.slots import DeviceRules, HostNic, SubEniRule
from core.eventstore.memory_store import MemoryStore
from core.settings.device_plugin import DeviceSettings
from nodeagent.devices.kubelet_api import PLUGINS_DIRECTORY
from nodeagent.devices.slot_offers import host_nics
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.settings.agent_settings import Settings
from nodeagent.settings.settings_loader import load_settings
from nodeagent.telemetry.metrics import AgentMetrics
from tests.nodeagent.devices.fake_kubelet import Kubelet
from tests.nodeagent.devices.sys_tree import SysTree
from tests.support.agent_harness import running

SUB_ENI = "spidernet.io/sub-eni"


def device_metrics(metrics: AgentMetrics) -> dict[str, float]:
    """The value of each device metric by its name without the prefix."""
    prefix = "orbweaver_devices_"
    return {
        reading.name.removeprefix(prefix): reading.value()
        for reading in metrics.readings
        if reading.name.startswith(prefix)
    }


@pytest.fixture
def settings_with_slots(settings: Settings, short_path: Path) -> Settings:
    rules = DeviceRules(sub_eni=(SubEniRule(slots=2),))
    return settings._replace(devices=DeviceSettings(rules, short_path))


@pytest.fixture
async def kubelet(short_path: Path) -> AsyncIterator[Kubelet]:
    running_kubelet = Kubelet(short_path / PLUGINS_DIRECTORY)
    await running_kubelet.start()
    yield running_kubelet
    await running_kubelet.stop()


async def test_an_agent_offers_and_counts_slots_while_it_runs(
    settings_with_slots: Settings, kubelet: Kubelet
) -> None:
    async with running(settings_with_slots, MemoryStore()) as node:
        await kubelet.until(lambda: len(kubelet.devices.get(SUB_ENI, ())) == 2)
        await kubelet.allocate(SUB_ENI, ["sub-eni-0"])
        await kubelet.until(lambda: device_metrics(node.process.parts.metrics)["rounds"])

        now = device_metrics(node.process.parts.metrics)
        assert now == {
            "resources": 1,
            "slots": 2,
            "faults": 0,
            "rounds": now["rounds"],
            "registrations": 1,
            "allocations": 1,
            "refusals": 0,
        }
    assert {path.name for path in kubelet.directory.iterdir()} == {"kubelet.sock"}


async def test_an_agent_offers_the_shared_devices_of_the_configuration_file(
    settings: Settings, kubelet: Kubelet, short_path: Path, tmp_path: Path
) -> None:
    tree = SysTree(tmp_path / "sys")
    tree.link("eth1", None, type="1")
    tree.soft_rdma("rxe0", 0, "eth1")
    item = {"resourceName": "soft", "rdmaHcaMax": 2, "selectors": {"ifNames": ["eth1"]}}
    (tmp_path / "config.json").write_text(json.dumps({"configList": [item]}))
    (tmp_path / "conf.yml").write_text(
        f"agent: {{networkResourcePlugin: {{kubeletRootDir: {short_path}}}}}\n"
        f"orbweaver: {{rdmaConfigFile: {tmp_path / 'config.json'}}}\n"
    )
    file_settings = load_settings(str(tmp_path / "conf.yml"), {"ORBWEAVER_SYSFS": str(tree.root)})
    settings_with_shares = settings._replace(
        devices=file_settings.devices, sysfs=file_settings.sysfs
    )

    async with running(settings_with_shares, MemoryStore()):
        await kubelet.until(lambda: len(kubelet.devices.get("spidernet.io/soft", ())) == 2)
        (response,) = await kubelet.allocate_devices("spidernet.io/soft", ["soft-1"])

    assert [path for path, _, _ in response.files] == [
        "/dev/infiniband/rdma_cm",
        "/dev/infiniband/uverbs0",
    ]


async def test_an_agent_without_a_kubelet_serves_adds(settings_with_slots: Settings) -> None:
    async with running(settings_with_slots, MemoryStore()) as node:
        await node.pool("lan", "10.6.0.0/16", "10.6.0.10-10.6.0.20")

        assert await node.add()


async def test_node_labels_come_from_the_node_record_without_kubernetes(
    settings: Settings,
) -> None:
    async with running(settings, MemoryStore()) as node:
        facts = node.process.parts.facts
        assert not facts.node().known
        record = RecordDefined("Node", "", "node-1", labels={"size": "large"})
        await node.apply(ApplyRecord(record))

        assert (facts.node().known, facts.node().labels) == (True, {"size": "large"})


def test_a_host_nic_has_a_device_if_its_sys_directory_has_the_entry_device(tmp_path: Path) -> None:
    executor = NetnsExecutor()
    lo_without_device = next(nic for nic in host_nics(executor, tmp_path) if nic.name == "lo")
    (tmp_path / "lo" / "device").mkdir(parents=True)
    lo_with_device = next(nic for nic in host_nics(executor, tmp_path) if nic.name == "lo")
    executor.close()

    assert lo_without_device == HostNic("lo", has_device=False, is_loopback=True)
    assert lo_with_device == lo_without_device._replace(has_device=True)
