"""RDMA devices of cards and of soft RoCE are offered to a kubelet as shares.

A container that gets a share can use all RDMA devices that the rule selects.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.domain.shared_rdma import HostRdmaDevice
from nodeagent.devices.device_advertiser import DeviceAdvertiser
from nodeagent.devices.kubelet_api import PLUGINS_DIRECTORY
from nodeagent.devices.shared_rdma_offers import SharedRdmaSource, host_rdma_devices
from tests.nodeagent.devices.fake_kubelet import Kubelet
from tests.nodeagent.devices.sys_tree import SysTree

CX5 = "spidernet.io/shared_cx5"
ETHERNET, INFINIBAND = "1", "32"
"""Types of links: ARPHRD_ETHER, ARPHRD_INFINIBAND."""

ROUND_S = 0.02


def card(tree: SysTree, number: int, link: str, kind: str, state: str = "4: ACTIVE") -> None:
    """Add a card with one link of type ``kind`` and one RDMA device."""
    device = tree.device(f"0000:3b:00.{number}", vendor="0x15b3", device="0x1017")
    tree.bind(device, "mlx5_core")
    tree.link(link, device, type=kind)
    tree.rdma(device, number)
    tree.port(f"mlx5_{number}", state)


@pytest.fixture
def tree(tmp_path: Path) -> SysTree:
    tree = SysTree(tmp_path / "sys")
    card(tree, 0, "ens1f0np0", ETHERNET)
    card(tree, 1, "ibs1f1", INFINIBAND)
    tree.link("eth1", None, type="1")
    tree.soft_rdma("rxe0", 2, "eth1")
    return tree


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def write_config(config: Path, shares: int, **selectors: list[str]) -> None:
    item = {"resourceName": "shared_cx5", "rdmaHcaMax": shares, "selectors": selectors}
    new_file = config.with_suffix(".new")
    new_file.write_text(json.dumps({"configList": [item]}))
    new_file.replace(config)


@pytest.fixture
async def kubelet_and_advertiser(
    short_path: Path, tree: SysTree, config: Path
) -> AsyncIterator[tuple[Kubelet, DeviceAdvertiser]]:
    write_config(config, 3, ifNames=["ens1f0np0"])
    kubelet = Kubelet(short_path / PLUGINS_DIRECTORY)
    await kubelet.start()
    source = SharedRdmaSource(config, tree.root)
    advertiser = DeviceAdvertiser([source], kubelet.directory, ROUND_S)
    task = asyncio.ensure_future(advertiser.run())
    yield kubelet, advertiser
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await advertiser.close()
    await kubelet.stop()


def test_cards_and_soft_devices_are_read_with_their_links(tree: SysTree) -> None:
    card(tree, 3, "ens9f0np0", ETHERNET, state="1: DOWN")

    assert host_rdma_devices(tree.root) == (
        HostRdmaDevice(
            *("mlx5_0", "15b3", "1017", "mlx5_core", ("ens1f0np0",), "ether"), is_active=True
        ),
        HostRdmaDevice(
            *("mlx5_1", "15b3", "1017", "mlx5_core", ("ibs1f1",), "infiniband"), is_active=True
        ),
        HostRdmaDevice(
            *("mlx5_3", "15b3", "1017", "mlx5_core", ("ens9f0np0",), "ether"), is_active=False
        ),
        HostRdmaDevice("rxe0", links=("eth1",), link_type="ether", is_active=True),
    )


async def test_a_share_has_the_files_of_all_selected_devices(
    kubelet_and_advertiser: tuple[Kubelet, DeviceAdvertiser], config: Path
) -> None:
    kubelet, _ = kubelet_and_advertiser
    await kubelet.until(lambda: kubelet.devices.get(CX5) == [f"shared_cx5-{n}" for n in "012"])

    (response_for_one_device,) = await kubelet.allocate_devices(CX5, ["shared_cx5-1"])
    write_config(config, 2, ifNames=["ens1f0np0", "eth1"])
    await kubelet.until(lambda: kubelet.list_lengths[CX5] == [3, 2])
    (response_for_two_devices,) = await kubelet.allocate_devices(CX5, ["shared_cx5-0"])

    assert [path for path, _, _ in response_for_one_device.files] == [
        f"/dev/infiniband/{name}" for name in ("rdma_cm", "uverbs0", "issm0", "umad0")
    ]
    assert [path for path, _, _ in response_for_two_devices.files] == [
        f"/dev/infiniband/{name}" for name in ("rdma_cm", "uverbs0", "uverbs2", "issm0", "umad0")
    ]
    assert response_for_one_device.variables == {}


async def test_shares_are_healthy_while_a_port_is_active(
    kubelet_and_advertiser: tuple[Kubelet, DeviceAdvertiser], tree: SysTree
) -> None:
    kubelet, _ = kubelet_and_advertiser
    await kubelet.until(lambda: kubelet.unhealthy.get(CX5) == [])

    tree.port("mlx5_0", "1: DOWN")
    await kubelet.until(lambda: len(kubelet.unhealthy[CX5]) == 3)

    tree.port("mlx5_0", "4: ACTIVE")
    await kubelet.until(lambda: kubelet.unhealthy[CX5] == [])
    assert set(kubelet.list_lengths[CX5]) == {3}


async def test_a_rule_that_selects_no_device_offers_no_share(
    kubelet_and_advertiser: tuple[Kubelet, DeviceAdvertiser], config: Path
) -> None:
    kubelet, _ = kubelet_and_advertiser
    await kubelet.until(lambda: CX5 in kubelet.devices)

    write_config(config, 3, ifNames=["ens9"])

    await kubelet.until(lambda: kubelet.list_lengths[CX5] == [3, 0])
    assert kubelet.registered_resources == [CX5]


async def test_shares_stay_offered_if_the_configuration_becomes_invalid(
    kubelet_and_advertiser: tuple[Kubelet, DeviceAdvertiser], config: Path
) -> None:
    kubelet, advertiser = kubelet_and_advertiser
    await kubelet.until(lambda: CX5 in kubelet.devices)

    config.write_text('{"configList": [{"resourceName": "shared_cx5", "rdmaHcaMax": 5}]}')

    await kubelet.until(
        lambda: any("no selector is set" in fault for fault in advertiser.faults.values())
    )
    assert kubelet.list_lengths[CX5] == [3]
