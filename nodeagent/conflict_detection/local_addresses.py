"""Addresses that are the node's own: no look at a link can find those.

A macvlan or ipvlan and its master do not hear each other, so that a pool with the node's address in
it would give that away unseen. The node's own routing tables know it. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.addresses.ip_address import parse_address
from nodeagent.netlink.numbers import RTN_LOCAL
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import mac_text


def local_addresses(addresses: Iterable[str]) -> dict[str, str]:
    """Those that are the node's own, with the hardware address of their link, "" for none.

    Runs in the node's namespace. Raises NetlinkRefused, NetlinkLost, OSError.
    """
    with NetlinkSession.open() as session:
        parsed = {text: parse_address(text) for text in addresses}
        routes = {text: session.route_to(address) for text, address in parsed.items()}
        local = [text for text, route in routes.items() if route and route.kind == RTN_LOCAL]
        if not local:
            return {}
        macs = {link.number: link.mac for link in session.links()}
        return {
            text: mac_text(macs.get(one.link, b""))
            for text in local
            for one in session.addresses(parsed[text].family)
            if one.address == parsed[text]
        }
