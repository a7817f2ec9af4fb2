"""A simulated kernel that answers DCB netlink requests as with the driver mlx5.

The order of attributes is that of ``dcbnl_ieee_fill`` (net/dcb/dcbnl.c).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from errno import EINVAL, ENODEV, ENOENT, EOPNOTSUPP
from typing import Any, cast

from nodeagent.netlink.codec import attribute, attributes, elements, message, nested
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.session import NetlinkSession

# Message types, commands and attributes of linux/rtnetlink.h and linux/dcbnl.h.
GET, SET = 78, 79
IEEE_SET, IEEE_GET, IEEE_DEL = 20, 21, 27
IFNAME, IEEE, DCBX = 1, 13, 14
ETS, PFC, APP_TABLE, TRUST_TABLE = 1, 2, 3, 11
PEER_ETS, PEER_PFC, MAX_RATE, BUFFER, REWRITE_TABLE = 4, 5, 7, 10, 12
MAX_RATES = bytes(64)
BUFFERS = bytes(8) + struct.pack("=9I", 262_016, *(0,) * 7, 262_016)
HOST_IEEE = 0x09  # DCB_CAP_DCBX_HOST | DCB_CAP_DCBX_VER_IEEE
DSCP = 5  # IEEE_8021QAZ_APP_SEL_DSCP
IEEE_APP, DCB_APP = 1, 2
NLMSG_ERROR = 2
PFC_BYTES = 136
ETS_BYTES = 59
STRICT, BANDWIDTH = 0, 2


class DcbLink:
    """The DCB settings of a link; ``trust`` is None if the driver has no trust table.

    ``status`` is the negative errno of every change, or 0. ``ignores_changes``: changes succeed
    without effect.
    """

    def __init__(self, *, has_dcb: bool = True, trust: list[int] | None = None) -> None:
        self.has_dcb = has_dcb
        self.trust = trust
        # struct ieee_pfc: pfc_cap, pfc_en (a mask of priorities), mbc, delay, counters.
        self.pfc = bytes((8, 0, 1, 0, 0x34, 0x12)) + bytes(PFC_BYTES - 6)
        # struct ieee_ets: willing, ets_cap, cbs; arrays of 8 bytes: tc_tx_bw, tc_rx_bw, tc_tsa,
        # prio_tc, and three arrays of recommended values.
        self.ets = bytes((0, 8, 0)) + bytes(24) + bytes(range(8)) + bytes(24)
        self.priorities: dict[int, int] = {}
        self.status = 0
        self.ignores_changes = False

    @property
    def pfc_priorities(self) -> list[int]:
        return [priority for priority in range(8) if self.pfc[1] >> priority & 1]

    def settings(self) -> bytes:
        entries = (
            attribute(IEEE_APP, struct.pack("=BBH", DSCP, priority, dscp))
            for dscp, priority in self.priorities.items()
        )
        trust = () if self.trust is None else (self._trust_table(),)
        return b"".join(
            (
                attribute(ETS, self._shown_ets()),
                attribute(MAX_RATE, MAX_RATES),
                attribute(PFC, self.pfc),
                attribute(BUFFER, BUFFERS),
                attribute(APP_TABLE, b"".join(entries)),
                attribute(REWRITE_TABLE, b""),
                *trust,
                attribute(PEER_ETS, bytes(ETS_BYTES)),
                attribute(PEER_PFC, b"\xff" * PFC_BYTES),
            )
        )

    def change(self, command: int, settings: dict[int, memoryview]) -> int:
        """Carry out a change; return a negative errno or 0."""
        if self.status or self.ignores_changes:
            return self.status
        if ETS in settings:
            assert len(settings[ETS]) == ETS_BYTES
            shares, algorithms = settings[ETS][3:11], settings[ETS][19:27]
            total = sum(s for s, a in zip(shares, algorithms, strict=True) if a == BANDWIDTH)
            if total not in (0, 100):
                return -EINVAL
            self.ets = bytes(settings[ETS])
        if PFC in settings:
            assert len(settings[PFC]) == PFC_BYTES
            self.pfc = bytes(settings[PFC])
        if TRUST_TABLE in settings:
            if self.trust is None:
                return -EOPNOTSUPP
            self.trust = [selector[0] for selector in elements(settings[TRUST_TABLE])]
        for entry in elements(settings.get(APP_TABLE, memoryview(b""))):
            selector, priority, dscp = struct.unpack("=BBH", entry)
            if selector != DSCP or dscp > 63 or priority > 7:
                return -EINVAL
            if command == IEEE_SET:
                self.priorities[dscp] = priority
            elif self.priorities.get(dscp) == priority:
                del self.priorities[dscp]
            else:
                return -ENOENT
        return 0

    def _shown_ets(self) -> bytes:
        """The ETS attribute; a class without a bandwidth share is reported with the share 100."""
        shares = bytes(
            share if algorithm == BANDWIDTH else 100
            for share, algorithm in zip(self.ets[3:11], self.ets[19:27], strict=True)
        )
        return self.ets[:3] + shares + self.ets[11:]

    def _trust_table(self) -> bytes:
        assert self.trust is not None
        return nested(
            TRUST_TABLE,
            *(attribute(IEEE_APP if s == DSCP else DCB_APP, bytes([s])) for s in self.trust),
        )


class DcbExecutor(NetnsExecutor):
    """An executor whose netlink sessions are connected to the simulated kernel."""

    def __init__(self, links: dict[str, DcbLink]) -> None:
        super().__init__()
        self.links = links
        self.changes = 0

    def session(self, namespace: NetworkNamespace) -> NetlinkSession:
        assert namespace is self.own_namespace
        return NetlinkSession(cast("Any", _Socket(self)))


class _Socket:
    def __init__(self, kernel: DcbExecutor) -> None:
        self._kernel = kernel
        self._answers: list[bytes] = []

    def close(self) -> None:
        """Do nothing."""

    def send(self, request: bytes) -> None:
        _, kind, _, sequence, _ = struct.unpack_from("=IHHII", request)
        command = request[17]
        self._answers += self._served(kind, sequence, command, attributes(request[20:]))

    def recv(self, _: int) -> bytes:
        if not self._answers:
            raise BlockingIOError(11, "empty")
        return self._answers.pop(0)

    def _served(
        self, kind: int, sequence: int, command: int, settings: dict[int, memoryview]
    ) -> Iterator[bytes]:
        link = self._kernel.links.get(bytes(settings[IFNAME]).rstrip(b"\0").decode())
        errno = ENODEV if link is None else 0 if link.has_dcb else EOPNOTSUPP
        if link is not None and not errno:
            head = bytes((0, command, 0, 0))
            if kind == GET:
                assert command == IEEE_GET
                name = attribute(IFNAME, bytes(settings[IFNAME]))
                mode = attribute(DCBX, bytes([HOST_IEEE]))
                answer = head + name + attribute(IEEE, link.settings()) + mode
                yield message(GET, 0, sequence, answer)
            else:
                self._kernel.changes += 1
                status = link.change(command, attributes(settings[IEEE]))
                yield message(SET, 0, sequence, head + attribute(IEEE, bytes([status & 0xFF])))
        yield message(NLMSG_ERROR, 0, sequence, struct.pack("=i", -errno) + bytes(16))
