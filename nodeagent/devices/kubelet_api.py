"""kubelet's device plugin API, v1beta1: its messages and names.

The messages are a table written by hand, with the field numbers of the public definition, because
no package has them with types and generated code cannot be reviewed. Released field numbers never
change. Fields that are not in the table are ignored in received messages. No logic belongs here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from core.protobuf import Table, message_classes

VERSION: Final = "v1beta1"
REGISTER: Final = f"/{VERSION}.Registration/Register"
PLUGIN_SERVICE: Final = f"{VERSION}.DevicePlugin"
DIRECTORY: Final = "device-plugins"
"""In kubelet's directory; it has ``KUBELET_SOCKET`` and the sockets of all plugins."""

KUBELET_SOCKET: Final = "kubelet.sock"
HEALTHY: Final = "Healthy"

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
    "Device": {"ID": (1, "string"), "health": (2, "string")},
    "ListAndWatchResponse": {"devices": (1, "*Device")},
    "ContainerAllocateRequest": {"devices_ids": (1, "*string")},
    "AllocateRequest": {"container_requests": (1, "*ContainerAllocateRequest")},
    "ContainerAllocateResponse": {},
    "AllocateResponse": {"container_responses": (1, "*ContainerAllocateResponse")},
}


class KubeletMessage(Protocol):
    """Any message of the API."""

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name
        """The message in protobuf encoding."""
        ...


class ContainerAllocateRequest(Protocol):
    """The device IDs that kubelet has chosen for one container."""

    devices_ids: Sequence[str]


class AllocateRequest(Protocol):
    """The device IDs that kubelet has chosen for the containers of one Pod."""

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
    """A RegisterRequest: ``endpoint`` is the name of the plugin's socket in ``DIRECTORY``."""
    return _made("RegisterRequest", version=VERSION, endpoint=endpoint, resource_name=resource)


def options() -> KubeletMessage:
    """DevicePluginOptions with no option switched on."""
    return _made("DevicePluginOptions")


def devices(ids: Iterable[str]) -> KubeletMessage:
    """A ListAndWatchResponse with all devices, all of them healthy."""
    listed = [{"ID": device_id, "health": HEALTHY} for device_id in ids]
    return _made("ListAndWatchResponse", devices=listed)


def allocated(containers: int) -> KubeletMessage:
    """An AllocateResponse that changes nothing in so many containers."""
    return _made("AllocateResponse", container_responses=[{}] * containers)


def _made(name: str, **fields: object) -> KubeletMessage:
    message: KubeletMessage = _types[name](**fields)
    return message


_types: Final = message_classes(VERSION, _MESSAGES)
