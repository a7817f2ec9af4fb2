"""The hardware addresses of virtual functions: MAC addresses, and GUIDs of InfiniBand. Pure.

The same NIC and number always give the same address, so a recreated virtual function keeps it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from core.domain.sriov.guid_file import GuidFile
from core.domain.sriov.model import INFINIBAND, PhysicalFunction

_LOCAL_UNICAST: Final = 0x02  # bits of the first byte: locally administered, not multicast


def default_mac(nic: PhysicalFunction, vf: int) -> str:
    """A hardware address for a virtual function, derived from that of the NIC."""
    # NICs in one bond have the same MAC address, so the PCI address is used, too. GUIDs are unique.
    is_infiniband = nic.link_type == INFINIBAND
    seed = f"{nic.mac} {vf}" if is_infiniband else f"{nic.mac} {nic.address} {vf}"
    digest = hashlib.sha256(seed.encode()).digest()
    size = 8 if is_infiniband else 6
    first = digest[0] & 0xFC | _LOCAL_UNICAST
    return bytes((first, *digest[1:size])).hex(":")


def assigned_mac(nic: PhysicalFunction, vf: int, guid_file: GuidFile) -> str:
    """The hardware address that a plan sets: the GUID in the file, or ``default_mac``."""
    guid = guid_file.guid_of(nic, vf) if nic.link_type == INFINIBAND else None
    return guid or default_mac(nic, vf)
