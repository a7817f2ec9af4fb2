"""Policies create, change and restore virtual functions on an SR-IOV card.

A policy source in memory replaces the API server. The card's drivers, /sys and netlink are real.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.sriov.model import VFIO, NicName, NicSelector, NodePolicy, VfRange
from core.domain.sriov.vf_macs_and_guids import default_mac
from core.eventstore.memory_store import MemoryStore
from core.settings.sriov import SriovSettings
from nodeagent.devices.physical_functions import physical_functions
from nodeagent.settings.agent_settings import Settings
from nodeagent.sriov.reconciler import NodeConfiguration
from tests.nodeagent.sriov.fake_policy_source import FakePolicySource
from tests.support.agent_harness import running
from tests.support.deadlines import until

NIC_NAME: Final = "rail0"
"""The card's physical function, which can have 7 virtual functions."""

NODE_ADDRESS: Final = "10.6.0.11"
DEADLINE_S: Final = 120.0
PF_SYSFS: Final = Path("/sys/class/net") / NIC_NAME
NUMVFS: Final = PF_SYSFS / "device/sriov_numvfs"

TRUSTED_POLICY: Final = f"""
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {{name: rail}}
spec:
  resourceName: rail
  numVfs: 4
  nicSelector: {{pfNames: ["{NIC_NAME}#0-1"]}}
  trust: "on"
  spoofChk: "off"
"""


class VfFacts(NamedTuple):
    """Facts of a virtual function that must be the same after a reboot."""

    number: int
    address: str
    driver: str
    mac: str
    mtu: int


def command(*words: str) -> str:
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    assert process.returncode == 0, f"{' '.join(words)}: {process.stdout}{process.stderr}"
    return process.stdout


def current_vfs() -> list[VfFacts]:
    (nic,) = (nic for nic in physical_functions((), Path("/sys")) if nic.name == NIC_NAME)
    return [VfFacts(vf.number, vf.address, vf.driver, vf.mac, vf.mtu) for vf in nic.vfs]


def spoof_check_and_trust_of_vfs() -> list[tuple[str, str]]:
    """The two settings that ip(8) prints for each virtual function, each "on" or "off"."""
    text = command("ip", "link", "show", "dev", NIC_NAME)
    return re.findall(r"spoof checking (on|off).*trust (on|off)", text)


def output_of_orbctl_node_sriov(policy_text: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(policy_text)
        file.flush()
        return command(sys.executable, "-m", "ops.cli.main", "node", "sriov", "-f", file.name)


def policy(vfs: int, vf_range: VfRange | None = None, **fields: object) -> NodePolicy:
    nics = NicSelector((NicName(NIC_NAME, vf_range),))
    node_policy = NodePolicy(name="rail", resource="rail", vfs=vfs, nics=nics)
    return node_policy._replace(**fields)  # type: ignore[arg-type]


@asynccontextmanager
async def agent_with(source: FakePolicySource) -> AsyncIterator[Callable[[], str]]:
    """Run an agent; yield a function that returns the fault of the agent's last round."""
    directory = Path(tempfile.mkdtemp(prefix="ow-sriov-"))
    settings = Settings(
        node_name="node-2",
        socket_path=str(directory / "a.sock"),
        plugin_log_path=str(directory / "plugin.log"),
        health_port=0,
        sriov=SriovSettings(kubelet=directory),
    )
    async with running(settings, MemoryStore(), sriov=source) as node:
        service = node.process.sriov
        assert service is not None
        yield lambda: service.reconciler.fault


async def until_done(source: FakePolicySource, vfs: int) -> None:
    """Wait until the agent reports success and this number of virtual functions."""

    def is_done() -> bool:
        if not source.reports or source.last_report.result.status != "Succeeded":
            return False
        (nic,) = (nic for nic in source.last_report.nics if nic.name == NIC_NAME)
        return len(nic.vfs) == vfs

    try:
        await until(is_done, DEADLINE_S)
    except TimeoutError:
        last = source.last_report.result if source.reports else "no report"
        raise AssertionError(f"{current_vfs()}; {last}") from None


async def test_the_nic_with_the_nodes_own_address_is_not_changed() -> None:
    before = current_vfs()
    source = FakePolicySource()
    source.current = NodeConfiguration([policy(7)], labels={}, own_addresses=[NODE_ADDRESS])

    async with agent_with(source) as fault:
        await until(lambda: "carries the node's own traffic" in fault(), DEADLINE_S)

    assert current_vfs() == before


async def test_a_policy_sets_the_number_mtu_and_macs_of_vfs() -> None:
    source = FakePolicySource()
    source.set_policies(policy(7, mtu=1_600))

    async with agent_with(source):
        await until_done(source, 7)
        created_vfs = current_vfs()
        link_text = command("ip", "-d", "link", "show", "dev", NIC_NAME)
        source.reports.clear()
        source.set_policies(policy(4, mtu=1_600))
        await until_done(source, 4)

    nic = source.last_report.nics[0]
    assert [vf.mac for vf in created_vfs] == [default_mac(nic, number) for number in range(7)]
    assert {(vf.driver, vf.mtu) for vf in created_vfs} == {("igbvf", 1_600)}
    assert all(vf.mac in link_text for vf in created_vfs), (
        "the MACs are set at the physical function"
    )
    assert current_vfs() == created_vfs[:4]


async def test_trust_and_spoof_check_of_a_policy_are_set_and_restored() -> None:
    source = FakePolicySource()
    trusted_policy = policy(4, VfRange(0, 1), trust=True, spoof_check=False)
    source.set_policies(
        trusted_policy, policy(4, VfRange(2, 3))._replace(name="guest", resource="guest")
    )

    async with agent_with(source):
        await until_done(source, 4)
        created = spoof_check_and_trust_of_vfs()
        command("ip", "link", "set", NIC_NAME, "vf", "1", "trust", "off")
        command("ip", "link", "set", NIC_NAME, "vf", "2", "vlan", "100")
        source.reports.clear()
        source.set_policies(trusted_policy)
        await until_done(source, 4)
        restored = spoof_check_and_trust_of_vfs()
    command("ip", "link", "set", NIC_NAME, "vf", "1", "trust", "off")
    steps = output_of_orbctl_node_sriov(TRUSTED_POLICY)

    assert created == [("off", "on"), ("off", "on"), ("on", "off"), ("on", "off")]
    assert restored == created
    assert steps == f"{NIC_NAME} vf 1: trust on\n"
    vlans = [vf.vlan for vf in source.last_report.nics[0].vfs]
    assert vlans == [0, 0, 100, 0], "the policy has no VLAN, so the agent reports it unchanged"
    reported = [(vf.trust, vf.spoof_check) for vf in source.last_report.nics[0].vfs]
    assert reported == [(True, False), (True, False), (False, True), (False, True)]


async def test_the_agent_restores_the_vfs_after_a_reboot() -> None:
    source = FakePolicySource()
    source.set_policies(policy(4, mtu=1_600))
    async with agent_with(source):
        await until_done(source, 4)
    before = current_vfs()

    NUMVFS.write_text("0")
    (PF_SYSFS / "mtu").write_text("1500")
    source.reports.clear()
    async with agent_with(source):
        await until_done(source, 4)

    assert current_vfs() == before


async def test_vfs_are_bound_to_vfio_and_later_to_the_kernel_driver() -> None:
    command("modprobe", "vfio-pci")
    source = FakePolicySource()
    kernel_policy = policy(4, VfRange(0, 1))
    dpdk_policy = policy(4, VfRange(2, 3), device_type=VFIO)._replace(name="dpdk", resource="dpdk")
    source.set_policies(kernel_policy, dpdk_policy)

    async with agent_with(source):
        await until_done(source, 4)
        drivers = [vf.driver for vf in current_vfs()]
    # Without kubelet the agent counts functions that are bound to vfio-pci as used.
    command("modprobe", "-r", "vfio-pci")
    source.reports.clear()
    source.set_policies(policy(4))
    async with agent_with(source):
        await until_done(source, 4)

    assert drivers == ["igbvf", "igbvf", VFIO, VFIO]
    assert {vf.driver for vf in current_vfs()} == {"igbvf"}


async def test_a_vf_is_not_removed_while_a_pod_has_it() -> None:
    source = FakePolicySource()
    source.set_policies(policy(4))
    async with agent_with(source) as fault:
        await until_done(source, 4)
        (link,) = (PF_SYSFS / "device/virtfn1/net").iterdir()
        command("ip", "netns", "add", "vf-owner")
        command("ip", "link", "set", link.name, "netns", "vf-owner")
        source.reports.clear()
        source.set_policies(policy(2))
        await until(lambda: "virtual functions to remove are in use" in fault(), DEADLINE_S)
        vfs_in_use = len(current_vfs())
        source.reports.clear()
        command("ip", "netns", "delete", "vf-owner")
        await until_done(source, 2)

    assert vfs_in_use == 4


async def test_deleting_the_policy_removes_all_vfs() -> None:
    source = FakePolicySource()
    source.set_policies(policy(2))
    async with agent_with(source):
        await until_done(source, 2)
        source.reports.clear()
        source.set_policies()
        await until_done(source, 0)

    assert NUMVFS.read_text().strip() == "0"


def _without_machine(
    scenario: Callable[[], Awaitable[None]],
) -> Callable[[object], Awaitable[None]]:
    """Add the parameter ``machine``, which the scenarios of ``tests.vm.inside`` have."""

    @wraps(scenario)
    async def with_machine(_: object) -> None:
        await scenario()

    return with_machine


SRIOV_SCENARIOS: Final = tuple(
    map(
        _without_machine,
        (
            test_the_nic_with_the_nodes_own_address_is_not_changed,
            test_a_policy_sets_the_number_mtu_and_macs_of_vfs,
            test_trust_and_spoof_check_of_a_policy_are_set_and_restored,
            test_the_agent_restores_the_vfs_after_a_reboot,
            test_vfs_are_bound_to_vfio_and_later_to_the_kernel_driver,
            test_a_vf_is_not_removed_while_a_pod_has_it,
            test_deleting_the_policy_removes_all_vfs,
        ),
    )
)
