"""Bond options as users write them, ``k=v;k=v``, and as the kernel takes them.

See docs/reference/cni-configuration.md, "Bond options".

Promise: Spiderpool's reading: pieces without exactly one "=" and unknown keys mean nothing,
only numbers above zero are applied. A value of the wrong kind is refused by its key. Pure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from core.errors import BadInput
from nodeagent.netlink.codec import attribute, nested

OPTIONS_CHARACTERS_MAX: Final = 4_096
ARP_TARGETS_MAX: Final = 16
"""BOND_MAX_ARP_TARGETS of the kernel."""
MAC_BYTES: Final = 6

MODE: Final = 1  # IFLA_BOND_* of include/uapi/linux/if_link.h
ACTIVE_SLAVE: Final = 2
ARP_IP_TARGET: Final = 8
PRIMARY: Final = 11
AD_ACTOR_SYSTEM: Final = 26

NUMBERS: Final[dict[str, tuple[int, int]]] = {
    "miimon": (3, 4),
    "up_delay": (4, 4),
    "downdelay": (5, 4),
    "use_carrier": (6, 1),
    "arp_interval": (7, 4),
    "arp_validate": (9, 4),
    "arp_all_targets": (10, 4),
    "primary_reselect": (12, 1),
    "fail_over_mac": (13, 1),
    "xmit_hash_policy": (14, 1),
    "resend_igmp": (15, 4),
    "peer_notif_delay": (16, 1),  # sets num_peer_notif, as in Spiderpool
    "all_slaves_active": (17, 1),
    "min_links": (18, 4),
    "lp_interval": (19, 4),
    "packets_per_slave": (20, 4),
    "lacp_rate": (21, 1),
    "ad_select": (22, 1),
    "ad_actor_sys_prio": (24, 2),
    "ad_user_port_key": (25, 2),
    "tlb_dynamic_lb": (27, 1),
}
"""Key -> attribute and its size in bytes."""


class BondOptions(NamedTuple):
    """Options that mean something. ``numbers``: (key, value), in the order they were written."""

    numbers: tuple[tuple[str, int], ...] = ()
    arp_targets: tuple[str, ...] = ()
    actor: bytes = b""
    primary: str = ""
    active: str = ""

    @property
    def interfaces(self) -> tuple[tuple[str, str], ...]:
        """(key, interface) of the options that name one."""
        both = (("primary", self.primary), ("active_slave", self.active))
        return tuple((key, name) for key, name in both if name)


def read_options(text: str) -> BondOptions:
    """The options of a text. Raises BadInput; its subject is the key."""
    if len(text) > OPTIONS_CHARACTERS_MAX:
        raise _bad("bond.options", f"more than {OPTIONS_CHARACTERS_MAX} characters")
    numbers: list[tuple[str, int]] = []
    said: dict[str, str] = {}
    for piece in text.split(";"):
        if piece.count("=") != 1:
            continue
        key, value = (part.strip() for part in piece.split("="))
        if key in NUMBERS:
            number = _number(key, value)
            if number > 0:
                numbers.append((key, number))
        else:
            said[key] = value
    return BondOptions(
        tuple(numbers),
        _arp_targets(said.get("arp_ip_target", "")),
        _mac(said.get("ad_actor_system", "")),
        said.get("primary", ""),
        said.get("active_slave", ""),
    )


def bond_data(mode: int, options: BondOptions, index_of: Mapping[str, int]) -> bytes:
    """The attributes a bond is born with; ``active_slave`` needs its member and is not among them.

    ``index_of`` knows the interface that ``primary`` names.
    """
    data = attribute(MODE, bytes((mode,)))
    for key, value in options.numbers:
        kind, size = NUMBERS[key]
        data += attribute(kind, value.to_bytes(size, sys.byteorder))
    if options.arp_targets:
        targets = (
            attribute(place, IPv4Address(target).packed)
            for place, target in enumerate(options.arp_targets)
        )
        data += nested(ARP_IP_TARGET, *targets)
    if options.actor:
        data += attribute(AD_ACTOR_SYSTEM, options.actor)
    if options.primary:
        data += attribute(PRIMARY, index_of[options.primary].to_bytes(4, sys.byteorder))
    return data


def active_member_data(index: int) -> bytes:
    """The attribute that chooses the active member."""
    return attribute(ACTIVE_SLAVE, index.to_bytes(4, sys.byteorder))


def _number(key: str, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        raise _bad(key, f"{value[:64]!r} is not a number") from None
    _, size = NUMBERS[key]
    if number >= 1 << 8 * size:
        raise _bad(key, f"{number} is more than {(1 << 8 * size) - 1}")
    return number


def _arp_targets(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    try:
        targets = json.loads(text) if text.startswith("[") else [text]
        found = tuple(str(IPv4Address(target)) for target in targets)
    except (ValueError, TypeError, RecursionError):
        raise _bad("arp_ip_target", f'{text[:64]!r} is not a list like ["10.0.0.1"]') from None
    if len(found) > ARP_TARGETS_MAX:
        raise _bad("arp_ip_target", f"more than {ARP_TARGETS_MAX} addresses")
    return found


def _mac(text: str) -> bytes:
    if not text:
        return b""
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != MAC_BYTES:
        raise _bad("ad_actor_system", f"{text[:64]!r} is not a hardware address")
    return mac


def _bad(key: str, what: str) -> BadInput:
    return BadInput(f"bond option {key}: {what}", subject=key, remedy="correct bond.options")
