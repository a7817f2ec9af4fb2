"""The messages and names of kubelet's device plugin API, v1beta1 (api.proto).

``_MESSAGES`` is written by hand, because generated code cannot be reviewed. The notation is from
``core.protobuf``: ``*`` is repeated, ``%`` is a map of strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from core.domain.device_allocation import Device, DeviceAllocation
from core.protobuf import Table, message_classes

VERSION: Final = "v1beta1"
REGISTER: Final = f"/{VERSION}.Registration/Register"
PLUGIN_SERVICE: Final = f"{VERSION}.DevicePlugin"
PLUGINS_DIRECTORY: Final = "device-plugins"
"""Below kubelet's root directory."""

KUBELET_SOCKET: Final = "kubelet.sock"
HEALTHY: Final = "Healthy"
UNHEALTHY: Final = "Unhealthy"

_MESSAGES: Final[Table] = {
    "Empty": {},
    "DevicePluginOptions": {
        "pre_start_required": (1, "bool"),
        "get_preferred_allocation_available": (2, "bool"),
    },
    "RegisterRequest": {
        "version": (1, "string"),
        "endpoint": (2, "string"),
        "resource_name": (3, "string"),
        "options": (4, "DevicePluginOptions"),
    },
    "NUMANode": {"ID": (1, "int64")},
    "TopologyInfo": {"nodes": (1, "*NUMANode")},
    "Device": {
        "ID": (1, "string"),
        "health": (2, "string"),
        "topology": (3, "TopologyInfo"),
    },
    "ListAndWatchResponse": {"devices": (1, "*Device")},
    "ContainerAllocateRequest": {"devices_ids": (1, "*string")},
    "AllocateRequest": {"container_requests": (1, "*ContainerAllocateRequest")},
    "DeviceSpec": {
        "container_path": (1, "string"),
        "host_path": (2, "string"),
        "permissions": (3, "string"),
    },
    "ContainerAllocateResponse": {"envs": (1, "%"), "devices": (3, "*DeviceSpec")},
    "AllocateResponse": {"container_responses": (1, "*ContainerAllocateResponse")},
}


class KubeletMessage(Protocol):
    """Any message of the API."""

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name
        ...


class ContainerAllocateRequest(Protocol):
    """The device IDs for one container."""

    devices_ids: Sequence[str]


class AllocateRequest(Protocol):
    """The device IDs for the containers of one Pod."""

    container_requests: Sequence[ContainerAllocateRequest]


def encoded(message: KubeletMessage) -> bytes:
    """The message in protobuf encoding."""
    return message.SerializeToString()


def read_nothing(_: bytes) -> None:
    """Ignore a message whose content is not used."""


def read_allocation(data: bytes) -> AllocateRequest:
    """Decode an AllocateRequest. Raises google.protobuf's DecodeError."""
    request: AllocateRequest = _types["AllocateRequest"].FromString(data)
    return request


def registration(resource: str, endpoint: str) -> KubeletMessage:
    """A RegisterRequest. ``endpoint``: the file name of the plugin's socket."""
    return _new_message(
        "RegisterRequest", version=VERSION, endpoint=endpoint, resource_name=resource
    )


def options() -> KubeletMessage:
    """DevicePluginOptions without any option."""
    return _new_message("DevicePluginOptions")


def devices(offered_devices: Iterable[Device]) -> KubeletMessage:
    """A ListAndWatchResponse."""
    return _new_message(
        "ListAndWatchResponse", devices=[_device(device) for device in offered_devices]
    )


def allocated(allocations: Iterable[DeviceAllocation]) -> KubeletMessage:
    """An AllocateResponse with one allocation for each container."""
    responses = [
        {
            "envs": allocation.variables,
            "devices": [
                {"container_path": path, "host_path": path, "permissions": permissions}
                for path, permissions in allocation.files
            ],
        }
        for allocation in allocations
    ]
    return _new_message("AllocateResponse", container_responses=responses)


def _device(device: Device) -> dict[str, object]:
    fields: dict[str, object] = {
        "ID": device.id,
        "health": HEALTHY if device.is_healthy else UNHEALTHY,
    }
    if device.numa_node is not None:
        fields["topology"] = {"nodes": [{"ID": device.numa_node}]}
    return fields


def _new_message(name: str, **fields: object) -> KubeletMessage:
    message: KubeletMessage = _types[name](**fields)
    return message


_types: Final = message_classes(VERSION, _MESSAGES)
