"""SpiderEndpoint: reports the addresses of one Pod or VM. Users do not write this kind.

``status`` is an ordinary field and not a subresource, as in Spiderpool.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct, field

from core.manifests.kinds.fields import described


class EndpointRoute(Struct, rename="camel", frozen=True):
    """A route of an interface."""

    dst: Annotated[str, described("The destination as a CIDR.")]
    gw: Annotated[str, described("The next hop.")]


class EndpointNic(Struct, rename="camel", frozen=True):
    """An interface with its addresses."""

    interface: Annotated[
        str,
        described("The name of the interface. Empty until a runtime has named it."),
    ]
    ipv4: Annotated[str | None, described("The IPv4 address with prefix length.")] = None
    ipv4_pool: Annotated[str | None, described("The SpiderIPPool of the IPv4 address.")] = field(
        default=None, name="ipv4Pool"
    )
    ipv6: Annotated[str | None, described("The IPv6 address with prefix length.")] = None
    ipv6_pool: Annotated[str | None, described("The SpiderIPPool of the IPv6 address.")] = field(
        default=None, name="ipv6Pool"
    )
    vlan: Annotated[
        int | None,
        described("The VLAN; 0 for none.", default=0, format="int64", minimum=0, maximum=4094),
    ] = None
    ipv4_gateway: Annotated[str | None, described("The IPv4 default gateway.")] = field(
        default=None, name="ipv4Gateway"
    )
    ipv6_gateway: Annotated[str | None, described("The IPv6 default gateway.")] = field(
        default=None, name="ipv6Gateway"
    )
    clean_gateway: Annotated[
        bool | None,
        described("Whether the interface has no default route although it has a gateway."),
    ] = None
    routes: Annotated[
        list[EndpointRoute] | None, described("Additional routes of the interface.")
    ] = None
    mac: Annotated[str | None, described("The MAC address, if a network provider chose it.")] = None


class EndpointCurrent(Struct, rename="camel", frozen=True):
    """The addresses of the current Pod."""

    uid: Annotated[str, described("The UID of the Pod.")]
    node: Annotated[str, described("The node of the Pod.")]
    ips: Annotated[list[EndpointNic], described("The interfaces, in the order of allocation.")]


class EndpointReport(Struct, rename="camel", frozen=True):
    """``status`` of a SpiderEndpoint."""

    current: Annotated[EndpointCurrent, described("The current addresses of the Pod.")]
    owner_controller_type: Annotated[
        str, described("The kind of the Pod's top controller; Pod if it has none.")
    ]
    owner_controller_name: Annotated[str, described("The name of the Pod's top controller.")]
