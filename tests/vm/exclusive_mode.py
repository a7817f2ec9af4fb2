"""The RDMA mode ``exclusive`` on a real kernel: each device belongs to one network namespace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from core.errors import DatapathError
from core.settings.rdma_mode import EXCLUSIVE_MODE, SHARED_MODE
from nodeagent.coordinator.rdma_isolation import RdmaIsolation
from nodeagent.devices.pci_files import PciFiles
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.rdma.netns_mode import set_netns_mode
from tests.support.deadlines import until
from tests.vm.sriov_scenarios import command

GUIDE: Final = Path(__file__).parents[2] / "docs/guides/rdma-modes.md"
NAMESPACES_END_S: Final = 120.0
"""Seconds in which the kernel must end deleted network namespaces."""


async def exclusive_mode_is_set_and_a_soft_device_cannot_be_moved(executor: NetnsExecutor) -> None:
    """The kernel refuses the change while other namespaces exist: this last scenario deletes them.

    An earlier scenario has created the soft device rxe0.
    """
    with pytest.raises(DatapathError, match=r"cannot set the RDMA mode exclusive: .* busy"):
        set_netns_mode(executor, EXCLUSIVE_MODE)
    for name in command("ip", "netns", "list").split("\n"):
        if name:
            command("ip", "netns", "delete", name.split()[0])
    await until(lambda: try_to_set_mode(executor, EXCLUSIVE_MODE), NAMESPACES_END_S)
    assert "netns exclusive" in command("rdma", "system")

    command("ip", "netns", "add", "pod")
    mover = RdmaIsolation(executor, executor.own_namespace, PciFiles())
    with (
        NetworkNamespace.open("/run/netns/pod") as pod,
        pytest.raises(DatapathError, match=r"rxe0 .* not supported") as refused,
    ):
        mover.move("rxe0", pod)
    assert "the driver cannot move its devices" in refused.value.remedy
    assert "rxe0" in command("rdma", "link"), "expected rxe0 to stay on the node"
    assert command("nsenter", "--net=/run/netns/pod", "rdma", "link") == ""

    command("ip", "netns", "delete", "pod")
    await until(lambda: try_to_set_mode(executor, SHARED_MODE), NAMESPACES_END_S)
    assert "netns shared" in command("rdma", "system")
    the_commands_of_the_guide_set_the_mode_now_and_at_each_boot()


def the_commands_of_the_guide_set_the_mode_now_and_at_each_boot() -> None:
    """The second block of the guide undoes the first."""
    blocks = re.findall(r"```console\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    choose, undo = (block for block in blocks if "rdma system set" in block)
    command("sh", "-ec", choose)
    assert "netns exclusive" in command("rdma", "system")
    assert "options ib_core netns_mode=0" in command("modprobe", "--showconfig")

    command("sh", "-ec", undo)
    assert "netns shared" in command("rdma", "system")
    assert "netns_mode" not in command("modprobe", "--showconfig")


def try_to_set_mode(executor: NetnsExecutor, mode: str) -> bool:
    """Set the mode; return False while the kernel is still removing a namespace."""
    try:
        return set_netns_mode(executor, mode)
    except DatapathError:
        return False
