"""The hardware of network links."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from ops.diagnostics import hardware
from ops.diagnostics.hardware import Hardware, read_hardware
from tests.support.link import Link

DEVICE = "0000:03:00.0"


def test_a_link_without_a_device_has_no_hardware(link: Link, executor: NetnsExecutor) -> None:
    with NetworkNamespace.open(link.station().netns) as namespace:
        assert read_hardware(executor, namespace, ["eth0", "gone"]) == {
            "eth0": Hardware(),
            "gone": Hardware(),
        }


def test_hardware_includes_the_virtual_functions_and_the_rdma_device(
    link: Link, executor: NetnsExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "bus_address", lambda *_: DEVICE)
    directory = tmp_path / "bus/pci/devices" / DEVICE
    directory.mkdir(parents=True)
    (directory / "class").touch()
    with NetworkNamespace.open(link.station().netns) as namespace:
        devices = read_hardware(executor, namespace, ["eth0"], tmp_path)
        assert devices == {"eth0": Hardware(DEVICE)}, "expected no virtual functions"

        (directory / "sriov_numvfs").write_text("2\n")
        (directory / "sriov_totalvfs").write_text("7\n")
        devices = read_hardware(executor, namespace, ["eth0"], tmp_path)
        assert devices == {"eth0": Hardware(DEVICE, vfs=2, vfs_max=7)}

        (directory / "infiniband/mlx5_0").mkdir(parents=True)
        devices = read_hardware(executor, namespace, ["eth0"], tmp_path)
        assert devices == {"eth0": Hardware(DEVICE, vfs=2, vfs_max=7, rdma=("mlx5_0",))}
