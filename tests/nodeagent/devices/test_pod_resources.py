"""The devices of Pods are read from a kubelet's pod-resources socket."""

from __future__ import annotations

from pathlib import Path

import grpc

from nodeagent.devices.pod_resources import pods_by_device
from tests.nodeagent.devices.fake_kubelet import field, unchanged

# PodResources of kubelet's pod-resources API: name, namespace, containers with their devices.
POD = b"".join(
    (
        field(1, b"web-0"),
        field(2, b"shop"),
        field(
            3,
            field(1, b"app")
            + field(
                2,
                field(1, b"spidernet.io/rail")
                + field(2, b"0000:3b:00.2")
                + field(2, b"0000:3b:00.3"),
            ),
        ),
    )
)


async def test_devices_are_listed_with_their_pods(tmp_path: Path) -> None:
    (tmp_path / "pod-resources").mkdir()
    server = grpc.aio.server()

    async def answer(_: bytes, __: object) -> bytes:
        return field(1, POD) + field(1, field(1, b"idle") + field(2, b"shop"))

    method = grpc.unary_unary_rpc_method_handler(answer, unchanged, unchanged)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": method}),)
    )
    server.add_insecure_port(f"unix:{tmp_path}/pod-resources/kubelet.sock")
    await server.start()

    devices = await pods_by_device(tmp_path)

    await server.stop(None)
    assert devices == {"0000:3b:00.2": "shop/web-0", "0000:3b:00.3": "shop/web-0"}


async def test_devices_of_pods_are_unknown_if_kubelet_does_not_answer(tmp_path: Path) -> None:
    assert await pods_by_device(tmp_path) is None
