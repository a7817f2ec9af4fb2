"""Settings that exist only in netlink: MAC addresses and GUIDs of VFs, and eswitch modes.

See include/uapi/linux/if_link.h, IFLA_VFINFO_LIST. The physical function sets the address, so that
a Pod's driver cannot choose another one.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from errno import EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM
from struct import Struct
from typing import Final, Protocol

from core.domain.sriov.model import LEGACY, SWITCHDEV
from core.errors import DatapathError
from nodeagent.netlink import numbers as n
from nodeagent.netlink.codec import attribute, attribute_u32, attributes, elements, nested
from nodeagent.netlink.devlink import (
    LEGACY_MODE,
    NETLINK_GENERIC,
    SWITCHDEV_MODE,
    devlink_family,
    eswitch_mode,
    set_eswitch_mode,
)
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.netlink.requests import IFINFOMSG, Request, set_link_up
from nodeagent.netlink.session import NetlinkSession

_IFLA_VFINFO_LIST: Final = 22
_IFLA_VF_INFO: Final = 1
_IFLA_VF_MAC: Final = 1
_IFLA_VF_LINK_STATE: Final = 5
_IFLA_VF_IB_NODE_GUID: Final = 10
_IFLA_VF_IB_PORT_GUID: Final = 11
_VF_MAC: Final = Struct("=I32s")
_VF_STATE: Final = Struct("=II")
_VF_GUID: Final = Struct("=IIQ")  # the compiler aligns the GUID to eight bytes
_RTEXT_FILTER_VF: Final = 1
_FOLLOW_PORT: Final = 0
_MODES: Final = {LEGACY: LEGACY_MODE, SWITCHDEV: SWITCHDEV_MODE}

_NO_MODES: Final = frozenset((EOPNOTSUPP, ENODEV, ENOENT, EINVAL, EPERM))
"""Errors of kernels and NICs without eswitch modes; mlx5 answers EPERM where another function has
the switch.
"""


class VfLinks(Protocol):
    """Reads and sets settings without a file in /sys. Every method raises DatapathError."""

    def set_mac(self, link: str, vf: int, mac: bytes) -> None:
        """Set the MAC address of a virtual function of ``link``."""
        ...

    def set_guid(self, link: str, vf: int, guid: bytes) -> None:
        """Set the node and port GUID of a virtual function; its link state follows the NIC's."""
        ...

    def guids(self, link: str) -> Mapping[int, str]:
        """The GUIDs of all virtual functions of ``link`` by number, even if a Pod has them."""
        ...

    def set_link_up(self, link: str) -> None:
        """Set a link up."""
        ...

    def eswitch_modes(self, addresses: Collection[str]) -> Mapping[str, str]:
        """The eswitch modes of NICs by PCI address; NICs without modes are left out."""
        ...

    def set_eswitch_mode(self, address: str, mode: str) -> None:
        """Set the eswitch mode of the NIC at a PCI address."""
        ...


@contextmanager
def _accept_no_modes(owner: str) -> Iterator[None]:
    """Accept that a kernel or NIC has no eswitch modes.

    Other errors are raised: if a mode that could not be read were taken for legacy, a policy for
    switchdev would set the mode anew, which removes the virtual functions.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise DatapathError(
                f"cannot read the eSwitchMode of {owner}: {error.strerror or error}",
                subject=owner,
                remedy="see what devlink dev eswitch show prints",
            ) from error


class KernelVfLinks:
    """``VfLinks`` of the node's network namespace."""

    def __init__(self, executor: NetnsExecutor) -> None:
        self._executor = executor

    def set_mac(self, link: str, vf: int, mac: bytes) -> None:
        """See ``VfLinks``."""
        change = attribute(_IFLA_VF_MAC, _VF_MAC.pack(vf, mac))
        self._set(link, vf, f"set address {mac.hex(':')} of", change)

    def set_guid(self, link: str, vf: int, guid: bytes) -> None:
        """See ``VfLinks``."""
        packed = _VF_GUID.pack(vf, 0, int.from_bytes(guid, "big"))
        for kind in (_IFLA_VF_IB_NODE_GUID, _IFLA_VF_IB_PORT_GUID):
            self._set(link, vf, f"set GUID {guid.hex(':')} of", attribute(kind, packed))
        state = attribute(_IFLA_VF_LINK_STATE, _VF_STATE.pack(vf, _FOLLOW_PORT))
        self._set(link, vf, "set link state auto of", state)

    def guids(self, link: str) -> Mapping[int, str]:
        """See ``VfLinks``. Drivers and kernels that do not report GUIDs report none."""
        mask = attribute_u32(n.IFLA_EXT_MASK, _RTEXT_FILTER_VF | n.RTEXT_FILTER_SKIP_STATS)
        with self._executor.session(self._executor.own_namespace) as session:
            body = IFINFOMSG.pack(0, 0, _number(session, link), 0, 0) + mask
            answer = session.ask(Request(n.RTM_GETLINK, 0, body, "read virtual functions of", link))
        return {} if answer is None else vf_guids(memoryview(answer))

    def set_link_up(self, link: str) -> None:
        """See ``VfLinks``."""
        with self._executor.session(self._executor.own_namespace) as session:
            session.apply([set_link_up(_number(session, link))])

    def eswitch_modes(self, addresses: Collection[str]) -> Mapping[str, str]:
        """See ``VfLinks``."""
        modes: dict[str, str] = {}
        with self._generic_socket() as netlink, _accept_no_modes("NICs of this node"):
            family = devlink_family(netlink)
            for address in addresses:
                with _accept_no_modes(address):
                    mode = eswitch_mode(netlink, family, address)
                    modes[address] = LEGACY if mode == LEGACY_MODE else SWITCHDEV
        return modes

    def set_eswitch_mode(self, address: str, mode: str) -> None:
        """See ``VfLinks``."""
        with self._generic_socket() as netlink:
            try:
                set_eswitch_mode(netlink, devlink_family(netlink), address, _MODES[mode])
            except OSError as error:
                raise DatapathError(
                    f"cannot set eSwitchMode {mode} of {address}: {error.strerror or error}",
                    subject=address,
                    remedy="leave eSwitchMode out unless the driver has modes: devlink dev eswitch",
                ) from error

    def _generic_socket(self) -> socket.socket:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        own_namespace = self._executor.own_namespace
        return self._executor.socket(own_namespace, socket.AF_NETLINK, kind, NETLINK_GENERIC)

    def _set(self, link: str, vf: int, verb: str, change: bytes) -> None:
        with self._executor.session(self._executor.own_namespace) as session:
            info = nested(_IFLA_VFINFO_LIST, nested(_IFLA_VF_INFO, change))
            body = IFINFOMSG.pack(0, 0, _number(session, link), 0, 0) + info
            what = f"virtual function {vf} of {link}"
            session.apply([Request(n.RTM_NEWLINK, 0, body, verb, what)])


def vf_guids(body: memoryview) -> dict[int, str]:
    """The node GUIDs in an ``RTM_NEWLINK``, by the number of the virtual function."""
    link_attributes = attributes(body[IFINFOMSG.size :])
    guids = {}
    for info in elements(link_attributes.get(_IFLA_VFINFO_LIST, memoryview(b""))):
        value = attributes(info).get(_IFLA_VF_IB_NODE_GUID)
        if value is not None:
            vf, _, guid = _VF_GUID.unpack_from(value)
            guids[vf] = guid.to_bytes(8, "big").hex(":")
    return guids


def _number(session: NetlinkSession, name: str) -> int:
    link = session.link(name)
    if link is None:
        raise DatapathError(f"there is no link {name}", subject=name)
    return link.ifindex
