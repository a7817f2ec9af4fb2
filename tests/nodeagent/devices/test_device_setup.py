"""The agent starts and stops the device plugin, which reads labels and NICs of the node.

Slots are units of extended resources, such as ``sub-eni``, that the plugin offers to kubelet.
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
    """Name of a device metric, without the prefix -> value."""
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
    listening = Kubelet(short_path / PLUGINS_DIRECTORY)
    await listening.start()
    yield listening
    await listening.stop()


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
    loaded = load_settings(str(tmp_path / "conf.yml"), {"ORBWEAVER_SYSFS": str(tree.root)})
    settings_with_shares = settings._replace(devices=loaded.devices, sysfs=loaded.sysfs)

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


async def test_without_kubernetes_the_labels_come_from_the_nodes_record(
    settings: Settings,
) -> None:
    async with running(settings, MemoryStore()) as node:
        facts = node.process.parts.facts
        assert not facts.node().known
        record = RecordDefined("Node", "", "node-1", labels={"size": "large"})
        await node.apply(ApplyRecord(record))

        assert (facts.node().known, facts.node().labels) == (True, {"size": "large"})


def test_host_nics_are_links_of_the_kernel_with_their_devices_in_sys(tmp_path: Path) -> None:
    executor = NetnsExecutor()
    virtual = next(nic for nic in host_nics(executor, tmp_path) if nic.name == "lo")
    (tmp_path / "lo" / "device").mkdir(parents=True)
    physical = next(nic for nic in host_nics(executor, tmp_path) if nic.name == "lo")
    executor.close()

    assert virtual == HostNic("lo", has_device=False, is_loopback=True)
    assert physical == virtual._replace(has_device=True)
