"""The node's address towards the API server, and the Pods that use virtual functions."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from core.domain.sriov.model import VFIO, PhysicalFunction, VirtualFunction
from core.settings.sriov import SriovSettings
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.sriov.node_hardware import NodeHardware, address_towards, with_pods
from nodeagent.sriov.sysfs import Sysfs
from tests.nodeagent.devices.fake_kubelet import field, unchanged
from tests.support.emulation import needs_generic_netlink

NIC = PhysicalFunction(
    "ens1f0",
    "0000:3b:00.0",
    vfs=(
        VirtualFunction(0, "0000:3b:00.2", "mlx5_core", "ens1f0v0"),
        VirtualFunction(1, "0000:3b:00.3", "mlx5_core", is_used=True),
        VirtualFunction(2, "0000:3b:00.4", VFIO),
        VirtualFunction(3, "0000:3b:00.5"),
    ),
)


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("https://127.0.0.1:6443", "127.0.0.1"),
        ("https://127.0.0.1", "127.0.0.1"),
        ("", ""),
    ],
)
def test_the_address_towards_the_api_server_is_the_local_address(server: str, address: str) -> None:
    assert address_towards(server) == address


@pytest.mark.parametrize(
    ("pods", "used"),
    [
        ({}, [False, True, False, False]),
        ({"0000:3b:00.2": "shop/a", "0000:3b:00.4": "shop/b"}, [True, True, True, False]),
        (None, [False, True, True, False]),
    ],
)
def test_vfs_of_pods_count_as_used_and_all_vfio_vfs_if_kubelet_is_silent(
    pods: dict[str, str] | None, used: list[bool]
) -> None:
    (nic,) = with_pods([NIC], pods)

    assert [vf.is_used for vf in nic.vfs] == used


@needs_generic_netlink
async def test_the_pods_of_a_nic_stay_known_while_kubelet_does_not_answer(
    tmp_path: Path,
) -> None:
    (tmp_path / "pod-resources").mkdir()
    (tmp_path / "class/net").mkdir(parents=True)
    # Kubelet's pod-resources API; the numbers are protobuf field numbers.
    device = field(2, field(1, b"spidernet.io/rail") + field(2, b"0000:3b:00.2"))
    pod = field(1, b"web-0") + field(2, b"shop") + field(3, field(1, b"app") + device)

    answers = [b"\xff", field(1, pod), b"\xff"]  # b"\xff" is not a valid message

    async def answer(_: bytes, __: object) -> bytes:
        return answers.pop(0)

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(answer, unchanged, unchanged)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": method}),)
    )
    server.add_insecure_port(f"unix:{tmp_path}/pod-resources/kubelet.sock")
    executor = NetnsExecutor()
    hardware = NodeHardware(SriovSettings(kubelet=tmp_path), Sysfs(tmp_path), executor, "")

    await server.start()

    await hardware.nics(())
    known_before_an_answer = hardware.pods_known
    await hardware.nics(())
    await hardware.nics(())

    await server.stop(None)
    executor.close()
    assert (known_before_an_answer, hardware.pods_known) == (False, True)
    assert hardware.pods_of(NIC) == ["shop/web-0"]
