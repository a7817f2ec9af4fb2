"""The file with the GUIDs of a node's InfiniBand virtual functions. Pure.

The SR-IOV network operator defines the format: a JSON list with one entry for each NIC. An entry
has the PCI address or the GUID of the NIC, and a list or a range of GUIDs. Virtual function 0 gets
the first GUID. An entry by PCI address takes precedence over an entry by GUID, and an earlier
entry over a later one. Entries for NICs of other nodes are ignored, so that all nodes can have the
same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from core.domain.sriov.model import PhysicalFunction

GUID_FILE: Final = "/etc/sriov-operator/infiniband/guids"
GUID_FILE_BYTES_MAX: Final = 4 * 1024**2
"""Enough for about 100,000 GUIDs."""

_GUID_BYTES: Final = 8
_LINK_ADDRESS_BYTES: Final = 20  # of an InfiniBand link, with the GUID at the end
_SEPARATORS: Final = re.compile(r"^0x|[:.-]")
_DIGITS: Final = re.compile(r"[0-9a-f]{16}")


class GuidEntry(NamedTuple):
    """The GUIDs of one NIC: a list, or ``first`` to ``last``, both included."""

    guids: tuple[str, ...] = ()
    first: int = 0
    last: int = -1

    def guid_of(self, vf: int) -> str | None:
        if vf < len(self.guids):
            return self.guids[vf]
        number = self.first + vf
        return number.to_bytes(_GUID_BYTES, "big").hex(":") if number <= self.last else None


class GuidFile(NamedTuple):
    """The parsed file. ``entries``: by PCI address or GUID of a NIC.

    ``fault``: why the file cannot be used.
    """

    exists: bool = False
    entries: Mapping[str, GuidEntry] = MappingProxyType({})
    fault: str = ""

    def guid_of(self, nic: PhysicalFunction, vf: int) -> str | None:
        entry = self.entries.get(nic.address) or self.entries.get(nic.mac)
        return None if entry is None else entry.guid_of(vf)


def parse_guid_file(text: str) -> GuidFile:
    """Parse the file. If one entry is faulty, no entry is used."""
    try:
        items = json.loads(text)
        if not isinstance(items, list):
            raise TypeError("it is not a list")
        entries: dict[str, GuidEntry] = {}
        for number, item in enumerate(items):
            nic, entry = _entry(number, item)
            entries.setdefault(nic, entry)
    except (ValueError, TypeError, RecursionError) as error:
        return GuidFile(exists=True, fault=f"the file of GUIDs cannot be read: {error}")
    return GuidFile(exists=True, entries=entries)


def _entry(number: int, item: object) -> tuple[str, GuidEntry]:
    if not isinstance(item, dict):
        raise TypeError(f"entry {number} is not an object")
    try:
        return _parsed(item)
    except (ValueError, TypeError) as error:
        raise ValueError(f"entry {number}: {error}") from None


def _parsed(item: Mapping[str, object]) -> tuple[str, GuidEntry]:
    """The PCI address or GUID of a NIC, and the entry. Raises ValueError, TypeError."""
    # Two fields have two names each, because documents and code of the operator differ.
    address = _text(item, "pciAddress", "pci_address")
    nic_guid = _text(item, "pfGuid", "pf_guid")
    if bool(address) == bool(nic_guid):
        raise ValueError("it must have exactly one of pci_address and pf_guid")
    guids, guids_range = item.get("guids") or [], item.get("guidsRange") or {}
    if not isinstance(guids, list) or not isinstance(guids_range, dict):
        raise TypeError("guids must be a list, and guidsRange an object with start and end")
    if bool(guids) == bool(guids_range):
        raise ValueError("it must have exactly one of guids and guidsRange")
    nic = address.lower() or parse_guid(nic_guid)
    if guids:
        return nic, GuidEntry(tuple(map(parse_guid, guids)))
    first, last = (_number(parse_guid(guids_range.get(key))) for key in ("start", "end"))
    if last < first:
        raise ValueError("guidsRange ends before it starts")
    return nic, GuidEntry(first=first, last=last)


def _text(item: Mapping[str, object], *names: str) -> str:
    value = next((item[name] for name in names if item.get(name)), "")
    if not isinstance(value, str):
        raise TypeError(f"{names[0]} is not a string")
    return value


def parse_guid(value: object) -> str:
    """The stored form of a GUID, or of the GUID at the end of a link address.

    Raises ValueError.
    """
    digits = _SEPARATORS.sub("", value.strip().lower()) if isinstance(value, str) else ""
    digits = digits[-2 * _GUID_BYTES :] if len(digits) == 2 * _LINK_ADDRESS_BYTES else digits
    if not _DIGITS.fullmatch(digits) or (len(set(digits)) == 1 and digits[0] in "0f"):
        raise ValueError(
            f"{str(value)[:64]!r} is not an InfiniBand GUID: 8 bytes in hexadecimal, not all 0 or f"
        )
    return bytes.fromhex(digits).hex(":")


def _number(guid: str) -> int:
    return int(guid.replace(":", ""), 16)
