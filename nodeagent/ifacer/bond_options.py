"""Parses bond options, which users write as ``key=value;key=value``. Pure.

As in Spiderpool, these entries are ignored: an entry without exactly one "=", an unknown key, a
number below 1. See docs/reference/cni-configuration.md, "Bond options".
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from core.errors import BadInput

OPTIONS_CHARACTERS_MAX: Final = 4_096
ARP_TARGETS_MAX: Final = 16
"""BOND_MAX_ARP_TARGETS of the kernel."""
MAC_BYTES: Final = 6


class NumberOption(NamedTuple):
    """An option with a number: its netlink attribute (include/uapi/linux/if_link.h) and size."""

    attribute: str
    bits: int


NUMBER_OPTIONS: Final[dict[str, NumberOption]] = {
    "miimon": NumberOption("IFLA_BOND_MIIMON", 32),
    "up_delay": NumberOption("IFLA_BOND_UPDELAY", 32),
    "downdelay": NumberOption("IFLA_BOND_DOWNDELAY", 32),
    "use_carrier": NumberOption("IFLA_BOND_USE_CARRIER", 8),
    "arp_interval": NumberOption("IFLA_BOND_ARP_INTERVAL", 32),
    "arp_validate": NumberOption("IFLA_BOND_ARP_VALIDATE", 32),
    "arp_all_targets": NumberOption("IFLA_BOND_ARP_ALL_TARGETS", 32),
    "primary_reselect": NumberOption("IFLA_BOND_PRIMARY_RESELECT", 8),
    "fail_over_mac": NumberOption("IFLA_BOND_FAIL_OVER_MAC", 8),
    "xmit_hash_policy": NumberOption("IFLA_BOND_XMIT_HASH_POLICY", 8),
    "resend_igmp": NumberOption("IFLA_BOND_RESEND_IGMP", 32),
    "peer_notif_delay": NumberOption("IFLA_BOND_NUM_PEER_NOTIF", 8),  # as in Spiderpool
    "all_slaves_active": NumberOption("IFLA_BOND_ALL_SLAVES_ACTIVE", 8),
    "min_links": NumberOption("IFLA_BOND_MIN_LINKS", 32),
    "lp_interval": NumberOption("IFLA_BOND_LP_INTERVAL", 32),
    "packets_per_slave": NumberOption("IFLA_BOND_PACKETS_PER_SLAVE", 32),
    "lacp_rate": NumberOption("IFLA_BOND_AD_LACP_RATE", 8),
    "ad_select": NumberOption("IFLA_BOND_AD_SELECT", 8),
    "ad_actor_sys_prio": NumberOption("IFLA_BOND_AD_ACTOR_SYS_PRIO", 16),
    "ad_user_port_key": NumberOption("IFLA_BOND_AD_USER_PORT_KEY", 16),
    "tlb_dynamic_lb": NumberOption("IFLA_BOND_TLB_DYNAMIC_LB", 8),
}


class BondOptions(NamedTuple):
    """Parsed options. ``actor_mac``: the MAC address of ``ad_actor_system``, or b""."""

    numbers: tuple[tuple[NumberOption, int], ...] = ()
    arp_targets: tuple[str, ...] = ()
    actor_mac: bytes = b""
    primary: str = ""
    active_member: str = ""

    @property
    def interfaces(self) -> tuple[tuple[str, str], ...]:
        """Key and interface name of each option that names an interface."""
        options = (("primary", self.primary), ("active_slave", self.active_member))
        return tuple((key, name) for key, name in options if name)


def read_options(text: str) -> BondOptions:
    """Parse bond options. Raises BadInput; the subject of the error is the key."""
    if len(text) > OPTIONS_CHARACTERS_MAX:
        raise BadInput(
            f"bond.options has more than {OPTIONS_CHARACTERS_MAX} characters",
            subject="bond.options",
            remedy="shorten bond.options",
        )
    numbers: list[tuple[NumberOption, int]] = []
    texts: dict[str, str] = {}
    for entry in text.split(";"):
        if entry.count("=") != 1:
            continue
        key, value = (part.strip() for part in entry.split("="))
        if key in NUMBER_OPTIONS:
            number = _number(key, value)
            if number > 0:
                numbers.append((NUMBER_OPTIONS[key], number))
        else:
            texts[key] = value
    return BondOptions(
        tuple(numbers),
        _arp_targets(texts.get("arp_ip_target", "")),
        _mac(texts.get("ad_actor_system", "")),
        texts.get("primary", ""),
        texts.get("active_slave", ""),
    )


def _number(key: str, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        raise _bad_option(key, f"{value[:64]!r} is not a number") from None
    bits = NUMBER_OPTIONS[key].bits
    if number >= 1 << bits:
        raise _bad_option(key, f"{number} is more than {(1 << bits) - 1}")
    return number


def _arp_targets(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    try:
        entries = json.loads(text) if text.startswith("[") else [text]
        targets = tuple(str(IPv4Address(entry)) for entry in entries)
    except (ValueError, TypeError, RecursionError):
        raise _bad_option(
            "arp_ip_target", f'{text[:64]!r} is not a list like ["10.0.0.1"]'
        ) from None
    if len(targets) > ARP_TARGETS_MAX:
        raise _bad_option("arp_ip_target", f"the list has more than {ARP_TARGETS_MAX} addresses")
    return targets


def _mac(text: str) -> bytes:
    if not text:
        return b""
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != MAC_BYTES:
        raise _bad_option("ad_actor_system", f"{text[:64]!r} is not a hardware address")
    return mac


def _bad_option(key: str, what: str) -> BadInput:
    return BadInput(f"bond option {key}: {what}", subject=key, remedy="correct bond.options")
