"""The provider's API as typed documents. Unknown fields are let through.

See docs/reference/http-api.md, "Network provider".
"""

from __future__ import annotations

from typing import Final

import msgspec

from core.errors import ProviderError

ALLOCATE: Final = "/v1/apis/network.iaas.io/ipam/allocate-ips"
RELEASE: Final = "/v1/apis/network.iaas.io/ipam/release-ip"
TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
ANSWER_BYTES_MAX: Final = 1 << 20


class RequestedAddress(msgspec.Struct, frozen=True, rename="camel"):
    """One address that shall be bound."""

    ip_address: str
    subnet: str
    parent_nic_mac: str


class ProviderAllocateRequest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """All addresses of one Pod, bound together."""

    pod_name: str
    pod_namespace: str
    node_name: str
    addresses: tuple[RequestedAddress, ...] = msgspec.field(name="iaasIPsAllocationRequest")
    pod_uid: str = msgspec.field(name="podUID", default="")


class BoundAddress(msgspec.Struct, frozen=True, rename="camel"):
    """What the provider made of one address; "" and 0: it chose nothing."""

    ip_address: str
    mac_address: str = ""
    vlan_id: int = 0


class ProviderAllocateResponse(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to an ``ProviderAllocateRequest``."""

    addresses: tuple[BoundAddress, ...] = msgspec.field(name="iaasIPsAllocationResponse")


class ProviderReleaseRequest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One address that shall not be bound any more."""

    pod_name: str
    pod_namespace: str
    node_name: str
    subnet: str
    ip_address: str
    pod_uid: str = msgspec.field(name="podUID", default="")
    parent_nic_mac: str = ""


_answers = msgspec.json.Decoder(ProviderAllocateResponse)


def read_answer(data: bytes, request: ProviderAllocateRequest) -> tuple[BoundAddress, ...]:
    """What was bound: exactly what was asked for. Raises ProviderError."""
    try:
        found = _answers.decode(data).addresses
    except msgspec.MsgspecError as error:
        raise ProviderError(f"the provider's answer cannot be read: {error}") from error
    asked = sorted(one.ip_address for one in request.addresses)
    answered = sorted(one.ip_address for one in found)
    if answered != asked:
        raise ProviderError(
            f"the provider was asked for {', '.join(asked)} and answered for "
            f"{', '.join(answered) or 'nothing'}",
            subject=f"{request.pod_namespace}/{request.pod_name}",
            remedy="look at the provider's log",
        )
    return found
