"""What of a node's NICs comes from elsewhere: its address towards the API server, users of VFs."""

from __future__ import annotations

import pytest

from core.domain.sriov.model import VFIO, PhysicalFunction, VirtualFunction
from nodeagent.sriov.node_hardware import address_towards, with_pods

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
def test_the_address_towards_the_api_server_is_the_nodes_own(server: str, address: str) -> None:
    assert address_towards(server) == address


@pytest.mark.parametrize(
    ("pods", "used"),
    [
        ({}, [False, True, False, False]),
        ({"0000:3b:00.2": "shop/a", "0000:3b:00.4": "shop/b"}, [True, True, True, False]),
        (None, [False, True, True, False]),
    ],
)
def test_what_kubelet_says_is_used_and_vfio_while_it_does_not_answer(
    pods: dict[str, str] | None, used: list[bool]
) -> None:
    (nic,) = with_pods([NIC], pods)

    assert [vf.is_used for vf in nic.vfs] == used
