"""kubelet's device plugin API, v1beta1: its messages, described by hand, and its names.

No package brings them with types, and a compiler's output could not be reviewed; so they are a
table, with the numbers of the public definition, which released fields never change. What is not
described here is skipped when it is read and left out when it is written. Must never hold logic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from core.protobuf import Table, message_classes

VERSION: Final = "v1beta1"
REGISTER: Final = f"/{VERSION}.Registration/Register"
PLUGIN_SERVICE: Final = f"{VERSION}.DevicePlugin"
DIRECTORY: Final = "device-plugins"
"""Below kubelet's own; ``KUBELET_SOCKET`` and the sockets of all plugins are in it."""

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
    """What every message can do."""

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name
        """The wire format."""
        ...


class ContainerAllocateRequest(Protocol):
    """The slots that one container is to have."""

    devices_ids: Sequence[str]


class AllocateRequest(Protocol):
    """The slots that the containers of one Pod are to have."""

    container_requests: Sequence[ContainerAllocateRequest]


def encoded(message: KubeletMessage) -> bytes:
    """The wire format."""
    return message.SerializeToString()


def read_nothing(_: bytes) -> None:
    """What says nothing that matters here."""


def read_allocation(data: bytes) -> AllocateRequest:
    """Raises google.protobuf's DecodeError."""
    request: AllocateRequest = _types["AllocateRequest"].FromString(data)
    return request


def registration(resource: str, endpoint: str) -> KubeletMessage:
    """A request to kubelet: ask this socket, a name in its directory, about that resource."""
    return _made("RegisterRequest", version=VERSION, endpoint=endpoint, resource_name=resource)


def options() -> KubeletMessage:
    """None of what is optional is wished for."""
    return _made("DevicePluginOptions")


def devices(ids: Iterable[str]) -> KubeletMessage:
    """The whole list of what there is, all of it well."""
    listed = [{"ID": one, "health": HEALTHY} for one in ids]
    return _made("ListAndWatchResponse", devices=listed)


def allocated(containers: int) -> KubeletMessage:
    """Nothing is to be done for so many containers."""
    return _made("AllocateResponse", container_responses=[{}] * containers)


def _made(name: str, **fields: object) -> KubeletMessage:
    message: KubeletMessage = _types[name](**fields)
    return message


_types: Final = message_classes(VERSION, _MESSAGES)
