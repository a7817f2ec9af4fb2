"""Reads and changes Data Center Bridging by rtnetlink: PFC, ETS, trust, priorities of DSCPs.

Functions raise NetlinkRefused, NetlinkLost. Changes need CAP_NET_ADMIN. The kernel acknowledges a
change even if the driver refused the change; one byte of the answer has the driver's status. See
include/uapi/linux/dcbnl.h and dcb(8).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from errno import EINVAL, ENOENT, EOPNOTSUPP
from struct import Struct
from typing import Final

from core.domain.roce_qos.qos_model import (
    PRIORITIES,
    TRUST_DSCP,
    TRUST_PCP,
    DcbSettings,
    DscpPriority,
    EtsSettings,
    Trust,
)
from core.errors import NetlinkRefused
from nodeagent.netlink.codec import attribute, attribute_text, attributes, elements, nested
from nodeagent.netlink.requests import Request
from nodeagent.netlink.session import NetlinkSession

RTM_GETDCB: Final = 78
RTM_SETDCB: Final = 79

DCBMSG: Final = Struct("=BBH")
IEEE_ETS: Final = Struct("=3B8s8s8s8s8s8s8s")
IEEE_PFC: Final = Struct("=3BxH2x16Q")
IEEE_PFC_ENABLED: Final = 1
"""The index in ``IEEE_PFC`` of the field that has one bit for each priority."""

CLASSES_MAX: Final = 8
"""The kernel's limit of traffic classes. If a driver reports 0 classes, this number is meant."""

DCB_APP: Final = Struct("=BBH")

_IEEE_SET: Final = 20
_IEEE_GET: Final = 21
_IEEE_DEL: Final = 27
_IFNAME: Final = 1
_IEEE: Final = 13
_ETS: Final = 1
_PFC: Final = 2
_APP_TABLE: Final = 3
_TRUST_TABLE: Final = 11
_IEEE_APP: Final = 1
_DCB_APP: Final = 2
_SELECTOR_DSCP: Final = 5
_SELECTOR_PCP: Final = 255
_TRUST_BY_SELECTOR: Final[dict[int, Trust]] = {
    _SELECTOR_DSCP: TRUST_DSCP,
    _SELECTOR_PCP: TRUST_PCP,
}
_TRUST_ATTRIBUTES: Final = {
    TRUST_DSCP: attribute(_IEEE_APP, bytes([_SELECTOR_DSCP])),
    TRUST_PCP: attribute(_DCB_APP, bytes([_SELECTOR_PCP])),
}
_STRICT: Final = 0
_ETS_BANDWIDTH: Final = 2
_STATUS_VALUES: Final = 256
_FIRST_ERROR_STATUS: Final = 128
"""A status of this number or more is an error: 256 minus errno. A smaller status is a success;
some drivers, such as ice, report a number above 0 if no change was needed."""


def read_dcb(session: NetlinkSession, link: str) -> DcbSettings | None:
    """The DCB settings of a link; None if the link has no DCB."""
    ieee = _read(session, link)
    if ieee is None:
        return None
    return DcbSettings(
        pfc=_pfc_priorities(ieee.get(_PFC)),
        dscp_priorities=frozenset(_dscp_priorities(ieee.get(_APP_TABLE))),
        trust=_trust(ieee.get(_TRUST_TABLE)),
        ets=_ets(ieee.get(_ETS)),
    )


def set_pfc(session: NetlinkSession, link: str, priorities: Iterable[int]) -> None:
    """Enable PFC for exactly these priorities."""
    pfc = (_read(session, link) or {}).get(_PFC)
    if pfc is None:
        raise _refusal(f"set PFC of {link}", EOPNOTSUPP)
    fields = list(IEEE_PFC.unpack_from(pfc))
    fields[IEEE_PFC_ENABLED] = sum(1 << priority for priority in set(priorities))
    _change(session, link, _IEEE_SET, "set PFC of", attribute(_PFC, IEEE_PFC.pack(*fields)))


def set_ets(session: NetlinkSession, link: str, ets: EtsSettings) -> None:
    """Set traffic classes and bandwidths. A class without a bandwidth gets strict priority."""
    current = (_read(session, link) or {}).get(_ETS)
    if current is None:
        raise _refusal(f"set ETS of {link}", EOPNOTSUPP)
    willing, classes_max, shaper, *tables = IEEE_ETS.unpack_from(current)
    shares: list[int | None] = list(ets.bandwidths)
    shares += [None] * (CLASSES_MAX - len(shares))
    bandwidths = bytes(share or 0 for share in shares)
    algorithms = bytes(_STRICT if share is None else _ETS_BANDWIDTH for share in shares)
    tables[:4] = [bandwidths, bandwidths, algorithms, bytes(ets.classes)]
    packed = IEEE_ETS.pack(willing, classes_max, shaper, *tables)
    _change(session, link, _IEEE_SET, "set ETS of", attribute(_ETS, packed))


def set_trust(session: NetlinkSession, link: str, trust: Trust) -> None:
    """Set which field of a packet determines its priority."""
    table = nested(_TRUST_TABLE, _TRUST_ATTRIBUTES[trust])
    _change(session, link, _IEEE_SET, "set trust of", table)


def add_dscp_priorities(
    session: NetlinkSession, link: str, entries: Iterable[DscpPriority]
) -> None:
    """Add entries to the table of DSCP priorities."""
    _change(session, link, _IEEE_SET, "add DSCP priorities of", _table(entries))


def remove_dscp_priorities(
    session: NetlinkSession, link: str, entries: Iterable[DscpPriority]
) -> None:
    """Remove entries from the table of DSCP priorities. A missing entry is not an error.

    Each entry has its own request, because the kernel stops at the first missing entry. Some
    drivers remove the old entry of a DSCP when a new entry is added.
    """
    for entry in entries:
        try:
            _change(session, link, _IEEE_DEL, "remove a DSCP priority of", _table([entry]))
        except NetlinkRefused as error:
            if error.errno != ENOENT:
                raise


def _read(session: NetlinkSession, link: str) -> dict[int, memoryview] | None:
    body = DCBMSG.pack(0, _IEEE_GET, 0) + attribute_text(_IFNAME, link)
    try:
        answer = session.ask(Request(RTM_GETDCB, 0, body, "read DCB of", link))
    except NetlinkRefused as error:
        if error.errno != EOPNOTSUPP:
            raise
        return None
    return None if answer is None else _ieee(answer)


def _change(session: NetlinkSession, link: str, command: int, verb: str, setting: bytes) -> None:
    body = DCBMSG.pack(0, command, 0) + attribute_text(_IFNAME, link) + nested(_IEEE, setting)
    (outcome,) = session.apply([Request(RTM_SETDCB, 0, body, verb, link)])
    status = attributes(outcome.answer[DCBMSG.size :]).get(_IEEE)
    if status is None:
        text = f"cannot {verb} {link}: the answer of the kernel has no status of the driver"
        raise NetlinkRefused(text, errno=EINVAL)
    if status[0] >= _FIRST_ERROR_STATUS:
        raise _refusal(f"{verb} {link}", _STATUS_VALUES - status[0])


def _ieee(answer: bytes) -> dict[int, memoryview]:
    """The IEEE attributes; empty if the driver only has CEE, the older standard."""
    ieee = attributes(answer[DCBMSG.size :]).get(_IEEE)
    return {} if ieee is None else attributes(ieee)


def _table(entries: Iterable[DscpPriority]) -> bytes:
    packed = (DCB_APP.pack(_SELECTOR_DSCP, entry.priority, entry.dscp) for entry in entries)
    return nested(_APP_TABLE, *(attribute(_IEEE_APP, entry) for entry in packed))


def _dscp_priorities(table: memoryview | None) -> Iterable[DscpPriority]:
    for entry in () if table is None else elements(table):
        selector, priority, dscp = DCB_APP.unpack_from(entry)
        if selector == _SELECTOR_DSCP:
            yield DscpPriority(dscp, priority)


def _pfc_priorities(pfc: memoryview | None) -> frozenset[int] | None:
    if pfc is None:
        return None
    bits = IEEE_PFC.unpack_from(pfc)[IEEE_PFC_ENABLED]
    return frozenset(priority for priority in PRIORITIES if bits >> priority & 1)


def _trust(table: memoryview | None) -> tuple[Trust, ...] | None:
    if table is None:
        return None
    selectors = (entry[0] for entry in elements(table))
    return tuple(_TRUST_BY_SELECTOR[s] for s in selectors if s in _TRUST_BY_SELECTOR)


def _ets(ets: memoryview | None) -> EtsSettings | None:
    """The ETS settings. A class that does not use ETS has the bandwidth None."""
    if ets is None:
        return None
    _, classes_max, _, shares, _, algorithms, classes, *_ = IEEE_ETS.unpack_from(ets)
    bandwidths = (
        share if algorithm == _ETS_BANDWIDTH else None
        for share, algorithm in zip(shares, algorithms, strict=True)
    )
    return EtsSettings(tuple(classes), tuple(bandwidths), classes_max or CLASSES_MAX)


def _refusal(what: str, number: int) -> NetlinkRefused:
    return NetlinkRefused(f"cannot {what}: {os.strerror(number)}", errno=number)
