"""Reads and sets VF settings and eswitch modes through netlink.

VF settings are set at the physical function, so a Pod cannot change them. See
include/uapi/linux/if_link.h, IFLA_VFINFO_LIST.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from errno import EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM
from struct import Struct
from typing import Final, NamedTuple, Protocol

from core.domain.sriov.model import LEGACY, SWITCHDEV
from core.errors import DatapathError, NetlinkRefused
from nodeagent.netlink import numbers as n
from nodeagent.netlink.codec import attribute, attribute_u32, attributes, elements, nested, u32
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
_IFLA_VF_VLAN: Final = 2
_IFLA_VF_SPOOFCHK: Final = 4
_IFLA_VF_LINK_STATE: Final = 5
_IFLA_VF_TRUST: Final = 9
_IFLA_VF_IB_NODE_GUID: Final = 10
_IFLA_VF_IB_PORT_GUID: Final = 11
_VF_MAC: Final = Struct("=I32s")
_VF_SETTING: Final = Struct("=II")
_UNKNOWN: Final = 0xFFFF_FFFF
"""The value of a setting that the driver does not support."""

_VF_GUID: Final = Struct("=IIQ")  # the compiler aligns the GUID to eight bytes
_RTEXT_FILTER_VF: Final = 1
_FOLLOW_PORT: Final = 0
_MODES: Final = {LEGACY: LEGACY_MODE, SWITCHDEV: SWITCHDEV_MODE}

_NO_MODE_ERRORS: Final = frozenset((EOPNOTSUPP, ENODEV, ENOENT, EINVAL, EPERM))
"""Errors if there is no eswitch mode to read. mlx5: EPERM if another function owns the eswitch."""


class VfSettings(NamedTuple):
    """Settings of a virtual function.

    ``guid`` "": no GUID. ``trust``, ``spoof_check`` None: the driver does not support the setting.
    ``vlan`` 0: no VLAN.
    """

    guid: str = ""
    trust: bool | None = None
    spoof_check: bool | None = None
    vlan: int = 0


class VfLinks(Protocol):
    """Settings that /sys does not have. Every method raises DatapathError."""

    def set_mac(self, link: str, vf: int, mac: bytes) -> None:
        """Set the MAC address of a virtual function."""
        ...

    def set_guid(self, link: str, vf: int, guid: bytes) -> None:
        """Set the node GUID, the port GUID and the link state "auto"."""
        ...

    def set_trust(self, link: str, vf: int, *, trust: bool) -> None:
        """Set the trust of a virtual function."""
        ...

    def set_spoof_check(self, link: str, vf: int, *, spoof_check: bool) -> None:
        """Set whether the NIC checks source addresses."""
        ...

    def vf_settings(self, link: str) -> Mapping[int, VfSettings]:
        """Settings of the link's virtual functions, by number."""
        ...

    def set_link_up(self, link: str) -> None:
        """Set a link up."""
        ...

    def eswitch_modes(self, addresses: Collection[str]) -> Mapping[str, str]:
        """Eswitch modes by PCI address. NICs without modes are left out."""
        ...

    def set_eswitch_mode(self, address: str, mode: str) -> None:
        """Set the eswitch mode of a NIC."""
        ...


@contextmanager
def _ignore_no_mode_errors(owner: str) -> Iterator[None]:
    """Ignore ``_NO_MODE_ERRORS``; raise DatapathError for other errors.

    A NIC without a mode counts as legacy. If a temporary error counted as "no mode", a policy would
    set switchdev again, which removes the virtual functions.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_MODE_ERRORS:
            raise DatapathError(
                f"cannot read the eSwitchMode of {owner}: {error.strerror or error}",
                subject=owner,
                remedy="if `devlink dev eswitch show` on the node fails too, check the driver and"
                " firmware of the NIC; otherwise try again",
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
        state = attribute(_IFLA_VF_LINK_STATE, _VF_SETTING.pack(vf, _FOLLOW_PORT))
        self._set(link, vf, "set link state auto of", state)

    def set_trust(self, link: str, vf: int, *, trust: bool) -> None:
        """See ``VfLinks``."""
        self._set_flag(link, vf, "trust", _IFLA_VF_TRUST, is_on=trust)

    def set_spoof_check(self, link: str, vf: int, *, spoof_check: bool) -> None:
        """See ``VfLinks``."""
        self._set_flag(link, vf, "spoofChk", _IFLA_VF_SPOOFCHK, is_on=spoof_check)

    def vf_settings(self, link: str) -> Mapping[int, VfSettings]:
        """See ``VfLinks``."""
        mask = attribute_u32(n.IFLA_EXT_MASK, _RTEXT_FILTER_VF | n.RTEXT_FILTER_SKIP_STATS)
        with self._executor.session(self._executor.own_namespace) as session:
            body = IFINFOMSG.pack(0, 0, _ifindex(session, link), 0, 0) + mask
            answer = session.ask(Request(n.RTM_GETLINK, 0, body, "read virtual functions of", link))
        return {} if answer is None else settings_of_vfs(memoryview(answer))

    def set_link_up(self, link: str) -> None:
        """See ``VfLinks``."""
        with self._executor.session(self._executor.own_namespace) as session:
            session.apply([set_link_up(_ifindex(session, link))])

    def eswitch_modes(self, addresses: Collection[str]) -> Mapping[str, str]:
        """See ``VfLinks``."""
        modes: dict[str, str] = {}
        with self._generic_socket() as netlink, _ignore_no_mode_errors("NICs of this node"):
            family = devlink_family(netlink)
            for address in addresses:
                with _ignore_no_mode_errors(address):
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
                    remedy="leave eSwitchMode out if `devlink dev eswitch show` reports no mode",
                ) from error

    def _generic_socket(self) -> socket.socket:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        own_namespace = self._executor.own_namespace
        return self._executor.socket(own_namespace, socket.AF_NETLINK, kind, NETLINK_GENERIC)

    def _set_flag(self, link: str, vf: int, name: str, kind: int, *, is_on: bool) -> None:
        value = attribute(kind, _VF_SETTING.pack(vf, is_on))
        text = f"set {name} {'on' if is_on else 'off'} of"
        try:
            self._set(link, vf, text, value)
        except NetlinkRefused as error:
            if error.errno == EOPNOTSUPP:
                error.remedy = f"leave {name} out of the policy: the driver of {link} lacks it"
            raise

    def _set(self, link: str, vf: int, verb: str, change: bytes) -> None:
        with self._executor.session(self._executor.own_namespace) as session:
            info = nested(_IFLA_VFINFO_LIST, nested(_IFLA_VF_INFO, change))
            body = IFINFOMSG.pack(0, 0, _ifindex(session, link), 0, 0) + info
            what = f"virtual function {vf} of {link}"
            session.apply([Request(n.RTM_NEWLINK, 0, body, verb, what)])


def settings_of_vfs(body: memoryview) -> dict[int, VfSettings]:
    """Settings in an ``RTM_NEWLINK``, by the VF's number."""
    infos = attributes(body[IFINFOMSG.size :]).get(_IFLA_VFINFO_LIST, memoryview(b""))
    vf_attributes = filter(None, map(attributes, elements(infos)))
    # Every attribute of a virtual function begins with the VF's number.
    return {u32(next(iter(values.values()))): _settings(values) for values in vf_attributes}


def _settings(by_kind: Mapping[int, memoryview]) -> VfSettings:
    guid, vlan = by_kind.get(_IFLA_VF_IB_NODE_GUID), by_kind.get(_IFLA_VF_VLAN)
    return VfSettings(
        guid="" if guid is None else _VF_GUID.unpack_from(guid)[2].to_bytes(8, "big").hex(":"),
        trust=_is_on(by_kind.get(_IFLA_VF_TRUST)),
        spoof_check=_is_on(by_kind.get(_IFLA_VF_SPOOFCHK)),
        vlan=0 if vlan is None else _VF_SETTING.unpack_from(vlan)[1],
    )


def _is_on(value: memoryview | None) -> bool | None:
    setting = _UNKNOWN if value is None else _VF_SETTING.unpack_from(value)[1]
    return None if setting == _UNKNOWN else bool(setting)


def _ifindex(session: NetlinkSession, name: str) -> int:
    link = session.link(name)
    if link is None:
        remedy = "check whether the NIC was renamed or removed; the agent tries again"
        raise DatapathError(f"there is no link {name}", subject=name, remedy=remedy)
    return link.ifindex
