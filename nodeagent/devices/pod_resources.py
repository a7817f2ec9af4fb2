"""Reads which Pod has each device from kubelet's pod-resources API (v1, List)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc

from core.protobuf import DecodeError, Table, message_classes

POD_RESOURCES_SOCKET: Final = "pod-resources/kubelet.sock"
"""Below kubelet's root directory."""

LIST: Final = "/v1.PodResourcesLister/List"
ANSWER_S_MAX: Final = 5.0
ANSWER_BYTES_MAX: Final = 16 << 20
"""The limit of kubelet's own clients."""

_MESSAGES: Final[Table] = {
    "ContainerDevices": {"resource_name": (1, "string"), "device_ids": (2, "*string")},
    "ContainerResources": {"name": (1, "string"), "devices": (2, "*ContainerDevices")},
    "PodResources": {
        "name": (1, "string"),
        "namespace": (2, "string"),
        "containers": (3, "*ContainerResources"),
    },
    "ListPodResourcesResponse": {"pod_resources": (1, "*PodResources")},
}

_types: Final = message_classes("orbweaver.podresources.v1", _MESSAGES)


async def pods_by_device(kubelet: Path) -> Mapping[str, str] | None:
    """Device ID -> ``namespace/name`` of the Pod; None if kubelet gives no valid answer.

    ``kubelet``: kubelet's root directory.
    """
    path = kubelet / POD_RESOURCES_SOCKET
    options = [("grpc.max_receive_message_length", ANSWER_BYTES_MAX)]
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        list_pods: Any = channel.unary_unary(
            LIST, request_serializer=lambda _: b"", response_deserializer=lambda data: data
        )
        try:
            answer = await list_pods(None, timeout=ANSWER_S_MAX)
            return _pods_by_device(answer)
        except (grpc.aio.AioRpcError, DecodeError):
            return None


def _pods_by_device(answer: bytes) -> dict[str, str]:
    response: Any = _types["ListPodResourcesResponse"].FromString(answer)
    return {
        device: f"{pod.namespace}/{pod.name}"
        for pod in response.pod_resources
        for container in pod.containers
        for resource in container.devices
        for device in resource.device_ids
    }
