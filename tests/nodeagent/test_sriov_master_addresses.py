"""The master of a virtual function is the link of its physical function."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.sriov_master_addresses import addresses_of, bus_device, master_addresses, master_of
from tests.support.emulation import needs_driver_ioctls


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A network namespace with the bridge net1."""
    name = f"ow-master-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "add", "net1", "type", "bridge"], check=True)
    yield Path("/run/netns") / name
    subprocess.run(["ip", "netns", "delete", name], check=True)


@needs_driver_ioctls
def test_bus_device_returns_n_a_for_a_bridge_in_another_namespace(
    executor: NetnsExecutor, namespace: Path
) -> None:
    with NetworkNamespace.open(str(namespace)) as netns:
        assert executor.run(netns, lambda: bus_device("net1")) == "N/A"


async def test_a_lookup_leaves_the_threads_of_the_agent_in_their_namespace(
    executor: NetnsExecutor, namespace: Path
) -> None:
    before = own_namespace()

    await master_addresses(executor, str(namespace), "net1")

    assert own_namespace() == before
    assert await asyncio.to_thread(own_namespace) == before


def own_namespace() -> Path:
    return Path("/proc/thread-self/ns/net").readlink()


def test_the_master_of_a_vf_is_the_link_of_the_physical_function(tmp_path: Path) -> None:
    device = tmp_path / "bus/pci/devices/0000:03:10.0"
    links = tmp_path / "bus/pci/devices/0000:03:00.0/net"
    (links / "ens3f0").mkdir(parents=True)
    (links / "a-representor").mkdir()
    (links / "a-representor/phys_port_name").write_text("pf0vf0\n")
    device.mkdir()
    (device / "physfn").symlink_to("../0000:03:00.0")

    assert master_of("0000:03:10.0", tmp_path) == "ens3f0"
    assert master_of("0000:03:00.0", tmp_path) is None, "the physical function itself"
    assert master_of("N/A", tmp_path) is None, "not a PCI address"


def test_the_addresses_of_a_link_are_read_from_the_kernel(executor: NetnsExecutor) -> None:
    assert "127.0.0.1" in addresses_of(executor, "lo")
    assert addresses_of(executor, "no-such-link") == ()


@pytest.mark.parametrize("interface", ["net9", "", "a-name-that-is-too-long"])
async def test_the_master_of_an_unknown_link_is_none(
    executor: NetnsExecutor, namespace: Path, interface: str
) -> None:
    assert await master_addresses(executor, str(namespace), interface) is None


async def test_a_link_that_is_not_a_vf_and_a_link_in_a_deleted_namespace_have_no_master(
    executor: NetnsExecutor, namespace: Path
) -> None:
    assert await master_addresses(executor, str(namespace), "net1") is None
    assert await master_addresses(executor, "/run/netns/gone", "net1") is None


async def test_a_lookup_in_a_fifo_instead_of_a_namespace_does_not_block(
    executor: NetnsExecutor, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "netns")
    assert await master_addresses(executor, str(tmp_path / "netns"), "net1") is None
